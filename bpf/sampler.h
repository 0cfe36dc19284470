/* The loaded BPF programs and maps: one for the daemon's life, shared by all sessions. Loading is done once, at start; nothing is
 * attached by it, so that idle it costs nothing.
 *
 * Who does what: the loop owns the sampler and flips session_ctl; a session's attacher (a child) makes the session's
 * maps and attaches its events (bpf/attach.h). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bpf/control.h"
#include "bpf/dump.h"

struct uprobe_price;

struct sampler {
    int timer_prog, perf_prog, probe_prog, tracepoint_prog, rss_prog;
    int probe_multi_prog;        /* -1: this kernel has no uprobe_multi */
    int exit_prog, exec_prog;    /* watches */
    int targets_map, counts_map, records_map, notices_map;
    int slabs_map;               /* the arena of unwinding tables: bpf/unwind_arena.h */
    int switch_prog, waking_prog, new_task_prog; /* the scheduler's events, see bpf/sched.h; -1: sched_error says why not */
    int threads_map;
    int go_prog, go_multi_prog, go_waits_map, go_locks_map; /* probes of Go programs, see bpf/go_waits.h; -1: go_error says why not */
    struct sampler_heap {        /* probes of allocators, see bpf/heap.h; -1: heap_error says why not, or the kernel lacks that way to attach them */
        int prog, return_prog, multi_prog, return_multi_prog, session_prog, live_map, hits_map, site_prog, site_multi_prog,
            maps_map, code_map;
    } heap;
    struct sampler_custom {      /* custom profiles, see bpf/custom.h; -1: custom_error says why not, or the kernel has no uprobe_multi */
        int prog, multi_prog, live_map, calls_map;
    } custom;
    struct session_ctl *ctl;     /* CPROFD_MAX_SESSIONS, shared with BPF */
    struct timer_phase *phases;  /* shared with BPF, too: TIMER_PHASE (bpf/control.h) */
    uint32_t n_cpus;             /* possible ones */
    struct uprobe_price *price;  /* shared with attachers, the first of which that needs it measures it */
    int exit_link, exec_link;    /* while a session runs; else -1 */
    uint32_t watchers;           /* sessions that need the watches */
    struct dump_programs dump;   /* of threads */
    struct sampler_sched {
        int links[3], threads;   /* while a session needs them; else -1. The links are a child's (daemon/scheduler.h) */
        uint32_t generation;
        uint64_t lock_generation;
        struct sched_filter_table *filter; /* shared with BPF; NULL: the programs are not there */
        uint64_t seed[2];        /* of the stacks' hashes: one for all sessions, as each stack is walked once for all */
    } sched;
    char sched_error[512], go_error[512], heap_error[512], custom_error[512];
};

/* Loads everything. 0, or -errno with a message that says what is missing (a capability, a feature of the kernel). */
int sampler_open(struct sampler *ret, char *error, size_t error_len);
/* The control words alone, for sessions that need no program. 0 or -errno. */
int sampler_open_bare(struct sampler *ret);
void sampler_close(struct sampler *s); /* may run twice */

/* The watches are attached while anybody needs them. 0 or -errno. */
int sampler_watch(struct sampler *s);
void sampler_unwatch(struct sampler *s);

/* Tells the watches about the target of a slot, whose ctl is filled in. 0 or -errno. */
int sampler_target_add(struct sampler *s, uint32_t slot);
void sampler_target_remove(struct sampler *s, uint32_t slot);
