/* What the counts of a session of the scheduler's events (bpf/sched.bpf.c) become once its window has ended: all of its threads' time, each
 * part with a stack and a state.
 *
 * - What was under way at the end is added, from what the programs knew of each thread then.
 * - Threads that were not seen to switch spent the whole window in what a dump found them at, as it opened; the waits that others were in at the
 *   beginning are what it found, too.
 * - The time on the CPU is exact for each thread. Timer samples tell which of its stacks had how much; a thread that no sample met has it
 *   under the stack with which it waited longest, or was found by the dump: the nearest to know.
 * - Waits that were not walked to save time are spread over those of the same thread and state that were; threads without one borrow the
 *   stacks of others (daemon/sched_borrow.h).
 * Pure: reads no clock, calls nobody. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bpf/control.h"
#include "bpf/sched_state.h"
#include "daemon/raw_profile.h"

/* A thread as it was read from the programs' map. */
struct settle_thread {
    struct thread_state state;
    uint64_t left_ns; /* RUNNING: when it must have left its CPU all the same; 0: it has not */
};

struct settle_request {
    const struct session_ctl *ctl;
    uint32_t slot;
    uint64_t until_ns;            /* the window's end: monotonic */
    uint32_t way;                 /* SCHED_WALK_*: how its stacks were walked */
    bool running;                 /* the time on the CPU is wanted, too */
    const struct raw_count *counts;
    size_t n_counts;
    const struct settle_thread *closed; /* of this target, as the window was closed, and once nothing was counted for it any more */
    size_t n_closed;
    const struct settle_thread *ended;
    size_t n_ended;
    const struct raw_count *found;      /* by a dump as it opened: a thread each; its state NONE: it had ended */
    size_t n_found;
};

struct settle_result {
    struct raw_count *counts;     /* the caller's to free */
    size_t n_counts, room;
    uint64_t threads;             /* that there were in the window */
    uint64_t lifetimes_ns;        /* theirs, within the window */
    uint64_t state_ns[SAMPLE_STATE_COUNT];
    uint64_t missed;              /* threads that had left their CPU at the end, though nobody told of it */
    uint64_t unsampled_ns;        /* on the CPU, where no timer met the thread: that of unsampled_hash */
    uint64_t unseen_ns;           /* off the CPU, under a stack that is not known: that of unseen_hash */
    uint64_t spread_ns;           /* spread over stacks of the same thread that were walked */
    uint64_t borrowed_ns;         /* under stacks that were walked of other threads */
    char not_dumped[256];         /* why threads could not be looked at in the beginning; else "". The caller's to say */
};

/* The stacks of what nobody saw, off the CPU and on it: the reader of counts adds one of each of these hashes, without frames. */
#define SETTLE_UNSEEN_HASH {1, 0}
#define SETTLE_UNSAMPLED_HASH {2, 0}

/* 0 or -ENOMEM. */
int sched_settle(const struct settle_request *request, struct settle_result *ret);
