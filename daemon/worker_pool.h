/* The loop's side of the workers: starts them, gives them jobs in the order they came, restarts those that
 * die, hang or outgrow their memory, and tries their jobs again without the object they had touched last. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/worker_proto.h"

struct event_base;
struct worker_pool;
struct worker_job;

#define WORKER_MAX_JOBS 512 /* of a pool, queued and running */

struct worker_limits {
    unsigned workers; /* at most that compute; started on demand, kept. Ones that wait long for a file don't
                         count */
    uint64_t memory_bytes;    /* address space of each (RLIMIT_AS) */
    uint64_t cache_bytes;     /* symbol cache of each */
    uint64_t job_timeout_ns;  /* a job that takes longer is killed, and tried again without its last file;
                                 waiting for files not counted */
    uint64_t need_timeout_ns; /* a file that does not come in this time is done without, and any after four
                                 times that in all; 0: 5 s */
    const char *executable;   /* what is executed as a worker; borrowed; NULL: /proc/self/exe */
};

struct worker_result {
    int error; /* 0 or -errno; then message says what to tell the user */
    enum worker_blame blame; /* what the job did to its worker, where that is why it failed */
    const char *message;
    int body_fd; /* the loop's copy of the output memfd; borrowed: read before the callback returns (use
                    pread) */
    struct worker_body body;
    uint64_t cpu_ns;
    bool has_labels; /* a table's file has a variable for labels, there: */
    struct label_place labels;
    bool more; /* what was known when the reply was due. The job may go on behind it, so that the next one finds its
                  results: worker_job_keep, or it is cancelled when the callback returns */
};

/* When a reply is due, and who it is about. */
struct worker_due {
    uint64_t key;         /* the same for jobs that need the same files: they go to the worker that has them; 0: none */
    uint64_t deadline_ns; /* monotonic; 0: none */
};

struct worker_job_ops {
    /* The worker needs a file. Answer with worker_job_file, now or later; once for each call. NULL: jobs of this kind need none. */
    void (*need)(struct worker_job *job, const struct worker_message *need, void *userdata);
    /* The end of the job, exactly once, unless it was cancelled. The job is freed after it returns, even
     * where an answer to a NEED is still owed. */
    void (*done)(struct worker_job *job, const struct worker_result *result, void *userdata);
};

int worker_pool_new(struct event_base *base, const struct worker_limits *limits, struct worker_pool **ret);
void worker_pool_free(struct worker_pool *pool); /* kills the workers; cancels all jobs */

/* For workers that start from now on; idle ones are ended. */
void worker_pool_set_limits(struct worker_pool *pool, const struct worker_limits *limits);

/* Queues a render job on a raw profile (fd becomes the pool's in every case). due: NULL, nobody is in a hurry. NULL when
 * memory is short or the queue full. No callback comes before this returns. */
struct worker_job *worker_pool_render(struct worker_pool *pool, int raw_fd, const struct worker_due *due,
                                      const struct worker_job_ops *ops, void *userdata);
/* Within done, where there is more: the job goes on for its results alone, which stay in its worker's cache. From now on ops and
 * userdata are its callbacks', and done comes once more. */
void worker_job_keep(struct worker_job *job, const struct worker_job_ops *ops, void *userdata);
/* Queues the search for probe places in an ELF file (fd becomes the pool's in every case). The body is struct
 * usdt_site[]. */
struct worker_job *worker_pool_probe(struct worker_pool *pool, int elf_fd, const struct worker_probe *probe,
                                     const struct worker_job_ops *ops, void *userdata);
/* Queues the making of an unwinding table from an ELF file (fd becomes the pool's in every case), which may take timeout_ns. The body is
 * an image (util/unwind_table.h), not checked. */
struct worker_job *worker_pool_table(struct worker_pool *pool, int elf_fd, uint64_t timeout_ns, const struct worker_job_ops *ops,
                                     void *userdata);
/* The same for what is to be known of a Go program (WORKER_GO). -ENOEXEC: it is none; -ENODATA: its goroutines can't be found, and the
 * message says why. */
struct worker_job *worker_pool_go(struct worker_pool *pool, int elf_fd, uint64_t timeout_ns, const struct worker_job_ops *ops, void *userdata);
/* The same for the functions of an allocator (WORKER_HEAP). -ENOEXEC: it is no program. */
struct worker_job *worker_pool_heap(struct worker_pool *pool, int elf_fd, uint64_t timeout_ns, const struct worker_job_ops *ops, void *userdata);
/* Queues a search for custom profiles (WORKER_CUSTOM) in what is mapped: sections that a collector told of (fd becomes the pool's in every
 * case). It needs objects of these, and nothing else. */
struct worker_job *worker_pool_custom(struct worker_pool *pool, int mapped_fd, const struct custom_request *request,
                                      const struct worker_job_ops *ops, void *userdata);
/* error 0: fd (becomes the pool's) answers the job's last NEED; else -errno. Where nobody waits for it any
 * more (its worker died, or it was too late) it is dropped. */
void worker_job_file(struct worker_job *job, int error, int fd);
/* No callback comes any more. NULL is fine. */
void worker_job_cancel(struct worker_job *job);

struct worker_pool_stats {
    uint64_t restarts;    /* workers lost to a crash, a hang or their memory */
    uint64_t cache_bytes; /* as the living ones last said */
    uint64_t cpu_ns;      /* of all workers so far */
    unsigned alive;
};
void worker_pool_stats(const struct worker_pool *pool, struct worker_pool_stats *ret);

/* The worker role of the binary, to be called by main where argv[1] is "--role=worker", before anything else:
 * the arguments are the pool's own, the socket is fd 3. Sandboxes itself, serves jobs until end of file.
 * Returns the exit status. */
int worker_main(int argc, char **argv);
