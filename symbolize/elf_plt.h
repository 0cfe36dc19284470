/* The stubs through which a file calls functions of others, and which function each is for: "malloc@plt". */
#pragma once

#include <libelf.h>
#include <stddef.h>
#include <stdint.h>

#define PLT_CHOSEN 0u

struct plt_stub {
    uint64_t start, end;         /* addresses */
    /* Of the function: in the string table of section `names`. PLT_CHOSEN: not known before the function at the address name_offset chose it
     * (IFUNC). */
    uint32_t name_offset, names;
};

/* *ret_stubs is the caller's to free. Machines other than x86-64 have none here. 0 or -ENOMEM. */
int plt_stubs_load(Elf *elf, struct plt_stub **ret_stubs, size_t *ret_n);
