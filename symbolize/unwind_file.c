/* Sections where there are some, else program headers: sstrip'd files and the vDSO's kin are unwound by .eh_frame_hdr. */
#include "symbolize/unwind_file.h"

#include <dwarf.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "symbolize/cfi_cursor.h"
#include "util/cleanup.h"

#define MAX_PROGRAM_HEADERS 4096

const uint8_t *unwind_file_at(const struct unwind_file *file, uint64_t address, uint64_t *ret_room)
{
    for (size_t i = 0; i < file->segments.n; i++) {
        const struct elf_segment *s = &file->segments.list[i];
        if (address < s->address || address - s->address >= s->file_bytes)
            continue;
        uint64_t from = address - s->address, room = s->file_bytes - from, offset = s->offset + from;
        if (offset >= file->n_bytes)
            return NULL;
        *ret_room = room < file->n_bytes - offset ? room : file->n_bytes - offset;
        return file->bytes + offset;
    }
    return NULL;
}

static bool read_image(const struct cfi_image *image, uint64_t address, uint64_t *ret)
{
    const struct unwind_file *file = (const struct unwind_file *)((const char *)image - offsetof(struct unwind_file, image));
    uint64_t room;
    const uint8_t *at = unwind_file_at(file, address, &room);
    if (!at || room < sizeof(*ret))
        return false;
    memcpy(ret, at, sizeof(*ret));
    return true;
}

int unwind_file_open(int fd, struct unwind_file *ret)
{
    CLEANUP(unwind_file_close) struct unwind_file file = {.image.read = read_image};
    int r = elf_file_open(fd, &file.elf);
    if (r < 0)
        return r;
    if (!gelf_getehdr(file.elf.elf, &file.header) || file.header.e_ident[EI_CLASS] != ELFCLASS64
        || file.header.e_ident[EI_DATA] != ELFDATA2LSB || !elf_file_is_program(&file.elf))
        return -ENOEXEC;
    file.bytes = (const uint8_t *)elf_rawfile(file.elf.elf, &file.n_bytes);
    if (!file.bytes)
        return -ENOMEM;
    r = elf_segments_load(file.elf.elf, &file.segments);
    if (r < 0)
        return r;
    if (file.segments.n > UNWIND_MAX_SEGMENTS)
        file.segments.n = UNWIND_MAX_SEGMENTS;
    *ret = file;
    file = (struct unwind_file){0};
    return 0;
}

void unwind_file_close(struct unwind_file *file)
{
    elf_segments_deinit(&file->segments);
    elf_file_close(&file->elf);
}

static bool find_header(const struct unwind_file *file, uint32_t type, GElf_Phdr *ret)
{
    size_t n;
    if (elf_getphdrnum(file->elf.elf, &n) < 0)
        return false;
    for (size_t i = 0; i < n && i < MAX_PROGRAM_HEADERS; i++)
        if (gelf_getphdr(file->elf.elf, (int)i, ret) && ret->p_type == type)
            return true;
    return false;
}

/* DF_1_PIE tells a static PIE from a library whose linker gave it an entry point of sorts. */
static bool is_pie(const struct unwind_file *file)
{
    GElf_Phdr header;
    if (!find_header(file, PT_DYNAMIC, &header) || header.p_offset > file->n_bytes || header.p_filesz > file->n_bytes - header.p_offset)
        return false;
    for (uint64_t at = 0; at + sizeof(Elf64_Dyn) <= header.p_filesz; at += sizeof(Elf64_Dyn)) {
        Elf64_Dyn entry;
        memcpy(&entry, file->bytes + header.p_offset + at, sizeof(entry));
        if (entry.d_tag == DT_FLAGS_1)
            return entry.d_un.d_val & DF_1_PIE;
    }
    return false;
}

bool unwind_file_is_program(const struct unwind_file *file)
{
    GElf_Phdr header;
    return file->header.e_type == ET_EXEC || find_header(file, PT_INTERP, &header) || is_pie(file);
}

static void eh_frame_by_header(struct unwind_file *file, struct cfi_section *ret)
{
    GElf_Phdr header;
    uint64_t room;
    if (!find_header(file, PT_GNU_EH_FRAME, &header))
        return;
    const uint8_t *at = unwind_file_at(file, header.p_vaddr, &room);
    if (!at)
        return;
    struct cfi_section index = {at, room, header.p_vaddr, header.p_vaddr, true, &file->image};
    struct cfi_cursor c = {at, at + room, false};
    uint64_t version = cfi_get(&c, 1);
    uint8_t encoding = (uint8_t)cfi_get(&c, 1);
    cfi_skip(&c, 2); /* the encodings of its own table */
    uint64_t address = cfi_pointer_read(&index, &c, encoding);
    at = unwind_file_at(file, address, &room);
    if (version == 1 && !c.bad && at)
        *ret = (struct cfi_section){at, room, address, 0, true, &file->image};
}

void unwind_file_eh_frame(struct unwind_file *file, struct cfi_section *ret)
{
    GElf_Shdr header;
    *ret = (struct cfi_section){0};
    if (!elf_file_section(&file->elf, ".eh_frame", &header))
        eh_frame_by_header(file, ret);
    else if (header.sh_type != SHT_NOBITS && header.sh_offset <= file->n_bytes && header.sh_size <= file->n_bytes - header.sh_offset)
        *ret = (struct cfi_section){file->bytes + header.sh_offset, header.sh_size, header.sh_addr, 0, true, &file->image};
}

/* How many bytes a section has once it is decompressed; 0: its header is malformed. */
static uint64_t plain_bytes(Elf_Scn *section, const GElf_Shdr *header, bool is_gnu)
{
    GElf_Chdr compressed;
    if (header->sh_flags & SHF_COMPRESSED)
        return gelf_getchdr(section, &compressed) ? compressed.ch_size : 0;
    if (!is_gnu)
        return header->sh_size;
    const Elf_Data *data = elf_rawdata(section, NULL);
    uint64_t bytes;
    if (!data || data->d_size < 4 + sizeof(bytes) || memcmp(data->d_buf, "ZLIB", 4) != 0)
        return 0;
    memcpy(&bytes, (const char *)data->d_buf + 4, sizeof(bytes));
    return __builtin_bswap64(bytes);
}

int unwind_file_debug_frame(struct unwind_file *file, struct cfi_section *ret)
{
    GElf_Shdr header;
    bool is_gnu = false;
    *ret = (struct cfi_section){0};
    Elf_Scn *section = elf_file_section(&file->elf, ".debug_frame", &header);
    if (!section) {
        section = elf_file_section(&file->elf, ".zdebug_frame", &header);
        is_gnu = section != NULL;
    }
    if (!section || header.sh_type == SHT_NOBITS)
        return 0;
    uint64_t bytes = plain_bytes(section, &header, is_gnu);
    if (bytes > UNWIND_MAX_CFI_BYTES)
        return -EFBIG;
    if (bytes == 0 || (is_gnu && elf_compress_gnu(section, 0, 0) < 0)
        || (header.sh_flags & SHF_COMPRESSED && elf_compress(section, 0, 0) < 0))
        return 0;
    const Elf_Data *data = elf_getdata(section, NULL);
    if (data && data->d_buf && data->d_size > 0)
        *ret = (struct cfi_section){data->d_buf, data->d_size, 0, 0, false, &file->image};
    return 0;
}
