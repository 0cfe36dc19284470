/* For tests: the first page of an ELF file, made by hand. */
#pragma once

#include <elf.h>
#include <string.h>

#include "daemon/mapped_head.h"

#define NOTES_AT 512

/* An ELF file's first page with two segments, the second one of notes. */
__attribute__((unused)) static struct mapped_head head_make(void)
{
    struct mapped_head head = {.len = MAPPED_HEAD_BYTES};
    Elf64_Ehdr elf = {.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB}, .e_type = ET_DYN,
                      .e_phoff = sizeof(elf), .e_phentsize = sizeof(Elf64_Phdr), .e_phnum = 2};
    Elf64_Phdr load = {.p_type = PT_LOAD, .p_filesz = 4096}, notes = {.p_type = PT_NOTE, .p_offset = NOTES_AT, .p_align = 4};

    memcpy(head.bytes, &elf, sizeof(elf));
    memcpy(head.bytes + elf.e_phoff, &load, sizeof(load));
    memcpy(head.bytes + elf.e_phoff + sizeof(load), &notes, sizeof(notes));
    return head;
}

__attribute__((unused)) static Elf64_Ehdr *head_elf(struct mapped_head *head)
{
    return (Elf64_Ehdr *)(void *)head->bytes;
}

__attribute__((unused)) static Elf64_Phdr *head_notes(struct mapped_head *head)
{
    return (Elf64_Phdr *)(void *)(head->bytes + sizeof(Elf64_Ehdr) + sizeof(Elf64_Phdr));
}

__attribute__((unused)) static size_t round_up(size_t n, size_t align)
{
    return (n + align - 1) / align * align;
}

/* Appends a note to the segment. */
__attribute__((unused)) static void note_add(struct mapped_head *head, uint32_t type, const char *name, size_t name_len, const char *desc,
                                             size_t desc_len)
{
    Elf64_Phdr *notes = head_notes(head);
    Elf64_Nhdr note = {.n_namesz = (uint32_t)name_len, .n_descsz = (uint32_t)desc_len, .n_type = type};
    uint8_t *at = head->bytes + notes->p_offset + notes->p_filesz;
    size_t align = notes->p_align;

    memcpy(at, &note, sizeof(note));
    memcpy(at + sizeof(note), name, name_len);
    memcpy(at + sizeof(note) + round_up(name_len, align), desc, desc_len);
    notes->p_filesz += sizeof(note) + round_up(name_len, align) + round_up(desc_len, align);
}

__attribute__((unused)) static struct mapped_head head_with_id(const char *id)
{
    struct mapped_head head = head_make();
    note_add(&head, NT_GNU_BUILD_ID, "GNU", 4, id, strlen(id));
    return head;
}
