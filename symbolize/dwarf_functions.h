/* The functions of one compilation unit, and what was inlined into each. */
#pragma once

#include <elfutils/libdw.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "symbolize/die_scan.h"
#include "symbolize/elf_segments.h"
#include "symbolize/line_header.h"
#include "symbolize/range_map.h"

struct symbol_name;

/* What a module's DWARF is read with: where its code can be, and how much may still be looked at. A small
 * hostile file can ask for any amount of work (each of many DIEs with the same long list of ranges); when
 * the budget is spent, the rest of the module stays as if it had no DWARF. */
struct dwarf_reader {
    const struct elf_segments *segments;
    uint64_t budget; /* DIEs and ranges */
    struct line_sections lines;
    uint64_t bias;   /* what addresses of the unit that is read lack (split_dwarf.h) */
};
#define DWARF_BUDGET (1ull << 28)

#define INLINE_NONE UINT32_MAX

struct dwarf_inline {
    Dwarf_Die die;
    const struct symbol_name *name; /* once named */
    uint32_t parent;    /* index, or INLINE_NONE: inlined into the function itself */
    uint32_t call_file; /* index in the unit's file table */
    uint32_t call_line;
    bool named;
};

struct dwarf_function {
    Dwarf_Die die;
    uint64_t entry;                 /* its first range's address */
    const struct symbol_name *name; /* once named */
    bool named;
    struct dwarf_inline *inlines;
    uint32_t n_inlines;
    bool inlines_loaded;
    struct range_map map; /* address -> innermost inline */
};

struct dwarf_functions {
    struct die_table dies;
    struct dwarf_function *list;
    size_t n;
    struct range_map map; /* address -> function */
    bool nested;          /* those within types and other functions were looked for, too */
};

/* Collects a unit's functions: at first those at its top level and in namespaces, which are nearly all. 0
 * or -errno. */
int dwarf_functions_load(Dwarf_Die *unit, uint32_t info_bytes, struct dwarf_reader *reader, bool nested,
                         struct dwarf_functions *ret);
void dwarf_functions_deinit(struct dwarf_functions *functions);
/* NULL: none holds the address. What was inlined into it is loaded. */
struct dwarf_function *dwarf_functions_find(struct dwarf_functions *functions, struct dwarf_reader *reader,
                                            uint32_t info_bytes, uint64_t address);
size_t dwarf_functions_bytes(const struct dwarf_functions *functions);

/* Adds the ranges of a DIE with code. 0 or -errno. */
int dwarf_ranges_add(Dwarf_Die *die, struct dwarf_reader *reader, uint32_t value, uint32_t depth,
                     struct range_list *list);
