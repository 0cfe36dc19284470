/* For tests of the pool: jobs for real processes that do what they are told (fault_worker.c, whose path is the first argument of each
 * test), and what came of them. */
#pragma once

#include <check.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/log.h"
#include "daemon/worker_pool.h"
#include "util/cleanup.h"
#include "util/clock.h"

#define TEST_TIMEOUT_SECONDS 120 /* a net, not an assertion */
#define LONG_NS (600 * NSEC_PER_SEC)
#define SHORT_NS (100 * NSEC_PER_MSEC) /* the timeout of jobs that hang on purpose */

static const char *fault_worker;
static struct event_base *base;
static struct worker_pool *pool;

/* A job and what came of it. */
struct outcome {
    struct worker_job *job;
    unsigned done, needs;
    int error;
    char message[512], body[512];
    uint64_t samples;
    bool hold;   /* leave needs unanswered */
    bool cancel; /* cancel when a file is needed */
    bool keep;   /* let it go on behind a draft */
    unsigned more;
    char draft[512];
    struct worker_message need;
};

static inline int text_fd(const char *text)
{
    int fd = memfd_create("text", MFD_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, text, strlen(text)), strlen(text));
    return fd;
}

static inline void on_need(struct worker_job *job, const struct worker_message *need, void *userdata)
{
    struct outcome *o = userdata;
    o->needs++;
    o->need = *need;
    if (o->cancel)
        worker_job_cancel(job);
    else if (!o->hold && need->u.need.object == 404)
        worker_job_file(job, -ENOENT, -1);
    else if (!o->hold)
        worker_job_file(job, 0, text_fd("file;"));
}

static const struct worker_job_ops ops;

/* The answer is what is known so far. */
static inline void on_draft(struct worker_job *job, const struct worker_result *result, struct outcome *o)
{
    ck_assert_uint_eq(o->done + o->more, 0);
    o->more++;
    ck_assert_uint_lt(result->body.len, sizeof(o->draft));
    ck_assert_int_eq(pread(result->body_fd, o->draft, result->body.len, (off_t)result->body.offset), result->body.len);
    ck_assert_uint_eq(result->body.samples, 5);
    if (o->keep)
        worker_job_keep(job, &ops, o);
}

static inline void on_done(struct worker_job *job, const struct worker_result *result, void *userdata)
{
    struct outcome *o = userdata;
    if (result->more) {
        on_draft(job, result, o);
        return;
    }
    o->done++;
    o->error = result->error;
    o->samples = result->body.samples;
    (void)snprintf(o->message, sizeof(o->message), "%s", result->message);
    memset(o->body, 0, sizeof(o->body));
    ck_assert_uint_lt(result->body.len, sizeof(o->body));
    if (result->error == 0)
        ck_assert_int_eq(pread(result->body_fd, o->body, result->body.len, (off_t)result->body.offset), result->body.len);
}

static const struct worker_job_ops ops = {on_need, on_done};

static inline void setup_pool(unsigned workers, uint64_t timeout_ns)
{
    struct worker_limits limits = {
        .workers = workers,
        .memory_bytes = 256 << 20,
        .cache_bytes = 1 << 20,
        .job_timeout_ns = timeout_ns,
        .executable = fault_worker,
    };
    log_set_level(LOG_LEVEL_ERROR);
    base = event_base_new();
    ck_assert_int_eq(worker_pool_new(base, &limits, &pool), 0);
}

static inline void teardown_pool(void)
{
    worker_pool_free(pool);
    event_base_free(base);
    libevent_global_shutdown();
}

static inline void start(struct outcome *o, const char *script)
{
    o->job = worker_pool_render(pool, text_fd(script), NULL, &ops, o);
    ck_assert_ptr_nonnull(o->job);
}

/* With a deadline in so long. */
static inline void start_due(struct outcome *o, uint64_t key, uint64_t in_ns, const char *script)
{
    struct worker_due due = {.key = key, .deadline_ns = monotonic_ns() + in_ns};
    o->job = worker_pool_render(pool, text_fd(script), &due, &ops, o);
    ck_assert_ptr_nonnull(o->job);
}

static inline void wait_for(const unsigned *counter, unsigned n)
{
    while (*counter < n)
        ck_assert_int_eq(event_base_loop(base, EVLOOP_ONCE), 0);
}

static struct worker_pool_stats stats(void)
{
    struct worker_pool_stats s;
    worker_pool_stats(pool, &s);
    return s;
}

static inline struct outcome run(const char *script)
{
    struct outcome o = {0};
    start(&o, script);
    wait_for(&o.done, 1);
    return o;
}
