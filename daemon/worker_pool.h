/* The loop's side of the workers: starts them, gives them jobs, restarts those that die or hang. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "daemon/worker_proto.h"

struct event_base;
struct worker_pool;
struct worker_job;

struct worker_limits {
    unsigned workers;          /* at most; started on demand, kept */
    uint64_t memory_bytes;     /* address space of each (RLIMIT_AS) */
    uint64_t cache_bytes;      /* symbol cache of each */
    uint64_t job_timeout_ns;   /* a job that takes longer is killed, and tried again without its last file */
};

struct worker_result {
    int error;            /* 0 or -errno; then message says what to tell the user */
    const char *message;
    int body_fd;          /* the loop's copy of the output memfd; borrowed: read before the callback returns (use pread) */
    uint64_t len, cpu_ns, samples, rooted, lost;
};

struct worker_job_ops {
    /* The worker needs a file. Answer with worker_job_file, now or later; once for each call. */
    void (*need)(struct worker_job *job, const struct worker_message *need, void *userdata);
    /* The end of the job, exactly once, unless it was cancelled. The job is freed after it returns. */
    void (*done)(struct worker_job *job, const struct worker_result *result, void *userdata);
};

int worker_pool_new(struct event_base *base, const struct worker_limits *limits, struct worker_pool **ret);
void worker_pool_free(struct worker_pool *pool); /* kills the workers; cancels all jobs */

/* Queues a render job on a raw profile (fd becomes the pool's). NULL when memory is short. */
struct worker_job *worker_pool_render(struct worker_pool *pool, int raw_fd, const struct worker_job_ops *ops, void *userdata);
/* Queues the search for probe places in an ELF file (fd becomes the pool's). The body is struct usdt_site[]. */
struct worker_job *worker_pool_probe(struct worker_pool *pool, int elf_fd, const struct worker_probe *probe,
                                     const struct worker_job_ops *ops, void *userdata);
/* error 0: fd (becomes the pool's) answers the job's pending NEED; else -errno. */
void worker_job_file(struct worker_job *job, int error, int fd);
void worker_job_cancel(struct worker_job *job);

struct worker_pool_stats {
    uint64_t restarts, cache_bytes, cpu_ns;
    unsigned alive;
};
void worker_pool_stats(const struct worker_pool *pool, struct worker_pool_stats *ret);

/* The worker role of the binary: `cprofd --role=worker`, its socket is fd 3. Sandboxes itself, serves jobs until end of file.
 * Returns the exit status. */
int worker_main(const struct worker_limits *limits);
