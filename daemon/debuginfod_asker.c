/* Between a worker's job and the debuginfod servers: one question at a time, and one reply's patience over all of them. Owns the wait. */
#include <errno.h>
#include <string.h>

#include "daemon/debuginfod.h"
#include "daemon/worker_pool.h"
#include "symbolize/symbolizer.h"
#include "util/cleanup.h"
#include "util/clock.h"

void debuginfod_asker_init(struct debuginfod_asker *a, struct debuginfod *d)
{
    *a = (struct debuginfod_asker){.d = d, .left_ns = debuginfod_wait_ns(d)};
}

void debuginfod_asker_move(struct debuginfod_asker *from, struct debuginfod_asker *to)
{
    *to = *from;
    from->wait = NULL;
    from->job = NULL;
    if (to->wait)
        debuginfod_set_user(to->wait, to);
}

void debuginfod_asker_deinit(struct debuginfod_asker *a)
{
    debuginfod_cancel(TAKE_PTR(a->wait));
    a->job = NULL;
}

static void asker_on_done(int error, int fd, void *userdata)
{
    struct debuginfod_asker *a = userdata;
    uint64_t took_ns = monotonic_ns() - a->since_ns;

    a->wait = NULL;
    a->left_ns -= took_ns < a->left_ns ? took_ns : a->left_ns;
    worker_job_file(TAKE_PTR(a->job), error, fd);
}

/* A question that is still open was answered by somebody else: a job has one need at a time. */
bool debuginfod_asker_need(struct debuginfod_asker *a, struct worker_job *job, const struct worker_message *need)
{
    debuginfod_asker_deinit(a);
    if (need->u.need.kind != WORKER_FILE_DEBUG || need->u.need.debug_kind != DEBUG_FILE_SERVER)
        return false;
    a->job = job;
    a->since_ns = monotonic_ns();
    int r = debuginfod_ask(a->d, need->u.need.name, a->left_ns, asker_on_done, a, &a->wait);
    if (r < 0)
        worker_job_file(job, r, -1);
    return true;
}
