/* Split DWARF: units of which the program has a skeleton (lines, and where code is) while functions are in a .dwo file
 * that the compiler left behind, or in a package of these beside the program (.dwp). */
#pragma once

#include <elfutils/libdw.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "symbolize/split_image.h"
#include "symbolize/symbolizer.h"

struct split_dwarf;

/* The whole unit of a skeleton. Zeroed: none was opened. */
struct split_unit {
    struct split_image image;
    Dwarf_Die die;
    uint64_t bias; /* what its addresses lack */
    uint8_t *addresses;
};

/* skeletons: the file whose DWARF it is; it and *userdata, which is read anew at each request, outlive the
 * result. NULL when memory is short. */
struct split_dwarf *split_dwarf_new(Elf *skeletons, const struct symbolizer_ops *ops, void *const *userdata);
void split_dwarf_free(struct split_dwarf *split);

/* True where the DIEs of a compilation unit are in another file. */
bool split_dwarf_is_skeleton(Dwarf_Die *unit);
/* Tells of a skeleton, before one is opened. 0 or -ENOMEM. */
int split_dwarf_note(struct split_dwarf *split, Dwarf_Die *skeleton);
/* Opens its unit. 0, or -errno: then it is counted as missing. */
int split_dwarf_open(struct split_dwarf *split, Dwarf_Die *skeleton, struct split_unit *ret);
void split_unit_close(struct split_unit *unit);

/* How many units could not be had, and the .dwo file of the first one; NULL: none was missing. */
size_t split_dwarf_missing(const struct split_dwarf *split, const char **ret_first);
/* True where a file could not be had this time, but may be had the next. */
bool split_dwarf_is_incomplete(const struct split_dwarf *split);
/* Memory held; address space of mapped files. */
size_t split_dwarf_bytes(const struct split_dwarf *split);
size_t split_dwarf_mapped_bytes(const struct split_dwarf *split);
