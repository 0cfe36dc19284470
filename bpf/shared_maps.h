/* The maps that all BPF objects share: those of one name are one map, made with the first object (sampler_load.c). Included by *.bpf.c, after
 * their kernel types. */
#pragma once

#include "bpf/control.h"
#include "bpf/sched_state.h"
#include "bpf/stack_walk.h"
#include "bpf/unwind.h"

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

/* Working space of a program. An interrupt's sample may land inside a probe's walk, and a probe's program may be preempted
 * by another's: each takes a free one of its CPU's. */
struct scratch {
    /* The scheduler's events alone (sched.bpf.c): what the sessions of one event want. */
    __u64 now_ns;
    __u64 wanted[SCHED_WALKS]; /* slots: the stack, walked so; */
    __u32 first[SCHED_WALKS];  /* one of them */
    __u64 generation;          /* of the newest */
    __u64 labels;              /* that the thread has: labels_stamp */
    __u64 pc, sp, fp, lr;      /* the registers that the thread's stack begins with: as in struct stack_walk */
    __u64 seed, begun;         /* the stack's hash without any frames, and with the kernel's */
    __u64 kernel_from, kernel_to; /* the kernel's stack, as far as it was looked at: behind walk.frames, KERNEL_IMAGE */
    __u32 kernel_words;
    __u64 kernel_mask;         /* a bit for each address among its frames, as good as by chance */
    __u32 kernel_frame;        /* the next to be found there */
    __u32 kernel_n_old, kernel_old; /* of what was noted before: how many places, and the next */
    __u64 missed_ns;           /* when the switch must have been that nobody told us of */
    struct {                   /* what is counted of a thread */
        __u64 hash[2];
        __u32 epoch, state;
        struct sample_value add;
    } count;
    __u32 level;               /* this one's, of its CPU's */
    __u32 state;               /* enum sample_state: why the thread leaves its CPU; or left it, where nobody told us: */
    __u32 same_wait;           /* 1: as the time before that, as far as can be seen */
    __u64 locks;               /* slots that look at locks; */
    __u64 lock_generation;     /* theirs */
    struct lock_release release;

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
