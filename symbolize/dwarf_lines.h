/* Source files and lines of one compilation unit. */
#pragma once

#include <elfutils/libdw.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "symbolize/arena.h"

struct dwarf_lines {
    Dwarf_Files *files; /* libdw's; NULL: none */
    size_t n_files, n_lines;
    const char **paths; /* by file index; made when asked for */
    const char *directory; /* DW_AT_comp_dir, or NULL */
};

/* Reads the line table. A unit without one has no lines, which is no error. 0 or -ENOMEM. */
int dwarf_lines_load(Dwarf_Die *unit, struct dwarf_lines *ret);
void dwarf_lines_deinit(struct dwarf_lines *lines);
/* The path of a file of the unit, absolute where DWARF tells the directory; NULL: there is no such file. */
const char *dwarf_lines_path(struct dwarf_lines *lines, struct arena *arena, size_t file);
/* The row of an address. False: there is none; outputs are untouched then. */
bool dwarf_lines_find(struct dwarf_lines *lines, Dwarf_Die *unit, struct arena *arena, uint64_t address,
                      const char **ret_path, int64_t *ret_line);
size_t dwarf_lines_bytes(const struct dwarf_lines *lines);
