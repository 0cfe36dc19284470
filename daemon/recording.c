/* The life of a recording. Owns its collector, recorder, places' job and descriptors. Each step ends in a callback that begins the
 * next; whatever goes wrong before it is open ends in recording_fail. */
#include "daemon/recording.h"

#include <assert.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "bpf/code_watch.h"
#include "daemon/audit.h"
#include "daemon/cpu_clock.h"
#include "daemon/notices.h"
#include "daemon/quota.h"
#include "daemon/recording_impl.h"
#include "daemon/scheduler.h"
#include "daemon/server.h"
#include "util/cleanup.h"
#include "util/clock.h"

struct session_ctl *recording_ctl(const struct recording *rec)
{
    return &rec->server->sampler.ctl[rec->slot];
}

/* ---- the end */

static void recording_deregister(struct recording *rec)
{
    rec->server->recordings[rec->slot] = NULL;
    if (!rec->noticed)
        return;
    scheduler_leave(rec->server->scheduler, rec);
    sampler_target_remove(&rec->server->sampler, rec->slot);
    notices_unwatch(rec->server->notices);
}

void recording_free(struct recording *rec)
{
    if (!rec)
        return;
    assert(TAILQ_EMPTY(&rec->views));
    recording_deregister(rec);
    child_kill(rec->collector);
    recording_unwind_deinit(rec);
    recorder_free(rec->recorder);
    worker_job_cancel(rec->placing);
    if (rec->tell)
        event_free(rec->tell);
    if (rec->budget)
        event_free(rec->budget);
    close_fd(&rec->table_fd);
    close_fd(&rec->probe_fd);
    close_fd(&rec->go.fd);
    recording_places_clear(&rec->places);
    recording_late_deinit(rec);
    if (rec->custom)
        recording_custom_deinit(rec->custom);
    free(rec->custom);
    if (rec->heap)
        recording_heap_deinit(rec->heap);
    free(rec->heap);
    free(rec);
}

void recording_fail(struct recording *rec, int status, const char *message)
{
    rec->phase = PHASE_DONE; /* its owner may keep it for a moment */
    (void)event_del(rec->budget);
    rec->ops.failed(rec, status, message, rec->userdata);
}

/* The run time in the window: by the CPU clock, or where the process is gone by what it had used at its end. */
static void recording_read_cpu(struct recording *rec)
{
    uint64_t now_ns = 0;

    /* A zombie's clock still answers, and is the exact one. One that shows less than the process had used is not its own: the
     * number was given to another. */
    if (process_cpu_ns(rec->pid, &now_ns) < 0 || now_ns < rec->runtime_ns)
        now_ns = rec->runtime_ns;
    if (now_ns == 0)
        return;
    rec->cpu_known = true;
    rec->cpu_actual_ns = now_ns > rec->cpu_open_ns ? now_ns - rec->cpu_open_ns : 0;
}

void recording_close(struct recording *rec)
{
    const struct session_ctl *ctl = recording_ctl(rec);

    if (rec->phase != PHASE_OPEN)
        return;
    recorder_close(rec->recorder);
    rec->exited = rec->exited || ctl->closed_ns; /* the notice may be still to come */
    uint64_t end_ns = ctl->closed_ns ? ctl->closed_ns : ctl->until_ns ? ctl->until_ns : monotonic_ns();
    rec->end_ns = monotonic_ns();
    if (rec->params.event == EVENT_GROWTH)
        recording_growth_close(&rec->growth, rec->pid, recording_ctl(rec));
    rec->window_ns = end_ns > ctl->opened_ns ? end_ns - ctl->opened_ns : 0;
    recording_read_cpu(rec);
    recording_take_execs(rec);
    rec->phase = PHASE_CLOSING;
    (void)event_del(rec->budget);
    rec->ops.closed(rec, rec->userdata);
    recording_finish_collector(rec);
    recorder_end(rec->recorder); /* which may end all */
}

void recording_check_done(struct recording *rec)
{
    if (rec->phase != PHASE_CLOSING || !rec->drained || !rec->tabled)
        return;
    rec->phase = PHASE_DONE;
    rec->ops.done(rec, rec->userdata);
}

/* ---- what happens to the target */

int recording_open(struct recording *rec)
{
    rec->phase = PHASE_OPEN;
    rec->time_ns = realtime_ns();
    if (process_cpu_ns(rec->pid, &rec->cpu_open_ns) < 0)
        return -ESRCH;
    recording_unwind_on_open(rec);
    image_access_init(&rec->access);
    rec->exec_due = false;
    if (rec->params.event == EVENT_GROWTH)
        recording_growth_open(&rec->growth, rec->pid, recording_ctl(rec));
    recorder_open(rec->recorder);
    recording_budget_open(rec);
    recording_late_work(rec);
    return rec->exited || recording_ctl(rec)->state != SESSION_OPEN ? -ESRCH : 0;
}

void recording_ready(struct recording *rec)
{
    rec->phase = PHASE_READY;
    rec->ops.ready(rec, rec->userdata);
}

void recording_notice(struct recording *rec, const struct session_notice *notice)
{
    if (!rec->recorder)
        return; /* of an earlier recording in the slot */
    switch (notice->type) {
    case NOTICE_EXIT:
        rec->exited = true;
        rec->runtime_ns = notice->runtime_ns;
        recording_close(rec);
        return;
    case NOTICE_EXEC:
        recording_take_execs(rec);
        if ((rec->heap || rec->custom) && rec->phase == PHASE_OPEN) {
            if (rec->heap)
                recording_heap_exec(rec);
            else
                recording_custom_exec(rec);
            return;
        }
        break;
    default:
        rec->epoch_due = true;
    }
    if (rec->phase <= PHASE_OPEN)
        recording_tell(rec);
}

/* Memory without a file that takes the place of a file's is new code too; what a JIT compiler does with its own is not. */
void recording_new_code(struct recording *rec, const struct new_code *code)
{
    bool replaces = recording_unwind_maps(rec, code->start, code->end);

    if (!rec->recorder || rec->phase > PHASE_OPEN || (!code->is_file && !replaces))
        return;
    if (rec->params.unwind == SESSION_UNWIND_COPY) /* whose recorder sees for itself */
        return;
    if (code->time_ns < rec->unwind.listed_ns) /* a program that was started just before: the list has it */
        return;
    uint32_t epoch = __atomic_add_fetch(&recording_ctl(rec)->epoch, 1, __ATOMIC_ACQ_REL);
    rec->epoch_due = true;
    recording_tell(rec);
    if (replaces)
        recording_unwind_on_replaced(rec, code->start, code->end, epoch);
}

/* ---- the beginning */

/* How stacks are walked: 0, or an HTTP status and a message where that can't be. */
static int recording_choose_unwind(const struct server *server, const struct session_params *params, uint32_t *ret, char *message,
                                   size_t message_len)
{
    bool copies = params->sched_kind == SCHED_NONE && (params->event == EVENT_CPU_CLOCK || params->event == EVENT_PERF);

    if (params->sched_kind != SCHED_NONE && server->can_sample && server->sampler.sched_error[0]) {
        (void)snprintf(message, message_len, "what threads wait for can't be seen here: %s", server->sampler.sched_error);
        return 503;
    }
    if (params->event == EVENT_HEAP && server->can_sample && server->sampler.heap_error[0]) {
        (void)snprintf(message, message_len, "what a process allocates can't be seen here: %s", server->sampler.heap_error);
        return 503;
    }
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

static int recording_find_slot(const struct server *server, uint32_t *ret_slot)
{
    for (uint32_t i = 0; i < CPROFD_MAX_SESSIONS; i++) {
        if (!server->recordings[i] && server->sampler.ctl[i].state == SESSION_FREE) {
            *ret_slot = i;
            return 0;
        }
    }
    return -EBUSY;
}

/* What can be refused before anything is begun: an HTTP status and a message, or 0. */
static int recording_refuse(struct server *server, const struct recording_config *config, uint32_t *ret_slot, char *message,
                            size_t message_len)
{
    if (quota_check(server, config->asker, config->pid, config->params, message, message_len) < 0 ||
        quota_check_child(config->asker, message, message_len) < 0)
        return 429;
    if (recording_find_slot(server, ret_slot) < 0) {
        (void)snprintf(message, message_len, "too many sessions: all %d places are taken", CPROFD_MAX_SESSIONS);
        return 429;
    }
    return 0;
}

static bool recording_needs_kernel(const struct session_params *p)
{
    return p->kernel || p->event == EVENT_TRACEPOINT;
}

static int recording_start(struct recording *rec)
{
    rec->tell = evtimer_new(rec->server->base, recording_on_tell, rec);
    if (!rec->tell || recording_budget_new(rec) < 0 || recording_unwind_init(rec) < 0)
        return -ENOMEM;
    return child_spawn(rec->server->base, collector_main, &rec->collect, NULL, 0, RECORDING_CHECK_DEADLINE_NS, &recording_collector_ops,
                       rec, &rec->collector);
}

int recording_new(struct server *server, const struct recording_config *config, const struct recording_ops *ops, void *userdata,
                  struct recording **ret, char *message, size_t message_len)
{
    uint32_t slot = 0, unwind = 0;

    int status = recording_choose_unwind(server, config->params, &unwind, message, message_len);
    status = status ? status : recording_custom_refuse(server, config->params, message, message_len);
    status = status ? status : recording_refuse(server, config, &slot, message, message_len);
    if (status)
        return status;
    struct recording *rec = calloc(1, sizeof(*rec));
    if (!rec) {
        (void)snprintf(message, message_len, "no memory for another session");
        return 503;
    }
    *rec = (struct recording){.server = server, .ops = *ops, .userdata = userdata, .asker = *config->asker, .params = *config->params,
                              .pid = config->pid, .slot = slot, .watch = config->watch, .table_fd = -1, .probe_fd = -1,
                              .late.fd = -1, .go = {.fd = -1}};
    rec->params.unwind = unwind;
    TAILQ_INIT(&rec->views);
    rec->target.uid = AUDIT_NO_UID;
    rec->collect = (struct collector_request){.settings = server->settings, .asker = rec->asker, .pid = rec->pid, .tid = rec->params.tid,
                                              .kernel = recording_needs_kernel(&rec->params), .mappings = true};
    server->recordings[slot] = rec;
    if (recording_start(rec) < 0) {
        recording_free(rec);
        (void)snprintf(message, message_len, "no process could be started to look at the target");
        return 503;
    }
    quota_own_child(config->asker, rec->collector);
    *ret = rec;
    return 0;
}

/* ---- for owners, limits and metrics */

pid_t recording_pid(const struct recording *rec)
{
    return rec->pid;
}

const struct asker *recording_asker(const struct recording *rec)
{
    return &rec->asker;
}

const struct session_params *recording_params(const struct recording *rec)
{
    return &rec->params;
}

const struct collector_target *recording_target(const struct recording *rec)
{
    return &rec->target;
}

const struct recorder *recording_recorder(const struct recording *rec)
{
    return rec->recorder;
}

double recording_rate_hz(const struct recording *rec)
{
    return quota_rate_hz(&rec->params);
}

bool recording_is_open(const struct recording *rec)
{
    return rec->phase == PHASE_OPEN;
}

uint64_t recording_end_ns(const struct recording *rec)
{
    return rec->end_ns;
}

const char *recording_ended(const struct recording *rec)
{
    return rec->ended;
}

bool recording_is_lost(const struct recording *rec)
{
    return rec->lost;
}

uint32_t recording_exec_epoch(const struct recording *rec)
{
    return __atomic_load_n(&recording_ctl(rec)->exec_epoch, __ATOMIC_ACQUIRE);
}

bool recording_target_exited(const struct recording *rec)
{
    return rec->exited;
}
