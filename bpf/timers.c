/* Draws intervals, ages and moments. Owns nothing. */
#include "bpf/timers.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

/* Rates of ticks are drawn evenly within this part of the mean rate. The more they differ, the sooner a timer leaves a target's
 * cycle that it happens to meet, and the more ticks sample twice or not at all. */
#define TIMER_SPREAD 0.25

/* A renewal wakes the attacher and interrupts a CPU, as a tick does: they are rarer than ticks, and many CPUs share a bound. */
#define TIMER_MIN_RENEWAL_NS 100000000ull
#define TIMER_CPU_RENEWAL_NS 5000000ull
#define TIMER_RENEWAL_PACES 10

void timers_init(struct timers *t, uint64_t period_ns, unsigned n_cpus, uint64_t seed)
{
    assert(period_ns > 0 && n_cpus > 0);
    t->gap_ns = CPROFD_TIMERS_PER_CPU * period_ns;
    uint64_t longest = (uint64_t)((double)TIMER_MAX_INTERVAL_NS * (1 - TIMER_SPREAD));
    uint64_t ticks_per_gap = (t->gap_ns + longest - 1) / longest;
    t->pace_ns = t->gap_ns / ticks_per_gap;
    t->renewal_ns = TIMER_RENEWAL_PACES * t->pace_ns;
    if (t->renewal_ns < TIMER_MIN_RENEWAL_NS)
        t->renewal_ns = TIMER_MIN_RENEWAL_NS;
    if (t->renewal_ns < n_cpus * TIMER_CPU_RENEWAL_NS)
        t->renewal_ns = n_cpus * TIMER_CPU_RENEWAL_NS;
    for (int i = 0; i < 3; i++)
        t->random[i] = (unsigned short)(seed >> 16 * i);
}

uint64_t timers_interval(struct timers *t)
{
    double rate = 1 + TIMER_SPREAD * (2 * erand48(t->random) - 1), renewal = (double)t->renewal_ns;

    /* A timer of interval T whose interval begins anew at a mean distance R ticks every R(exp(T/R) - 1). */
    return (uint64_t)(renewal * log1p((double)t->pace_ns / rate / renewal) + 0.5);
}

uint64_t timers_bits(struct timers *t)
{
    return (uint64_t)(erand48(t->random) * 0x1p32) << 32 | (uint64_t)(erand48(t->random) * 0x1p32);
}

/* How long it is since an interval of this length began, which a renewal may break off any time. */
static uint64_t timers_age(struct timers *t, uint64_t interval_ns)
{
    double renewal = (double)t->renewal_ns;
    return (uint64_t)(-renewal * log1p(erand48(t->random) * expm1(-(double)interval_ns / renewal)));
}

void timers_draw(struct timers *t, struct timer_draw *ret)
{
    uint64_t interval_ns = ret->interval_ns = timers_interval(t);

    ret->age_ns = timers_age(t, interval_ns);
    ret->broken_ns = 0;
    /* Either a tick began the interval, or a renewal that broke another one off, of which the same is true. */
    while (erand48(t->random) >= exp(-(double)interval_ns / (double)t->renewal_ns)) {
        interval_ns = timers_interval(t);
        ret->broken_ns += timers_age(t, interval_ns);
    }
}

uint64_t timers_next_renewal(struct timers *t, uint32_t n, uint32_t *ret_which)
{
    *ret_which = (uint32_t)(erand48(t->random) * n);
    return (uint64_t)(-(double)t->renewal_ns / n * log1p(-erand48(t->random)));
}
