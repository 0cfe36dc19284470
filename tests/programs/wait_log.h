/* What a program notes of its waits: one span for each, from just before the call to just behind it, by CLOCK_MONOTONIC. A test asks for them by
 * the line "waits", and cuts them to its window. The truth then has "waits": [[function, what, object, tid, from_ns, to_ns], ...], where to_ns 0
 * is a wait that goes on. A span holds, beside the wait, the time until the thread had a CPU again. */
#pragma once

#include <stdint.h>

/* Before program_init. */
void wait_log_init(void);
/* what: the state that a profile should show, or "hold", where the span is that of a held lock; object: which lock, or "". All three are kept as
 * pointers. Returns the span's number. */
uint32_t wait_begin(const char *function, const char *what, const char *object);
void wait_end(uint32_t span);

/* The span of one expression, in the function that it stands in. */
#define LOGGED(what, object, expression)                              \
    do {                                                              \
        uint32_t logged_span_ = wait_begin(__func__, what, object);   \
        expression;                                                   \
        wait_end(logged_span_);                                       \
    } while (0)
