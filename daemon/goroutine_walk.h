/* The stack of a goroutine that does not run, by the unwinding table of its program. */
#pragma once

#include "bpf/sample.h"
#include "daemon/goroutines.h"

#define GOROUTINE_WINDOW_BYTES 8192u

struct goroutine_walk {
    const struct goroutine_source *source;
    uint64_t low, high;        /* the goroutine's stack */
    uint64_t pc, sp, bp;
    bool is_exact;             /* pc is no return address */
    uint64_t window_at;        /* what was read of the stack: */
    size_t window_bytes;
    uint8_t window[GOROUTINE_WINDOW_BYTES];
    struct stack_record record; /* what becomes of it, without a hash; frames follow */
    uint64_t frames[CPROFD_MAX_FRAMES];
};

/* low, high, pc, sp and bp are set. Always ends with a record. */
void goroutine_walk(struct goroutine_walk *w);
/* Of that many bytes. */
size_t goroutine_walk_bytes(const struct goroutine_walk *w);
