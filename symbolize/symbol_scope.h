/* The scopes of a C++ function that has no linkage name: "ns::Class::", "(anonymous namespace)::",
 * "main::". */
#pragma once

#include <elfutils/libdw.h>
#include <stddef.h>

/* Where the children of the scopes that were gone through begin, so that each is walked once. Zeroed:
 * empty. */
struct symbol_scopes {
    struct scope_children *parents;
    size_t bytes;
};

/* name, with the scopes of die before it; the caller's to free. NULL: there are none, the language has no
 * such, or memory is short. */
char *symbol_scope_qualify(struct symbol_scopes *scopes, Dwarf_Die *die, const char *name);
void symbol_scopes_deinit(struct symbol_scopes *scopes);
