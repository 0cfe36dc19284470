/* A job on its way through the pool, and what is learned from each worker that it costs.
 *
 * When a worker is lost, the object that it had touched last is to blame: the job goes to the queue's end
 * again (a hostile target must not keep others waiting) and is rendered without that object. Where nothing
 * can be blamed, or too much, it is rendered without parsing any file, and where even that fails, it fails. */
#include "daemon/worker_pool_impl.h"

#include <errno.h>
#include <stdlib.h>

#include "util/cleanup.h"

#define WORKER_MAX_CRASHES 3 /* of a job, with nothing to blame */
#define WORKER_MAX_HANGS 3   /* of a job: each one costs its whole timeout */
#define WORKER_MAX_PROBE_TRIES 2

/* ---- jobs */

void worker_job_free(struct worker_job *job)
{
    job->pool->n_jobs--;
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

static bool worker_job_excludes(const struct worker_job *job, uint32_t object)
{
    for (uint32_t i = 0; i < job->message.u.job.n_excluded; i++)
        if (job->message.u.job.excluded[i] == object)
            return true;
    return false;
}

/* Notes the object to leave out next time. False where none can be blamed. */
static bool worker_job_exclude(struct worker_job *job, enum worker_blame blame, uint32_t object)
{
    uint32_t n = job->message.u.job.n_excluded;

    if (object == WORKER_TOUCH_NONE || n == WORKER_MAX_EXCLUDED || worker_job_excludes(job, object))
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
    if (job->message.u.job.kind == WORKER_TABLE)
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

void worker_job_retry(struct worker_job *job, enum worker_blame blame, uint32_t touched, bool used)
{
    if (job->cancelled)
        worker_job_free(job);
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
