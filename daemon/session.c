/* The life of a session. Owns its recording, view, job and timer; borrows the request until the reply. Each step ends in a callback that
 * begins the next; whatever goes wrong ends in session_error. */
#include "daemon/session_impl.h"

#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>

#include "daemon/asker.h"
#include "daemon/audit.h"
#include "daemon/collector.h"
#include "daemon/http.h"
#include "daemon/server.h"
#include "daemon/watch.h"
#include "util/clock.h"

static LIST_HEAD(sessions, session) sessions = LIST_HEAD_INITIALIZER(sessions);

const struct recording *session_recording(const struct session *s)
{
    return s->reading.run ? watch_run_recording(s->reading.run) : s->recording;
}

const struct collector_target *session_target(const struct session *s)
{
    return s->recording ? recording_target(s->recording) : &s->reading.target;
}

/* ---- the end */

/* Without a word. */
static void session_free(struct session *s)
{
    LIST_REMOVE(s, link);
    worker_job_cancel(s->job);
    debuginfod_asker_deinit(&s->debuginfod);
    recording_view_free(s->view);
    recording_free(s->recording);
    session_reading_deinit(s);
    if (s->timer)
        event_free(s->timer);
    free(s);
}

void session_over(struct session *s, int status, const char *how)
{
    const struct collector_target *target = session_target(s);

    audit_session(&s->asker, s->pid, target->comm, target->uid, s->kind, &s->params, status, how);
    session_free(s);
}

void session_error(struct session *s, int status, const char *message)
{
    if (status == 429)
        http_reply_header(s->request, "Retry-After", "10");
    http_reply_error(s->request, status, "%s", message);
    session_over(s, status, message);
}

static void session_on_gone(struct http_request *request, void *userdata)
{
    session_over(userdata, 499, "the client went away");
}

/* ---- the window */

static void session_on_timer(evutil_socket_t fd, short what, void *arg)
{
    struct session *s = arg;
    recording_close(s->recording);
}

static void session_on_ready(struct recording *rec, void *userdata)
{
    struct session *s = userdata;
    struct timeval window = {(time_t)(s->params.duration_ns / NSEC_PER_SEC),
                             (suseconds_t)(s->params.duration_ns % NSEC_PER_SEC / 1000)};

    if (event_add(s->timer, &window) < 0 || recording_open(rec) < 0)
        session_error(s, 404, "no such process: it ended before sampling began");
}

static void session_on_failed(struct recording *rec, int status, const char *message, void *userdata)
{
    session_error(userdata, status, message);
}

static void session_on_closed(struct recording *rec, void *userdata)
{
    struct session *s = userdata;
    (void)event_del(s->timer);
}

static void session_on_done(struct recording *rec, void *userdata)
{
    struct session *s = userdata;

    s->view = recording_view_new(rec, &session_view_ops, s);
    if (!s->view)
        session_error(s, 503, "no memory for the profile");
    else
        session_render(s, -1);
}

/* ---- the beginning */

/* 0, or an HTTP status and a message. */
static int session_record(struct session *s, char *message, size_t message_len)
{
    static const struct recording_ops ops = {
        .ready = session_on_ready, .failed = session_on_failed, .closed = session_on_closed, .done = session_on_done,
    };
    const struct recording_config config = {.asker = &s->asker, .pid = s->pid, .params = &s->params};
    int status = recording_new(s->server, &config, &ops, s, &s->recording, message, message_len);

    if (status == 0)
        s->params.unwind = recording_params(s->recording)->unwind;
    return status;
}

struct session *session_new(struct server *server, struct http_request *request, pid_t pid, const struct session_params *params, const char *kind,
                            void (*on_timer)(int fd, short what, void *arg))
{
    struct session *s = calloc(1, sizeof(*s));

    if (s) {
        *s = (struct session){.server = server, .request = request, .asker = *http_request_asker(request), .params = *params, .pid = pid,
                              .reading = {.target.uid = AUDIT_NO_UID, .table_fd = -1}, .request_ns = monotonic_ns()};
        (void)snprintf(s->kind, sizeof(s->kind), "%s", kind);
        s->timer = evtimer_new(server->base, on_timer, s);
    }
    if (!s || !s->timer) {
        http_reply_error(request, 503, "no memory for another session");
        free(s);
        return NULL;
    }
    LIST_INSERT_HEAD(&sessions, s, link);
    http_request_on_gone(request, session_on_gone, s);
    return s;
}

void session_start(struct server *server, struct http_request *request, pid_t pid, const struct session_params *params,
                   const char *kind)
{
    char message[2048];
    struct session *s = session_new(server, request, pid, params, kind, session_on_timer);

    if (!s)
        return;
    int status = session_record(s, message, sizeof(message));
    if (status)
        session_error(s, status, message);
}

void session_stop_all(void)
{
    struct session *s;

    while ((s = LIST_FIRST(&sessions)))
        session_error(s, 503, "the daemon is stopping");
}
