/* Where threads have their labels: the thread-local variable of include/cprofd/labels.h, in a file that defines it. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "symbolize/elf_file.h"

struct label_place {
    /* Where the loader wrote the offset from the thread pointer, an 8-byte word, as an address that the file's tables speak of; 0: the next is
     * known. */
    uint64_t slot_address;
    uint64_t slot_offset; /* the same as an offset in the file, if a mapping of its code went on to there; */
    uint64_t code_offset; /* its code begins there */
    int64_t thread_offset; /* from the thread pointer (fs base, tpidr_el0) */
};

/* 0; -ENOENT: the file has no such variable, or is a library that does not use it, or (for aarch64) is stripped of its name; -ENOEXEC: malformed. */
int label_place_find(const struct elf_file *file, struct label_place *ret);
