/* Owns, for each reply that had to go before all was known, its job in the worker pool and its collector. */
#include "daemon/afterwork.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/queue.h>

#include "daemon/child.h"
#include "daemon/collector.h"
#include "daemon/debuginfod.h"
#include "daemon/recording.h"
#include "daemon/watch.h"
#include "daemon/worker_pool.h"
#include "util/cleanup.h"
#include "util/clock.h"

#define AFTERWORK_ANSWER_DEADLINE_NS (3 * NSEC_PER_SEC)

struct afterwork {
    LIST_ENTRY(afterwork) link;
    struct worker_job *job;
    struct child *collector;
    struct watch_run *run;       /* held; NULL where the collector is its own */
    struct recording_view *view; /* of the run's recording */
    struct debuginfod_asker debuginfod;
};

static LIST_HEAD(afterworks, afterwork) afterworks = LIST_HEAD_INITIALIZER(afterworks);

static void afterwork_free(struct afterwork *a)
{
    LIST_REMOVE(a, link);
    child_kill(a->collector);
    worker_job_cancel(a->job);
    debuginfod_asker_deinit(&a->debuginfod);
    recording_view_free(a->view);
    if (a->run)
        watch_run_let_go(a->run);
    free(a);
}

/* 0 or -errno: it can't be asked. */
static int afterwork_ask(struct afterwork *a, const struct worker_message *need)
{
    struct collector_message m = {.type = COLLECTOR_FILE, .u.file = *need};

    if (a->view)
        return recording_view_ask_file(a->view, need);
    if (!a->collector || child_send(a->collector, &m, sizeof(m), NULL, 0) < 0)
        return -ESRCH;
    child_set_deadline(a->collector, AFTERWORK_ANSWER_DEADLINE_NS);
    return 0;
}

static void afterwork_on_need(struct worker_job *job, const struct worker_message *need, void *userdata)
{
    struct afterwork *a = userdata;

    if (debuginfod_asker_need(&a->debuginfod, job, need))
        return;
    int r = afterwork_ask(a, need);
    if (r < 0)
        worker_job_file(job, r, -1);
}

static void afterwork_on_done(struct worker_job *job, const struct worker_result *result, void *userdata)
{
    struct afterwork *a = userdata;

    a->job = NULL;
    afterwork_free(a);
}

static void afterwork_on_message(struct child *c, const void *data, size_t len, int *fds, size_t n_fds, void *userdata)
{
    struct afterwork *a = userdata;
    const struct collector_message *m = data;
    AUTO_CLOSE int fd = n_fds > 0 ? fds[0] : -1;

    if (len != sizeof(*m) || m->type != COLLECTOR_FILE)
        return;
    child_set_deadline(c, 0);
    worker_job_file(a->job, m->u.file.u.file.error, TAKE_FD(fd));
}

static void afterwork_on_ended(struct child *c, bool timed_out, uint64_t cpu_ns, void *userdata)
{
    struct afterwork *a = userdata;

    a->collector = NULL;
    worker_job_file(a->job, -ESRCH, -1);
}

static void afterwork_on_view_file(void *userdata, int error, int fd)
{
    struct afterwork *a = userdata;
    worker_job_file(a->job, error, fd);
}

/* NULL: no memory. */
static struct afterwork *afterwork_new(struct worker_job *job, struct debuginfod_asker *debuginfod)
{
    static const struct worker_job_ops job_ops = {.need = afterwork_on_need, .done = afterwork_on_done};
    struct afterwork *a = calloc(1, sizeof(*a));

    if (!a)
        return NULL;
    a->job = job;
    LIST_INSERT_HEAD(&afterworks, a, link);
    debuginfod_asker_move(debuginfod, &a->debuginfod);
    worker_job_keep(job, &job_ops, a);
    return a;
}

void afterwork_begin(struct worker_job *job, struct child *collector, struct debuginfod_asker *debuginfod)
{
    static const struct child_ops child_ops = {.message = afterwork_on_message, .ended = afterwork_on_ended};
    struct afterwork *a = afterwork_new(job, debuginfod);

    if (!a) {
        child_kill(collector);
        return;
    }
    a->collector = collector;
    if (collector)
        child_set_user(collector, &child_ops, a);
}

void afterwork_begin_watch(struct worker_job *job, struct watch_run *run, struct debuginfod_asker *debuginfod)
{
    static const struct recording_view_ops view_ops = {.file = afterwork_on_view_file};
    struct afterwork *a = afterwork_new(job, debuginfod);

    if (!a)
        return;
    a->run = run;
    watch_run_hold(run);
    a->view = recording_view_new(watch_run_recording(run), &view_ops, a); /* without one: it goes on without further files */
}

void afterwork_end_all(void)
{
    struct afterwork *a;

    while ((a = LIST_FIRST(&afterworks)))
        afterwork_free(a);
}
