/* The points at which allocations are sampled, one thread-local countdown each. No state is shared between threads but the rate and the
 * number of threads that have begun, so nothing is locked, and fork copies all that there is. */
#include "shim/heap_sampler.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <time.h>

#define LN_2 0.693147180559945309417

__thread struct heap_thread heap_thread __attribute__((tls_model("initial-exec")));

#define RATE_UNSET UINT64_MAX
#define RATE_MAX 1000000000000ull

static uint64_t rate = RATE_UNSET;
static uint64_t threads_begun;

static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

/* Another sequence for each process and thread. */
static uint64_t seed(void)
{
    const void *given = (const void *)getauxval(AT_RANDOM); /* NOLINT: the kernel's own bytes */
    uint64_t bytes = 0;
    struct timespec now = {0};
    if (given)
        memcpy(&bytes, given, sizeof(bytes));
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    uint64_t thread = __atomic_add_fetch(&threads_begun, 1, __ATOMIC_RELAXED);
    return mix(bytes ^ mix(thread ^ mix((uint64_t)now.tv_nsec))) | 1;
}

static uint64_t next_random(void)
{
    if (!heap_thread.random)
        heap_thread.random = seed();
    heap_thread.random += 0x9e3779b97f4a7c15ull;
    return mix(heap_thread.random);
}

/* 1 - exp(-x) for x >= 0: a series for a small part of x, doubled again by 1-(1-y)^2 = y(2-y). */
static double one_minus_exp(double x)
{
    unsigned doublings = 0;
    if (x > 40)
        return 1;
    while (x > 1.0 / 64) {
        x /= 2;
        doublings++;
    }
    double y = x * (1 - x / 2 * (1 - x / 3 * (1 - x / 4 * (1 - x / 5 * (1 - x / 6)))));
    while (doublings-- > 0)
        y *= 2 - y;
    return y;
}

double heap_weight(double bytes, double mean_bytes)
{
    return bytes / one_minus_exp(bytes / mean_bytes);
}

/* The natural logarithm of x >= 1: x is halved below 1.5, ln m = 2 atanh((m-1)/(m+1)). */
static double natural_log(double x)
{
    double halvings = 0;
    while (x >= 4294967296.0) {
        x /= 4294967296.0;
        halvings += 32;
    }
    while (x > 1.5) {
        x /= 2;
        halvings++;
    }
    double s = (x - 1) / (x + 1), square = s * s, sum = 0, power = s;
    for (unsigned i = 1; i < 28; i += 2) {
        sum += power / i;
        power *= square;
    }
    return halvings * LN_2 + 2 * sum;
}

double heap_gap(uint64_t random, double mean_bytes)
{
    double uniform = ((double)(random >> 11) + 1) / 9007199254740992.0; /* (0, 1] */
    return mean_bytes * natural_log(1 / uniform);
}

static size_t draw(uint64_t mean)
{
    double gap = heap_gap(next_random(), (double)mean);
    return mean > 0 && gap < 1e15 ? (size_t)gap : SIZE_MAX;
}

void heap_sampler_set_rate(uint64_t mean_bytes)
{
    heap_thread = (struct heap_thread){0};
    __atomic_store_n(&rate, mean_bytes, __ATOMIC_RELAXED);
}

uint64_t heap_sampler_wanted_rate(void)
{
    const char *text = getenv(HEAP_RATE_ENV);
    char *end;
    if (!text || *text < '0' || *text > '9')
        return HEAP_RATE_DEFAULT;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    return errno == 0 && *end == '\0' && value <= RATE_MAX ? value : HEAP_RATE_DEFAULT;
}

uint64_t heap_sampler_weight(size_t bytes)
{
    uint64_t mean = __atomic_load_n(&rate, __ATOMIC_RELAXED);
    if (mean == RATE_UNSET)
        return 0;
    if (mean == 1)
        return bytes;
    if (!heap_thread.random) {
        heap_thread.left = draw(mean);
        if (!heap_sampler_passed(bytes))
            return 0;
    }
    if (bytes == 0)
        return 0;
    heap_thread.left = draw(mean);
    return mean == 0 ? 0 : (uint64_t)(heap_weight((double)bytes, (double)mean) + 0.5);
}
