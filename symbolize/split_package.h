/* A package of split units (.dwp): which bytes of its sections are a unit's. */
#pragma once

#include <stdint.h>

#include "symbolize/split_image.h"

/* Finds the unit of an id by the package's index (.debug_cu_index, of GNU's form or DWARF 5's), and narrows sections, which are
 * the package's whole ones, to it; strings are common to all. 0; -ENOENT: it has no such unit; -ENOEXEC: the
 * index is malformed. Sections are untouched then. */
int split_package_find(struct split_bytes index, uint64_t id, struct split_bytes sections[static SPLIT_SECTIONS]);
