/* Which allocations are sampled: those in whose bytes a point lies, points being strewn over all bytes that a thread allocates at
 * exponentially distributed gaps of a given mean (a Poisson process). So an allocation of S bytes is taken with probability 1 - exp(-S/mean)
 * whatever came before it, and stands for S / (1 - exp(-S/mean)) bytes: sums of these weights are unbiased. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LIKELY(x) __builtin_expect(!!(x), 1)
#define HEAP_RATE_DEFAULT (512u * 1024)
#define HEAP_RATE_ENV "CPROFD_HEAP_RATE"

/* Nothing of it needs to be freed at a thread's end. */
struct heap_thread {
    size_t left; /* whole bytes before the next point; 0 as well where nothing was drawn yet */
    uint64_t random;
};

/* Room in the block of thread-locals that each thread has from its start: access to it never allocates. */
extern __thread struct heap_thread heap_thread __attribute__((tls_model("initial-exec")));

/* Takes so many bytes from *left. True: there were fewer. */
static inline bool heap_sampler_take(size_t *left, size_t bytes)
{
#ifdef __x86_64__
    bool passed; /* compilers make a load, a subtraction and a store of it */
    __asm__("subq %2, %1" : "=@ccb"(passed), "+m"(*left) : "r"(bytes));
    return passed;
#else
    return __builtin_sub_overflow(*left, bytes, left);
#endif
}

/* Counts an allocation of so many bytes. True: it goes beyond them, and heap_sampler_weight decides; nothing was counted then. */
static inline bool heap_sampler_passed(size_t bytes)
{
    /* Nothing is compared first: what was taken too much is given back. */
    if (LIKELY(!heap_sampler_take(&heap_thread.left, bytes)))
        return false;
    heap_thread.left += bytes;
    return true;
}

/* The mean gap in bytes; 1: everything is sampled, with its own size as weight; 0: nothing is. Until it is set, nothing is sampled and
 * nothing drawn. */
void heap_sampler_set_rate(uint64_t mean_bytes);
/* What the environment asks for, or the default. */
uint64_t heap_sampler_wanted_rate(void);

/* After heap_sampler_passed: the weight in bytes of this allocation, 0: it is not sampled (no point had been drawn before it, or it is
 * empty). Draws the next point, whatever becomes of the allocation. */
uint64_t heap_sampler_weight(size_t bytes);

/* S / (1 - exp(-S/mean)), and a gap of that mean for 64 random bits; without the maths library, which the program may not have. */
double heap_weight(double bytes, double mean_bytes);
double heap_gap(uint64_t random, double mean_bytes);
