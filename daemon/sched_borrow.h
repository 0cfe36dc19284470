/* Stacks for the waits of threads of which none was walked, to save time: those of other threads' waits, so that the whole is right though a
 * single thread's part is a guess. Pure.
 *
 * Each wait is walked by chance, one in so many, whoever's it is. So a thread with one wait that was walked stands for others with one wait
 * that were not; one with so many waits that some of them had to be walked stands for nobody but itself. What a thread's walked waits of a
 * state stand for beside its own is its time in that state, times (1 - p) / p, where p is how probable it was that at least one of them was
 * walked: in the mean that is as long as the waits of all threads of which none was. Threads borrow from those of their name alone. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "daemon/raw_profile.h"

struct borrow_lender {
    const struct raw_count *count; /* waits of a stack, and what they stand for of their own thread's time */
    uint64_t waits;                /* how many chances there were to walk one of this thread and state */
};

struct borrow_want {
    struct raw_count count; /* without a stack */
    bool is_served;
};

/* Both arrays are sorted on the way. walked: the part of all waits that was, above 0 and below 1. ret_counts: at most as many as lenders and
 * wants together, for the caller to free. 0 or -ENOMEM. */
int sched_borrow(struct borrow_lender *lenders, size_t n_lenders, struct borrow_want *wants, size_t n_wants, double walked,
                 struct raw_count **ret_counts, size_t *ret_n);
