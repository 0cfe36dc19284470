/* The periods of the timers that together sample at one rate where stacks are copied.
 *
 * An exact period beats with the target's own cycles. So each CPU has three timers with incommensurate periods near three times the
 * period asked for, drawn anew for each session. Their rates add up to exactly one over the period: a tick stands for the period,
 * whatever timer it comes from, and totals are exact. (Timers of a program, bpf/timers.h, are renewed as well; an event that is bound
 * to threads would have to be renewed in each of them.)
 *
 * A random phase takes a whole timer period of waiting, so slow rates run on faster timers of which one tick in `decimation` counts (a
 * random one in each block). */
#pragma once

#include <stdint.h>

#include "bpf/sample.h"

/* No timer is slower than this, so that a session begins soon: ns. */
#define COPY_TIMER_MAX_PERIOD_NS 33000000ull

struct copy_timers {
    uint64_t period_ns[CPROFD_TIMERS_PER_CPU]; /* they differ */
    uint32_t decimation;
};

/* Draws the timers for a period (ns, >= 100,000). random: uniform bits. */
void copy_timers_draw(uint64_t period_ns, const uint64_t random[2], struct copy_timers *ret);

/* What one counted tick stands for, by the drawn periods: ns, exact. */
double copy_timers_mean_period_ns(const struct copy_timers *t);
