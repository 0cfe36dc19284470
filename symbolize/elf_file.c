/* Files are mapped, not read: a debug file of a gigabyte costs what is looked at. If its owner truncates
 * it meanwhile, the access is a SIGBUS: that ends this worker alone, and its pool starts another. Strings
 * that leave a module are copies, so that they stay what they were. The mapping is made here and not by
 * libelf: a cached file holds no descriptor, and pages that were read can be given back. */
#include "symbolize/elf_file.h"

#include <elfutils/libdwelf.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "util/cleanup.h"

/* What libelf holds of a mapped file. */
#define LIBELF_FILE_BYTES 1024u
#define LIBELF_SECTION_BYTES 320u

bool elf_file_is_program(const struct elf_file *file)
{
    GElf_Ehdr header;
    return gelf_getehdr(file->elf, &header) && (header.e_type == ET_EXEC || header.e_type == ET_DYN);
}

int elf_file_open(int fd, struct elf_file *ret)
{
    CLEANUP(elf_file_close) struct elf_file file = {0};
    struct stat st;
    if (elf_version(EV_CURRENT) == EV_NONE)
        return -ENOTSUP;
    if (fstat(fd, &st) < 0)
        return -errno;
    if (!S_ISREG(st.st_mode) || st.st_size < EI_NIDENT)
        return -ENOEXEC;
    /* Writable, as libelf marks in a section's header that it was decompressed. */
    void *map = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, fd, 0);
    if (map == MAP_FAILED)
        return -errno;
    file.map = map;
    file.map_bytes = (size_t)st.st_size;
    file.elf = elf_memory(map, file.map_bytes);
    if (!file.elf || elf_kind(file.elf) != ELF_K_ELF)
        return -ENOEXEC;
    *ret = file;
    file = (struct elf_file){0};
    return 0;
}

int elf_file_from_memory(void *bytes, size_t n, struct elf_file *ret)
{
    CLEANUP(elf_file_close) struct elf_file file = {0};
    if (elf_version(EV_CURRENT) == EV_NONE)
        return -ENOTSUP;
    file.elf = n >= EI_NIDENT ? elf_memory(bytes, n) : NULL;
    if (!file.elf || elf_kind(file.elf) != ELF_K_ELF)
        return -ENOEXEC;
    *ret = file;
    file = (struct elf_file){0};
    return 0;
}

void elf_file_close(struct elf_file *file)
{
    if (file->elf)
        (void)elf_end(file->elf);
    if (file->map)
        (void)munmap(file->map, file->map_bytes);
    *file = (struct elf_file){0};
}

void elf_file_drop_pages(const struct elf_file *file)
{
    (void)madvise(file->map, file->map_bytes, MADV_DONTNEED);
}

Elf_Scn *elf_file_section(const struct elf_file *file, const char *name, GElf_Shdr *ret_header)
{
    size_t names;
    Elf_Scn *section = NULL;
    if (elf_getshdrstrndx(file->elf, &names) < 0)
        return NULL;
    while ((section = elf_nextscn(file->elf, section))) {
        GElf_Shdr header;
        if (!gelf_getshdr(section, &header))
            continue;
        const char *found = elf_strptr(file->elf, names, header.sh_name);
        if (found && strcmp(found, name) == 0) {
            *ret_header = header;
            return section;
        }
    }
    return NULL;
}

bool elf_file_has_data(const struct elf_file *file, const char *name)
{
    GElf_Shdr header;
    return elf_file_section(file, name, &header) && header.sh_type != SHT_NOBITS && header.sh_size > 0;
}

size_t elf_file_bytes(const struct elf_file *file)
{
    size_t n_sections = 0;
    if (!file->elf || elf_getshdrnum(file->elf, &n_sections) < 0)
        return 0;
    return LIBELF_FILE_BYTES + n_sections * LIBELF_SECTION_BYTES;
}

void build_id_to_hex(const void *id, size_t len, char ret[static BUILD_ID_HEX_ROOM])
{
    static const char digits[] = "0123456789abcdef";
    const unsigned char *bytes = id;
    ret[0] = '\0';
    if (len > BUILD_ID_MAX_BYTES)
        return;
    for (size_t i = 0; i < len; i++) {
        ret[2 * i] = digits[bytes[i] >> 4];
        ret[2 * i + 1] = digits[bytes[i] & 15];
    }
    ret[2 * len] = '\0';
}

void elf_file_build_id(const struct elf_file *file, char ret[static BUILD_ID_HEX_ROOM])
{
    const void *id = NULL;
    ssize_t len = dwelf_elf_gnu_build_id(file->elf, &id);
    build_id_to_hex(id, len > 0 ? (size_t)len : 0, ret);
}
