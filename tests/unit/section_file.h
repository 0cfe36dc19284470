/* ELF files of given sections, for tests of what reads sections. */
#pragma once

#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SECTION_FILE_MAX 80

struct section_given {
    const char *name;
    uint64_t flags;
    const uint8_t *bytes;
    size_t n;
    uint32_t type; /* 0: SHT_PROGBITS */
};

/* Of this machine's kind. */
static const uint8_t section_file_ident[EI_NIDENT] = {
    ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64,
    __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? ELFDATA2LSB : ELFDATA2MSB, EV_CURRENT,
};

static void section_file_put(int fd, const void *bytes, size_t n, uint64_t at)
{
    if (pwrite(fd, bytes, n, (off_t)at) != (ssize_t)n)
        abort();
}

/* A descriptor of the file. */
static int section_file(const struct section_given *given, size_t n, const uint8_t ident[EI_NIDENT])
{
    char names[4096] = "";
    size_t names_n = 1;
    Elf64_Shdr headers[SECTION_FILE_MAX + 2] = {0};
    Elf64_Ehdr header = {.e_type = ET_EXEC, .e_machine = EM_X86_64, .e_version = EV_CURRENT, .e_ehsize = sizeof(header),
                         .e_shentsize = sizeof(*headers), .e_shnum = (Elf64_Half)(n + 2), .e_shstrndx = (Elf64_Half)(n + 1)};
    int fd = memfd_create("file", MFD_CLOEXEC);
    uint64_t at = sizeof(header);
    memcpy(header.e_ident, ident, EI_NIDENT);
    for (size_t i = 0; i < n; i++) {
        headers[i + 1] = (Elf64_Shdr){.sh_name = (Elf64_Word)names_n, .sh_type = given[i].type ? given[i].type : SHT_PROGBITS,
                                      .sh_flags = given[i].flags, .sh_offset = at, .sh_size = given[i].n, .sh_addralign = 1};
        names_n += (size_t)sprintf(names + names_n, "%s", given[i].name) + 1;
        if (given[i].type == SHT_NOBITS)
            continue;
        section_file_put(fd, given[i].bytes, given[i].n, at);
        at += given[i].n;
    }
    headers[n + 1] = (Elf64_Shdr){.sh_type = SHT_STRTAB, .sh_offset = at, .sh_size = names_n, .sh_addralign = 1};
    section_file_put(fd, names, names_n, at);
    header.e_shoff = (at + names_n + 15) & ~15ull;
    section_file_put(fd, headers, (n + 2) * sizeof(*headers), header.e_shoff);
    section_file_put(fd, &header, sizeof(header), 0);
    return fd;
}
