/* When the timer events tick that together sample at one rate: numbers alone, no events.
 *
 * An exact period beats with the target's own cycles, and then luck decides what is seen. So there are three timers, each of them for
 * every third sample, and the interval of each is drawn at random, and anew at random moments, at which it also begins anew: neither
 * its phase nor its length stays what it is for long, and no cycle of a target can keep in step. The moments follow one another as
 * those of radioactive decay do: when the next one comes depends on nothing that happened. A timer is an event on each CPU; they tick
 * together, so that a thread is seen once wherever it runs.
 *
 * What elapsed of an interval that is broken off is not lost: a tick samples for all the time since the tick before it
 * (bpf/tick.h), so totals are exact. The lengths are such that timers tick as often as they sample, on average. */
#pragma once

#include <stdint.h>

#include "bpf/sample.h"

/* No interval is longer than this, so that a session begins soon: ns. */
#define TIMER_MAX_INTERVAL_NS 40000000ull

struct timers {
    uint64_t gap_ns;    /* a timer has one sampling point in each: CPROFD_TIMERS_PER_CPU periods */
    uint64_t pace_ns;   /* the mean time between a timer's ticks: the gap, or of slow rates a part of it */
    uint64_t renewal_ns; /* the mean time until a timer's interval is drawn anew */
    unsigned short random[3]; /* erand48's state */
};

/* For a period (ns, >= 100,000) on so many CPUs. seed: uniform bits. */
void timers_init(struct timers *t, uint64_t period_ns, unsigned n_cpus, uint64_t seed);

/* A timer that has been running for long, at a moment that has nothing to do with it. */
struct timer_draw {
    uint64_t interval_ns;
    uint64_t age_ns;    /* since its interval began: less than interval_ns */
    uint64_t broken_ns; /* and how long its last tick was before that */
};
void timers_draw(struct timers *t, struct timer_draw *ret);

/* A new interval. */
uint64_t timers_interval(struct timers *t);
/* Uniform bits, for sampling points. */
uint64_t timers_bits(struct timers *t);
/* How long it takes until the next of n timers is to be renewed, and which one that is. */
uint64_t timers_next_renewal(struct timers *t, uint32_t n, uint32_t *ret_which);
