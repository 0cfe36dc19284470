/* How stacks are shown in execution traces: rooted at the thread's own function, since viewers name and group threads by their
 * outermost frame, and no longer than they take. Bytes that grow are here too. */
#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "pprof/exec_trace_impl.h"

/* How many of a stack's frames are the thread's own: all, where no other would be left. */
static uint32_t own_frames(const struct exec_trace *t, const struct exec_stack *s)
{
    uint32_t n = s->n;
    while (s->rooted && n > 0 && t->frames[t->refs[s->first + n - 1]].starts_threads)
        n--;
    return n > 0 ? n : s->n;
}

struct exec_shown exec_stack_shown(const struct exec_trace *trace, uint32_t stack)
{
    struct exec_shown shown = {0};
    if (stack == EXEC_NO_STACK)
        return shown;
    const struct exec_stack *s = &trace->stacks[stack - 1];
    uint32_t n = own_frames(trace, s);
    shown.head = trace->refs + s->first;
    shown.n_head = n;
    if (n > EXEC_MAX_SHOWN_FRAMES) {
        shown.n_head = EXEC_MAX_SHOWN_FRAMES - 2;
        shown.tail = trace->refs + s->first + n - 1;
        shown.n_tail = 1;
        shown.n_left_out = n - shown.n_head - 1;
    }
    return shown;
}

uint32_t exec_stack_root(const struct exec_trace *trace, uint32_t stack)
{
    if (stack == EXEC_NO_STACK)
        return EXEC_NONE;
    const struct exec_stack *s = &trace->stacks[stack - 1];
    if (!s->rooted || s->n == 0)
        return EXEC_NONE;
    uint32_t root = trace->refs[s->first + own_frames(trace, s) - 1];
    return trace->frames[root].starts_threads ? EXEC_NONE : root; /* it had not begun yet */
}

void bytes_put(struct exec_bytes *b, const void *data, size_t len)
{
    if (len == 0 || b->failed)
        return;
    if (vec_reserve(b, len) < 0) {
        b->failed = true;
        return;
    }
    memcpy(b->items + b->n, data, len);
    b->n += len;
}

void bytes_put_byte(struct exec_bytes *b, uint8_t byte) { bytes_put(b, &byte, 1); }

void bytes_put_uvarint(struct exec_bytes *b, uint64_t value)
{
    uint8_t out[10];
    size_t n = 0;
    for (; value >= 0x80; value >>= 7)
        out[n++] = (uint8_t)(value | 0x80);
    out[n++] = (uint8_t)value;
    bytes_put(b, out, n);
}

void bytes_put_text(struct exec_bytes *b, const char *text) { bytes_put(b, text, strlen(text)); }

void bytes_printf(struct exec_bytes *b, const char *fmt, ...)
{
    char out[256];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(out, sizeof(out), fmt, args);
    va_end(args);
    assert(n >= 0 && (size_t)n < sizeof(out));
    bytes_put(b, out, (size_t)n);
}

void bytes_deinit(struct exec_bytes *b)
{
    free(b->items);
    *b = (struct exec_bytes){0};
}

int bytes_finish(struct exec_bytes *b, uint8_t **ret_data, size_t *ret_len)
{
    if (b->failed || vec_reserve(b, 1) < 0) /* never NULL, however short */
        return -ENOMEM;
    if (b->n > EXEC_MAX_BODY_BYTES)
        return -EFBIG;
    *ret_data = b->items;
    *ret_len = b->n;
    *b = (struct exec_bytes){0};
    return 0;
}
