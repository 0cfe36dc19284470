/* The scopes of a C++ function that has no linkage name: "ns::Class::", "(anonymous namespace)::", "main::". */
#pragma once

#include <elfutils/libdw.h>

/* name, with the scopes of die before it; the caller's to free. NULL: there are none, the language has no such, or memory is
 * short. */
char *symbol_scope_qualify(Dwarf_Die *die, const char *name);
