/* Reads a perf map backwards, in pieces: what comes first then is what counts, so that a map that grew for weeks costs no more than is
 * needed of it, and one that is cut loses what is oldest. Owns the piece's memory for the time of the call. */
#include "symbolize/perf_map.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "symbolize/code_names.h"
#include "util/cleanup.h"
#include "util/clock.h"

/* Of the file in memory. A line that does not fit is too long: its name could not be kept anyway. */
#define PERF_MAP_PIECE_BYTES (256u << 10)

struct perf_map_reader {
    int fd;
    struct code_names *names;
    struct perf_map_result result;
    char *piece;
    bool in_line; /* what ends the next piece is a part of a line that is too long, or still being written */
};

/* Hexadecimal digits, as many as there are; NULL: none, or more than 64 bits. */
static const char *perf_map_number(const char *p, const char *end, uint64_t *ret)
{
    uint64_t value = 0;

    if (end - p > 2 && p[0] == '0' && (p[1] | 32) == 'x')
        p += 2;
    const char *start = p;
    for (; p < end; p++) {
        unsigned c = (unsigned char)*p, digit = c - '0';
        if (digit > 9)
            digit = (c | 32) - 'a' < 6 ? (c | 32) - 'a' + 10 : 16;
        if (digit > 15)
            break;
        if (value >> 60)
            return NULL;
        value = value << 4 | digit;
    }
    *ret = value;
    return p > start ? p : NULL;
}

static const char *perf_map_blanks(const char *p, const char *end)
{
    const char *start = p;

    while (p < end && (*p == ' ' || *p == '\t'))
        p++;
    return p > start ? p : NULL;
}

struct perf_map_line {
    uint64_t start, size;
    const char *name;
    size_t name_len;
};

static bool perf_map_parse(const char *p, const char *end, struct perf_map_line *ret)
{
    uint64_t last;

    p = perf_map_number(p, end, &ret->start);
    p = p ? perf_map_blanks(p, end) : NULL;
    p = p ? perf_map_number(p, end, &ret->size) : NULL;
    p = p ? perf_map_blanks(p, end) : NULL;
    if (!p || p == end || ret->size == 0 || __builtin_add_overflow(ret->start, ret->size - 1, &last))
        return false;
    ret->name = p;
    ret->name_len = (size_t)(end - p);
    return !memchr(p, '\0', ret->name_len);
}

static int perf_map_line(struct perf_map_reader *r, const char *p, const char *end)
{
    struct perf_map_line line;

    if (p == end)
        return 0;
    r->result.lines++;
    if (!perf_map_parse(p, end, &line)) {
        r->result.malformed++;
        return 0;
    }
    return code_names_claim(r->names, line.start, line.size, line.name, line.name_len);
}

static int perf_map_piece(struct perf_map_reader *r, uint64_t offset, size_t len)
{
    size_t have = 0;

    while (have < len) {
        ssize_t n = pread(r->fd, r->piece + have, len - have, (off_t)(offset + have));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            return -ENODATA; /* it became shorter: whatever is left of it is not what it was */
        have += (size_t)n;
    }
    return 0;
}

/* The lines of a piece, from its end to its beginning. *ret_rest: how many bytes of the piece were no whole line, and are to
 * be read again with what is before them. */
static int perf_map_lines(struct perf_map_reader *r, size_t len, bool first, size_t *ret_rest)
{
    const char *end = r->piece + len;
    int e = 0;

    for (;;) {
        const char *newline = memrchr(r->piece, '\n', (size_t)(end - r->piece));
        const char *start = newline ? newline + 1 : r->piece;
        if (!newline && !first)
            break;
        if (!r->in_line)
            e = perf_map_line(r, start, end);
        if (newline)
            r->in_line = false;
        if (!newline || e < 0 || code_names_left(r->names) == 0)
            return e;
        end = newline;
    }
    *ret_rest = (size_t)(end - r->piece);
    return 0;
}

static int perf_map_pieces(struct perf_map_reader *r, uint64_t size, uint64_t deadline_ns)
{
    uint64_t least = size > PERF_MAP_MAX_BYTES ? size - PERF_MAP_MAX_BYTES : 0;

    for (uint64_t end = size; end > least && code_names_left(r->names) > 0;) {
        size_t len = end - least < PERF_MAP_PIECE_BYTES ? (size_t)(end - least) : PERF_MAP_PIECE_BYTES, rest = 0;
        if (monotonic_ns() > deadline_ns) {
            r->result.cut = true;
            return 0;
        }
        int e = perf_map_piece(r, end - len, len);
        if (e == 0)
            e = perf_map_lines(r, len, end - len == 0, &rest);
        if (e < 0)
            return e;
        if (rest == len && end - len > 0) { /* one line and no end of it */
            r->result.lines += !r->in_line;
            r->result.malformed += !r->in_line;
            r->in_line = true;
            rest = 0;
        }
        if (end - len == least)
            break;
        end = end - len + rest;
    }
    r->result.cut = least > 0 && code_names_left(r->names) > 0;
    return 0;
}

int perf_map_read(int fd, struct code_names *names, uint64_t deadline_ns, struct perf_map_result *ret)
{
    struct perf_map_reader r = {.fd = fd, .names = names, .in_line = true};
    AUTO_FREE char *piece = malloc(PERF_MAP_PIECE_BYTES);
    struct stat st;

    if (!piece)
        return -ENOMEM;
    if (fstat(fd, &st) < 0)
        return -errno;
    r.piece = piece;
    int e = perf_map_pieces(&r, st.st_size > 0 ? (uint64_t)st.st_size : 0, deadline_ns);
    *ret = r.result;
    return e;
}
