/* One ELF file in memory: mapped, and its parts found. */
#pragma once

#include <gelf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct elf_file {
    Elf *elf;
    uint8_t *map;
    size_t map_bytes;
};

/* fd stays the caller's, and is not needed afterwards. 0, or -errno: -ENOEXEC for what is no ELF file. */
int elf_file_open(int fd, struct elf_file *ret);
/* Of bytes that outlive *ret. */
int elf_file_from_memory(void *bytes, size_t n, struct elf_file *ret);
/* True for an executable or a shared object: what is mapped and run. (What dwz makes is neither.) */
bool elf_file_is_program(const struct elf_file *file);
void elf_file_close(struct elf_file *file);
/* Gives back the memory of pages that were read; they are read again when they are needed. Not for a file
 * of which libelf has decompressed a section: its notes of that would be gone. */
void elf_file_drop_pages(const struct elf_file *file);

/* The first section of a name; NULL where there is none. */
Elf_Scn *elf_file_section(const struct elf_file *file, const char *name, GElf_Shdr *ret_header);
/* True where that section exists and its bytes are in this file (not only in the one it was split from). */
bool elf_file_has_data(const struct elf_file *file, const char *name);

/* Memory held for the file, what is mapped aside. */
size_t elf_file_bytes(const struct elf_file *file);

#define BUILD_ID_MAX_BYTES 64
#define BUILD_ID_HEX_ROOM (2 * BUILD_ID_MAX_BYTES + 1)

/* Lower-case hex into ret; "" where there is none, or one longer than BUILD_ID_MAX_BYTES. */
void elf_file_build_id(const struct elf_file *file, char ret[static BUILD_ID_HEX_ROOM]);
void build_id_to_hex(const void *id, size_t len, char ret[static BUILD_ID_HEX_ROOM]);
