/* USDT probe sites, from the notes that <sys/sdt.h> leaves: for each site its address, that of its
 * semaphore, and the address that section .stapsdt.base had when the note was made (a prelinked file is
 * moved since). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "symbolize/module.h"
#include "symbolize/usdt.h"
#include "util/cleanup.h"

#define NT_STAPSDT 3
#define USDT_MAX_SITES 65536u

struct usdt_list {
    const struct elf_segments *segments;
    const char *provider, *name; /* that are wanted */
    struct usdt_site *sites;
    size_t n, room;
};

static void usdt_list_deinit(struct usdt_list *list)
{
    free(list->sites);
}

static int usdt_list_add(struct usdt_list *list, struct usdt_site site)
{
    for (size_t i = list->n; i > 0 && i + 64 > list->n; i--)
        if (list->sites[i - 1].file_offset == site.file_offset)
            return 0;
    if (list->n >= USDT_MAX_SITES)
        return -E2BIG;
    if (list->n == list->room) {
        size_t room = list->room ? 2 * list->room : 16;
        struct usdt_site *grown = reallocarray(list->sites, room, sizeof(*grown));
        if (!grown)
            return -ENOMEM;
        list->sites = grown;
        list->room = room;
    }
    list->sites[list->n++] = site;
    return 0;
}

/* A NUL-terminated string at *offset; moves on behind it. NULL: it doesn't end within the note. */
static const char *note_string(const char *note, size_t len, size_t *offset)
{
    const char *s = note + *offset;
    size_t n = *offset < len ? strnlen(s, len - *offset) : 0;
    if (*offset >= len || n == len - *offset)
        return NULL;
    *offset += n + 1;
    return s;
}

static bool note_parse(Elf *elf, const char *note, size_t len, const GElf_Shdr *base, struct usdt_note *ret)
{
    uint64_t words[3] = {0};
    size_t word_bytes = gelf_fsize(elf, ELF_T_ADDR, 1, EV_CURRENT), offset = 3 * word_bytes;
    if (len < offset)
        return false;
    Elf_Data from = {.d_buf = (void *)note, .d_type = ELF_T_ADDR, .d_version = EV_CURRENT, .d_size = offset};
    union {
        Elf64_Addr wide[3];
        Elf32_Addr narrow[3];
    } addresses;
    Elf_Data to = {
        .d_buf = &addresses, .d_type = ELF_T_ADDR, .d_version = EV_CURRENT, .d_size = sizeof(addresses)};
    GElf_Ehdr header;
    if (!gelf_getehdr(elf, &header) || !gelf_xlatetom(elf, &to, &from, header.e_ident[EI_DATA]))
        return false;
    for (int i = 0; i < 3; i++)
        words[i] = word_bytes == 8 ? addresses.wide[i] : addresses.narrow[i];
    uint64_t moved = base && words[1] ? base->sh_addr - words[1] : 0;
    *ret = (struct usdt_note){
        .address = words[0] + moved, .semaphore = words[2] ? words[2] + moved : 0, .moved = moved};
    ret->provider = note_string(note, len, &offset);
    ret->name = ret->provider ? note_string(note, len, &offset) : NULL;
    const char *arguments = ret->name ? note_string(note, len, &offset) : NULL;
    ret->arguments = arguments ? arguments : "";
    return ret->name != NULL;
}

static int usdt_each_of(Elf *elf, Elf_Data *data, const GElf_Shdr *base,
                        int (*visit)(void *userdata, const struct usdt_note *note), void *userdata)
{
    size_t offset = 0, name_offset, note_offset;
    GElf_Nhdr header;
    while (offset < data->d_size
           && (offset = gelf_getnote(data, offset, &header, &name_offset, &note_offset)) > 0) {
        const char *bytes = data->d_buf;
        struct usdt_note note;
        if (header.n_type != NT_STAPSDT || header.n_namesz != sizeof("stapsdt")
            || memcmp(bytes + name_offset, "stapsdt", sizeof("stapsdt")) != 0)
            continue;
        if (!note_parse(elf, bytes + note_offset, header.n_descsz, base, &note))
            continue;
        int r = visit(userdata, &note);
        if (r)
            return r;
    }
    return 0;
}

int usdt_each(const struct elf_file *file, int (*visit)(void *userdata, const struct usdt_note *note), void *userdata)
{
    GElf_Shdr base;
    bool based = elf_file_section(file, ".stapsdt.base", &base) != NULL;
    Elf_Scn *section = NULL;
    while ((section = elf_nextscn(file->elf, section))) {
        GElf_Shdr header;
        if (!gelf_getshdr(section, &header) || header.sh_type != SHT_NOTE || (header.sh_flags & SHF_ALLOC))
            continue;
        Elf_Data *data = elf_getdata(section, NULL);
        int r = data && data->d_buf ? usdt_each_of(file->elf, data, based ? &base : NULL, visit, userdata) : 0;
        if (r)
            return r;
    }
    return 0;
}

static int usdt_list_visit(void *userdata, const struct usdt_note *note)
{
    struct usdt_list *list = userdata;
    struct usdt_site site = {0};
    if (strcmp(note->provider, list->provider) != 0 || strcmp(note->name, list->name) != 0
        || !elf_segments_offset(list->segments, note->address, &site.file_offset))
        return 0;
    if (note->semaphore && !elf_segments_offset(list->segments, note->semaphore, &site.semaphore_file_offset))
        return 0;
    return usdt_list_add(list, site);
}

int module_find_usdt(struct module *m, const char *provider, const char *name, struct usdt_site **ret_sites,
                     size_t *ret_n)
{
    CLEANUP(usdt_list_deinit) struct usdt_list list = {
        .segments = &m->segments, .provider = provider, .name = name};
    int r = usdt_each(&m->file, usdt_list_visit, &list);
    if (r < 0)
        return r;
    if (list.n == 0)
        return -ENOENT;
    *ret_n = list.n;
    *ret_sites = TAKE_PTR(list.sites);
    return 0;
}
