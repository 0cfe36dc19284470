/* A job on its way through the pool, and what is learned from each worker that it costs.
 *
 * When a worker is lost, the object that it had touched last is to blame: the job goes to the queue's end
 * again (a hostile target must not keep others waiting) and is rendered without that object's debug information, then
 * without the object. Where nothing can be blamed, or too much, it is rendered without parsing any file, and where even
 * that fails, it fails.
 *
 * A job with a deadline is answered then, by the newest draft of its body; it may go on behind its reply, for the sake
 * of its worker's cache. Should it lose its worker there, it isn't tried again, and for a while its like do without what
 * they would have to read: else each of them would take a worker along. */
#include "daemon/worker_pool_impl.h"

#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>

#include "util/cleanup.h"
#include "util/clock.h"

#define WORKER_MAX_CRASHES 3 /* of a job, with nothing to blame */
#define WORKER_MAX_HANGS 3   /* of a job: each one costs its whole timeout */
#define WORKER_MAX_PROBE_TRIES 2
#define WORKER_SPOILED_NS (600 * NSEC_PER_SEC)

/* ---- jobs */

void worker_job_free(struct worker_job *job)
{
    job->pool->n_jobs--;
    if (job->clock)
        event_free(job->clock);
    cleanup_close(&job->input_fd);
    free(job);
}

void worker_job_queue(struct worker_job *job)
{
    job->worker = NULL;
    TAILQ_INSERT_TAIL(&job->pool->queue, job, link);
    worker_pool_wake(job->pool);
}

void worker_job_finish(struct worker_job *job, const struct worker_result *result)
{
    if (!job->cancelled)
        job->ops->done(job, result, job->userdata);
    worker_job_free(job);
}

void worker_job_fail(struct worker_job *job, enum worker_blame blame, int error, const char *message)
{
    struct worker_result result = {.error = error, .blame = blame, .message = message, .body_fd = -1};
    worker_job_finish(job, &result);
}

/* Notes what of the object to leave out next time: its debug information, then all of it. False where none can be
 * blamed. */
static bool worker_job_exclude(struct worker_job *job, enum worker_blame blame, uint32_t object)
{
    uint32_t n = job->message.u.job.n_excluded;

    for (uint32_t i = 0; i < n; i++) {
        if (job->message.u.job.excluded[i] != object)
            continue;
        bool more = job->message.u.job.wholly[i] == 0;
        job->message.u.job.wholly[i] = 1;
        job->message.u.job.blame[i] = blame;
        return more;
    }
    if (object == WORKER_TOUCH_NONE || n == WORKER_MAX_EXCLUDED)
        return false;
    job->message.u.job.excluded[n] = object;
    job->message.u.job.blame[n] = blame;
    job->message.u.job.n_excluded = n + 1;
    return true;
}

/* What the next try of a job leaves out. False: nothing is left to leave out. */
static bool worker_job_learn(struct worker_job *job, enum worker_blame blame, uint32_t touched)
{
    if (job->message.u.job.kind == WORKER_PROBE)
        return ++job->tries < WORKER_MAX_PROBE_TRIES;
    if (job->message.u.job.kind != WORKER_RENDER)
        return false;
    if (job->message.u.job.no_symbols)
        return false;
    bool hopeless = false;
    if (!worker_job_exclude(job, blame, touched)) /* what hung or took all memory would do so again */
        hopeless = blame != WORKER_BLAME_CRASH || ++job->crashes >= WORKER_MAX_CRASHES;
    if (blame == WORKER_BLAME_HANG && ++job->hangs >= WORKER_MAX_HANGS)
        hopeless = true;
    if (hopeless || job->message.u.job.n_excluded == WORKER_MAX_EXCLUDED)
        job->message.u.job.no_symbols = blame;
    return true;
}

/* A worker that did other jobs before may have been broken by one of them: that is not held against this one's
 * files, once. A hang costs too much for that, and memory that is broken seldom hangs. */
static bool worker_job_spare(struct worker_job *job, enum worker_blame blame, bool used)
{
    if (!used || job->spared || blame == WORKER_BLAME_HANG)
        return false;
    job->spared = true;
    return true;
}

/* Behind its reply: nobody waits for another try, and whoever comes next is to do without. */
static void worker_job_spoil(struct worker_job *job, enum worker_blame blame)
{
    struct worker_pool *pool = job->pool;

    if (job->due.key)
        pool->spoiled[pool->n_spoiled++ % POOL_SPOILED] =
            (struct pool_spoiled){job->due.key, monotonic_ns() + WORKER_SPOILED_NS, blame};
    worker_job_fail(job, blame, -EIO, "the worker was lost behind the reply");
}

void worker_job_retry(struct worker_job *job, enum worker_blame blame, uint32_t touched, bool used)
{
    if (job->cancelled)
        worker_job_free(job);
    else if (job->kept)
        worker_job_spoil(job, blame);
    else if (worker_job_spare(job, blame, used))
        worker_job_queue(job);
    else if (worker_job_learn(job, blame, touched))
        worker_job_queue(job);
    else
        worker_job_fail(job, blame, blame == WORKER_BLAME_MEMORY ? -ENOMEM : -EIO,
                        blame == WORKER_BLAME_HANG     ? "the worker did not finish in time"
                        : blame == WORKER_BLAME_MEMORY ? "the worker ran out of memory"
                                                       : "the worker crashed");
}

/* ---- deadlines */

static bool worker_has_kept(const struct worker *w)
{
    return w->job && w->job->kept;
}

/* Answers by the draft. What does without debug information has nothing to find out behind its reply: it is left to its end. */
static void worker_job_deliver(struct worker_job *job)
{
    struct worker *w = job->worker;
    bool over = job->message.u.job.spare != WORKER_SPARE_NOTHING;
    struct worker_result result = {
        .message = "",
        .body_fd = w->output_fd,
        .body = w->draft,
        .more = !over && worker_count(job->pool, worker_has_kept) < job->pool->limits.workers,
    };

    job->overdue = false;
    job->delivering = true;
    job->ops->done(job, &result, job->userdata);
    job->delivering = false;
    if (over)
        worker_job_leave(job);
    else if (!job->kept)
        worker_job_cancel(job);
}

void worker_job_on_draft(struct worker_job *job)
{
    if (job->overdue && !job->cancelled)
        worker_job_deliver(job);
}

void worker_job_keep(struct worker_job *job, const struct worker_job_ops *ops, void *userdata)
{
    assert(job->delivering);
    job->kept = true;
    worker_renew(job->worker);
    job->ops = ops;
    job->userdata = userdata;
}

static void worker_job_set_clock(struct worker_job *job, uint64_t at_ns)
{
    uint64_t now_ns = monotonic_ns(), ns = at_ns > now_ns ? at_ns - now_ns : 0;
    struct timeval tv = {.tv_sec = (time_t)(ns / NSEC_PER_SEC), .tv_usec = (suseconds_t)(ns % NSEC_PER_SEC / 1000)};

    (void)event_add(job->clock, &tv);
}

/* Its patience ends, then its time. */
static void worker_job_on_clock(evutil_socket_t fd, short what, void *arg)
{
    struct worker_job *job = arg;

    if (job->cancelled || job->kept)
        return;
    if (job->patient) {
        job->patient = false;
        worker_pool_wake(job->pool);
        worker_job_set_clock(job, job->due.deadline_ns);
        return;
    }
    job->overdue = true;
    if (job->worker && job->worker->drafted)
        worker_job_deliver(job);
}

/* What a worker needs at least for the names of symbol tables: a reply without any is of no use, in time or not. */
#define WORKER_LEAST_NS (100 * NSEC_PER_MSEC)

void worker_job_begin(struct worker_job *job)
{
    uint64_t least_ns = monotonic_ns() + WORKER_LEAST_NS;

    if (!job->clock)
        return;
    if (job->due.deadline_ns < least_ns)
        job->due.deadline_ns = least_ns;
    job->message.u.job.deadline_ns = job->due.deadline_ns;
    job->overdue = job->patient = false;
    worker_job_set_clock(job, job->due.deadline_ns);
}

int worker_job_set_due(struct worker_job *job, const struct worker_due *due)
{
    uint64_t now_ns = monotonic_ns();

    job->due = *due;
    job->message.u.job.key = due->key;
    if (due->deadline_ns == 0)
        return 0;
    job->clock = event_new(job->pool->base, -1, 0, worker_job_on_clock, job);
    if (!job->clock)
        return -ENOMEM;
    job->patient = true;
    worker_job_set_clock(job, due->deadline_ns > now_ns ? now_ns + (due->deadline_ns - now_ns) / 2 : now_ns);
    return 0;
}
