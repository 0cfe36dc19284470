/* The functions that a file's symbol tables name, and where. */
#pragma once

#include <libelf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "symbolize/range_map.h"

struct symbol_name;

struct elf_symbol {
    uint64_t start, end;          /* addresses */
    uint32_t name_offset, names; /* in the string table of section `names`; of a stub whose function is chosen at run time (PLT_CHOSEN): where the
                                  * chooser is */
    uint32_t order;              /* of the tables */
    uint8_t rank;
    bool size_known : 1, ifunc : 1, hidden_version : 1, local : 1, weak : 1, label : 1, stub : 1;
    const struct symbol_name *name; /* for display, once it was asked for */
};

struct elf_symbols {
    struct elf_symbol *list; /* by address, the one to show first */
    size_t n;
    struct range_map map;    /* address -> index in list */
};

/* Of .symtab and .dynsym both, and the stubs of the PLT (stub: the name is that of the function they are
 * for). A file without either has no symbols, which is no error. 0 or -errno. */
int elf_symbols_load(Elf *elf, struct elf_symbols *ret);
void elf_symbols_deinit(struct elf_symbols *symbols);
size_t elf_symbols_bytes(const struct elf_symbols *symbols);

/* NULL where no function holds the address. */
struct elf_symbol *elf_symbols_find(const struct elf_symbols *symbols, uint64_t address);
/* As in the table, with its @VERSION; NULL where the table is malformed. */
const char *elf_symbol_raw_name(Elf *elf, const struct elf_symbol *symbol);
