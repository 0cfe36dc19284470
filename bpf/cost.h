/* A histogram of what samples cost: eight steps to each power of two, from 128 ns to 8 ms. Included by *.bpf.c and by user code. */
#pragma once

#include "bpf/sample.h"

#define COST_BUCKETS 128
#define COST_LEAST_SHIFT 7
#define COST_MOST_SHIFT 22

static inline __u32 cost_bucket(__u64 ns)
{
    __u32 shift = COST_LEAST_SHIFT;

    if (ns >> COST_LEAST_SHIFT == 0)
        return 0;
    for (__u32 i = COST_LEAST_SHIFT; i < COST_MOST_SHIFT; i++)
        if (ns >> (i + 1))
            shift = i + 1;
    if (ns >> (COST_MOST_SHIFT + 1))
        return COST_BUCKETS - 1;
    return (shift - COST_LEAST_SHIFT) * 8 + ((ns >> (shift - 3)) & 7);
}

/* The middle of a bucket, ns. */
static inline __u64 cost_bucket_ns(__u32 bucket)
{
    __u32 shift = bucket / 8 + COST_LEAST_SHIFT;
    return ((__u64)(8 + bucket % 8) << (shift - 3)) + (1ull << (shift - 4));
}

#ifndef __bpf__
_Static_assert((COST_MOST_SHIFT - COST_LEAST_SHIFT + 1) * 8 == COST_BUCKETS, "a bucket for each step");
#endif
