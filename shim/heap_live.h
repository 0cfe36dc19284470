/* Which pointers are sampled and live. Asked at each free, so the answer for all others costs one byte's load: a filter of counters by
 * address, in which neighbours share a counter, and 64 KiB of the heap a cache line. Behind it stands a table of the pointers themselves. Lock-free;
 * a pointer is put in before its owner has it and taken out before its memory is given back, so no two threads work on one. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HEAP_FILTER_GRAIN_BITS 10 /* addresses that share a counter */
#define HEAP_FILTER_COUNTERS (1u << (32 - HEAP_FILTER_GRAIN_BITS)) /* of 4 GiB; pages of it that are only read are the one of zeroes */
#define HEAP_FILTER_STUCK 255u    /* a counter that got here stays: it only costs time */

extern uint8_t heap_filter[HEAP_FILTER_COUNTERS];

static inline size_t heap_filter_index(const void *pointer)
{
    return (uint32_t)(uintptr_t)pointer >> HEAP_FILTER_GRAIN_BITS;
}

/* False: it is surely not sampled. */
static inline bool heap_live_maybe(const void *pointer)
{
    const uint8_t *counter = &heap_filter[heap_filter_index(pointer)];
#ifdef __x86_64__
    bool maybe; /* compilers load it before they compare */
    __asm__ volatile("cmpb $0, %1" : "=@ccne"(maybe) : "m"(*counter));
    return __builtin_expect(maybe, 0);
#else
    return __builtin_expect(__atomic_load_n(counter, __ATOMIC_RELAXED) != 0, 0);
#endif
}

/* What is said again of a pointer whose end was told too early. */
struct heap_sampled {
    size_t bytes;
    uint64_t weight;
};

/* Room for so many pointers; before any thread but one runs. False: there is no memory for it, and nothing can be put in. */
bool heap_live_init(size_t pointers);
/* False: no room (its neighbourhood is full). The pointer is not NULL. */
bool heap_live_put(void *pointer, struct heap_sampled sampled);
/* Takes it out. False: it is not sampled. */
bool heap_live_take(void *pointer, struct heap_sampled *ret);
/* From now on heap_live_maybe is true for these addresses. */
void heap_live_mark(const void *from, size_t bytes);
