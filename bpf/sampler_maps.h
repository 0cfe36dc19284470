/* The maps of the sampling programs alone. Included by sampler.bpf.c alone, after its kernel types. */
#pragma once

#include "bpf/control.h"
#include "bpf/tick.h"

/* A timer on its CPU, and what the attacher says of it. */
struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, CPROFD_MAX_SESSIONS * CPROFD_TIMERS_PER_CPU);
    __type(key, __u32);
    __type(value, struct tick);
} ticks SEC(".maps");
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, CPROFD_MAX_SESSIONS * CPROFD_TIMERS_PER_CPU); /* for each CPU: set before loading */
    __type(key, __u32); /* TIMER_PHASE */
    __type(value, struct timer_phase);
} timer_phases SEC(".maps");

/* The last overflow of a CPU's event: where its counter was, and who ran. */
struct overflow {
    __u64 counter;
    __u64 task;
    __u64 switches;
    __u32 instance;
    __u32 pad;
};
struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, CPROFD_MAX_SESSIONS);
    __type(key, __u32);
    __type(value, struct overflow);
} overflows SEC(".maps");

/* Hits of probes and tracepoints on one CPU, for one in so many. */
struct hit_count {
    __u64 left;
    __u32 instance;
    __u32 pad;
};
struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, CPROFD_MAX_SESSIONS);
    __type(key, __u32);
    __type(value, struct hit_count);
} hit_counts SEC(".maps");
