/* An ELF file as the maker of unwinding tables sees it: its bytes, its segments, its call frame information. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "symbolize/cfi_entries.h"
#include "symbolize/elf_file.h"
#include "symbolize/elf_segments.h"

#define UNWIND_MAX_CFI_BYTES (256u << 20) /* of a section once it is decompressed */
#define UNWIND_MAX_SEGMENTS 64            /* further ones are not seen; linkers make 2 to 10, those with code among the first here */

struct unwind_file {
    struct cfi_image image; /* how CFI pointers read it */
    struct elf_file elf;
    GElf_Ehdr header;
    const uint8_t *bytes;
    size_t n_bytes;
    struct elf_segments segments;
};

/* 0, -ENOMEM, or -ENOEXEC for what is no 64-bit little-endian program or library. fd stays the caller's. */
int unwind_file_open(int fd, struct unwind_file *ret);
void unwind_file_close(struct unwind_file *file);

/* Their data is NULL where the file has none. */
void unwind_file_eh_frame(struct unwind_file *file, struct cfi_section *ret);
/* -EFBIG: decompressed, it would exceed UNWIND_MAX_CFI_BYTES. */
int unwind_file_debug_frame(struct unwind_file *file, struct cfi_section *ret);

/* An address's bytes in the file: *ret_room of them follow. NULL: it has none. */
const uint8_t *unwind_file_at(const struct unwind_file *file, uint64_t address, uint64_t *ret_room);

/* True for what is started at its entry point by its kind; a dynamic linker is too, but looks like any library. */
bool unwind_file_is_program(const struct unwind_file *file);
