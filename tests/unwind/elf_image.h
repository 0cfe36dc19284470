/* Small ELF files around call frame information, for tests and fuzzers: a segment of code, and .eh_frame found by its program header or
 * .debug_frame or .gopclntab found by its section. */
#pragma once

#include <elf.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "util/cleanup.h"

#define ELF_IMAGE_ADDRESS 0x400000u /* of file offset 0 */
#define ELF_IMAGE_TEXT 0x1000u      /* file offset; .debug_frame's addresses are absolute */
#define ELF_IMAGE_TEXT_BYTES 0x8000u
#define ELF_IMAGE_CFI (ELF_IMAGE_TEXT + ELF_IMAGE_TEXT_BYTES)
#define ELF_IMAGE_MAX_CFI (1u << 20)

enum elf_image_kind { ELF_IMAGE_EH_FRAME, ELF_IMAGE_DEBUG_FRAME, ELF_IMAGE_GO };

struct elf_image_head {
    Elf64_Ehdr ehdr;
    Elf64_Phdr phdr[3];
    Elf64_Shdr shdr[4];
    char names[48];
    uint8_t eh_frame_hdr[8];
};

static inline struct elf_image_head elf_image_head(uint16_t machine, enum elf_image_kind kind, size_t cfi_bytes)
{
    struct elf_image_head head = {
        .ehdr = {
            .e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
            .e_type = ET_DYN,
            .e_machine = machine,
            .e_version = EV_CURRENT,
            .e_phoff = offsetof(struct elf_image_head, phdr),
            .e_ehsize = sizeof(Elf64_Ehdr),
            .e_phentsize = sizeof(Elf64_Phdr),
            .e_phnum = 3,
            .e_shentsize = sizeof(Elf64_Shdr),
        },
        .names = "\0.debug_frame\0.gopclntab\0.text\0.shstrtab",
    };
    uint32_t distance = ELF_IMAGE_CFI - (uint32_t)offsetof(struct elf_image_head, eh_frame_hdr) - 4;
    const uint8_t hdr[4] = {1, 0x1b /* pcrel, sdata4 */, 0xff, 0xff};
    memcpy(head.eh_frame_hdr, hdr, sizeof(hdr));
    memcpy(head.eh_frame_hdr + sizeof(hdr), &distance, sizeof(distance));
    head.phdr[0] = (Elf64_Phdr){PT_LOAD, PF_R, 0, ELF_IMAGE_ADDRESS, 0, ELF_IMAGE_CFI + cfi_bytes, ELF_IMAGE_CFI + cfi_bytes, 1};
    head.phdr[1] = (Elf64_Phdr){PT_LOAD, PF_R | PF_X, ELF_IMAGE_TEXT, ELF_IMAGE_ADDRESS + ELF_IMAGE_TEXT, 0, ELF_IMAGE_TEXT_BYTES,
                                ELF_IMAGE_TEXT_BYTES, 1};
    if (kind == ELF_IMAGE_EH_FRAME) {
        uint64_t at = offsetof(struct elf_image_head, eh_frame_hdr);
        head.phdr[2] = (Elf64_Phdr){PT_GNU_EH_FRAME, PF_R, at, ELF_IMAGE_ADDRESS + at, 0, 8, 8, 4};
        return head;
    }
    head.ehdr.e_shoff = offsetof(struct elf_image_head, shdr);
    head.ehdr.e_shnum = 4;
    head.ehdr.e_shstrndx = 2;
    uint32_t name = kind == ELF_IMAGE_GO ? sizeof("\0.debug_frame") : 1;
    head.shdr[1] = (Elf64_Shdr){name, SHT_PROGBITS, 0, 0, ELF_IMAGE_CFI, cfi_bytes, 0, 0, 1, 0};
    head.shdr[2] = (Elf64_Shdr){sizeof("\0.debug_frame\0.gopclntab\0.text"), SHT_STRTAB, 0, 0, offsetof(struct elf_image_head, names),
                                sizeof(head.names), 0, 0, 1, 0};
    head.shdr[3] = (Elf64_Shdr){sizeof("\0.debug_frame\0.gopclntab"), SHT_PROGBITS, SHF_ALLOC | SHF_EXECINSTR, ELF_IMAGE_ADDRESS + ELF_IMAGE_TEXT,
                                ELF_IMAGE_TEXT, ELF_IMAGE_TEXT_BYTES, 0, 0, 16, 0};
    return head;
}

/* A file with those bytes of CFI, and code that is all zeros but for what is copied to its beginning. -1: no memory. */
static inline int elf_image_open(struct elf_image_head head, const void *code, size_t code_bytes, const void *cfi, size_t cfi_bytes)
{
    AUTO_CLOSE int fd = memfd_create("elf_image", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, (off_t)(ELF_IMAGE_CFI + cfi_bytes)) < 0 || pwrite(fd, &head, sizeof(head), 0) != (ssize_t)sizeof(head)
        || pwrite(fd, code, code_bytes, ELF_IMAGE_TEXT) != (ssize_t)code_bytes
        || pwrite(fd, cfi, cfi_bytes, ELF_IMAGE_CFI) != (ssize_t)cfi_bytes)
        return -1;
    return TAKE_FD(fd);
}
