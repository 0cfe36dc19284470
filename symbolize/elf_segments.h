/* PT_LOAD segments: between offsets in a file and the addresses that its tables speak of. */
#pragma once

#include <libelf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct elf_segment {
    uint64_t offset, address, file_bytes;
    bool executable;
};

struct elf_segments {
    struct elf_segment *list; /* executable ones first */
    size_t n;
};

/* 0 or -ENOMEM. */
int elf_segments_load(Elf *elf, struct elf_segments *ret);
void elf_segments_deinit(struct elf_segments *segments);

/* The address of a file offset, or the offset of an address. False: outside of all; *ret is untouched
 * then. */
bool elf_segments_address(const struct elf_segments *segments, uint64_t offset, uint64_t *ret_address);
bool elf_segments_offset(const struct elf_segments *segments, uint64_t address, uint64_t *ret_offset);
/* True where code can be at that address. */
bool elf_segments_is_code(const struct elf_segments *segments, uint64_t address);
