/* From a target that may be profiled to events that tick: the places of probes, then the recorder. Owns nothing: the session does. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/notices.h"
#include "daemon/server.h"
#include "daemon/session_impl.h"
#include "symbolize/symbolizer.h"
#include "util/cleanup.h"

/* ---- the recorder */

static void session_recheck(struct session *s)
{
    struct collector_message m = {.type = COLLECTOR_RECHECK};

    s->phase = PHASE_RECHECKING;
    if (!s->collector || child_send(s->collector, &m, sizeof(m), NULL, 0) < 0) {
        session_error(s, 503, "the process does not let itself be looked at a second time");
        return;
    }
    child_set_deadline(s->collector, SESSION_ANSWER_DEADLINE_NS);
}

/* The check comes last: what it finds must still be so when the window opens. */
static void session_on_recorder_ready(struct recorder *r, void *userdata)
{
    struct session *s = userdata;

    s->attached = true;
    if (session_unwind_is_ready(s))
        session_recheck(s);
}

void session_unwind_ready(struct session *s)
{
    if (s->attached && s->phase == PHASE_ATTACHING)
        session_recheck(s);
}

static void session_on_recorder_failed(struct recorder *r, int status, const char *message, void *userdata)
{
    session_error(userdata, status, message);
}

static void session_on_drained(struct recorder *r, void *userdata)
{
    struct session *s = userdata;

    s->drained = true;
    if (s->tabled)
        session_render(s);
}

static void session_on_recorder_notice(struct recorder *r, const struct session_notice *notice, void *userdata)
{
    session_notice(userdata, notice);
}

static int session_watch(struct session *s)
{
    if (s->params.unwind == SESSION_UNWIND_COPY)
        return 0; /* the recorder tells by itself */
    struct sampler *sampler = &s->server->sampler;
    int r = notices_watch(s->server->notices);
    if (r < 0)
        return r;
    r = sampler_target_add(sampler, s->slot);
    if (r < 0) {
        notices_unwatch(s->server->notices);
        return r;
    }
    s->watching = true;
    return 0;
}

void session_attach(struct session *s, const struct probe_place *places, size_t n_places)
{
    static const struct recorder_ops ops = {
        .ready = session_on_recorder_ready, .failed = session_on_recorder_failed, .notice = session_on_recorder_notice,
        .drained = session_on_drained,
    };
    struct recorder_config config = {
        .slot = s->slot, .pid = s->pid, .params = &s->params, .probe_fd = TAKE_FD(s->probe_fd), .places = places, .n_places = n_places,
    };

    s->phase = PHASE_ATTACHING;
    int r = recorder_new(s->server->base, &s->server->sampler, &config, &ops, s, &s->recorder);
    if (r == 0)
        r = session_watch(s);
    if (r < 0) {
        char message[128];
        (void)snprintf(message, sizeof(message), "the session could not be started: %s", strerror(-r));
        session_error(s, 503, message);
        return;
    }
    session_unwind_publish(s);
}

/* ---- places of probes */

static void session_on_places(struct worker_job *job, const struct worker_result *result, void *userdata)
{
    struct session *s = userdata;
    struct usdt_site sites[256];
    struct probe_place places[256];
    char message[1024];

    s->job = NULL;
    if (result->error) {
        (void)snprintf(message, sizeof(message), "event %.300s: %s", s->params.event_text, result->message);
        session_error(s, 400, message);
        return;
    }
    ssize_t len = pread(result->body_fd, sites, sizeof(sites), 0);
    if (len <= 0) {
        session_error(s, 503, "the places of the probe could not be read");
        return;
    }
    if (result->body.len > sizeof(sites)) {
        (void)snprintf(message, sizeof(message), "event %.300s: it has more than %zu places", s->params.event_text,
                       sizeof(sites) / sizeof(sites[0]));
        session_error(s, 400, message);
        return;
    }
    size_t n = (size_t)len / sizeof(sites[0]);
    for (size_t i = 0; i < n; i++)
        places[i] = (struct probe_place){sites[i].file_offset, sites[i].semaphore_file_offset};
    session_attach(s, places, n);
}

/* The probed file has come from the collector. */
void session_find_places(struct session *s, int error, int fd)
{
    static const struct worker_job_ops ops = {.done = session_on_places};
    struct worker_probe probe = {.usdt = s->params.event == EVENT_USDT, .offset = s->params.symbol_offset};
    char message[512];

    (void)snprintf(probe.symbol, sizeof(probe.symbol), "%s", s->params.symbol);
    if (error < 0) {
        (void)snprintf(message, sizeof(message), "event %.300s: the process's file can't be opened: %s",
                       s->params.event_text, strerror(-error));
        session_error(s, 400, message);
        return;
    }
    s->probe_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    s->job = worker_pool_probe(s->server->pool, fd, &probe, &ops, s);
    if (!s->job || s->probe_fd < 0)
        session_error(s, 503, "too much to do: no worker is free to look for the probe's place");
}

void session_ask_probe_file(struct session *s)
{
    struct collector_message m = {.type = COLLECTOR_FILE, .u.file = {.type = WORKER_NEED}};

    s->phase = PHASE_PLACING;
    m.u.file.u.need.kind = WORKER_FILE_PATH;
    (void)snprintf(m.u.file.u.need.name, sizeof(m.u.file.u.need.name), "%s", s->params.object);
    (void)child_send(s->collector, &m, sizeof(m), NULL, 0); /* where it is gone, its end is told */
    child_set_deadline(s->collector, SESSION_ANSWER_DEADLINE_NS);
}
