/* Where functions begin, by unwind information: for those of stripped files that have no name, so that a profile shows one function as one. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "symbolize/elf_file.h"
#include "symbolize/range_map.h"

/* Zeroed: none. */
struct code_starts {
    uint64_t *list, *ends;
    size_t n;
    struct range_map map; /* address -> index in list */
};

/* Of .eh_frame; empty where there is none, or none that can be read. 0 or -ENOMEM. */
int code_starts_load(const struct elf_file *file, struct code_starts *ret);
void code_starts_deinit(struct code_starts *starts);
/* The address itself where nothing is known of it. */
uint64_t code_starts_find(const struct code_starts *starts, uint64_t address);
/* Where the function ends that holds the address; UINT64_MAX: nobody knows. */
uint64_t code_starts_end(const struct code_starts *starts, uint64_t address);
size_t code_starts_bytes(const struct code_starts *starts);
