/* The states of a session. Owns its collector, recorder, job, timer and descriptors; borrows the request until the reply.
 * Each step ends in a callback that begins the next; whatever goes wrong ends in session_error. */
#include "daemon/session.h"

#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/audit.h"
#include "daemon/child.h"
#include "daemon/collector.h"
#include "daemon/cpu_clock.h"
#include "daemon/http.h"
#include "daemon/quota.h"
#include "daemon/log.h"
#include "daemon/metrics.h"
#include "daemon/raw_profile.h"
#include "daemon/recorder.h"
#include "daemon/server.h"
#include "daemon/session_internal.h"
#include "daemon/session_raw.h"
#include "daemon/worker_pool.h"
#include "util/cleanup.h"
#include "util/clock.h"

static void session_render(struct session *s);

/* ---- the end */

static void session_deregister(struct session *s)
{
    s->server->sessions[s->slot] = NULL;
    if (!s->watching)
        return;
    sampler_target_remove(&s->server->sampler, s->slot);
    sampler_unwatch(&s->server->sampler);
}

static void session_free(struct session *s)
{
    session_deregister(s);
    child_kill(s->collector);
    recorder_free(s->recorder);
    worker_job_cancel(s->job);
    if (s->timer)
        event_free(s->timer);
    close_fd(&s->table_fd);
    close_fd(&s->probe_fd);
    free(s);
}

/* How it ended, for the audit log and the counters; then it is gone. */
static void session_over(struct session *s, int status, const char *how)
{
    audit_session(&s->asker, s->pid, s->target.comm, s->target.uid, s->kind, &s->params, status, how);
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

static void session_finish_collector(struct session *s)
{
    struct collector_message m = {.type = COLLECTOR_FINISH};

    if (s->collector && child_send(s->collector, &m, sizeof(m), NULL, 0) == 0) {
        child_set_deadline(s->collector, SESSION_FINISH_DEADLINE_NS);
        return;
    }
    s->tabled = true;
}

/* The run time in the window: by the CPU clock, or where the process is gone by what it had used at its end. */
static void session_read_cpu(struct session *s)
{
    uint64_t now_ns;

    if (s->runtime_ns)
        now_ns = s->runtime_ns;
    else if (process_cpu_ns(s->pid, &now_ns) < 0)
        return;
    s->cpu_known = true;
    s->cpu_actual_ns = now_ns > s->cpu_open_ns ? now_ns - s->cpu_open_ns : 0;
}

static void session_close(struct session *s)
{
    const struct session_ctl *ctl = recorder_ctl(s->recorder);

    if (s->phase != PHASE_OPEN)
        return;
    recorder_close(s->recorder);
    s->window_ns = (ctl->closed_ns ? ctl->closed_ns : monotonic_ns()) - ctl->opened_ns;
    session_read_cpu(s);
    s->phase = PHASE_CLOSING;
    event_del(s->timer);
    recorder_end(s->recorder);
    session_finish_collector(s);
}

static void session_on_timer(evutil_socket_t fd, short what, void *arg)
{
    session_close(arg);
}

static void session_open(struct session *s)
{
    struct timeval window = {(time_t)(s->params.duration_ns / NSEC_PER_SEC),
                             (suseconds_t)(s->params.duration_ns % NSEC_PER_SEC / 1000)};

    s->phase = PHASE_OPEN;
    s->time_ns = realtime_ns();
    if (process_cpu_ns(s->pid, &s->cpu_open_ns) < 0 || event_add(s->timer, &window) < 0) {
        session_error(s, 404, "no such process: it ended before sampling began");
        return;
    }
    recorder_open(s->recorder);
    if (s->exited)
        session_close(s);
}

void session_notice(struct session *s, const struct session_notice *notice)
{
    struct collector_message m = {.type = COLLECTOR_EPOCH, .u.epoch = {notice->epoch, notice->type == NOTICE_EXEC}};

    if (notice->type == NOTICE_EXIT) {
        s->exited = true;
        s->runtime_ns = notice->runtime_ns;
        session_close(s);
        return;
    }
    if (notice->type == NOTICE_EXEC) {
        s->execed = s->execed || s->phase >= PHASE_OPEN;
        s->exec_epoch = notice->epoch;
        if (s->unapproved_epoch == NO_EPOCH)
            s->unapproved_epoch = notice->epoch;
    }
    if (s->collector && s->phase <= PHASE_OPEN)
        (void)child_send(s->collector, &m, sizeof(m), NULL, 0);
}

/* ---- the recorder */

static void session_on_recorder_ready(struct recorder *r, void *userdata)
{
    struct session *s = userdata;
    struct collector_message m = {.type = COLLECTOR_RECHECK};

    s->phase = PHASE_RECHECKING;
    if (!s->collector || child_send(s->collector, &m, sizeof(m), NULL, 0) < 0)
        session_error(s, 404, "no such process: it ended before sampling began");
    else
        child_set_deadline(s->collector, SESSION_CHECK_DEADLINE_NS); /* it reads the mappings again */
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

static int session_watch(struct session *s)
{
    struct sampler *sampler = &s->server->sampler;
    int r = sampler_watch(sampler);
    if (r < 0)
        return r;
    r = sampler_target_add(sampler, s->slot);
    if (r < 0) {
        sampler_unwatch(sampler);
        return r;
    }
    s->watching = true;
    return 0;
}

void session_attach(struct session *s, const struct probe_place *places, size_t n_places)
{
    static const struct recorder_ops ops = {
        .ready = session_on_recorder_ready, .failed = session_on_recorder_failed, .drained = session_on_drained,
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
    }
}

/* ---- the reply */

/* A worker needs a file: only the collector may open it. */
static void session_on_need(struct worker_job *job, const struct worker_message *need, void *userdata)
{
    struct session *s = userdata;
    struct collector_message m = {.type = COLLECTOR_FILE, .u.file = *need};

    if (!s->collector || child_send(s->collector, &m, sizeof(m), NULL, 0) < 0)
        worker_job_file(job, -ESRCH, -1);
    else
        child_set_deadline(s->collector, SESSION_FINISH_DEADLINE_NS);
}

static void session_reply_headers(struct session *s, const struct worker_result *result)
{
    char text[64];
    const struct {
        const char *name;
        uint64_t value;
    } counts[] = {{"Cprofd-Samples", result->samples}, {"Cprofd-Rooted", result->rooted}, {"Cprofd-Lost", result->lost}};

    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        (void)snprintf(text, sizeof(text), "%llu", (unsigned long long)counts[i].value);
        http_reply_header(s->request, counts[i].name, text);
    }
}

static void session_on_rendered(struct worker_job *job, const struct worker_result *result, void *userdata)
{
    struct session *s = userdata;

    s->job = NULL;
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
    metrics_add_samples(s->kind, recorder_ctl(s->recorder)->samples);
    metrics_add_lost(s->kind, "ring", recorder_ctl(s->recorder)->lost_ring);
    metrics_add_lost(s->kind, "nested", recorder_ctl(s->recorder)->lost_nested);
    http_reply_fd(s->request, 200, type, result->body_fd, result->len);
    session_over(s, 200, s->ended ? s->ended : "done");
}

static void session_render(struct session *s)
{
    static const struct worker_job_ops ops = {.need = session_on_need, .done = session_on_rendered};
    struct session_facts facts = {
        .pid = s->pid, .time_ns = (int64_t)s->time_ns, .window_ns = s->window_ns, .cpu_actual_ns = s->cpu_actual_ns,
        .cpu_actual_known = s->cpu_known, .daemon_cpu_ns = s->daemon_cpu_ns, .ended = s->ended, .mappings = s->mappings,
        .target = s->exited ? "exited" : s->execed ? "execed" : NULL, .denied_epoch = s->unapproved_epoch,
        .hidden = s->hidden, .n_hidden = s->n_hidden,
    };
    char message[128];

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
    s->job = worker_pool_render(s->server->pool, raw_fd, &ops, s);
    if (!s->job)
        session_error(s, 503, "too much to do: no worker is free to render the profile");
}

/* ---- the collector */

static void session_on_ready(struct session *s, const struct collector_target *target)
{
    s->target = *target;
    child_set_deadline(s->collector, 0);
    if (s->params.event == EVENT_UPROBE || s->params.event == EVENT_USDT)
        session_ask_probe_file(s);
    else
        session_attach(s, NULL, 0);
}

/* Samples of images that nobody could judge are those of nobody. */
static void session_hide(struct session *s, uint32_t first, uint32_t end)
{
    if (first >= end)
        return;
    if (s->n_hidden == SESSION_MAX_HIDDEN)
        s->hidden[s->n_hidden - 1].end = end;
    else
        s->hidden[s->n_hidden++] = (struct epoch_range){first, end};
}

/* Whether the asker may trace what the target has become. */
static void session_on_access(struct session *s, uint32_t epoch, int status, const char *message)
{
    if (status != 0 && s->phase < PHASE_OPEN) {
        session_error(s, status, message);
        return;
    }
    if (s->phase == PHASE_RECHECKING) {
        child_set_deadline(s->collector, 0);
        session_open(s);
        return;
    }
    if (status == 0) {
        /* An answer for an older image says nothing of a newer one. */
        if (epoch == s->exec_epoch)
            s->unapproved_epoch = NO_EPOCH;
        return;
    }
    if (epoch < s->unapproved_epoch)
        s->unapproved_epoch = epoch;
    s->ended = "the target executed a program that the asker may not trace";
    session_close(s);
}

static void session_on_file(struct session *s, int error, int fd)
{
    child_set_deadline(s->collector, 0);
    if (s->phase == PHASE_PLACING && !s->job)
        session_find_places(s, error, fd);
    else if (s->phase == PHASE_RENDERING && s->job)
        worker_job_file(s->job, error, fd);
    else if (fd >= 0)
        (void)close(fd);
}

static void session_on_table(struct session *s, const struct collector_message *m, int fd)
{
    uint64_t mappings = m->u.table.mappings_cut, files = m->u.table.files_cut;

    if (s->phase != PHASE_CLOSING || s->table_fd >= 0) {
        (void)close(fd);
        return;
    }
    if (mappings || files) {
        (void)snprintf(s->cut, sizeof(s->cut), "too many: %llu mappings have no name, %llu files no symbols",
                       (unsigned long long)mappings, (unsigned long long)files);
        s->mappings = s->cut;
    }
    s->table_fd = fd;
    s->tabled = true;
    if (s->drained)
        session_render(s);
}

static void session_on_collector_message(struct child *c, const void *data, size_t len, int *fds, size_t n_fds,
                                         void *userdata)
{
    struct session *s = userdata;
    const struct collector_message *m = data;

    if (len != sizeof(*m)) {
        log_error("a collector sent %zu bytes where %zu were due", len, sizeof(*m));
        return;
    }
    int fd = n_fds > 0 ? fds[0] : -1;
    switch (m->type) {
    case COLLECTOR_READY:
        session_on_ready(s, &m->u.ready);
        break;
    case COLLECTOR_DENIED:
        session_error(s, m->u.denied.status, m->u.denied.message);
        break;
    case COLLECTOR_ACCESS:
        session_hide(s, m->u.access.unseen, m->u.access.epoch);
        session_on_access(s, m->u.access.epoch, m->u.access.status, m->u.access.message);
        break;
    case COLLECTOR_TABLE:
        session_on_table(s, m, fd);
        break;
    case COLLECTOR_FILE:
        session_on_file(s, m->u.file.u.file.error, fd);
        break;
    }
}

/* It hung on the target, or died: a profile that is under way loses its mappings, and says so. */
static void session_on_collector_ended(struct child *c, bool timed_out, uint64_t cpu_ns, void *userdata)
{
    struct session *s = userdata;

    s->collector = NULL;
    s->daemon_cpu_ns += cpu_ns;
    if (s->phase < PHASE_OPEN) {
        session_error(s, 503, timed_out ? "the process does not let itself be read: its memory lock is held (is it stuck?)"
                                        : "the collector died before sampling began");
        return;
    }
    if (!s->tabled)
        s->mappings = timed_out ? "unknown: the process did not let its mappings be read (its memory lock is held)"
                                : "unknown: the collector died";
    s->tabled = true;
    if (s->phase == PHASE_CLOSING && s->drained)
        session_render(s);
    else if (s->phase == PHASE_RENDERING && s->job)
        worker_job_file(s->job, -ESRCH, -1);
}

/* ---- the beginning */

static int session_find_slot(const struct server *server, uint32_t *ret_slot)
{
    for (uint32_t i = 0; i < CPROFD_MAX_SESSIONS; i++) {
        if (!server->sessions[i] && server->sampler.ctl[i].state == SESSION_FREE) {
            *ret_slot = i;
            return 0;
        }
    }
    return -EBUSY;
}

/* What can be refused before anything is begun: an HTTP status and a message, or 0. */
static int session_refuse(struct server *server, const struct asker *asker, pid_t pid, const struct session_params *params,
                          uint32_t *ret_slot, char *message, size_t message_len)
{
    if (!server->can_sample) {
        (void)snprintf(message, message_len, "%s", server->sampler_error);
        return 503;
    }
    if (quota_check(server, asker, pid, params, message, message_len) < 0)
        return 429;
    if (session_find_slot(server, ret_slot) < 0) {
        (void)snprintf(message, message_len, "too many sessions: all %d places are taken", CPROFD_MAX_SESSIONS);
        return 429;
    }
    return 0;
}

static bool session_needs_kernel(const struct session_params *p)
{
    return p->kernel || p->event == EVENT_TRACEPOINT;
}

void session_start(struct server *server, struct http_request *request, pid_t pid, const struct session_params *params,
                   const char *kind)
{
    static const struct child_ops ops = {.message = session_on_collector_message, .ended = session_on_collector_ended};
    const struct asker *asker = http_request_asker(request);
    char message[1024];
    uint32_t slot = 0;

    int status = session_refuse(server, asker, pid, params, &slot, message, sizeof(message));
    if (status) {
        if (status == 429)
            http_reply_header(request, "Retry-After", "10");
        http_reply_error(request, status, "%s", message);
        return;
    }
    struct session *s = calloc(1, sizeof(*s));
    if (!s) {
        http_reply_error(request, 503, "no memory for another session");
        return;
    }
    *s = (struct session){.server = server, .request = request, .asker = *asker, .params = *params, .pid = pid, .slot = slot,
                          .table_fd = -1, .probe_fd = -1, .unapproved_epoch = NO_EPOCH};
    (void)snprintf(s->kind, sizeof(s->kind), "%s", kind);
    s->collect = (struct collector_request){.settings = server->settings, .asker = *asker, .pid = pid, .tid = params->tid,
                                            .kernel = session_needs_kernel(params), .mappings = true};
    server->sessions[slot] = s;
    http_request_on_gone(request, session_on_gone, s);
    s->timer = evtimer_new(server->base, session_on_timer, s);
    if (!s->timer || child_spawn(server->base, collector_main, &s->collect, NULL, 0, SESSION_CHECK_DEADLINE_NS, &ops, s,
                                 &s->collector) < 0)
        session_error(s, 503, "no process could be started to look at the target");
}

void session_stop_all(struct server *server)
{
    for (size_t i = 0; i < CPROFD_MAX_SESSIONS; i++)
        if (server->sessions[i])
            session_error(server->sessions[i], 503, "the daemon is stopping");
}

/* ---- for limits */

pid_t session_pid(const struct session *s)
{
    return s->pid;
}

const struct asker *session_asker(const struct session *s)
{
    return &s->asker;
}

double session_rate_hz(const struct session *s)
{
    return s->params.event == EVENT_CPU_CLOCK ? (double)NSEC_PER_SEC / (double)s->params.period : 0;
}
