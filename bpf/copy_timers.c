/* Draws timer periods: two at random, a few per cent beside three times the mean, the third such that the rates add up.
 * Owns nothing. */
#include "bpf/copy_timers.h"

#include <assert.h>

/* In [-1, 1). */
static double uniform(uint64_t random)
{
    return (double)(random >> 11) * 0x1p-52 - 1.0;
}

void copy_timers_draw(uint64_t period_ns, const uint64_t random[2], struct copy_timers *ret)
{
    assert(period_ns > 0);
    uint64_t slowest = CPROFD_TIMERS_PER_CPU * period_ns;
    uint32_t decimation = (uint32_t)((slowest + COPY_TIMER_MAX_PERIOD_NS - 1) / COPY_TIMER_MAX_PERIOD_NS);
    if (decimation == 0)
        decimation = 1;

    /* About -5.7, +2.0 and +4 %, each with some randomness: apart enough that two timers never tick in step for long, and
     * none near the period itself, since programs' own cycles are round numbers as often as periods are. */
    double base = (double)slowest / decimation;
    double first = base * (0.943 + 0.004 * uniform(random[0]));
    double second = base * (1.020 + 0.003 * uniform(random[1]));
    /* 1/first + 1/second + 1/third = 3/base */
    double third = 1.0 / (CPROFD_TIMERS_PER_CPU / base - 1.0 / first - 1.0 / second);

    ret->period_ns[0] = (uint64_t)(first + 0.5);
    ret->period_ns[1] = (uint64_t)(second + 0.5);
    ret->period_ns[2] = (uint64_t)(third + 0.5);
    ret->decimation = decimation;
}

double copy_timers_mean_period_ns(const struct copy_timers *t)
{
    double rate = 0;
    for (int i = 0; i < CPROFD_TIMERS_PER_CPU; i++)
        rate += 1.0 / ((double)t->period_ns[i] * t->decimation);
    return 1.0 / rate;
}
