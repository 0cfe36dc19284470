/* Sizes come from headers that somebody else wrote. The room for all sections is address space at first,
 * and becomes memory only as bytes are decompressed into it, so that a header costs nothing by itself; how
 * much the sections may have together is bounded. */
#include "symbolize/debug_image.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>

#include "symbolize/elf_section.h"
#include "util/cleanup.h"

#define IMAGE_MAX_BYTES (2ull << 30)
#define IMAGE_MAX_SECTIONS 64u
#define IMAGE_ALIGN 64u
#define IMAGE_NAME_BYTES 32u

struct image_section {
    char name[IMAGE_NAME_BYTES];
    struct elf_section source;
    uint64_t type, offset, bytes;
};

struct image_plan {
    struct image_section sections[IMAGE_MAX_SECTIONS];
    size_t n;
    uint64_t bytes;
};

/* Those of functions, files and lines. Not among them: types of their own (.debug_types), variables'
 * places (.debug_loc, .debug_loclists), macros, name tables. */
static const char *const names_sections[] = {
    ".debug_info", ".debug_abbrev", ".debug_line", ".debug_line_str", ".debug_str", ".debug_str_offsets",
    ".debug_ranges", ".debug_rnglists", ".debug_addr", ".gnu_debugaltlink", NULL,
};
static const char *const frames_sections[] = {".debug_frame", NULL};

static bool is_listed(const char *const *list, const char *name, size_t len)
{
    for (; *list; list++)
        if (strlen(*list) == len && strncmp(*list, name, len) == 0)
            return true;
    return false;
}

static bool has_suffix(const char *name, size_t len, const char *suffix)
{
    size_t n = strlen(suffix);
    return len > n && memcmp(name + len - n, suffix, n) == 0;
}

/* The name that an image gives the section: without the z of .zdebug_. False: it isn't for this image. */
static bool image_name(enum debug_image_kind kind, const char *name, char ret[static IMAGE_NAME_BYTES])
{
    bool gnu = strncmp(name, ".zdebug_", strlen(".zdebug_")) == 0;
    size_t len = strlen(name);
    if (len >= IMAGE_NAME_BYTES)
        return false;
    (void)strcpy(ret, name);
    if (gnu)
        (void)memmove(ret + 1, ret + 2, len - 1);
    len -= gnu;
    size_t plain = has_suffix(ret, len, ".dwo") ? len - strlen(".dwo") : len;
    return is_listed(kind == DEBUG_IMAGE_NAMES ? names_sections : frames_sections, ret, plain);
}

static bool is_compressed(const GElf_Shdr *header, const char *name)
{
    return header->sh_type != SHT_NOBITS
           && ((header->sh_flags & SHF_COMPRESSED) || strncmp(name, ".zdebug_", strlen(".zdebug_")) == 0);
}

/* The next section with a header and a name. */
static Elf_Scn *section_next(const struct elf_file *file, size_t names, Elf_Scn *section, GElf_Shdr *ret_header,
                             const char **ret_name)
{
    while ((section = elf_nextscn(file->elf, section))) {
        if (!gelf_getshdr(section, ret_header))
            continue;
        *ret_name = elf_strptr(file->elf, names, ret_header->sh_name);
        if (*ret_name)
            break;
    }
    return section;
}

bool debug_image_is_wanted(const struct elf_file *file)
{
    GElf_Shdr header;
    const char *name;
    size_t names;
    Elf_Scn *section = NULL;
    if (elf_getshdrstrndx(file->elf, &names) < 0)
        return false;
    while ((section = section_next(file, names, section, &header, &name)))
        if (is_compressed(&header, name))
            return true;
    return false;
}

static uint64_t align(uint64_t n)
{
    return (n + IMAGE_ALIGN - 1) / IMAGE_ALIGN * IMAGE_ALIGN;
}

/* Headers, the names' table, then sections. The first header is of no section, the last of the names. */
static size_t headers_bytes(const struct image_plan *plan)
{
    return sizeof(Elf64_Ehdr) + (plan->n + 2) * sizeof(Elf64_Shdr);
}

static size_t names_bytes(const struct image_plan *plan)
{
    return 1 + (plan->n + 1) * IMAGE_NAME_BYTES;
}

static int plan_sections(const struct elf_file *file, enum debug_image_kind kind, struct image_plan *plan)
{
    GElf_Shdr header;
    const char *name;
    size_t names;
    Elf_Scn *section = NULL;
    if (elf_getshdrstrndx(file->elf, &names) < 0)
        return -ENOENT;
    while ((section = section_next(file, names, section, &header, &name))) {
        struct image_section s = {.type = header.sh_type};
        if (!image_name(kind, name, s.name) || elf_section_locate(file, &header, name, &s.source) < 0)
            continue;
        if (plan->n == IMAGE_MAX_SECTIONS || s.source.plain_bytes > IMAGE_MAX_BYTES)
            return -EFBIG;
        plan->bytes += align(s.source.plain_bytes);
        plan->sections[plan->n++] = s;
    }
    uint64_t offset = align(headers_bytes(plan) + names_bytes(plan));
    plan->bytes += offset;
    for (size_t i = 0; i < plan->n; i++) {
        plan->sections[i].offset = offset;
        offset += align(plan->sections[i].source.plain_bytes);
    }
    return plan->n == 0 ? -ENOENT : plan->bytes > IMAGE_MAX_BYTES ? -EFBIG : 0;
}

/* What can't be decompressed stays empty. */
static int read_sections(struct image_plan *plan, uint8_t *map)
{
    for (size_t i = 0; i < plan->n; i++) {
        struct image_section *s = &plan->sections[i];
        int r = elf_section_read(&s->source, map + s->offset);
        if (r == -ENOMEM)
            return r;
        s->bytes = r < 0 ? 0 : s->source.plain_bytes;
    }
    return 0;
}

static void write_headers(const struct image_plan *plan, const GElf_Ehdr *of, uint8_t *map)
{
    Elf64_Ehdr *header = (Elf64_Ehdr *)map;
    Elf64_Shdr *sections = (Elf64_Shdr *)(header + 1);
    char *names = (char *)map + headers_bytes(plan);
    memcpy(header->e_ident, of->e_ident, EI_NIDENT);
    header->e_type = ET_EXEC;
    header->e_machine = of->e_machine;
    header->e_version = EV_CURRENT;
    header->e_ehsize = sizeof(*header);
    header->e_shoff = sizeof(*header);
    header->e_shentsize = sizeof(*sections);
    header->e_shnum = (Elf64_Half)(plan->n + 2);
    header->e_shstrndx = (Elf64_Half)(plan->n + 1);
    for (size_t i = 0; i <= plan->n; i++) {
        const struct image_section last = {
            ".shstrtab", .type = SHT_STRTAB, .offset = headers_bytes(plan), .bytes = names_bytes(plan)};
        const struct image_section *s = i < plan->n ? &plan->sections[i] : &last;
        size_t name = 1 + i * IMAGE_NAME_BYTES;
        memcpy(names + name, s->name, IMAGE_NAME_BYTES);
        sections[i + 1] = (Elf64_Shdr){.sh_name = (Elf64_Word)name, .sh_type = s->bytes ? (Elf64_Word)s->type : SHT_NOBITS,
                                       .sh_offset = s->offset, .sh_size = s->bytes, .sh_addralign = 1};
    }
}

int debug_image_new(const struct elf_file *file, enum debug_image_kind kind, struct debug_image *ret)
{
    static const uint8_t host_order = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? ELFDATA2LSB : ELFDATA2MSB;
    CLEANUP(debug_image_free) struct debug_image image = {0};
    struct image_plan plan = {0};
    GElf_Ehdr header;
    if (!gelf_getehdr(file->elf, &header) || header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_ident[EI_DATA] != host_order)
        return -ENOTSUP;
    int r = plan_sections(file, kind, &plan);
    if (r < 0)
        return r;
    void *map = mmap(NULL, plan.bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED)
        return -ENOMEM;
    image.map = map;
    image.map_bytes = plan.bytes;
    r = read_sections(&plan, image.map);
    if (r < 0)
        return r;
    write_headers(&plan, &header, image.map);
    image.elf = elf_memory((char *)image.map, image.map_bytes);
    if (!image.elf)
        return -ENOMEM;
    *ret = image;
    image = (struct debug_image){0};
    return 0;
}

void debug_image_free(struct debug_image *image)
{
    if (image->elf)
        (void)elf_end(image->elf);
    if (image->map)
        (void)munmap(image->map, image->map_bytes);
    *image = (struct debug_image){0};
}

int debug_dwarf_open(const struct elf_file *file, enum debug_image_kind kind, struct debug_dwarf *ret)
{
    struct debug_dwarf dwarf = {0};
    int r = debug_image_is_wanted(file) ? debug_image_new(file, kind, &dwarf.image) : 0;
    if (r < 0)
        return r;
    dwarf.dwarf = dwarf_begin_elf(dwarf.image.elf ? dwarf.image.elf : file->elf, DWARF_C_READ, NULL);
    if (!dwarf.dwarf) {
        debug_image_free(&dwarf.image);
        return -ENOEXEC;
    }
    *ret = dwarf;
    return 0;
}

void debug_dwarf_close(struct debug_dwarf *dwarf)
{
    if (dwarf->dwarf)
        (void)dwarf_end(dwarf->dwarf);
    debug_image_free(&dwarf->image);
    *dwarf = (struct debug_dwarf){0};
}
