/* What a function is called, for display and in the linker's terms: made once for each function of a
 * module. */
#pragma once

#include <elfutils/libdw.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "symbolize/arena.h"
#include "symbolize/symbol_scope.h"

struct symbol_name {
    const char *name;        /* demangled */
    const char *system_name; /* as the linker has it, without @VERSION */
    int64_t start_line;      /* 0: unknown */
};

/* Names of DWARF functions by their DIE, shared by all places where one was inlined. Zeroed: empty. */
struct symbol_names {
    struct symbol_name_entry *entries;
    struct symbol_scopes scopes;
};

/* From a symbol table's name. NULL when memory is short, or the name is empty. */
const struct symbol_name *symbol_name_new(struct arena *arena, const char *raw, int64_t start_line);
/* "NAME@plt", for the stub through which a function is called. NULL when memory is short. */
const struct symbol_name *symbol_name_of_stub(struct arena *arena, const struct symbol_name *function);
/* The name of a DW_TAG_subprogram or DW_TAG_inlined_subroutine. NULL: it has none, or memory is short. */
const struct symbol_name *symbol_names_of_die(struct symbol_names *names, struct arena *arena,
                                              Dwarf_Die *die);
/* True where the linker's name differs from what is shown. */
static inline bool symbol_name_is_mangled(const struct symbol_name *name)
{
    return name->name != name->system_name;
}
void symbol_names_deinit(struct symbol_names *names);
