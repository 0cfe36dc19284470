/* One worker process as its pool sees it: started by fork and exec, so that it holds no memory of the loop;
 * its socket; its end.
 *
 * Whatever it does, nothing here waits for it: it is killed at the first wrong word and reaped in the
 * background. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/worker_proto.h"

struct event_base;
struct worker_limits;
struct worker_process;

struct worker_process_ops {
    /* A message of the right size whose strings end. */
    void (*message)(struct worker_process *process, const struct worker_message *message, void *userdata);
    /* It closed its socket or sent nonsense. Kill it. */
    void (*lost)(struct worker_process *process, void *userdata);
    /* It is reaped, after worker_process_kill. cpu_ns: what it used in its life. Freed after this returns. */
    void (*reaped)(struct worker_process *process, int status, uint64_t cpu_ns, void *userdata);
};

/* 0 or -errno. */
int worker_process_start(struct event_base *base, const struct worker_limits *limits,
                         const struct worker_process_ops *ops, void *userdata, struct worker_process **ret);
/* 0 or -errno; never blocks. fds stay the caller's. */
int worker_process_send(struct worker_process *process, const struct worker_message *message, const int *fds,
                        size_t n_fds);
/* SIGKILL; only reaped comes from then on. */
void worker_process_kill(struct worker_process *process);
pid_t worker_process_pid(const struct worker_process *process);
/* What a living one has used so far. */
uint64_t worker_process_cpu_ns(const struct worker_process *process);
/* For the end of the daemon: kills, waits for a moment at most, and frees, without a callback. */
void worker_process_free(struct worker_process *process);
