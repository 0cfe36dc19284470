/* Loads the BPF objects in a process of its own: libbpf and the kernel's type information take tens of megabytes for a
 * moment, of which the loop would keep a part for good. */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum sampler_fd {
    SAMPLER_TIMER_PROG,
    SAMPLER_PERF_PROG,
    SAMPLER_PROBE_PROG,
    SAMPLER_TRACEPOINT_PROG,
    SAMPLER_RSS_PROG,
    SAMPLER_EXIT_PROG,
    SAMPLER_EXEC_PROG,
    SAMPLER_SESSIONS_MAP,
    SAMPLER_TARGETS_MAP,
    SAMPLER_COUNTS_MAP,
    SAMPLER_RECORDS_MAP,
    SAMPLER_NOTICES_MAP,
    SAMPLER_PHASES_MAP,
    SAMPLER_SLABS_MAP,
    SAMPLER_PROBE_MULTI_PROG, /* -1 where this kernel has no uprobe_multi */
    SAMPLER_DUMP_THREAD_PROG,
    SAMPLER_DUMP_CPU_PROG,
    SAMPLER_DUMP_CLOCK_PROG,
    SAMPLER_DUMP_CALIBRATE_PROG,
    SAMPLER_DUMP_MAP,
    SAMPLER_SWITCH_PROG, /* these: -1 where the scheduler's programs can't be had */
    SAMPLER_WAKING_PROG,
    SAMPLER_NEW_TASK_PROG,
    SAMPLER_THREADS_MAP,
    SAMPLER_SCHED_FILTER_MAP,
    SAMPLER_GO_PROG, /* these: -1 where probes of Go programs can't be had, */
    SAMPLER_GO_MULTI_PROG, /* or where this kernel has no uprobe_multi */
    SAMPLER_GO_WAITS_MAP,
    SAMPLER_GO_LOCKS_MAP,
    SAMPLER_HEAP_PROG, /* these: -1 where probes of allocators can't be had, */
    SAMPLER_HEAP_RETURN_PROG,
    SAMPLER_HEAP_LIVE_MAP,
    SAMPLER_HEAP_HITS_MAP,
    SAMPLER_HEAP_MAPS_MAP,
    SAMPLER_HEAP_CODE_MAP,
    SAMPLER_HEAP_SITE_PROG,
    SAMPLER_HEAP_SITE_MULTI_PROG,
    SAMPLER_HEAP_MULTI_PROG, /* where this kernel has no uprobe_multi, */
    SAMPLER_HEAP_RETURN_MULTI_PROG,
    SAMPLER_HEAP_SESSION_PROG, /* or where it has no sessions of these (before Linux 6.13) */
    SAMPLER_CUSTOM_PROG, /* these: -1 where custom profiles can't be had, */
    SAMPLER_CUSTOM_LIVE_MAP,
    SAMPLER_CUSTOM_CALLS_MAP,
    SAMPLER_CUSTOM_MULTI_PROG, /* or where this kernel has no uprobe_multi */
    SAMPLER_FDS,
};

/* The first must load; further ones add what not every kernel lets us have. */
enum sampler_object {
    SAMPLER_OBJECT_EVENTS,
    SAMPLER_OBJECT_THREADS,
    SAMPLER_OBJECT_SCHED,
    SAMPLER_OBJECT_GO,
    SAMPLER_OBJECT_HEAP,
    SAMPLER_OBJECT_CUSTOM,
    SAMPLER_OBJECTS,
};

struct sampler_loaded {
    int fds[SAMPLER_FDS]; /* the caller's; -1: not to be had here */
    char errors[SAMPLER_OBJECTS][512]; /* why a further object could not be loaded; else "" */
};

/* n_cpus: possible ones. 0, or -errno with a message that says what is missing. */
int sampler_load(uint32_t n_cpus, struct sampler_loaded *ret, char *error, size_t error_len);
