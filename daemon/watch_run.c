/* One run of a watch: a recording, from its beginning until it is retired and the last reader has gone. Owns the recording. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/audit.h"
#include "daemon/collector.h"
#include "daemon/kind.h"
#include "daemon/metrics.h"
#include "daemon/recorder.h"
#include "daemon/recording.h"
#include "daemon/server.h"
#include "daemon/watch_impl.h"
#include "util/clock.h"

/* ---- the end */

void watch_run_account(struct watch_run *run)
{
    if (run->since_ns == 0)
        return;
    const struct session_ctl *ctl = recorder_ctl(recording_recorder(run->recording));
    uint64_t samples = ctl->samples, lost = ctl->lost_ring + ctl->lost_table + ctl->lost_nested;

    metrics_add_samples(kind_metric(run->wish.kind), samples - run->counted);
    metrics_add_lost(kind_metric(run->wish.kind), "watch", lost - run->counted_lost);
    run->counted = samples;
    run->counted_lost = lost;
}

static void watch_run_free(struct watch_run *run)
{
    watch_run_account(run);
    TAILQ_REMOVE(&run->watches->runs, run, link);
    recording_free(run->recording);
    free(run->place);
    free(run->rule);
    free(run);
}

static void watch_run_free_if_over(struct watch_run *run)
{
    if (run->over && !run->watch && !run->aside && run->n_holds == 0)
        watch_run_free(run);
}

void watch_run_retire(struct watch_run *run, const char *how)
{
    run->watch = NULL;
    run->aside = false;
    run->how = how;
    run->told = NULL;
    run->over = run->over || run->since_ns == 0; /* what never was open has nothing to read out */
    if (!run->over)
        recording_close(run->recording);
    else
        watch_run_free_if_over(run);
}

void watch_run_hold(struct watch_run *run)
{
    run->n_holds++;
}

void watch_run_let_go(struct watch_run *run)
{
    run->n_holds--;
    watch_run_free_if_over(run);
}

/* Its line in the audit log. */
static void watch_run_audit(const struct watch_run *run, int status, const char *how)
{
    uint64_t now_ns = realtime_ns(), since_ns = run->since_ns;

    audit_watch(&run->asker, recording_target(run->recording), run->pid, run->wish.kind->name, run->rule,
                since_ns && now_ns > since_ns ? now_ns - since_ns : 0, status, how);
}

void watch_run_stop(struct watch_run *run)
{
    if (!run->over && recording_is_open(run->recording))
        watch_run_audit(run, 200, "the daemon is stopping");
    watch_run_free(run);
}

/* ---- what becomes of the recording */

static void watch_run_tell(struct watch_run *run, int status, const char *message)
{
    watch_told told = run->told;

    run->told = NULL;
    if (told)
        told(run, status, message, run->told_userdata);
}

/* What is told of it frees it. */
static void watch_run_fail(struct watch_run *run, int status, const char *message)
{
    run->over = true;
    watch_run_audit(run, status, message);
    if (run->told)
        watch_run_tell(run, status, message);
    else if (run->watch)
        watch_run_ended(run->watch, message, false);
    else
        watch_run_free_if_over(run);
}

static void watch_run_on_ready(struct recording *rec, void *userdata)
{
    struct watch_run *run = userdata;

    if (recording_open(rec) < 0) {
        watch_run_fail(run, 404, "no such process: it ended before watching began");
        return;
    }
    run->since_ns = realtime_ns();
    watch_run_tell(run, 0, NULL);
}

static void watch_run_on_failed(struct recording *rec, int status, const char *message, void *userdata)
{
    watch_run_fail(userdata, status, message);
}

static void watch_run_on_closed(struct recording *rec, void *userdata)
{
    struct watch_run *run = userdata;
    const char *how = run->how ? run->how : recording_ended(rec) ? recording_ended(rec) : "the process ended";

    watch_run_audit(run, 200, how);
    if (run->watch)
        watch_run_ended(run->watch, how, !recording_is_lost(rec));
}

static void watch_run_on_done(struct recording *rec, void *userdata)
{
    struct watch_run *run = userdata;

    run->over = true;
    watch_run_free_if_over(run);
}

/* ---- the beginning */

int watch_run_new(struct watches *ws, const struct watch_order *order, watch_told told, void *userdata, struct watch_run **ret,
                  char *message, size_t message_len)
{
    static const struct recording_ops ops = {
        .ready = watch_run_on_ready, .failed = watch_run_on_failed, .closed = watch_run_on_closed, .done = watch_run_on_done,
    };
    struct recording_config config = {.asker = order->asker, .pid = order->pid, .watch = true};
    struct watch_run *run = calloc(1, sizeof(*run));
    char *rule = order->rule ? strdup(order->rule) : NULL;

    if (!run || (order->rule && !rule)) {
        (void)snprintf(message, message_len, "no memory for another watch");
        free(run);
        free(rule);
        return 503;
    }
    *run = (struct watch_run){.watches = ws, .asker = *order->asker, .rule = rule, .pid = order->pid, .wish = *order->wish, .told = told,
                              .told_userdata = userdata};
    config.params = &run->wish.params;
    int status = recording_new(ws->server, &config, &ops, run, &run->recording, message, message_len);
    if (status) {
        audit_watch(order->asker, NULL, order->pid, order->wish->kind->name, order->rule, 0, status, message);
        free(run->rule);
        free(run);
        return status;
    }
    TAILQ_INSERT_TAIL(&ws->runs, run, link);
    *ret = run;
    return 0;
}

/* ---- for readers */

struct watches *watch_run_watches(const struct watch_run *run)
{
    return run->watches;
}

pid_t watch_run_pid(const struct watch_run *run)
{
    return run->pid;
}

const struct watch_wish *watch_run_wish(const struct watch_run *run)
{
    return &run->wish;
}

struct recording *watch_run_recording(const struct watch_run *run)
{
    return run->recording;
}

uint64_t watch_run_since_ns(const struct watch_run *run)
{
    return run->since_ns;
}

const char *watch_run_anew(const struct watch_run *run)
{
    return run->anew[0] ? run->anew : NULL;
}
