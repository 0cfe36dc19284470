/* Line number programs, written as compilers write them, for tests of what reads them. */
#pragma once

#include <check.h>
#include <dwarf.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define ROOM 65536
#define OPCODE_BASE 13
#define LINE_BASE (-5)
#define LINE_RANGE 14

/* A table as it is written. */
struct written {
    uint8_t bytes[ROOM];
    size_t n, program;
    unsigned version;
    bool wide; /* 64-bit DWARF */
};

static void put(struct written *w, uint64_t value, size_t n)
{
    ck_assert_uint_le(w->n + n, ROOM);
    memcpy(w->bytes + w->n, &value, n);
    w->n += n;
}

static void put_uleb(struct written *w, uint64_t value)
{
    for (; value >= 0x80; value >>= 7)
        put(w, (value & 0x7f) | 0x80, 1);
    put(w, value, 1);
}

static void put_sleb(struct written *w, int64_t value)
{
    for (; value < -64 || value > 63; value >>= 7)
        put(w, (uint64_t)(value & 0x7f) | 0x80, 1);
    put(w, (uint64_t)value & 0x7f, 1);
}

static void put_string(struct written *w, const char *s)
{
    do
        put(w, (uint8_t)*s, 1);
    while (*s++);
}

static size_t offset_bytes(const struct written *w) { return w->wide ? 8 : 4; }

static void put_standard(struct written *w, uint8_t opcode_base, uint8_t max_operations)
{
    static const uint8_t operands[] = {0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1, 3};
    put(w, 1, 1); /* bytes of an instruction */
    if (w->version >= 4)
        put(w, max_operations, 1);
    put(w, 1, 1);
    put(w, (uint8_t)LINE_BASE, 1);
    put(w, LINE_RANGE, 1);
    put(w, opcode_base, 1);
    memcpy(w->bytes + w->n, operands, opcode_base - 1u);
    w->n += opcode_base - 1u;
}

/* Up to the lists of directories and files. */
static void begin(struct written *w, unsigned version, bool wide, uint8_t opcode_base, uint8_t max_operations)
{
    w->n = 0;
    w->version = version;
    w->wide = wide;
    if (wide)
        put(w, UINT32_MAX, 4);
    put(w, 0, offset_bytes(w)); /* length */
    put(w, version, 2);
    if (version >= 5)
        put(w, 8, 2);
    put(w, 0, offset_bytes(w)); /* header's length */
    put_standard(w, opcode_base, max_operations);
}

static void end_header(struct written *w)
{
    size_t at = (w->wide ? 12 : 4) + 2 + (w->version >= 5 ? 2u : 0u), length = w->n - at - offset_bytes(w);
    memcpy(w->bytes + at, &length, offset_bytes(w));
    w->program = w->n;
}

static void end(struct written *w)
{
    size_t at = w->wide ? 4 : 0, length = w->n - at - offset_bytes(w);
    memcpy(w->bytes + at, &length, offset_bytes(w));
}

/* Two directories, two files beside the one that old versions don't write. */
static void lists(struct written *w)
{
    if (w->version < 5) {
        put_string(w, "/usr/include");
        put_string(w, "src");
        put(w, 0, 1);
    } else {
        put(w, 1, 1);
        put_uleb(w, DW_LNCT_path);
        put_uleb(w, DW_FORM_string);
        put_uleb(w, 3);
        put_string(w, "/build");
        put_string(w, "/usr/include");
        put_string(w, "src");
        put(w, 2, 1);
        put_uleb(w, DW_LNCT_path);
        put_uleb(w, DW_FORM_string);
        put_uleb(w, DW_LNCT_directory_index);
        put_uleb(w, DW_FORM_udata);
        put_uleb(w, 3);
        put_string(w, "main.c");
        put_uleb(w, 0);
    }
    static const char *const names[] = {"main.c", "stdio.h"};
    for (unsigned i = 0; i < 2; i++) {
        put_string(w, names[i]);
        put_uleb(w, i);
        if (w->version < 5)
            put(w, 0x0102, 2); /* time, size */
    }
    if (w->version < 5)
        put(w, 0, 1);
    end_header(w);
}

static void set_address(struct written *w, uint64_t address)
{
    put(w, 0, 1);
    put_uleb(w, 9);
    put(w, DW_LNE_set_address, 1);
    put(w, address, 8);
}

static void end_sequence(struct written *w)
{
    put(w, 0, 1);
    put_uleb(w, 1);
    put(w, DW_LNE_end_sequence, 1);
}

static void special(struct written *w, unsigned advance, int line)
{
    put(w, OPCODE_BASE + advance * LINE_RANGE + (unsigned)(line - LINE_BASE), 1);
}
