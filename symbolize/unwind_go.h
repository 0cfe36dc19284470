/* Go's own table of functions (.gopclntab), which every Go binary has, stripped or not: names, and how far the stack pointer is from the
 * return address at each instruction. Read by the source of Go's runtime (src/runtime/symtab.go, runtime2.go) for 1.16 and later. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "symbolize/unwind_file.h"
#include "util/unwind_table.h"

struct unwind_go {
    const struct unwind_file *file;
    const uint8_t *table; /* NULL: no Go binary, or one that can't be read */
    size_t bytes;
    uint64_t text;        /* address that functions are counted from */
    uint64_t n;           /* functions */
    uint64_t names, stack_tables, functions; /* offsets in the table */
    bool has_addresses;   /* before 1.18: addresses of 8 bytes, not offsets of 4 */
};

struct unwind_go_function {
    uint64_t start, end;  /* addresses */
    const char *name;     /* "" where it is malformed */
    uint64_t stack_table; /* offset in the table; 0: none */
};

/* *ret is as it was where there is no such table. */
void unwind_go_open(const struct unwind_file *file, struct unwind_go *ret);
/* The function at an index below n. False: malformed. */
bool unwind_go_function(const struct unwind_go *go, uint64_t index, struct unwind_go_function *ret);

/* Rows of a function, up to an address: put is called with ascending addresses. */
void unwind_go_run(const struct unwind_go *go, const struct unwind_go_function *function, uint64_t end,
                   void (*put)(void *userdata, uint64_t address, const struct unwind_rule *rule), void *userdata);
