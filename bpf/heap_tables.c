/* The tables by which BPF programs, which have no floating point, sample allocations and weigh them. Owns nothing. */
#include <math.h>

#include "bpf/heap.h"

void heap_tables_fill(struct heap_tables *ret)
{
    const double one = 1 << 20;

    ret->weights[0] = 1 << 20;
    for (int i = 1; i <= HEAP_WEIGHTS; i++) {
        double x = (double)i / HEAP_WEIGHTS_PER_UNIT;
        ret->weights[i] = (__u32)lround(x / -expm1(-x) * one);
    }
    for (int i = 0; i <= HEAP_LOGS; i++)
        ret->logs[i] = (__u32)lround(log1p((double)i / HEAP_LOGS) * one);
}
