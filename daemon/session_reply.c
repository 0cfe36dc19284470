/* From a closed window to the reply: the raw profile, the worker, the headers. Owns nothing: the session does. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/afterwork.h"
#include "daemon/http.h"
#include "daemon/metrics.h"
#include "daemon/raw_profile.h"
#include "daemon/recorder.h"
#include "daemon/reply_due.h"
#include "daemon/server.h"
#include "daemon/session_impl.h"
#include "daemon/watch.h"
#include "util/clock.h"

/* ---- the reply */

/* A worker needs a file: only the collector may open it. */
static void session_on_need(struct worker_job *job, const struct worker_message *need, void *userdata)
{
    struct session *s = userdata;

    if (debuginfod_asker_need(&s->debuginfod, job, need))
        return;
    int r = recording_view_ask_file(s->view, need);
    if (r < 0)
        worker_job_file(job, r, -1);
}

static void session_on_file(void *userdata, int error, int fd)
{
    struct session *s = userdata;

    if (s->job)
        worker_job_file(s->job, error, fd);
    else if (fd >= 0)
        (void)close(fd);
}

const struct recording_view_ops session_view_ops = {.table = session_read_on_table, .file = session_on_file};

static void session_reply_headers(struct session *s, const struct worker_result *result)
{
    char text[64];
    const struct {
        const char *name;
        uint64_t value;
        bool for_traces;
    } counts[] = {
        {"Cprofd-Samples", result->body.samples, false}, {"Cprofd-Rooted", result->body.rooted, false},
        {"Cprofd-Lost", result->body.lost, false}, {"Cprofd-Repaired", result->body.repaired, true},
    };

    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        if (counts[i].for_traces && !raw_format_is_trace(s->params.format))
            continue;
        (void)snprintf(text, sizeof(text), "%llu", (unsigned long long)counts[i].value);
        http_reply_header(s->request, counts[i].name, text);
    }
}

/* A declared profile's name is the target's: its other characters than these are none that a file's name should have. */
static void session_reply_filename(struct session *s)
{
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-";
    char text[CUSTOM_NAME_LEN + 32], name[CUSTOM_NAME_LEN];

    (void)snprintf(name, sizeof(name), "%s", s->params.custom.name[0] ? s->params.custom.name : s->kind);
    for (char *c = name; *c; c++)
        *c = strchr(plain, *c) ? *c : '_';
    (void)snprintf(text, sizeof(text), "attachment; filename=\"%s%s\"", name, s->params.delta ? "-delta" : "");
    http_reply_header(s->request, "Content-Disposition", text);
}

/* Whatever the profile's own comments count, operators see over all profiles. */
static void session_count(const struct session *s)
{
    if (s->reading.run) { /* others read the same counts */
        watch_run_account(s->reading.run);
        return;
    }
    const struct recorder *recorder = recording_recorder(session_recording(s));
    const struct session_ctl *ctl = recorder_ctl(recorder);
    struct recorder_data data;

    recorder_data(recorder, &data);
    metrics_add_samples(s->kind, ctl->samples);
    metrics_add_lost(s->kind, "ring", ctl->lost_ring);
    metrics_add_lost(s->kind, "nested", ctl->lost_nested);
    metrics_add_lost(s->kind, "memory", data.lost_memory);
    if (s->params.event == EVENT_CPU_CLOCK)
        metrics_add_lost(s->kind, "late", ctl->late_weight / ctl->weight);
}

/* Its type; a profile gets its file's name. */
static const char *session_content_type(struct session *s)
{
    if (s->params.format == RAW_FORMAT_FOLDED || s->params.format == RAW_FORMAT_COUNTS || s->params.format == RAW_FORMAT_STACKS)
        return "text/plain; charset=utf-8";
    if (s->params.format == RAW_FORMAT_QUALITY || s->params.format == RAW_FORMAT_TRACE_CHROME)
        return "application/json";
    session_reply_filename(s);
    return "application/octet-stream";
}

static void session_on_rendered(struct worker_job *job, const struct worker_result *result, void *userdata)
{
    struct session *s = userdata;

    s->job = NULL;
    if (result->more && s->reading.run)
        afterwork_begin_watch(job, s->reading.run, &s->debuginfod);
    else if (result->more)
        afterwork_begin(job, recording_view_take_collector(s->view), &s->debuginfod);
    debuginfod_asker_deinit(&s->debuginfod);
    if (result->error) {
        session_error(s, 503, result->message);
        return;
    }
    session_reply_headers(s, result);
    const char *type = session_content_type(s), *ended = recording_ended(session_recording(s));
    session_count(s);
    http_reply_fd(s->request, 200, type, result->body_fd, result->body.offset, result->body.len);
    session_over(s, 200, ended ? ended : "done");
}

void session_render(struct session *s, int table_fd)
{
    static const struct worker_job_ops ops = {.need = session_on_need, .done = session_on_rendered};
    char message[128];
    const struct recording_reading reading = {
        .access = s->reading.run ? &s->reading.access : NULL, .since_ns = s->reading.run ? watch_run_since_ns(s->reading.run) : 0,
        .anew = s->reading.run ? watch_run_anew(s->reading.run) : NULL, .table_fd = table_fd,
    };
    uint64_t end_ns = recording_is_open(session_recording(s)) ? monotonic_ns() : recording_end_ns(session_recording(s));
    int raw_fd = recording_view_raw(s->view, &s->params, &reading);

    if (raw_fd < 0) {
        (void)snprintf(message, sizeof(message), "the samples could not be put together: %s", strerror(-raw_fd));
        session_error(s, 503, message);
        return;
    }
    debuginfod_asker_init(&s->debuginfod, s->server->debuginfod);
    struct worker_due due = {.key = reply_key(session_target(s)), .deadline_ns = reply_due_ns(s->request_ns, s->params.duration_ns, end_ns)};
    s->job = worker_pool_render(s->server->pool, raw_fd, &due, &ops, s);
    if (!s->job)
        session_error(s, 503, "too much to do: no worker is free to render the profile");
}
