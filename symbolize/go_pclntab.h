/* Go's own table of functions (.gopclntab), which every Go binary has, stripped or not: where functions are, what they are called, and
 * tables of values by address: file, line, stack depth, inlined call. Read by the source of Go's runtime (src/runtime/symtab.go,
 * runtime2.go, symtabinl.go) for 1.16 and later. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "symbolize/cfi_cursor.h"

#define GO_WORD 8

enum go_version { GO_1_16, GO_1_18, GO_1_20 }; /* layouts, by the first release that had them */

struct go_pclntab {
    const uint8_t *data; /* NULL: none */
    size_t bytes;
    enum go_version version;
    uint8_t quantum;      /* bytes that addresses in its tables count in */
    uint64_t text;        /* address that functions are counted from; as the header has it until it is known better */
    uint64_t n;           /* functions */
    uint64_t names, units, files, values, functions; /* offsets in the table */
};

struct go_function {
    uint64_t start, end; /* addresses */
    uint64_t record;     /* offset in the table, of what follows the entry */
    uint32_t name;       /* for go_pclntab_name */
};

/* Words of a function's record, and what follows from 1.20 on. */
enum go_field {
    GO_NAME = 0, GO_STACK = 12, GO_FILE = 16, GO_LINE = 20, GO_N_PCDATA = 24, GO_UNIT = 28, GO_START_LINE = 32, GO_KIND = 32, GO_KIND_1_20 = 36,
};

/* True where 8 bytes are the first of such a table. */
bool go_pclntab_begins(const uint8_t *bytes);
/* False: another version, or another machine's. The bytes stay the caller's. */
bool go_pclntab_open(const uint8_t *data, size_t bytes, struct go_pclntab *ret);
/* The function at an index below n. False: malformed. */
bool go_pclntab_function(const struct go_pclntab *t, uint64_t index, struct go_function *ret);
/* The function that holds an address. */
bool go_pclntab_find(const struct go_pclntab *t, uint64_t address, struct go_function *ret);
/* Names and files by their offsets in their tables. NULL: malformed, or of max bytes and more. */
const char *go_pclntab_name(const struct go_pclntab *t, uint32_t name, size_t max);
const char *go_pclntab_file(const struct go_pclntab *t, const struct go_function *function, int64_t number, size_t max);
/* n bytes of the table at an offset; *ok becomes false beyond its end. */
uint64_t go_pclntab_get(const struct go_pclntab *t, uint64_t offset, size_t n, bool *ok);
/* Which table of values PCDATA has at an index; 0: none. And where FUNCDATA's entry at an index begins, in what the module has of it: from
 * 1.18 on; UINT32_MAX: none. */
uint32_t go_pclntab_pcdata(const struct go_pclntab *t, const struct go_function *function, uint32_t index);
uint32_t go_pclntab_funcdata(const struct go_pclntab *t, const struct go_function *function, uint32_t index);

/* A table of values of one function: `value` holds on [from, to). */
struct go_values {
    struct cfi_cursor c;
    uint64_t start, from, to;
    uint8_t quantum;
    int64_t value;
};

/* table: as in a function's record; 0 is a malformed one. */
void go_values_begin(const struct go_pclntab *t, const struct go_function *function, uint32_t table, struct go_values *ret);
/* False at its end, and where it is malformed (c.bad then). */
bool go_values_next(struct go_values *v);
