/* Parser and reader of /proc/PID/maps. Owns nothing. Paths in it are the target's choice; numbers and order
 * are the kernel's. */
#include "daemon/target_maps.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "util/cleanup.h"

struct line_cursor {
    const char *at, *end;
};

static int hex_value(char ch)
{
    if (ch >= '0' && ch <= '9')
        return ch - '0';
    if (ch >= 'a' && ch <= 'f')
        return ch - 'a' + 10;
    return -1;
}

/* A number, and the character that must follow it. */
static bool take_number(struct line_cursor *c, unsigned base, uint64_t max, char follow, uint64_t *ret)
{
    const char *start = c->at;
    uint64_t value = 0;

    for (; c->at < c->end; c->at++) {
        int digit = hex_value(*c->at);
        if (digit < 0 || (unsigned)digit >= base)
            break;
        if (__builtin_mul_overflow(value, base, &value) ||
            __builtin_add_overflow(value, (unsigned)digit, &value) || value > max)
            return false;
    }
    if (c->at == start || c->at == c->end || *c->at != follow)
        return false;
    c->at++;
    *ret = value;
    return true;
}

/* "r-xp " */
static bool take_permissions(struct line_cursor *c, bool *ret_executable)
{
    if (c->end - c->at < 5 || c->at[4] != ' ')
        return false;
    *ret_executable = c->at[2] == 'x';
    c->at += 5;
    return true;
}

int maps_parse_line(const char *line, size_t len, struct maps_entry *ret)
{
    struct line_cursor c = {.at = line, .end = line + len};
    struct maps_entry e = {0};
    uint64_t dev_major, dev_minor;

    if (!take_number(&c, 16, UINT64_MAX, '-', &e.start) || !take_number(&c, 16, UINT64_MAX, ' ', &e.end) ||
        !take_permissions(&c, &e.executable) || !take_number(&c, 16, UINT64_MAX, ' ', &e.offset) ||
        !take_number(&c, 16, UINT32_MAX, ':', &dev_major) ||
        !take_number(&c, 16, UINT32_MAX, ' ', &dev_minor) || !take_number(&c, 10, UINT64_MAX, ' ', &e.ino) ||
        e.start >= e.end)
        return -EBADMSG;
    /* Names begin with '/', '[' or a letter, never with a blank. */
    while (c.at < c.end && *c.at == ' ')
        c.at++;
    e.dev_major = (uint32_t)dev_major;
    e.dev_minor = (uint32_t)dev_minor;
    e.name = c.at;
    e.name_len = (size_t)(c.end - c.at);
    *ret = e;
    return 0;
}

size_t maps_decode_name(const char *name, size_t len, char *to)
{
    size_t n = 0;

    for (size_t i = 0; i < len;) {
        if (len - i >= 4 && memcmp(name + i, "\\012", 4) == 0) {
            to[n++] = '\n';
            i += 4;
        } else {
            to[n++] = name[i++];
        }
    }
    return n;
}

struct maps_reader {
    char *buf; /* MAPS_LINE_BYTES */
    size_t len;
    size_t lines;
    bool skipping; /* the rest of a line that was too long */
    int (*fn)(const struct maps_entry *e, void *userdata);
    void *userdata;
};

static int reader_line(struct maps_reader *r, const char *line, size_t len, bool cut)
{
    struct maps_entry e;

    if (++r->lines > MAPS_MAX_LINES)
        return -E2BIG;
    int error = maps_parse_line(line, len, &e);
    if (error < 0)
        return error;
    e.name_cut = cut;
    return r->fn(&e, r->userdata);
}

/* Hands over the lines that are complete, and keeps the rest. */
static int reader_consume(struct maps_reader *r)
{
    const char *at = r->buf, *end = r->buf + r->len;

    for (const char *newline; (newline = memchr(at, '\n', (size_t)(end - at))); at = newline + 1) {
        int error = r->skipping ? 0 : reader_line(r, at, (size_t)(newline - at), false);
        r->skipping = false;
        if (error < 0)
            return error;
    }
    r->len = (size_t)(end - at);
    memmove(r->buf, at, r->len);
    if (r->len < MAPS_LINE_BYTES)
        return 0;
    int error = r->skipping ? 0 : reader_line(r, r->buf, r->len, true);
    r->skipping = true;
    r->len = 0;
    return error;
}

/* An image that is gone reads as empty, at once and for good; one that is there has a first line still. */
static int image_is_there(int fd)
{
    char byte;
    ssize_t n = pread(fd, &byte, 1, 0);
    if (n < 0)
        return -errno;
    return n == 1 ? 0 : -ESRCH;
}

int maps_read(int fd, int (*fn)(const struct maps_entry *e, void *userdata), void *userdata)
{
    AUTO_FREE char *buf = malloc(MAPS_LINE_BYTES);
    struct maps_reader r = {.buf = buf, .fn = fn, .userdata = userdata};

    if (!buf)
        return -ENOMEM;
    if (lseek(fd, 0, SEEK_SET) < 0)
        return -errno;
    for (;;) {
        ssize_t n = read(fd, r.buf + r.len, MAPS_LINE_BYTES - r.len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            return image_is_there(fd);
        r.len += (size_t)n;
        int error = reader_consume(&r);
        if (error < 0)
            return error;
    }
}
