/* The worker role: enters its sandbox, then renders raw profiles, looks for probe places and makes unwinding tables, one
 * job at a time, until the loop closes the socket. It keeps nothing of a job but its caches. A message that is not as
 * agreed ends it: it can't be repaired, and the pool starts another. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "daemon/custom_job.h"
#include "daemon/go_job.h"
#include "daemon/heap_job.h"
#include "daemon/probe.h"
#include "daemon/raw_profile.h"
#include "daemon/render.h"
#include "daemon/sandbox.h"
#include "daemon/table_job.h"
#include "daemon/worker_pool.h"
#include "daemon/worker_proto.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/fdmsg.h"

#define WORKER_SOCK 3
#define WORKER_MAX_BODY_BYTES (1ull << 30)

enum worker_exit {
    WORKER_EXIT_OK = 0,
    WORKER_EXIT_USAGE = 2,
    WORKER_EXIT_SANDBOX = 3,
    WORKER_EXIT_MEMORY = 4,
    WORKER_EXIT_PROTOCOL = 5
};

struct worker_role {
    struct renderer *renderer;
    uint32_t job_id;
};

/* What the symbolizer cached of a dead worker dies with it: there is nothing to clean up, and in a sandbox a
 * leak checker can't run. */
static _Noreturn void worker_exit(enum worker_exit status)
{
    _exit(status);
}

static void worker_send(const struct worker_message *m)
{
    if (fdmsg_send(WORKER_SOCK, m, sizeof(*m), NULL, 0) < 0)
        worker_exit(WORKER_EXIT_PROTOCOL); /* the loop is gone */
}

/* Receives a message of a type with exactly n_fds descriptors. */
static void worker_receive(struct worker_message *m, enum worker_message_type type, int *fds, size_t *n_fds)
{
    ssize_t n = fdmsg_recv(WORKER_SOCK, m, sizeof(*m), fds, n_fds);

    if (n == 0)
        worker_exit(WORKER_EXIT_OK);
    if (n != (ssize_t)sizeof(*m) || m->type != type)
        worker_exit(WORKER_EXIT_PROTOCOL);
}

static void worker_on_touch(void *userdata, uint32_t object)
{
    const struct worker_role *w = userdata;
    worker_send(
        &(struct worker_message){.type = WORKER_TOUCH, .job_id = w->job_id, .u.touch.object = object});
}

static void worker_on_draft(void *userdata, const struct worker_body *body)
{
    const struct worker_role *w = userdata;
    worker_send(&(struct worker_message){.type = WORKER_DRAFT, .job_id = w->job_id, .u.draft = *body});
}

static int worker_on_need(void *userdata, struct worker_message *need, int *ret_fd)
{
    const struct worker_role *w = userdata;
    struct worker_message answer;
    size_t n_fds = 1;
    int fd = -1;

    need->type = WORKER_NEED;
    need->job_id = w->job_id;
    worker_send(need);
    worker_receive(&answer, WORKER_FILE, &fd, &n_fds);
    if (answer.job_id != w->job_id || answer.u.file.error > 0 || n_fds != (answer.u.file.error == 0))
        worker_exit(WORKER_EXIT_PROTOCOL);
    *ret_fd = fd;
    return answer.u.file.error;
}

static void worker_render(struct worker_role *w, const struct worker_message *job, int input, int output,
                          struct worker_message *done)
{
    struct raw_profile raw = {0};
    struct render_result result = {0};

    int r = raw_profile_open(input, &raw);
    if (r < 0)
        (void)snprintf(result.message, sizeof(result.message), "the raw profile is malformed");
    else
        r = renderer_render(w->renderer, &raw, job, output, &result);
    raw_profile_close(&raw);
    done->u.done.error = r;
    if (r == 0)
        done->u.done.body = result.body;
    memcpy(done->u.done.message, result.message, sizeof(result.message));
}

static const struct render_ops worker_ops = {.need = worker_on_need, .touch = worker_on_touch, .draft = worker_on_draft};

static void worker_table(int input, int output, struct worker_message *done)
{
    done->u.done.error = table_make(input, output, &done->u.done.body.len, done->u.done.message, sizeof(done->u.done.message));
    done->u.done.has_labels = table_labels(input, &done->u.done.labels) == 0;
}

static void worker_do(struct worker_role *w, const struct worker_message *job, int *input, int output)
{
    struct worker_message done = {.type = WORKER_DONE, .job_id = job->job_id};
    uint64_t start_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID);

    w->job_id = job->job_id;
    if (job->u.job.kind == WORKER_PROBE)
        done.u.done.error = probe_find(TAKE_FD(*input), &job->u.job.probe, output, &done.u.done.body.len,
                                       done.u.done.message, sizeof(done.u.done.message));
    else if (job->u.job.kind == WORKER_TABLE)
        worker_table(*input, output, &done);
    else if (job->u.job.kind == WORKER_GO)
        done.u.done.error = go_make(*input, output, &done.u.done.body.len, done.u.done.message, sizeof(done.u.done.message));
    else if (job->u.job.kind == WORKER_CUSTOM)
        done.u.done.error = custom_make(*input, &job->u.job.custom, &worker_ops, w, output, &done.u.done.body.len, done.u.done.message,
                                        sizeof(done.u.done.message));
    else if (job->u.job.kind == WORKER_HEAP)
        done.u.done.error = heap_make(TAKE_FD(*input), output, &done.u.done.body.len, done.u.done.message, sizeof(done.u.done.message));
    else
        worker_render(w, job, *input, output, &done);
    done.u.done.cpu_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - start_ns;
    done.u.done.cache_bytes = renderer_cache_bytes(w->renderer);
    worker_send(&done);
}

static _Noreturn void worker_serve(struct worker_role *w)
{
    for (;;) {
        struct worker_message job;
        int fds[2] = {-1, -1};
        size_t n_fds = 2;
        worker_receive(&job, WORKER_JOB, fds, &n_fds);
        AUTO_CLOSE int input = fds[0], output = fds[1];
        if (n_fds != 2 || !memchr(job.u.job.probe.symbol, '\0', sizeof(job.u.job.probe.symbol)))
            worker_exit(WORKER_EXIT_PROTOCOL);
        worker_do(w, &job, &input, output);
        close_fd(&input);
        close_fd(&output);
        renderer_trim(w->renderer); /* after the answer: nobody waits for it */
        worker_send(&(struct worker_message){
            .type = WORKER_REST, .job_id = job.job_id, .u.rest.cache_bytes = renderer_cache_bytes(w->renderer)});
    }
}

/* "--NAME=NUMBER". */
static bool worker_argument(const char *text, const char *name, uint64_t *ret)
{
    size_t len = strlen(name);
    char *end;

    if (strncmp(text, name, len) != 0 || text[len] != '=')
        return false;
    *ret = strtoull(text + len + 1, &end, 10);
    return *end == '\0' && end != text + len + 1;
}

int worker_main(int argc, char **argv)
{
    struct worker_role w = {0};
    uint64_t parent, memory_bytes, cache_bytes;

    (void)prctl(PR_SET_NAME, "cprofd");
    if (argc != 5 || !worker_argument(argv[2], "--parent", &parent) ||
        !worker_argument(argv[3], "--memory-bytes", &memory_bytes) ||
        !worker_argument(argv[4], "--cache-bytes", &cache_bytes)) {
        fputs("cprofd: --role=worker is for the daemon's own use\n", stderr);
        return WORKER_EXIT_USAGE;
    }
    struct sandbox sandbox = {
        .parent = (pid_t)parent,
        .last_fd = WORKER_SOCK,
        .memory_bytes = memory_bytes,
        .file_bytes = WORKER_MAX_BODY_BYTES,
    };
    if (sandbox_enter(&sandbox) < 0)
        worker_exit(WORKER_EXIT_SANDBOX);
    w.renderer = renderer_new(&worker_ops, &w, cache_bytes);
    if (!w.renderer)
        worker_exit(WORKER_EXIT_MEMORY);
    worker_serve(&w);
}
