/* Which compilation unit's code an address belongs to. */
#pragma once

#include <elfutils/libdw.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "symbolize/dwarf_functions.h"
#include "symbolize/dwarf_lines.h"
#include "symbolize/range_map.h"
#include "symbolize/split_dwarf.h"

struct dwarf_unit {
    Dwarf_Die die;
    struct split_unit split; /* where its functions are, if die is a skeleton */
    uint32_t info_bytes; /* of .debug_info */
    bool ranged;         /* it says itself where its code is */
    bool loaded;
    struct dwarf_functions functions;
    struct dwarf_lines lines;
};

struct dwarf_index {
    Dwarf *dwarf;
    struct dwarf_reader reader;
    struct dwarf_unit *units;
    size_t n_units;
    struct range_map map;    /* address -> unit */
    struct range_map others; /* the same of the functions of units that don't say where their code is */
    bool others_made;
    bool out_of_memory; /* something was left out for that reason */
    size_t read_bytes; /* of sections; the owner sets it back */
    struct split_dwarf *split; /* NULL: skeletons stay without functions */
};

/* dwarf, segments and split (or NULL) outlive the index. 0 or -errno. */
int dwarf_index_new(Dwarf *dwarf, const struct elf_segments *segments, struct split_dwarf *split,
                    struct dwarf_index **ret);
void dwarf_index_free(struct dwarf_index *index);
/* The unit of an address, its functions and lines loaded, or NULL. */
struct dwarf_unit *dwarf_index_find(struct dwarf_index *index, uint64_t address);
/* The function of a unit that an address is in, what was inlined into it loaded; or NULL. */
struct dwarf_function *dwarf_unit_function(struct dwarf_index *index, struct dwarf_unit *unit,
                                           uint64_t address);
/* Memory held, the sections themselves aside. */
size_t dwarf_index_bytes(const struct dwarf_index *index);
