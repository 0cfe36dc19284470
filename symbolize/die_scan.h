/* A unit's DIEs, one after another: where each begins and what it is, without its attributes.
 *
 * libdw looks an abbreviation up, under a lock, for each question about a DIE, and steps over attributes one
 * by one. Most DIEs of a unit are only stepped over; here that is one addition for nearly all of them. What
 * is of interest goes to libdw (die_seen_die). */
#pragma once

#include <elfutils/libdw.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct die_abbreviation {
    uint16_t tag;
    bool known, children;
    bool code;          /* it has addresses: DW_AT_low_pc or DW_AT_ranges */
    uint32_t bytes;     /* of its attributes; DIE_BYTES_VARY */
    uint32_t sibling;   /* where among them a DW_AT_sibling of 4 bytes is, or DIE_BYTES_VARY */
    uint32_t forms, n;  /* in the table's forms */
};
#define DIE_BYTES_VARY UINT32_MAX

struct die_table {
    struct die_abbreviation *list; /* by code */
    size_t n;
    uint16_t *forms;
    size_t n_forms, forms_room;
    uint8_t address_bytes, offset_bytes, reference_bytes;
    const uint8_t *begin, *end; /* of the unit, its header included */
    struct Dwarf_CU *cu;
};

struct die_cursor {
    const struct die_table *table;
    const uint8_t *at;
};

struct die_seen {
    const struct die_abbreviation *abbreviation; /* NULL: the end of a list of children */
    const uint8_t *at;
    const uint8_t *sibling; /* NULL: not told */
};

/* The abbreviations of a unit of so many bytes; what it costs is taken from *budget. 0; -ENOEXEC: malformed,
 * or more than well-formed units have; -ENOMEM. */
int die_table_new(Dwarf_Die *unit, uint32_t info_bytes, uint64_t *budget, struct die_table *ret);
void die_table_deinit(struct die_table *table);
size_t die_table_bytes(const struct die_table *table);

/* Reads the DIE at the cursor, and goes to what follows it: its first child, if it has some. False: at the
 * unit's end, or malformed. */
bool die_cursor_next(struct die_cursor *c, struct die_seen *ret);
/* Goes over the children of the DIE that was just read. False where the unit ends before, or the budget. */
bool die_cursor_skip(struct die_cursor *c, const struct die_seen *seen, uint64_t *budget);
/* For libdw. */
Dwarf_Die die_seen_die(const struct die_table *table, const struct die_seen *seen);
