/* The maps of the scheduler's programs alone. Included by sched.bpf.c alone, after its kernel types. */
#pragma once

#include "bpf/control.h"
#include "bpf/sched_state.h"

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct sched_filter_table);
} sched_filter SEC(".maps");

/* The threads of all targets, by the address of their task: that stays the same when a thread takes its process over by exec. Each is
 * removed at its end, or kept for windows that are being settled (thread_moves_aside). Made when the first session begins, so that idle it
 * takes no memory. Its keys and values by size: see counts. */
struct threads_map {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 1);
    __uint(key_size, sizeof(__u64));
    __uint(value_size, sizeof(struct thread_state));
};
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
    __uint(max_entries, 1);
    __type(key, __u32);
    __array(values, struct threads_map);
} threads SEC(".maps");
