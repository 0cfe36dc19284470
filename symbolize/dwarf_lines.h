/* Source files and lines of one compilation unit. */
#pragma once

#include <elfutils/libdw.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "symbolize/arena.h"
#include "symbolize/line_table.h"

struct dwarf_reader;

struct dwarf_lines {
    struct line_table table;
    const char *directory; /* DW_AT_comp_dir, or NULL */
};

/* The sections that line tables of this DWARF are in. */
void dwarf_lines_sections(Dwarf *dwarf, struct line_sections *ret);

/* Reads the line table. A unit without one has no lines, which is no error. 0 or -ENOMEM. */
int dwarf_lines_load(Dwarf_Die *unit, struct dwarf_reader *reader, struct dwarf_lines *ret);
void dwarf_lines_deinit(struct dwarf_lines *lines);
/* The path of a file of the unit, absolute where DWARF tells the directory; NULL: there is no such file. */
const char *dwarf_lines_path(struct dwarf_lines *lines, struct arena *arena, size_t file);
/* The row of an address. False: there is none; outputs are untouched then. */
bool dwarf_lines_find(struct dwarf_lines *lines, struct arena *arena, uint64_t address, const char **ret_path,
                      int64_t *ret_line);
size_t dwarf_lines_bytes(const struct dwarf_lines *lines);
