/* Files and lines of one piece of code in a jitdump (JIT_CODE_DEBUG_INFO). */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct jitdump_line {
    uint64_t address; /* from here on */
    uint32_t line, order;
    const char *filename; /* in the record */
};

struct jitdump_lines {
    struct jitdump_line *items; /* by address */
    size_t n;
};

/* Reads the entries of a record: data are the bytes behind its fixed part; bias is taken off each address. Where anything does not add up
 * (an address outside of the code, a name that is no text, a record too short or too long), nothing of it is believed. 0; -EBADMSG;
 * -ENOMEM. *ret is for jitdump_lines_deinit; it points into data. */
int jitdump_lines_parse(const char *data, size_t len, uint64_t n_entries, uint64_t code_addr, uint64_t code_size, uint64_t bias,
                        struct jitdump_lines *ret);
void jitdump_lines_deinit(struct jitdump_lines *lines);
/* The entry in force at an address; NULL: none. */
const struct jitdump_line *jitdump_lines_find(const struct jitdump_lines *lines, uint64_t address);
