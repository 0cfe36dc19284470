/* From a closed window to the reply: the raw profile, the worker, the headers. Owns nothing: the session does. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/afterwork.h"
#include "daemon/http.h"
#include "daemon/metrics.h"
#include "daemon/raw_profile.h"
#include "daemon/reply_due.h"
#include "daemon/server.h"
#include "daemon/session_impl.h"
#include "daemon/session_raw.h"
#include "util/cleanup.h"

/* ---- the reply */

/* A worker needs a file: only the collector may open it. */
static void session_on_need(struct worker_job *job, const struct worker_message *need, void *userdata)
{
    struct session *s = userdata;
    struct collector_message m = {.type = COLLECTOR_FILE, .u.file = *need};

    if (debuginfod_asker_need(&s->debuginfod, job, need))
        return;
    if (!s->collector || child_send(s->collector, &m, sizeof(m), NULL, 0) < 0)
        worker_job_file(job, -ESRCH, -1);
    else
        child_set_deadline(s->collector, SESSION_ANSWER_DEADLINE_NS);
}

static void session_reply_headers(struct session *s, const struct worker_result *result)
{
    char text[64];
    const struct {
        const char *name;
        uint64_t value;
    } counts[] = {{"Cprofd-Samples", result->body.samples}, {"Cprofd-Rooted", result->body.rooted}, {"Cprofd-Lost", result->body.lost}};

    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        (void)snprintf(text, sizeof(text), "%llu", (unsigned long long)counts[i].value);
        http_reply_header(s->request, counts[i].name, text);
    }
}

/* Whatever the profile's own comments count, operators see over all profiles. */
static void session_count(const struct session *s)
{
    const struct session_ctl *ctl = recorder_ctl(s->recorder);
    struct recorder_data data;

    recorder_data(s->recorder, &data);
    metrics_add_samples(s->kind, ctl->samples);
    metrics_add_lost(s->kind, "ring", ctl->lost_ring);
    metrics_add_lost(s->kind, "nested", ctl->lost_nested);
    metrics_add_lost(s->kind, "memory", data.lost_memory);
    if (s->params.event == EVENT_CPU_CLOCK)
        metrics_add_lost(s->kind, "late", ctl->late_weight / ctl->weight);
}

static void session_on_rendered(struct worker_job *job, const struct worker_result *result, void *userdata)
{
    struct session *s = userdata;

    s->job = NULL;
    if (result->more)
        afterwork_begin(job, TAKE_PTR(s->collector), &s->debuginfod);
    debuginfod_asker_deinit(&s->debuginfod);
    if (result->error) {
        session_error(s, 503, result->message);
        return;
    }
    session_reply_headers(s, result);
    const char *type = "application/octet-stream";
    if (s->params.format == RAW_FORMAT_FOLDED)
        type = "text/plain; charset=utf-8";
    else if (s->params.format == RAW_FORMAT_QUALITY)
        type = "application/json";
    else
        http_reply_header(s->request, "Content-Disposition", "attachment; filename=\"profile\"");
    session_count(s);
    http_reply_fd(s->request, 200, type, result->body_fd, result->body.offset, result->body.len);
    session_over(s, 200, s->ended ? s->ended : "done");
}

void session_render(struct session *s)
{
    static const struct worker_job_ops ops = {.need = session_on_need, .done = session_on_rendered};
    struct session_facts facts = {
        .pid = s->pid, .time_ns = (int64_t)s->time_ns, .window_ns = s->window_ns, .cpu_actual_ns = s->cpu_actual_ns,
        .cpu_actual_known = s->cpu_known, .daemon_cpu_ns = s->daemon_cpu_ns + s->unwind.cpu_ns, .ended = s->ended, .mappings = s->mappings,
        .target = s->exited ? "exited" : s->execed ? "execed" : NULL, .access = &s->access, .unwind = &s->unwind,
        .thin = s->spent.thin,
    };
    char message[128];

    facts.end_ns = recorder_ctl(s->recorder)->opened_ns + s->window_ns;
    s->phase = PHASE_RENDERING;
    if (s->collector) {
        child_set_deadline(s->collector, 0);
        facts.daemon_cpu_ns += child_cpu_ns(s->collector);
    }
    int raw_fd = session_raw(s->recorder, &s->params, &facts, s->table_fd);
    if (raw_fd < 0) {
        (void)snprintf(message, sizeof(message), "the samples could not be put together: %s", strerror(-raw_fd));
        session_error(s, 503, message);
        return;
    }
    debuginfod_asker_init(&s->debuginfod, s->server->debuginfod);
    struct worker_due due = {
        .key = reply_key(&s->target), .deadline_ns = reply_due_ns(s->request_ns, s->params.duration_ns, s->end_ns)};
    s->job = worker_pool_render(s->server->pool, raw_fd, &due, &ops, s);
    if (!s->job)
        session_error(s, 503, "too much to do: no worker is free to render the profile");
}
