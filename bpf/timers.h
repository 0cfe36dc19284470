/* The periods of the timer events that together sample at one rate.
 *
 * An exact period beats with the target's own cycles, and then luck decides what is seen. So each CPU has three timers with
 * incommensurate periods near three times the period asked for, drawn anew for each session, each started
 * at a random phase. Their rates add up to exactly one over the period: a tick stands for the period, whatever timer it
 * comes from, and totals are exact.
 *
 * A random phase takes a whole timer period of waiting, so slow rates run on faster timers of which one tick in
 * `decimation` counts (a random one in each block). */
#pragma once

#include <stdint.h>

#include "bpf/sample.h"

/* No timer is slower than this, so that a session begins soon: ns. */
#define TIMER_MAX_PERIOD_NS 33000000ull

struct timers {
    uint64_t period_ns[CPROFD_TIMERS_PER_CPU];
    uint32_t decimation;
};

/* Draws the timers for a period (ns, >= 100,000). random: uniform bits. */
void timers_draw(uint64_t period_ns, const uint64_t random[2], struct timers *ret);

/* What one counted tick stands for, by the drawn periods: ns, exact. */
double timers_mean_period_ns(const struct timers *t);
