/* Where a probe goes: the collector opens the file as the target sees it, a worker finds the places in it. Owns nothing
 * beyond the session's own job and descriptor. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/child.h"
#include "daemon/recorder.h"
#include "daemon/server.h"
#include "daemon/session_internal.h"
#include "daemon/worker_pool.h"
#include "symbolize/symbolizer.h"

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
    if (len <= 0 || result->len > sizeof(sites)) {
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
    s->probe_fd = dup(fd);
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
    child_set_deadline(s->collector, SESSION_CHECK_DEADLINE_NS);
}
