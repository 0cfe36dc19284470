/* From a target that may be profiled to events that tick: the places of probes, then the recorder. Owns nothing: the recording does. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bpf/sched.h"
#include "daemon/notices.h"
#include "daemon/recording_impl.h"
#include "daemon/server.h"
#include "symbolize/symbolizer.h"
#include "util/cleanup.h"

/* ---- the recorder */

static void recording_recheck(struct recording *rec)
{
    struct collector_message m = {.type = COLLECTOR_RECHECK};

    rec->phase = PHASE_RECHECKING;
    if (!rec->collector || child_send(rec->collector, &m, sizeof(m), NULL, 0) < 0) {
        recording_fail(rec, 503, "the process does not let itself be looked at a second time");
        return;
    }
    child_set_deadline(rec->collector, RECORDING_ANSWER_DEADLINE_NS);
}

static void recording_on_recorder_prepared(struct recorder *r, void *userdata)
{
    recording_recheck(userdata);
}

/* The check comes last: what it finds must still be so when the window opens. */
static void recording_prepare(struct recording *rec)
{
    rec->phase = PHASE_PREPARING;
    if (recorder_prepare(rec->recorder))
        recording_recheck(rec);
}

static void recording_on_recorder_ready(struct recorder *r, void *userdata)
{
    struct recording *rec = userdata;

    rec->attached = true;
    if (recording_unwind_is_ready(rec))
        recording_prepare(rec);
}

void recording_unwind_ready(struct recording *rec)
{
    if (rec->attached && rec->phase == PHASE_ATTACHING)
        recording_prepare(rec);
}

static void recording_on_recorder_failed(struct recorder *r, int status, const char *message, void *userdata)
{
    recording_fail(userdata, status, message);
}

static void recording_on_drained(struct recorder *r, void *userdata)
{
    struct recording *rec = userdata;

    rec->drained = true;
    recording_check_done(rec);
}

static void recording_on_recorder_notice(struct recorder *r, const struct session_notice *notice, void *userdata)
{
    recording_notice(userdata, notice);
}

static int recording_be_noticed(struct recording *rec)
{
    if (rec->params.unwind == SESSION_UNWIND_COPY)
        return 0; /* the recorder tells by itself */
    struct sampler *sampler = &rec->server->sampler;
    int r = notices_watch(rec->server->notices);
    if (r < 0)
        return r;
    r = sampler_target_add(sampler, rec->slot);
    if (r < 0) {
        notices_unwatch(rec->server->notices);
        return r;
    }
    rec->noticed = true;
    return sched_add(sampler, rec->slot);
}

void recording_attach(struct recording *rec, const struct probe_place *places, size_t n_places)
{
    static const struct recorder_ops ops = {
        .ready = recording_on_recorder_ready, .prepared = recording_on_recorder_prepared, .failed = recording_on_recorder_failed,
        .notice = recording_on_recorder_notice,
        .drained = recording_on_drained,
    };
    struct recorder_config config = {
        .slot = rec->slot, .pid = rec->pid, .standing = rec->watch, .params = &rec->params,
        .probe_fd = TAKE_FD(rec->probe_fd), .places = places, .n_places = n_places,
    };

    rec->phase = PHASE_ATTACHING;
    int r = recorder_new(rec->server->base, &rec->server->sampler, &config, &ops, rec, &rec->recorder);
    if (r == 0)
        r = recording_be_noticed(rec);
    if (r < 0) {
        char message[128];
        (void)snprintf(message, sizeof(message), "the session could not be started: %s", strerror(-r));
        recording_fail(rec, 503, message);
        return;
    }
    recording_unwind_publish(rec);
}

/* ---- places of probes */

static void recording_on_places(struct worker_job *job, const struct worker_result *result, void *userdata)
{
    struct recording *rec = userdata;
    struct usdt_site sites[256];
    struct probe_place places[256];
    char message[1024];

    rec->placing = NULL;
    if (result->error) {
        (void)snprintf(message, sizeof(message), "event %.300s: %s", rec->params.event_text, result->message);
        recording_fail(rec, 400, message);
        return;
    }
    ssize_t len = pread(result->body_fd, sites, sizeof(sites), 0);
    if (len <= 0) {
        recording_fail(rec, 503, "the places of the probe could not be read");
        return;
    }
    if (result->body.len > sizeof(sites)) {
        (void)snprintf(message, sizeof(message), "event %.300s: it has more than %zu places", rec->params.event_text,
                       sizeof(sites) / sizeof(sites[0]));
        recording_fail(rec, 400, message);
        return;
    }
    size_t n = (size_t)len / sizeof(sites[0]);
    for (size_t i = 0; i < n; i++)
        places[i] = (struct probe_place){sites[i].file_offset, sites[i].semaphore_file_offset};
    recording_attach(rec, places, n);
}

/* The probed file has come from the collector. */
void recording_find_places(struct recording *rec, int error, int fd)
{
    static const struct worker_job_ops ops = {.done = recording_on_places};
    struct worker_probe probe = {.usdt = rec->params.event == EVENT_USDT, .offset = rec->params.symbol_offset};
    char message[512];

    (void)snprintf(probe.symbol, sizeof(probe.symbol), "%s", rec->params.symbol);
    if (error < 0) {
        (void)snprintf(message, sizeof(message), "event %.300s: the process's file can't be opened: %s",
                       rec->params.event_text, strerror(-error));
        recording_fail(rec, 400, message);
        return;
    }
    rec->probe_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    rec->placing = worker_pool_probe(rec->server->pool, fd, &probe, &ops, rec);
    if (!rec->placing || rec->probe_fd < 0)
        recording_fail(rec, 503, "too much to do: no worker is free to look for the probe's place");
}

void recording_ask_probe_file(struct recording *rec)
{
    struct collector_message m = {.type = COLLECTOR_FILE, .u.file = {.type = WORKER_NEED}};

    rec->phase = PHASE_PLACING;
    m.u.file.u.need.kind = WORKER_FILE_PATH;
    (void)snprintf(m.u.file.u.need.name, sizeof(m.u.file.u.need.name), "%s", rec->params.object);
    (void)child_send(rec->collector, &m, sizeof(m), NULL, 0); /* where it is gone, its end is told */
    child_set_deadline(rec->collector, RECORDING_ANSWER_DEADLINE_NS);
}
