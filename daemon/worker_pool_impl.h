/* What the parts of the pool share: worker_pool.c (queue and scheduling), worker_job.c (a job, and what its
 * next try leaves out) and worker_handle.c (a worker, its messages and its end). Private to these three. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "daemon/worker_pool.h"
#include "daemon/worker_proto.h"

struct event;
struct worker_process;

enum worker_state { WORKER_IDLE, WORKER_BUSY, WORKER_DYING };

#define WORKER_KEYS 32 /* of jobs whose files a worker is taken to have; the oldest are forgotten */
#define POOL_SPOILED 64

struct worker {
    TAILQ_ENTRY(worker) link;
    struct worker_pool *pool;
    struct worker_process *process;
    enum worker_state state;
    bool crashed; /* DYING, and not because the pool wanted it */
    bool retire;  /* ends with its job */
    bool used;    /* has done a job */
    bool waiting; /* BUSY, for a file */
    uint64_t waiting_since_ns;
    bool stalled; /* waiting, and for long */
    struct worker_job *job;
    int output_fd;
    bool drafted; /* its job has said what it knows so far: what it looks for takes long, and others need not wait */
    struct worker_body draft; /* then */
    uint64_t keys[WORKER_KEYS];
    unsigned n_keys;          /* ever noted: the place of the next one, modulo */
    uint32_t touched; /* WORKER_TOUCH_NONE: nothing */
    unsigned needs;
    struct event *timer;
    uint64_t deadline_ns; /* monotonic; while a NEED is pending: what was left of the job's time */
    uint64_t cache_bytes;
};

struct worker_job {
    TAILQ_ENTRY(worker_job) link;
    struct worker_pool *pool;
    const struct worker_job_ops *ops;
    void *userdata;
    int input_fd;
    struct worker_message message; /* the JOB as it will be sent next */
    struct worker *worker;         /* NULL: queued */
    bool owed; /* the loop has not answered the last need; perhaps nobody waits any more */
    bool cancelled;
    bool spared; /* a loss was not held against it */
    struct worker_due due;
    struct event *clock;     /* of due; NULL: none */
    bool patient;            /* it still has time to wait for the worker that has its files */
    bool overdue;            /* the deadline has passed: the first draft is the reply */
    bool delivering, kept;   /* done is being called with a draft; it goes on behind its reply */
    uint64_t waited_ns; /* for files, in all */
    uint64_t timeout_ns;
    unsigned crashes, hangs, tries;
};

/* A job that lost its worker behind its reply: for a while others of its key read no debug information that is not cached. */
struct pool_spoiled {
    uint64_t key, until_ns;
    enum worker_blame blame;
};

TAILQ_HEAD(worker_list, worker);
TAILQ_HEAD(job_list, worker_job);

struct worker_pool {
    struct event_base *base;
    struct worker_limits limits;
    struct worker_list workers; /* the one that was last in use first: its caches are the warmest */
    struct job_list queue, running;
    unsigned n_jobs;
    uint32_t next_job_id;
    struct event *dispatch;
    uint64_t restarts, dead_cpu_ns;
    struct pool_spoiled spoiled[POOL_SPOILED];
    unsigned n_spoiled; /* ever noted */
};

/* Lets the pool look at its queue and workers again, from the loop. */
void worker_pool_wake(struct worker_pool *pool);

/* ---- worker_job.c. The job is in no list when these are called, but for worker_job_queue's result. */

void worker_job_free(struct worker_job *job);
void worker_job_queue(struct worker_job *job);
/* Tells the caller, unless it cancelled, and frees. */
void worker_job_finish(struct worker_job *job, const struct worker_result *result);
void worker_job_fail(struct worker_job *job, enum worker_blame blame, int error, const char *message);
/* A draft of its worker's is there: the reply, where that is overdue. */
void worker_job_on_draft(struct worker_job *job);
/* A worker takes it: from now on it has some time in any case. */
void worker_job_begin(struct worker_job *job);
/* Arms the clock of a job with a deadline. 0 or -ENOMEM. */
int worker_job_set_due(struct worker_job *job, const struct worker_due *due);
/* After the loss of a worker that had touched an object (or WORKER_TOUCH_NONE): queues, or fails for good. used:
 * it had done other jobs before. */
void worker_job_retry(struct worker_job *job, enum worker_blame blame, uint32_t touched, bool used);

/* ---- worker_handle.c */

/* Starts a worker. 0 or -errno. */
int worker_new(struct worker_pool *pool, struct worker **ret);
void worker_free(struct worker *w);
/* Gives it a job that is in no list; output_fd becomes the worker's. */
void worker_take(struct worker *w, struct worker_job *job, int output_fd);
/* Tells nobody of the job's end any more, which is near: its worker isn't killed. */
void worker_job_leave(struct worker_job *job);
/* Its job's time begins anew. */
void worker_renew(struct worker *w);
/* Kills it; crashed: its end is worth a line in the log. */
void worker_end(struct worker *w, bool crashed);
bool worker_lives(const struct worker *w);
/* It computes what others need not wait for. */
bool worker_is_aside(const struct worker *w);
bool worker_dies(const struct worker *w);
bool worker_computes(const struct worker *w);
unsigned worker_count(const struct worker_pool *pool, bool (*which)(const struct worker *w));
