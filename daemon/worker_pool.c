/* The queue of jobs and who works on it. Owns jobs and workers; a job belongs to the pool from the moment it
 * is queued, and its caller holds a borrowed pointer until done or cancel. */
#include "daemon/worker_pool_impl.h"

#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/log.h"
#include "daemon/worker_process.h"
#include "util/clock.h"

#define WORKER_MAX_SPARE 4  /* living processes, in multiples of those that may compute */
#define WORKER_MAX_DYING 16 /* killed, and not gone yet */
#define WORKER_NEED_TIMEOUT_NS (5 * NSEC_PER_SEC)

void worker_pool_wake(struct worker_pool *pool)
{
    event_active(pool->dispatch, EV_TIMEOUT, 0);
}

/* ---- scheduling */

static bool worker_has_key(const struct worker *w, uint64_t key)
{
    for (unsigned i = 0; i < w->n_keys && i < WORKER_KEYS; i++)
        if (w->keys[i] == key)
            return true;
    return false;
}

static void worker_note_key(struct worker *w, uint64_t key)
{
    if (key && !worker_has_key(w, key))
        w->keys[w->n_keys++ % WORKER_KEYS] = key;
}

/* The worker that has a job's files; NULL: none does, or the job has no key. */
static struct worker *worker_pool_holder(const struct worker_pool *pool, const struct worker_job *job)
{
    struct worker *w, *busy = NULL;

    TAILQ_FOREACH(w, &pool->workers, link) {
        if (!worker_lives(w) || w->retire || job->due.key == 0 || !worker_has_key(w, job->due.key))
            continue;
        if (w->state == WORKER_IDLE)
            return w;
        busy = w;
    }
    return busy;
}

/* For a render the one with the warmest caches, for other jobs, which need none, the one with the coldest. */
static struct worker *worker_pool_idle(const struct worker_pool *pool, const struct worker_job *job)
{
    struct worker *w, *idle = NULL;

    TAILQ_FOREACH(w, &pool->workers, link) {
        if (w->state == WORKER_IDLE)
            idle = w;
        if (idle && job->message.u.job.kind == WORKER_RENDER)
            break;
    }
    return idle;
}

/* As many compute as may at one time. Those aside, up to as many again, are not counted: what they look for takes long, and
 * others are not to wait for it. */
static bool worker_pool_is_full(const struct worker_pool *pool)
{
    unsigned computing = worker_count(pool, worker_computes), aside = worker_count(pool, worker_is_aside);

    if (aside > pool->limits.workers)
        computing += aside - pool->limits.workers;
    return computing >= pool->limits.workers;
}

/* An idle worker, or a new one. 0; -EAGAIN: all are busy; -EBUSY: the one that has its files is, and the job has time;
 * -errno: none can be started. */
static int worker_pool_pick(struct worker_pool *pool, struct worker_job *job, struct worker **ret)
{
    struct worker *holder = worker_pool_holder(pool, job);

    if (holder && holder->state == WORKER_BUSY && job->patient)
        return -EBUSY;
    *ret = holder && holder->state == WORKER_IDLE ? holder : worker_pool_idle(pool, job);
    if (*ret)
        return 0;
    unsigned alive = worker_count(pool, worker_lives);
    if (worker_pool_is_full(pool) || alive >= WORKER_MAX_SPARE * pool->limits.workers ||
        worker_count(pool, worker_dies) >= WORKER_MAX_DYING)
        return -EAGAIN;
    int r = worker_new(pool, ret);
    if (r < 0) {
        log_warning("cannot start a worker: %s", strerror(-r));
        if (alive > 0 || worker_count(pool, worker_dies) > 0) /* one that was killed counts until it is reaped, which is told */
            return -EAGAIN;
        return r == -EAGAIN ? -EUSERS : r; /* fork's EAGAIN is a limit: nobody is busy */
    }
    return 0;
}

/* What the job is to do without, where it can't go to the worker that has its files. */
static void worker_pool_spare(const struct worker_pool *pool, const struct worker *w, struct worker_job *job)
{
    const struct worker *holder = worker_pool_holder(pool, job);
    uint64_t now_ns = monotonic_ns();

    job->message.u.job.spare = WORKER_SPARE_NOTHING;
    if (job->due.key == 0)
        return;
    if (job->clock && holder && holder != w && holder->job && holder->job->due.key == job->due.key)
        job->message.u.job.spare = WORKER_SPARE_ELSEWHERE;
    for (unsigned i = 0; i < pool->n_spoiled && i < POOL_SPOILED; i++) {
        if (pool->spoiled[i].key != job->due.key || pool->spoiled[i].until_ns < now_ns)
            continue;
        job->message.u.job.spare = WORKER_SPARE_SPOILED;
        job->message.u.job.spare_blame = pool->spoiled[i].blame;
    }
}

static void worker_pool_give(struct worker_pool *pool, struct worker *w, struct worker_job *job)
{
    TAILQ_REMOVE(&pool->queue, job, link);
    worker_pool_spare(pool, w, job);
    worker_job_begin(job);
    if (job->message.u.job.spare != WORKER_SPARE_ELSEWHERE)
        worker_note_key(w, job->due.key);
    int output_fd = memfd_create("cprofd-body", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (output_fd < 0)
        worker_job_fail(job, WORKER_BLAME_NOTHING, -errno,
                        errno == EMFILE || errno == ENFILE ? "no file descriptors are left for the reply; raise LimitNOFILE"
                                                           : "no memory for the reply");
    else
        worker_take(w, job, output_fd);
}

static const char *worker_pool_no_worker(int error)
{
    if (error == -EUSERS)
        return "no worker can be started: the daemon may have no more processes; raise TasksMax (or LimitNPROC)";
    if (error == -EMFILE || error == -ENFILE)
        return "no worker can be started: no file descriptors are left; raise LimitNOFILE";
    return "no worker can be started";
}

static void worker_pool_dispatch(evutil_socket_t fd, short what, void *arg)
{
    struct worker_pool *pool = arg;
    struct worker_job *job = TAILQ_FIRST(&pool->queue);
    struct worker *w;

    while (job) {
        int r = worker_pool_pick(pool, job, &w);
        if (r == -EAGAIN)
            return;
        if (r == -EBUSY) {
            job = TAILQ_NEXT(job, link);
            continue;
        }
        if (r == 0) {
            worker_pool_give(pool, w, job);
        } else {
            TAILQ_REMOVE(&pool->queue, job, link);
            worker_job_fail(job, WORKER_BLAME_NOTHING, r, worker_pool_no_worker(r));
        }
        job = TAILQ_FIRST(&pool->queue); /* anew: who was told of an end may have cancelled others */
    }
}

static void worker_pool_take_limits(struct worker_pool *pool, const struct worker_limits *limits)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);

    pool->limits = *limits;
    if (pool->limits.workers == 0)
        pool->limits.workers = cores > 0 ? (unsigned)cores : 1;
    if (pool->limits.need_timeout_ns == 0)
        pool->limits.need_timeout_ns = WORKER_NEED_TIMEOUT_NS;
}

int worker_pool_new(struct event_base *base, const struct worker_limits *limits, struct worker_pool **ret)
{
    struct worker_pool *pool = calloc(1, sizeof(*pool));

    if (!pool)
        return -ENOMEM;
    pool->base = base;
    worker_pool_take_limits(pool, limits);
    TAILQ_INIT(&pool->workers);
    TAILQ_INIT(&pool->queue);
    TAILQ_INIT(&pool->running);
    pool->dispatch = event_new(base, -1, 0, worker_pool_dispatch, pool);
    if (!pool->dispatch) {
        free(pool);
        return -ENOMEM;
    }
    *ret = pool;
    return 0;
}

static void worker_pool_free_jobs(struct job_list *jobs)
{
    struct worker_job *job;

    while ((job = TAILQ_FIRST(jobs))) {
        TAILQ_REMOVE(jobs, job, link);
        worker_job_free(job);
    }
}

void worker_pool_free(struct worker_pool *pool)
{
    struct worker *w;

    if (!pool)
        return;
    TAILQ_FOREACH(w, &pool->workers, link)
        worker_process_kill(w->process); /* all of them, before one is waited for */
    while ((w = TAILQ_FIRST(&pool->workers))) {
        worker_process_free(w->process);
        worker_free(w);
    }
    worker_pool_free_jobs(&pool->queue);
    worker_pool_free_jobs(&pool->running);
    assert(pool->n_jobs == 0);
    event_free(pool->dispatch);
    free(pool);
}

void worker_pool_set_limits(struct worker_pool *pool, const struct worker_limits *limits)
{
    struct worker *w;

    worker_pool_take_limits(pool, limits);
    TAILQ_FOREACH(w, &pool->workers, link) {
        w->retire = true;
        if (w->state == WORKER_IDLE)
            worker_end(w, false);
    }
    worker_pool_wake(pool);
}

static struct worker_job *worker_pool_add(struct worker_pool *pool, int fd, enum worker_job_kind kind,
                                          const struct worker_job_ops *ops, void *userdata)
{
    struct worker_job *job = pool->n_jobs < WORKER_MAX_JOBS ? calloc(1, sizeof(*job)) : NULL;

    if (!job) {
        (void)close(fd);
        return NULL;
    }
    *job = (struct worker_job){.pool = pool, .ops = ops, .userdata = userdata, .input_fd = fd,
                               .timeout_ns = pool->limits.job_timeout_ns};
    job->message.type = WORKER_JOB;
    job->message.u.job.kind = kind;
    pool->n_jobs++;
    worker_job_queue(job);
    return job;
}

struct worker_job *worker_pool_render(struct worker_pool *pool, int raw_fd, const struct worker_due *due,
                                      const struct worker_job_ops *ops, void *userdata)
{
    struct worker_job *job = worker_pool_add(pool, raw_fd, WORKER_RENDER, ops, userdata);

    if (job && due && worker_job_set_due(job, due) < 0) {
        worker_job_cancel(job);
        return NULL;
    }
    return job;
}

struct worker_job *worker_pool_probe(struct worker_pool *pool, int elf_fd, const struct worker_probe *probe,
                                     const struct worker_job_ops *ops, void *userdata)
{
    struct worker_job *job = worker_pool_add(pool, elf_fd, WORKER_PROBE, ops, userdata);

    if (job)
        job->message.u.job.probe = *probe;
    return job;
}

static struct worker_job *worker_pool_add_within(struct worker_pool *pool, int fd, enum worker_job_kind kind, uint64_t timeout_ns,
                                                 const struct worker_job_ops *ops, void *userdata)
{
    struct worker_job *job = worker_pool_add(pool, fd, kind, ops, userdata);

    if (job && timeout_ns < job->timeout_ns)
        job->timeout_ns = timeout_ns;
    return job;
}

struct worker_job *worker_pool_table(struct worker_pool *pool, int elf_fd, uint64_t timeout_ns, const struct worker_job_ops *ops,
                                     void *userdata)
{
    return worker_pool_add_within(pool, elf_fd, WORKER_TABLE, timeout_ns, ops, userdata);
}

struct worker_job *worker_pool_go(struct worker_pool *pool, int elf_fd, uint64_t timeout_ns, const struct worker_job_ops *ops, void *userdata)
{
    return worker_pool_add_within(pool, elf_fd, WORKER_GO, timeout_ns, ops, userdata);
}

struct worker_job *worker_pool_custom(struct worker_pool *pool, int mapped_fd, const struct custom_request *request,
                                      const struct worker_job_ops *ops, void *userdata)
{
    struct worker_job *job = worker_pool_add(pool, mapped_fd, WORKER_CUSTOM, ops, userdata);

    if (job)
        job->message.u.job.custom = *request;
    return job;
}

struct worker_job *worker_pool_heap(struct worker_pool *pool, int elf_fd, uint64_t timeout_ns, const struct worker_job_ops *ops, void *userdata)
{
    return worker_pool_add_within(pool, elf_fd, WORKER_HEAP, timeout_ns, ops, userdata);
}

void worker_pool_stats(const struct worker_pool *pool, struct worker_pool_stats *ret)
{
    const struct worker *w;

    *ret = (struct worker_pool_stats){.restarts = pool->restarts, .cpu_ns = pool->dead_cpu_ns};
    TAILQ_FOREACH(w, &pool->workers, link) {
        ret->cpu_ns += worker_process_cpu_ns(w->process);
        if (worker_lives(w)) {
            ret->alive++;
            ret->cache_bytes += w->cache_bytes;
        }
    }
}
