/* Events that copy: each sample comes with the registers and the upper part of the user stack, for a worker to unwind. It is how
 * profiles are taken where BPF can't be loaded, and by unprivileged users: perf_event_open(2) alone.
 *
 * Run in a session's attacher. Events write to rings, one for each CPU, which the loop maps by the descriptors that it is sent
 * (bpf/copy_ring.h). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "bpf/attach.h"
#include "bpf/sample.h"

/* What the kernel lets the daemon see. */
enum copy_reach {
    COPY_REACH_HOST,   /* events on each CPU, whoever runs there: the reader picks the target's samples */
    COPY_REACH_TARGET, /* events bound to the target's threads, and to those that they start */
    COPY_REACH_USER,   /* as before, and of the time in user mode alone (kernel.perf_event_paranoid is 2) */
};

struct copy_request {
    pid_t pid;
    uint32_t type;     /* perf_event_attr */
    uint64_t config;
    uint64_t periods[CPROFD_TIMERS_PER_CPU]; /* an event for each, on each CPU; they differ */
    size_t n_periods;
    bool kernel;       /* kernel frames as well (events that are no timers: counts in the kernel, too) */
    uint32_t stack_bytes;
};

/* A thread's name as the events began. */
struct copy_name {
    uint32_t tid;
    char comm[CPROFD_COMM_LEN];
};

struct copy_events {
    enum copy_reach reach;
    struct attachment events[CPROFD_TIMERS_PER_CPU]; /* by period */
    int *rings;              /* one for each CPU: descriptors of events, which are among the others */
    void **pages;            /* their mappings */
    size_t n_rings, ring_bytes;
    struct copy_name *names; /* of the target's threads */
    size_t n_names;
};

/* Returns once the phases of the events are random (at most their longest period later). e is zeroed before. 0, or -errno: -EACCES and
 * -EPERM: the kernel lets us see nothing; -ENOBUFS: no memory may be locked for the rings; -EMFILE; -ESRCH; others as
 * perf_event_open(2) has them. What was opened is for copy_events_close in all cases. */
int copy_events_open(const struct copy_request *q, struct copy_events *e);
/* Whether any event of that kind can be opened at all: on the caller itself. 0, -EACCES, -EPERM, -errno. */
int copy_events_probe(void);
void copy_events_close(struct copy_events *e);

/* One event's attributes, of the first or a further one of a CPU: apart, for tests. */
struct perf_event_attr;
void copy_events_attr(const struct copy_request *q, size_t i, enum copy_reach reach, struct perf_event_attr *ret);
