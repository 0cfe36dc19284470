/* A worker as the pool keeps it: what it does now, until when, and what its messages mean. Owns the process,
 * its timer and the output of the job under way. What a worker says is believed only where it can't matter;
 * the first breach of the protocol ends it. */
#include "daemon/worker_pool_impl.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "daemon/log.h"
#include "daemon/worker_process.h"
#include "util/cleanup.h"
#include "util/clock.h"

#define WORKER_MAX_NEEDS 65536               /* of a job in one worker */
#define WORKER_MAX_WAITS 4                   /* of a job, in need_timeout_ns */
#define WORKER_STALL_NS (20 * NSEC_PER_MSEC) /* who waits longer for a file lets another worker compute */
/* For a cancelled job to end by itself: killing costs the caches. */
#define WORKER_CANCEL_GRACE_NS (1000 * NSEC_PER_MSEC)

/* ---- workers */

static void worker_set_timer(struct worker *w, uint64_t ns)
{
    struct timeval tv = {.tv_sec = (time_t)(ns / NSEC_PER_SEC),
                         .tv_usec = (suseconds_t)(ns % NSEC_PER_SEC / 1000)};
    (void)event_add(w->timer, &tv);
}

/* Parts with its job, which it leaves in no list. */
static struct worker_job *worker_release_job(struct worker *w)
{
    struct worker_job *job = TAKE_PTR(w->job);

    (void)event_del(w->timer);
    close_fd(&w->output_fd);
    w->waiting = w->stalled = w->drafted = false;
    if (job) {
        TAILQ_REMOVE(&w->pool->running, job, link);
        job->worker = NULL;
    }
    return job;
}

void worker_end(struct worker *w, bool crashed)
{
    w->state = WORKER_DYING;
    w->crashed = crashed;
    worker_process_kill(w->process);
}

/* The worker is lost: killed, and its job tried again. */
static void worker_fault(struct worker *w, enum worker_blame blame)
{
    struct worker_pool *pool = w->pool;
    struct worker_job *job = worker_release_job(w);

    worker_end(w, blame == WORKER_BLAME_CRASH);
    pool->restarts++;
    if (blame != WORKER_BLAME_CRASH)
        log_warning("worker %d %s: killed", (int)worker_process_pid(w->process),
                    blame == WORKER_BLAME_HANG ? "hangs" : "ran out of memory");
    if (job)
        worker_job_retry(job, blame, w->touched, w->used);
    worker_pool_wake(pool);
}

unsigned worker_count(const struct worker_pool *pool, bool (*which)(const struct worker *w))
{
    const struct worker *w;
    unsigned n = 0;

    TAILQ_FOREACH(w, &pool->workers, link)
        n += which(w);
    return n;
}

bool worker_lives(const struct worker *w)
{
    return w->state != WORKER_DYING;
}

bool worker_dies(const struct worker *w)
{
    return w->state == WORKER_DYING;
}

bool worker_is_aside(const struct worker *w)
{
    return worker_lives(w) && w->drafted && !w->stalled;
}

bool worker_computes(const struct worker *w)
{
    return worker_lives(w) && !w->stalled && !w->drafted;
}

/* The idle one that is missed least: the one with the smallest cache. */
static struct worker *worker_least(struct worker_pool *pool)
{
    struct worker *w, *least = NULL;

    TAILQ_FOREACH(w, &pool->workers, link)
        if (w->state == WORKER_IDLE && (!least || w->cache_bytes <= least->cache_bytes))
            least = w;
    return least;
}

/* Its job is over: it waits for the next one. Where there are more than are wanted, one ends. */
static void worker_rest(struct worker *w)
{
    struct worker_pool *pool = w->pool;

    w->state = WORKER_IDLE;
    w->used = true;
    w->touched = WORKER_TOUCH_NONE;
    TAILQ_REMOVE(&pool->workers, w, link);
    TAILQ_INSERT_HEAD(&pool->workers, w, link);
    if (w->retire)
        worker_end(w, false);
    else if (worker_count(pool, worker_computes) > pool->limits.workers)
        worker_end(worker_least(pool), false);
    worker_pool_wake(pool);
}

/* It is as long as was said. */
static bool worker_body_ok(int fd, const struct worker_body *body)
{
    struct stat st;

    return fstat(fd, &st) == 0 && body->len <= (uint64_t)st.st_size && body->offset <= (uint64_t)st.st_size - body->len;
}

/* Nobody may change the body any more. */
static bool worker_output_ok(int fd, const struct worker_body *body)
{
    return fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) == 0 && worker_body_ok(fd, body);
}

/* Whoever waits for a worker need not wait for this one any more. */
static void worker_on_draft(struct worker *w, const struct worker_body *draft)
{
    if (w->waiting || w->job->message.u.job.kind != WORKER_RENDER || !worker_body_ok(w->output_fd, draft)) {
        worker_fault(w, WORKER_BLAME_CRASH);
        return;
    }
    w->draft = *draft;
    w->drafted = true;
    worker_pool_wake(w->pool);
    worker_job_on_draft(w->job);
}

static void worker_on_done(struct worker *w, const struct worker_message *m)
{
    struct worker_result result = {
        .error = m->u.done.error,
        .message = m->u.done.message,
        .body_fd = w->output_fd,
        .body = m->u.done.body,
        .cpu_ns = m->u.done.cpu_ns,
        .has_labels = m->u.done.has_labels == 1,
        .labels = m->u.done.labels,
    };

    if (w->waiting || result.error > 0 || !worker_output_ok(w->output_fd, &result.body)) {
        worker_fault(w, WORKER_BLAME_CRASH);
        return;
    }
    if (result.error == -ENOMEM) {
        worker_fault(w, WORKER_BLAME_MEMORY);
        return;
    }
    AUTO_CLOSE int body = TAKE_FD(w->output_fd);
    struct worker_job *job = worker_release_job(w);
    w->cache_bytes = m->u.done.cache_bytes;
    worker_rest(w);
    worker_job_finish(job, &result);
}

static void worker_send_file(struct worker *w, int error, int fd)
{
    struct worker_message m = {.type = WORKER_FILE, .job_id = w->job->message.job_id, .u.file.error = error};

    if (worker_process_send(w->process, &m, &fd, error == 0 ? 1 : 0) < 0)
        worker_fault(w, WORKER_BLAME_CRASH);
}

/* Whoever opens a target's file can be held up by the target. So a job does without a file that does not come
 * in time, without all others until that answer has come (it must not be taken for another's), and without
 * any further one once it has waited too long in all. */
static int worker_refusal(const struct worker *w)
{
    const struct worker_job *job = w->job;

    if (job->cancelled)
        return -ECANCELED;
    return job->owed || job->waited_ns >= WORKER_MAX_WAITS * w->pool->limits.need_timeout_ns ? -ETIMEDOUT : 0;
}

static void worker_on_need(struct worker *w, const struct worker_message *m)
{
    struct worker_job *job = w->job;
    uint64_t now_ns = monotonic_ns();

    if (!job->ops->need || w->waiting || ++w->needs > WORKER_MAX_NEEDS) {
        worker_fault(w, WORKER_BLAME_CRASH);
        return;
    }
    int refusal = worker_refusal(w);
    if (refusal < 0) {
        worker_send_file(w, refusal, -1);
        return;
    }
    w->waiting_since_ns = now_ns;
    w->deadline_ns = w->deadline_ns > now_ns ? w->deadline_ns - now_ns : 0;
    worker_set_timer(w, WORKER_STALL_NS);
    w->waiting = true;
    job->owed = true;
    job->ops->need(job, m, job->userdata);
}

/* Ends its waiting, and its job's time goes on. */
static void worker_answer(struct worker *w, int error, int fd)
{
    uint64_t now_ns = monotonic_ns();

    w->job->waited_ns += now_ns - w->waiting_since_ns;
    w->waiting = w->stalled = false;
    worker_set_timer(w, w->deadline_ns);
    w->deadline_ns += now_ns;
    worker_send_file(w, error, fd);
}

static void worker_on_message(struct worker_process *process, const struct worker_message *m, void *userdata)
{
    struct worker *w = userdata;

    if (m->type == WORKER_REST) /* it may have the next job by now */
        w->cache_bytes = m->u.rest.cache_bytes;
    else if (!w->job || m->job_id != w->job->message.job_id)
        worker_fault(w, WORKER_BLAME_CRASH);
    else if (m->type == WORKER_DRAFT)
        worker_on_draft(w, &m->u.draft);
    else if (m->type == WORKER_TOUCH)
        w->touched = m->u.touch.object;
    else if (m->type == WORKER_NEED)
        worker_on_need(w, m);
    else
        worker_on_done(w, m);
}

static void worker_on_lost(struct worker_process *process, void *userdata)
{
    worker_fault(userdata, WORKER_BLAME_CRASH);
}

void worker_free(struct worker *w)
{
    TAILQ_REMOVE(&w->pool->workers, w, link);
    if (w->timer)
        event_free(w->timer);
    cleanup_close(&w->output_fd);
    free(w);
}

static void worker_on_reaped(struct worker_process *process, int status, uint64_t cpu_ns, void *userdata)
{
    struct worker *w = userdata;
    struct worker_pool *pool = w->pool;

    if (w->crashed && WIFSIGNALED(status))
        log_warning("worker %d died of signal %d", (int)worker_process_pid(process), WTERMSIG(status));
    else if (w->crashed)
        log_warning("worker %d ended with status %d", (int)worker_process_pid(process), WEXITSTATUS(status));
    pool->dead_cpu_ns += cpu_ns;
    worker_free(w);
    worker_pool_wake(pool);
}

static void worker_on_timer(evutil_socket_t fd, short what, void *arg)
{
    struct worker *w = arg;

    if (!w->waiting) {
        worker_fault(w, WORKER_BLAME_HANG);
    } else if (!w->stalled) {
        w->stalled = true;
        worker_set_timer(w, w->pool->limits.need_timeout_ns);
        worker_pool_wake(w->pool);
    } else {
        worker_answer(w, -ETIMEDOUT, -1);
    }
}

int worker_new(struct worker_pool *pool, struct worker **ret)
{
    static const struct worker_process_ops ops = {worker_on_message, worker_on_lost, worker_on_reaped};
    struct worker *w = calloc(1, sizeof(*w));

    if (!w)
        return -ENOMEM;
    *w = (struct worker){.pool = pool, .output_fd = -1, .touched = WORKER_TOUCH_NONE};
    w->timer = event_new(pool->base, -1, 0, worker_on_timer, w);
    int r = w->timer ? worker_process_start(pool->base, &pool->limits, &ops, w, &w->process) : -ENOMEM;
    TAILQ_INSERT_HEAD(&pool->workers, w, link);
    if (r < 0) {
        worker_free(w);
        return r;
    }
    *ret = w;
    return 0;
}

void worker_take(struct worker *w, struct worker_job *job, int output_fd)
{
    struct worker_pool *pool = w->pool;

    TAILQ_INSERT_TAIL(&pool->running, job, link);
    w->state = WORKER_BUSY;
    w->job = job;
    w->output_fd = output_fd;
    w->touched = WORKER_TOUCH_NONE;
    w->needs = 0;
    w->drafted = false;
    job->worker = w;
    job->message.job_id = pool->next_job_id++;
    w->deadline_ns = monotonic_ns() + job->timeout_ns;
    worker_set_timer(w, job->timeout_ns);
    if (worker_process_send(w->process, &job->message, (int[]){job->input_fd, w->output_fd}, 2) < 0)
        worker_fault(w, WORKER_BLAME_CRASH);
}

void worker_renew(struct worker *w)
{
    if (w->waiting) {
        w->deadline_ns = w->job->timeout_ns;
        return;
    }
    w->deadline_ns = monotonic_ns() + w->job->timeout_ns;
    worker_set_timer(w, w->job->timeout_ns);
}

void worker_job_file(struct worker_job *job, int error, int fd)
{
    AUTO_CLOSE int owned = fd;

    if (!job->owed)
        return;
    job->owed = false;
    if (job->worker && job->worker->waiting)
        worker_answer(job->worker, error, owned);
}

void worker_job_leave(struct worker_job *job)
{
    job->cancelled = true;
    if (job->worker->waiting)
        worker_answer(job->worker, -ECANCELED, -1);
}

void worker_job_cancel(struct worker_job *job)
{
    if (!job)
        return;
    struct worker *w = job->worker;

    job->cancelled = true;
    if (!w) {
        TAILQ_REMOVE(&job->pool->queue, job, link);
        worker_job_free(job);
        return;
    }
    w->deadline_ns = WORKER_CANCEL_GRACE_NS;
    if (w->waiting)
        worker_answer(w, -ECANCELED, -1);
    else
        worker_set_timer(w, WORKER_CANCEL_GRACE_NS);
}
