/* The life of a session. Owns its collector, recorder, job, timer and descriptors; borrows the request until the reply.
 * Each step ends in a callback that begins the next; whatever goes wrong ends in session_error. */
#include "daemon/session_impl.h"

#include <assert.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bpf/code_watch.h"
#include "daemon/audit.h"
#include "daemon/cpu_clock.h"
#include "daemon/http.h"
#include "daemon/notices.h"
#include "daemon/quota.h"
#include "daemon/server.h"
#include "util/cleanup.h"
#include "util/clock.h"

struct session_ctl *session_ctl(const struct session *s)
{
    return &s->server->sampler.ctl[s->slot];
}

/* ---- the end */

static void session_deregister(struct session *s)
{
    s->server->sessions[s->slot] = NULL;
    if (!s->watching)
        return;
    sampler_target_remove(&s->server->sampler, s->slot);
    notices_unwatch(s->server->notices);
}

static void session_free(struct session *s)
{
    session_deregister(s);
    child_kill(s->collector);
    session_unwind_deinit(s);
    recorder_free(s->recorder);
    worker_job_cancel(s->job);
    debuginfod_asker_deinit(&s->debuginfod);
    if (s->timer)
        event_free(s->timer);
    if (s->tell)
        event_free(s->tell);
    if (s->budget)
        event_free(s->budget);
    close_fd(&s->table_fd);
    close_fd(&s->probe_fd);
    free(s);
}

/* How it ended, for the audit log and the counters; then it is gone. */
void session_over(struct session *s, int status, const char *how)
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

/* The run time in the window: by the CPU clock, or where the process is gone by what it had used at its end. */
static void session_read_cpu(struct session *s)
{
    uint64_t now_ns = 0;

    /* A zombie's clock still answers, and is the exact one. One that shows less than the process had used is not its own: the
     * number was given to another. */
    if (process_cpu_ns(s->pid, &now_ns) < 0 || now_ns < s->runtime_ns)
        now_ns = s->runtime_ns;
    if (now_ns == 0)
        return;
    s->cpu_known = true;
    s->cpu_actual_ns = now_ns > s->cpu_open_ns ? now_ns - s->cpu_open_ns : 0;
}

void session_close(struct session *s)
{
    const struct session_ctl *ctl = recorder_ctl(s->recorder);

    if (s->phase != PHASE_OPEN)
        return;
    recorder_close(s->recorder);
    s->exited = s->exited || ctl->closed_ns; /* the notice may be still to come */
    uint64_t end_ns = ctl->closed_ns ? ctl->closed_ns : monotonic_ns();
    s->end_ns = monotonic_ns();
    s->window_ns = end_ns > ctl->opened_ns ? end_ns - ctl->opened_ns : 0;
    session_read_cpu(s);
    session_take_execs(s);
    s->phase = PHASE_CLOSING;
    event_del(s->timer);
    event_del(s->budget);
    recorder_end(s->recorder);
    session_finish_collector(s);
}

static void session_on_timer(evutil_socket_t fd, short what, void *arg)
{
    session_close(arg);
}

void session_open(struct session *s)
{
    struct timeval window = {(time_t)(s->params.duration_ns / NSEC_PER_SEC),
                             (suseconds_t)(s->params.duration_ns % NSEC_PER_SEC / 1000)};

    s->phase = PHASE_OPEN;
    s->time_ns = realtime_ns();
    if (process_cpu_ns(s->pid, &s->cpu_open_ns) < 0 || event_add(s->timer, &window) < 0) {
        session_error(s, 404, "no such process: it ended before sampling began");
        return;
    }
    session_unwind_on_open(s);
    image_access_init(&s->access);
    s->exec_due = false;
    recorder_open(s->recorder);
    session_budget_open(s);
    if (s->exited || session_ctl(s)->state != SESSION_OPEN)
        session_error(s, 404, "no such process: it ended before sampling began");
}

void session_notice(struct session *s, const struct session_notice *notice)
{
    if (!s->recorder)
        return; /* of an earlier session in the slot */
    switch (notice->type) {
    case NOTICE_EXIT:
        s->exited = true;
        s->runtime_ns = notice->runtime_ns;
        session_close(s);
        return;
    case NOTICE_EXEC:
        session_take_execs(s);
        break;
    default:
        s->epoch_due = true;
    }
    if (s->phase <= PHASE_OPEN)
        session_tell(s);
}

/* Memory without a file that takes the place of a file's is new code too; what a JIT compiler does with its own is not. */
void session_new_code(struct session *s, const struct new_code *code)
{
    bool replaces = session_unwind_maps(s, code->start, code->end);

    if (!s->recorder || s->phase > PHASE_OPEN || (!code->is_file && !replaces))
        return;
    if (s->params.unwind == SESSION_UNWIND_COPY) /* whose recorder sees for itself */
        return;
    uint32_t epoch = __atomic_add_fetch(&session_ctl(s)->epoch, 1, __ATOMIC_ACQ_REL);
    s->epoch_due = true;
    session_tell(s);
    if (replaces)
        session_unwind_on_replaced(s, code->start, code->end, epoch);
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

/* How stacks are walked: 0, or an HTTP status and a message where that can't be. */
static int session_choose_unwind(const struct server *server, const struct session_params *params, uint32_t *ret, char *message,
                                 size_t message_len)
{
    bool copies = params->event == EVENT_CPU_CLOCK || params->event == EVENT_PERF;

    if (server->can_sample || params->unwind == SESSION_UNWIND_COPY) {
        *ret = params->unwind == SESSION_UNWIND_AUTO ? SESSION_UNWIND_TABLES : params->unwind;
        return 0;
    }
    if (params->unwind == SESSION_UNWIND_AUTO && copies && !params->audit) {
        *ret = SESSION_UNWIND_COPY;
        return 0;
    }
    (void)snprintf(message, message_len, "%s%.200s needs BPF, which can't be had here: %s%s",
                   !copies ? "event " : params->audit ? "" : "unwind=",
                   !copies ? params->event_text : params->audit ? "audit=1" : params->unwind == SESSION_UNWIND_FP ? "fp" : "eh",
                   server->sampler_error,
                   copies ? "; unwind=copy does without it" : "");
    return 503;
}

/* What can be refused before anything is begun: an HTTP status and a message, or 0. */
static int session_refuse(struct server *server, const struct asker *asker, pid_t pid, const struct session_params *params,
                          uint32_t *ret_slot, char *message, size_t message_len)
{
    if (quota_check(server, asker, pid, params, message, message_len) < 0 ||
        quota_check_child(asker, message, message_len) < 0)
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
    const struct asker *asker = http_request_asker(request);
    char message[2048];
    uint32_t slot = 0, unwind = 0;

    int status = session_choose_unwind(server, params, &unwind, message, sizeof(message));
    status = status ? status : session_refuse(server, asker, pid, params, &slot, message, sizeof(message));
    if (status) {
        audit_session(asker, pid, "", AUDIT_NO_UID, kind, params, status, message);
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
                          .table_fd = -1, .probe_fd = -1, .request_ns = monotonic_ns()};
    s->params.unwind = unwind;
    s->target.uid = AUDIT_NO_UID;
    (void)snprintf(s->kind, sizeof(s->kind), "%s", kind);
    s->collect = (struct collector_request){.settings = server->settings, .asker = *asker, .pid = pid, .tid = params->tid,
                                            .kernel = session_needs_kernel(params), .mappings = true};
    server->sessions[slot] = s;
    http_request_on_gone(request, session_on_gone, s);
    s->timer = evtimer_new(server->base, session_on_timer, s);
    s->tell = evtimer_new(server->base, session_on_tell, s);
    if (!s->timer || !s->tell || session_budget_new(s) < 0 || session_unwind_init(s) < 0 ||
        child_spawn(server->base, collector_main, &s->collect, NULL, 0, SESSION_CHECK_DEADLINE_NS, &session_collector_ops, s, &s->collector) < 0)
        session_error(s, 503, "no process could be started to look at the target");
    else
        quota_own_child(asker, s->collector);
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
    return quota_rate_hz(&s->params);
}
