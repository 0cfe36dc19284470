/* Names of code that was made at run time, for the addresses of one profile and no others: what a perf map or a jitdump says of
 * other code is never kept. Their readers (perf_map.h, jitdump.h) tell the newest code first, and an address keeps the first
 * name that it gets: whatever was at its place before is not what ran there last. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Of all names of a profile: a target chooses how long they are. */
#define CODE_NAMES_MAX_BYTES (32u << 20)
/* The longest name; code with a longer one has none. */
#define CODE_NAME_MAX_BYTES 65535

struct code_name {
    const char *name;     /* any bytes but NUL; NULL: not known */
    const char *filename; /* NULL: not known */
    int64_t line;         /* 0: not known */
};

struct code_names;

/* addresses ascend strictly, and are copied. NULL when memory is short. */
struct code_names *code_names_new(const uint64_t *addresses, size_t n);
void code_names_free(struct code_names *names);

/* How many addresses nobody has claimed yet. */
size_t code_names_left(const struct code_names *names);
/* What is known of an address; NULL: nothing. Valid as long as names. */
const struct code_name *code_names_find(const struct code_names *names, uint64_t address);

/* ---- for readers */

size_t code_names_count(const struct code_names *names);
const uint64_t *code_names_addresses(const struct code_names *names);
/* The first address in [start, start + size) that has no name, by its place, or code_names_count. */
size_t code_names_unnamed(struct code_names *names, uint64_t start, uint64_t size);
/* Names all addresses in [start, start + size) that have none. A name that is NULL or too long is not known, and nobody names them any
 * more. 0; -ENOSPC: names take too much room; -ENOMEM. */
int code_names_claim(struct code_names *names, uint64_t start, uint64_t size, const char *name, size_t len);
/* Says where an address that was named stands in the sources. 0, -ENOSPC or -ENOMEM; the name stays in each case. */
int code_names_set_line(struct code_names *names, size_t i, const char *filename, int64_t line);
