/* The allocations of a process, by probes on its allocator's functions: sampled by bytes, and what is live by address.
 *
 * One byte in `rate` is a sampling point, on average, with exponential gaps between them; an allocation is sampled if such a point lies in it.
 * One of S bytes is so with probability 1 - exp(-S / rate), whatever came before, and stands for 1 / (1 - exp(-S / rate)) of its size: the
 * estimates have no bias. At rate 1 each allocation is sampled, and stands for itself.
 *
 * Included by heap.bpf.c and by user code. */
#pragma once

#include "bpf/sample.h"
#include "util/heap_call.h" /* in a probe's cookie, where timers have their number */

#ifdef __bpf__
#define HEAP_INLINE static __always_inline
#else
#include <stdbool.h>
#include <stddef.h>
#define HEAP_INLINE static inline
#endif

/* Of one process at a time: each has a place of its own in what is kept of a thread. */
#define HEAP_MAX_SESSIONS 4
/* Live objects of a session: enough for so much memory at its rate, within bounds. */
#define HEAP_LIVE_SPACE (64ull << 30)
#define HEAP_LIVE_LEAST 65536u
#define HEAP_LIVE_MOST 1048576u
/* Calls are counted by so many on a CPU (session_ctl.hits). */
#define HEAP_HITS_AT_ONCE 64
#define HEAP_MAX_RATE (1ull << 36)
/* Counts have so many fractional bits: a sample stands for 1.58 objects, say. */
#define HEAP_FRACTION_BITS 10
#define HEAP_ROUND(value) (((value) + (1u << (HEAP_FRACTION_BITS - 1))) >> HEAP_FRACTION_BITS)

/* The state of a key of counts: what was allocated, and what of that was freed. Both have the stack that allocated. */
enum heap_count { HEAP_COUNT_ALLOC = 0, HEAP_COUNT_FREE = 1 };

/* A sampled object that is live, by its address. */
struct heap_object {
    __u64 stack_hash[2];
    __u64 bytes;
    __u64 weight; /* bytes that it stands for, where the allocator has sampled it; 0: by the session's rate */
    __u32 epoch;
    __u32 part; /* 1: of an object that counts elsewhere: its bytes alone do */
};

/* Files with an allocator, where they are mapped. */
#define HEAP_MAX_CODE 16
struct heap_code {
    __u64 n; /* 0, or more than there is room for: it is not known where */
    struct {
        __u64 start, end;
    } at[HEAP_MAX_CODE];
};
/* Mappings that a program makes by itself count from so many bytes on; so many entries, two for each, may live. */
#define HEAP_MAP_LEAST 65536
#define HEAP_MAX_MAPS 8192

/* What one session knows of a thread. */
struct heap_call {
    __u64 session;     /* slot, instance and slice: of another one it is void */
    __u64 left;        /* bytes to the next sampling point */
    __u64 sp;          /* of the call that is under way, at its entry; 0: none. What it calls by itself is no allocation of its own */
    __u64 bytes;       /* that it asks for */
    __u64 out;         /* HEAP_POSIX_MEMALIGN */
    __u64 old;         /* the pointer that it gives back, if had_old */
    struct heap_object old_object;
    __u64 stack_hash[2];
    __u32 epoch;
    __u8 sampled, had_old;
    __u8 may_throw; /* the call under way may have ended by an exception, which nobody sees */
    __u8 mapped;    /* it is none of an allocator's */
};

struct heap_thread {
    struct heap_call calls[HEAP_MAX_SESSIONS];
};

/* ---- arithmetic, on tables that heap_tables_fill makes */

#define HEAP_WEIGHTS_PER_UNIT 64
#define HEAP_WEIGHTS_UNITS 16
#define HEAP_WEIGHTS (HEAP_WEIGHTS_PER_UNIT * HEAP_WEIGHTS_UNITS)
#define HEAP_LOGS 256

struct heap_tables {
    __u32 weights[HEAP_WEIGHTS + 1]; /* x / (1 - exp(-x)) for x = i / HEAP_WEIGHTS_PER_UNIT, times 2^20 */
    __u32 logs[HEAP_LOGS + 1];       /* ln(1 + i / HEAP_LOGS), times 2^20 */
};

#define HEAP_LN2 726817u /* times 2^20 */

struct heap_weight {
    __u64 objects, bytes; /* with HEAP_FRACTION_BITS */
};

/* What an allocation of so many bytes stands for, if it is sampled. */
HEAP_INLINE void heap_weigh(const volatile struct heap_tables *t, __u64 rate, __u64 bytes, struct heap_weight *ret)
{
    __u64 size = bytes ? bytes : 1, scaled, i, part, at, next;

    ret->objects = 1u << HEAP_FRACTION_BITS;
    ret->bytes = bytes << HEAP_FRACTION_BITS;
    if (rate <= 1 || size / HEAP_WEIGHTS_UNITS >= rate)
        return;
    scaled = (size << 16) / rate;
    i = (scaled >> 10) & (HEAP_WEIGHTS - 1);
    part = scaled & 1023;
    at = t->weights[i];
    next = t->weights[i + 1];
    scaled = rate * (at + ((next - at) * part >> 10)) >> (20 - HEAP_FRACTION_BITS);
    ret->objects = scaled / size;
    ret->bytes = bytes ? scaled : 0;
}

/* The same for one that its allocator has sampled. */
HEAP_INLINE void heap_take_weight(__u64 weight, __u64 bytes, struct heap_weight *ret)
{
    __u64 bounded = weight < 1ull << 50 ? weight : 1ull << 50;

    ret->bytes = bounded << HEAP_FRACTION_BITS;
    ret->objects = ret->bytes / (bytes ? bytes : 1);
}

HEAP_INLINE __u32 heap_log2(__u64 v)
{
    __u32 n = 0;

    if (v >> 32) {
        n += 32;
        v >>= 32;
    }
    if (v >> 16) {
        n += 16;
        v >>= 16;
    }
    if (v >> 8) {
        n += 8;
        v >>= 8;
    }
    if (v >> 4) {
        n += 4;
        v >>= 4;
    }
    if (v >> 2) {
        n += 2;
        v >>= 2;
    }
    return n + (v >> 1);
}

/* Bytes to the next sampling point: -ln(u) * rate for u in (0, 1], of 64 random bits. */
HEAP_INLINE __u64 heap_gap(const volatile struct heap_tables *t, __u64 rate, __u64 random)
{
    __u64 v = random | 1, mantissa, i, part, log, at, next;
    __u32 exponent = heap_log2(v) & 63;

    mantissa = v << (63 - exponent); /* the highest bit is set: it stands for 1 */
    i = (mantissa >> 55) & (HEAP_LOGS - 1);
    part = (mantissa >> 39) & 0xffff;
    at = t->logs[i];
    next = t->logs[i + 1];
    log = at + ((next - at) * part >> 16);
    return (rate * ((__u64)(64 - exponent) * HEAP_LN2 - log) >> 20) + 1;
}

#ifndef __bpf__
/* In the table's units, so that both are what a program computes. */
void heap_tables_fill(struct heap_tables *ret);

static inline __u32 heap_live_entries(__u64 rate)
{
    __u64 n = HEAP_LIVE_SPACE / rate;

    return n < HEAP_LIVE_LEAST ? HEAP_LIVE_LEAST : n > HEAP_LIVE_MOST ? HEAP_LIVE_MOST : (__u32)n;
}

_Static_assert(sizeof(struct heap_object) == 40, "layout shared with BPF");
_Static_assert(sizeof(struct heap_call) == 112, "layout shared with BPF");
#endif
