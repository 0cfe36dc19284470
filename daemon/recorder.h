/* A recorder: one source of samples on one target, from the moment its events are attached to the moment its counts are read.
 * A session is a view of a recorder from when it opens to when it closes.
 *
 * There are three kinds: programs in the kernel that walk stacks and count them; events that copy stacks, for a worker to unwind
 * (params->unwind), for which no program need be loaded; and a dump (EVENT_DUMP), which begins as the window opens and has no length.
 *
 * Events are attached and detached in a child, the attacher, which holds their descriptors: both may block. The
 * recorder itself only flips the slot's session_ctl and reads the ring. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bpf/attach.h"
#include "bpf/copy_events.h"
#include "bpf/sampler.h"
#include "daemon/session_params.h"

struct duty_scale;
struct event_base;
struct recorder;

struct recorder_ops {
    /* Events tick and phases are random: recorder_open may be called. */
    void (*ready)(struct recorder *r, void *userdata);
    /* After recorder_prepare. */
    void (*prepared)(struct recorder *r, void *userdata);
    /* Once, in place of ready, or after it when the attacher was lost and nothing that was counted is to be had: an HTTP status and a message. */
    void (*failed)(struct recorder *r, int status, const char *message, void *userdata);
    /* Where stacks are copied: the target exec'd, ended or mapped new code (of programs, that is told by notices.h). The recorder must
     * not be freed in it. */
    void (*notice)(struct recorder *r, const struct session_notice *notice, void *userdata);
    /* After ready, when the attacher was lost, and all that it had attached with it: what was counted by then is there after recorder_end.
     * why: static. */
    void (*lost)(struct recorder *r, const char *why, void *userdata);
    /* After recorder_more, in their order: 0 or -errno. */
    void (*more)(struct recorder *r, int error, void *userdata);
    /* After recorder_end: all is detached, all records and counts are in. */
    void (*drained)(struct recorder *r, void *userdata);
};

struct recorder_config {
    uint32_t slot;
    pid_t pid;
    bool standing;                       /* it goes on for days: bounded counts by stack, no threads */
    const struct session_params *params; /* copied as far as it is needed */
    int probe_fd;                        /* uprobe, usdt: the file; becomes the recorder's; else -1 */
    const struct probe_place *places;
    size_t n_places;
    bool at_entry;                       /* each place is one where the return address is at the stack's top */
    bool stepped;                        /* the kernel single-steps the instruction of some place */
    const struct role_file *files;       /* EVENT_CUSTOM, EVENT_HEAP; the fds stay the caller's */
    size_t n_files;
};

/* 0 or -errno. The slot's ctl is free before and belongs to the recorder until recorder_free. */
int recorder_new(struct event_base *base, struct sampler *sampler, const struct recorder_config *config,
                 const struct recorder_ops *ops, void *userdata, struct recorder **ret);
/* Whatever state it is in; NULL is fine. The slot's state is SESSION_FREE again once all is detached, which may be a moment later. No
 * callback comes any more. May be called from one. */
void recorder_free(struct recorder *r);

/* Once ready, and the target's unwinding tables are there: does what must come right before the window. True: it is done; false: it ends in
 * prepared. */
bool recorder_prepare(struct recorder *r);
void recorder_open(struct recorder *r);  /* the window begins */
/* From now on one sample in so many is taken, with the weight of them all. */
void recorder_thin(struct recorder *r, uint32_t thin);
/* Once open: probes a file that the target has mapped since; its fd and places stay the caller's. 0: it ends in `more`; -errno. */
int recorder_more(struct recorder *r, const struct role_file *file);
void recorder_close(struct recorder *r); /* the window ends; may have ended in BPF already */
/* Reads what has been counted so far, for recorder_data; it goes on. Not where stacks are copied. 0 or -errno. */
int recorder_read(struct recorder *r);
/* For a standing one, once a second or so: makes room for new stacks. */
void recorder_tidy(struct recorder *r);
void recorder_end(struct recorder *r);   /* detach and read out; ends in drained or failed, before it returns where the attacher was lost */

const struct session_ctl *recorder_ctl(const struct recorder *r);
/* Once ready: what a hit of its probes costs, a sample aside; 0: it has none, or nobody knows. */
uint64_t recorder_hit_ns(const struct recorder *r);
/* All of them so far, those that the kernel single-steps at their own price. */
uint64_t recorder_hits_ns(const struct recorder *r);
/* With duty=, once closed: how much of the window its probes were attached for, and in how many slices; else 0. */
uint64_t recorder_attached_ns(const struct recorder *r);
uint32_t recorder_slices(const struct recorder *r);
/* After drained, where recorder_attached_ns is not 0: how much what was seen stands for, in a window of that length in which the target used so
 * much CPU time (0: not known). */
void recorder_duty_scale(const struct recorder *r, uint64_t window_ns, uint64_t cpu_ns, struct duty_scale *ret);
/* With duty=: how long they were so far, since before the window; and for which part of the time they are on average. */
uint64_t recorder_attached_so_far_ns(const struct recorder *r);
double recorder_duty_part(const struct recorder *r);
/* Stacks that have come so far. */
size_t recorder_stacks(const struct recorder *r);
/* What a sample stands for, exactly. */
double recorder_period(const struct recorder *r);

/* Once ready: what the kernel lets it see. */
enum copy_reach recorder_reach(const struct recorder *r);
/* Where stacks are copied: changes of what the target maps that found no room. */
uint64_t recorder_changes_lost(const struct recorder *r);

struct settle_result;
/* After drained, of kinds that account for all of the threads' time: what became of it; else NULL. */
const struct settle_result *recorder_settled(const struct recorder *r);

/* After drained, or as recorder_read found them: ring records and struct raw_count[], owned by the recorder. lost: records that found
 * no room here. */
struct recorder_data {
    const void *records;
    size_t records_len;
    const void *counts;
    size_t counts_len;
    const struct raw_thread *threads; /* of a dump */
    size_t n_threads;
    bool elders_missing; /* threads that are older than a watch of new ones are not in the counts */
    uint64_t lost_memory;
    uint64_t attacher_cpu_ns;
};
void recorder_data(const struct recorder *r, struct recorder_data *ret);
