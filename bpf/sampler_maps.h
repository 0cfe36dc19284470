/* The maps of the sampling programs. Included by sampler.bpf.c alone, after its kernel types. */
#pragma once

#include "bpf/stack_walk.h"
#include "bpf/tick.h"

#define SCRATCH_LEVELS 4

struct session_array {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, CPROFD_MAX_SESSIONS);
    __type(key, __u32);
    __type(value, struct session_ctl);
} sessions SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, CPROFD_MAX_SESSIONS);
    __type(key, __u32); /* tgid */
    __type(value, struct target_state);
} targets SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 64 * 1024);
} notices SEC(".maps");

/* Counts of each session: made when it starts, exactly as large as it can need. By sizes, not types: kernels before Linux 6.2 take
 * a map whose types they were told for another than one made without. */
struct counts_map {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 1);
    __uint(key_size, sizeof(struct sample_key));
    __uint(value_size, sizeof(struct sample_value));
};
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
    __uint(max_entries, CPROFD_MAX_SESSIONS);
    __type(key, __u32);
    __array(values, struct counts_map);
} counts SEC(".maps");

/* Stacks seen for the first time, of each session. */
struct records_map {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 4096);
};
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
    __uint(max_entries, CPROFD_MAX_SESSIONS);
    __type(key, __u32);
    __array(values, struct records_map);
} records SEC(".maps");

/* The arena of unwinding tables (bpf/unwind.h). */
struct unwind_slab_map {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, UNWIND_SLAB_CHUNKS);
    __uint(key_size, sizeof(__u32));
    __uint(value_size, UNWIND_CHUNK_BYTES);
};
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
    __uint(max_entries, UNWIND_MAX_SLABS);
    __type(key, __u32);
    __array(values, struct unwind_slab_map);
} unwind_slabs SEC(".maps");

/* Rules that this CPU's walks found. */
struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, STACK_CACHE_ENTRIES);
    __type(key, __u32);
    __type(value, struct stack_cached);
} rule_cache SEC(".maps");

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

/* Working space of a program. An interrupt's sample may land inside a probe's walk, and a probe's program may be preempted
 * by another's: each takes a free one of its CPU's. */
struct scratch {
    struct sample_key key;
    struct sample_key seen;
    struct sample_record overflow;
    struct stack_walk walk;
};
struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, SCRATCH_LEVELS);
    __type(key, __u32);
    __type(value, struct scratch);
} scratches SEC(".maps");
struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, __u64); /* bit mask of the CPU's scratches in use */
} scratches_used SEC(".maps");
