/* What goroutines wait for, by probes in Go's runtime: gopark's entry (a goroutine goes to wait: R14 is its struct g, and the third argument
 * why), ready's (the first argument is one whose wait is over), and semacquire1's (the first argument is the lock's word, the third what is
 * profiled). All that is known of a wait goes by the struct g: threads change.
 *
 * block charges the stack that waits, from gopark to ready, as Go's own does. mutex charges the stack that releases with the waits of all who
 * wait for the lock, since the last release or since they began: the sum that Go's own estimates by the first and the last of them.
 *
 * Included by go.bpf.c and by user code. */
#pragma once

#include "bpf/sample.h"

#ifdef __bpf__
#define GO_INLINE static __always_inline
#else
#include <stdbool.h>
#define GO_INLINE static inline
#endif

/* In a probe's cookie, where timers have their number. */
enum go_place { GO_PLACE_PARK = 1, GO_PLACE_READY, GO_PLACE_ACQUIRE, GO_PLACES };

/* What semacquire1 profiles (src/runtime/sema.go). */
#define GO_SEMA_BLOCK 1u
#define GO_SEMA_MUTEX 2u

/* Goroutines and locks of one session: those beyond are counted. */
#define GO_MAX_WAITS 65536u
#define GO_MAX_LOCKS 16384u

/* By the address of struct g. */
struct go_wait {
    __u64 began_ns;      /* 0: it does not wait */
    __u64 lock;          /* that it is about to wait for, or waits for; 0: none */
    __u64 stack_hash[2]; /* block */
    __u32 profiled;      /* what semacquire1 said */
    __u32 epoch;
    __u32 counted;       /* 1: among the lock's waiters */
    __u32 thin;          /* block: so many waits that it stands for */
};

/* By the lock's word. Its fields belong together: who changes them holds the guard. */
struct go_lock {
    __u32 guard, pad;
    __u64 waiters;
    __u64 began_sum_ns; /* of the times since which they count; wraps, as what is taken from it does */
};

GO_INLINE void go_lock_join(struct go_lock *lock, __u64 now_ns)
{
    lock->waiters++;
    lock->began_sum_ns += now_ns;
}

/* One that joined at a time goes without a release: it is as if it had not waited. */
GO_INLINE void go_lock_leave(struct go_lock *lock, __u64 began_ns)
{
    if (lock->waiters == 0)
        return;
    lock->waiters--;
    lock->began_sum_ns -= began_ns;
}

/* A release, by which one of them goes. What all have waited for it. */
GO_INLINE __u64 go_lock_release(struct go_lock *lock, __u64 now_ns)
{
    __u64 waited_ns = lock->waiters * now_ns - lock->began_sum_ns;

    if (lock->waiters == 0)
        return 0;
    lock->waiters--;
    lock->began_sum_ns = lock->waiters * now_ns;
    return waited_ns;
}

#ifndef __bpf__
_Static_assert(sizeof(struct go_wait) == 48, "layout shared with BPF");
_Static_assert(sizeof(struct go_lock) == 24, "layout shared with BPF");
#endif
