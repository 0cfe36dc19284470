/* From a target that may be profiled, and the places of its probes, to events that tick. Owns nothing: the recording does. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bpf/sched.h"
#include "daemon/notices.h"
#include "daemon/recording_impl.h"
#include "daemon/scheduler.h"
#include "daemon/server.h"
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

static bool recording_waits_for_sched(const struct recording *rec)
{
    return rec->sched == RECORDING_SCHED_DUE || rec->sched == RECORDING_SCHED_ASKED;
}

static void recording_on_recorder_ready(struct recorder *r, void *userdata)
{
    struct recording *rec = userdata;

    rec->attached = true;
    if (recording_unwind_is_ready(rec) && !recording_waits_for_sched(rec))
        recording_prepare(rec);
}

void recording_unwind_ready(struct recording *rec)
{
    if (rec->attached && rec->phase == PHASE_ATTACHING && !recording_waits_for_sched(rec))
        recording_prepare(rec);
}

void recording_sched_ready(struct recording *rec)
{
    int r = sched_add(&rec->server->sampler, rec->slot);

    rec->sched = RECORDING_SCHED_THERE;
    if (r < 0)
        recording_fail(rec, 503, "the scheduler's events can't be had");
    else if (rec->attached && rec->phase == PHASE_ATTACHING && recording_unwind_is_ready(rec))
        recording_prepare(rec);
}

static void recording_on_recorder_failed(struct recorder *r, int status, const char *message, void *userdata)
{
    recording_fail(userdata, status, message);
}

/* A window ends with what there is; a watch begins anew. */
static void recording_on_recorder_lost(struct recorder *r, const char *why, void *userdata)
{
    struct recording *rec = userdata;

    if (rec->phase != PHASE_OPEN) {
        recording_fail(rec, 503, why);
        return;
    }
    rec->lost = true;
    rec->ended = why;
    recording_close(rec);
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

static void recording_on_recorder_more(struct recorder *r, int error, void *userdata)
{
    recording_late_on_probed(userdata, error);
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
    return rec->params.sched_kind == SCHED_NONE ? 0 : scheduler_use(rec->server->scheduler, rec);
}

void recording_attach(struct recording *rec, const struct probe_place *places, size_t n_places)
{
    static const struct recorder_ops ops = {
        .ready = recording_on_recorder_ready, .prepared = recording_on_recorder_prepared, .failed = recording_on_recorder_failed,
        .notice = recording_on_recorder_notice, .lost = recording_on_recorder_lost,
        .more = recording_on_recorder_more, .drained = recording_on_drained,
    };
    struct recorder_config config = {
        .slot = rec->slot, .pid = rec->pid, .standing = rec->watch, .params = &rec->params,
        .probe_fd = TAKE_FD(rec->probe_fd), .places = places, .n_places = n_places,
        .at_entry = rec->probe.at_entry, .stepped = rec->custom ? rec->custom->stepped : rec->probe.stepped,
        .files = rec->places.files, .n_files = rec->places.n_files,
    };

    rec->phase = PHASE_ATTACHING;
    rec->late.n_attached = rec->places.n_files;
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
