/* Reading of foreign bytes, one value after another: beyond the end every value is 0, and the cursor stays bad. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct cfi_cursor {
    const uint8_t *at, *end;
    bool bad;
};

static inline bool cfi_cursor_has(const struct cfi_cursor *c, uint64_t n) { return n <= (uint64_t)(c->end - c->at); }

static inline void cfi_cursor_fail(struct cfi_cursor *c)
{
    c->bad = true;
    c->at = c->end;
}

/* n <= 8 bytes, little-endian, as the host is. */
static inline uint64_t cfi_get(struct cfi_cursor *c, size_t n)
{
    uint64_t value = 0;
    if (!cfi_cursor_has(c, n)) {
        cfi_cursor_fail(c);
        return 0;
    }
    memcpy(&value, c->at, n);
    c->at += n;
    return value;
}

static inline int64_t cfi_get_signed(struct cfi_cursor *c, size_t n)
{
    unsigned shift = (unsigned)(64 - 8 * n);
    return (int64_t)(cfi_get(c, n) << shift) >> shift;
}

static inline void cfi_skip(struct cfi_cursor *c, uint64_t n)
{
    if (cfi_cursor_has(c, n))
        c->at += n;
    else
        cfi_cursor_fail(c);
}

/* Bits beyond the 64th are dropped. */
static inline uint64_t cfi_get_leb(struct cfi_cursor *c, unsigned *ret_bits)
{
    uint64_t value = 0;
    unsigned shift = 0;
    while (c->at < c->end) {
        uint8_t byte = *c->at++;
        if (shift < 64)
            value |= (uint64_t)(byte & 0x7f) << shift;
        shift += 7;
        if (!(byte & 0x80)) {
            *ret_bits = shift;
            return value;
        }
    }
    cfi_cursor_fail(c);
    *ret_bits = 64;
    return 0;
}

static inline uint64_t cfi_get_uleb(struct cfi_cursor *c)
{
    unsigned bits;
    return cfi_get_leb(c, &bits);
}

static inline int64_t cfi_get_sleb(struct cfi_cursor *c)
{
    unsigned bits;
    uint64_t value = cfi_get_leb(c, &bits);
    if (bits < 64 && (value >> (bits - 1)) & 1)
        value |= ~0ull << bits;
    return (int64_t)value;
}
