/* What the two kinds of recorders share: recorder.c (programs that walk stacks, and what is common) and recorder_copy.c (events
 * that copy them). Private to these. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/attacher.h"
#include "daemon/recorder.h"
#include "daemon/raw_profile.h"

struct child;
struct event;
struct event_base;
struct recorder_copy;
struct recorder_sched;
struct ring_buffer;

/* Stacks that were read: of one recorder, and of all together. What finds no room is counted as lost. */
#define RECORDER_MAX_BYTES (64u << 20)
#define RECORDERS_MAX_BYTES (256u << 20)
/* The same of standing ones, which leave the rest to those that end. */
#define RECORDER_STANDING_MAX_BYTES (16u << 20)
#define RECORDERS_STANDING_MAX_BYTES (128u << 20)

struct recorder {
    struct event_base *base;
    struct sampler *sampler;
    struct recorder_ops ops;
    void *userdata;
    struct session_params params;
    pid_t pid;
    uint32_t slot, max_keys;
    struct child *attacher;
    struct attacher_progress *progress; /* shared with the attacher */
    bool ready, ending, standing, at_entry;
    uint64_t hit_ns;
    uint64_t attached_before_ns, attached_ns; /* with duty=: before the window, and in it */
    uint32_t slices_before, slices;           /* of slices, the same; one that the window's beginning cuts is in it */
    unsigned n_more; /* files that the attacher is at */
    bool orphaned; /* freed by its owner while events were attached: destroyed once they are detached */
    int counts_fd, records_fd;
    int live_fd;                /* EVENT_CUSTOM: its values; else -1 */
    struct ring_buffer *ring;
    struct event *ring_event;
    struct recorder_copy *copy; /* stacks are copied; else NULL */
    struct raw_profile dump;    /* of threads: sections of the dumper's */
    bool dumped;
    struct recorder_sched *sched; /* all of the threads' time is accounted for; else NULL */
    uint8_t *records;
    size_t records_len, records_cap, n_records;
    struct raw_count *past;       /* of a standing one: counts of epochs that have ended */
    size_t n_past;
    uint32_t seen_epoch, tidy_epoch, n_looks; /* at the last look; those before this one are past */
    uint64_t tidy_lost;
    struct raw_count *counts;
    size_t n_counts;
    struct child *elders_dumper; /* NULL: it is not yet, or no longer, at work */
    struct raw_count *elders;    /* in the counts, too */
    size_t n_elders;
    bool elders_missing;
    uint64_t lost_memory, attacher_cpu_ns;
    bool full; /* of a trace: a record found no room, and none is taken any more */
};

/* Room for len more bytes of records, which count from then on. NULL: there is none. */
void *recorder_reserve(struct recorder *r, size_t len);

/* How long the record of a session is whose stacks are walked; 0: it is none. */
static inline size_t recorder_record_bytes(const struct stack_record *record)
{
    switch (record->type) {
    case RECORD_STACK:
        return STACK_RECORD_BYTES(record);
    case RECORD_SAMPLE:
        return sizeof(struct sample_record);
    default:
        return 0;
    }
}

/* ---- recorder_ctl.c */

/* Fills in the slot's ctl, and arms it. 0 or -errno. */
int recorder_fill_ctl(struct recorder *r);

/* ---- recorder_duty.c */

/* The window opens, and closes (may be told again). */
void recorder_duty_open(struct recorder *r);
void recorder_duty_close(struct recorder *r);

/* ---- recorder_elders.c */

/* Each event is recorded. */
bool recorder_is_trace(const struct recorder *r);
/* The window has opened: asks for the threads that were there before. Where they can't be had, elders_missing stays set. */
void recorder_elders_begin(struct recorder *r);
/* May run twice. */
void recorder_elders_end(struct recorder *r);

/* ---- recorder_sched.c: for kinds that account for all of the threads' time; else these do nothing. */

/* 0 or -ENOMEM. */
int recorder_sched_new(struct recorder *r);
void recorder_sched_free(struct recorder *r);
/* The window has just been closed, and its tables are still counted in. */
void recorder_sched_close(struct recorder *r);
/* Nothing is counted any more, and the counts were read. 0 or -errno. */
int recorder_sched_settle(struct recorder *r);

/* ---- recorder_custom.c: EVENT_CUSTOM */

void recorder_custom_fill(struct session_ctl *ctl);
/* The descriptors that its probes take. Their number. */
size_t recorder_custom_keep(const struct sampler *s, int *ret);
/* The counts become the values that are live now. 0 or -errno. */
int recorder_custom_read(struct recorder *r);

/* ---- recorder_heap.c: EVENT_HEAP */

void recorder_heap_fill(const struct recorder *r, struct session_ctl *ctl);
/* The descriptors that probes of allocators take. Their number. */
size_t recorder_heap_keep(const struct sampler *s, int *ret);

/* ---- recorder_more.c */

/* The attacher has answered. */
void recorder_on_more(struct recorder *r, int error);

/* ---- recorder_past.c */

void recorder_past_free(struct recorder *r);

/* ---- recorder_copy.c */

/* Before the attacher is started: *ret_request is what it is to open. 0 or -errno. */
int recorder_copy_new(struct recorder *r, struct copy_request *ret_request);
void recorder_copy_free(struct recorder_copy *c);
/* From the attacher: some rings; then all that is left to say. fds become the callee's. 0 or -errno. */
int recorder_copy_rings(struct recorder_copy *c, const struct attacher_message *m, int *fds, size_t n_fds);
int recorder_copy_ready(struct recorder_copy *c, const struct attacher_message *m, int names_fd);
/* The window is closed: samples from now on do not count. */
void recorder_copy_close(struct recorder_copy *c);
/* All events are detached: reads what is left, and gives each sample its thread's name and its epoch. */
void recorder_copy_finish(struct recorder_copy *c);
/* What a counted tick or event stands for: the real mean. */
double recorder_copy_period(const struct recorder_copy *c);
enum copy_reach recorder_copy_reach(const struct recorder_copy *c);
uint64_t recorder_copy_changes_lost(const struct recorder_copy *c);
