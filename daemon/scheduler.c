/* The child that has the scheduler's programs attached, and what the loop asks of it. Owns the child, and the loop's descriptor of the map of
 * threads. */
#include "daemon/scheduler.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bpf/sched.h"
#include "daemon/child.h"
#include "daemon/recording_impl.h"
#include "daemon/server.h"
#include "util/cleanup.h"
#include "util/fdmsg.h"

/* Grace periods take milliseconds, and seconds on a host that has no CPU to spare. */
#define SCHEDULER_DEADLINE_NS (20 * NSEC_PER_SEC)

enum scheduler_state {
    SCHEDULER_OFF,
    SCHEDULER_BUSY,  /* the child attaches, or looks through the threads */
    SCHEDULER_IDLE,  /* attached */
    SCHEDULER_ENDING,
};

/* child -> loop: DONE with the map of threads once attached, then without for each SWEEP; or with an error. Told END, or at the end of the file,
 * it detaches. */
enum scheduler_message_type { SCHEDULER_DONE = 1, SCHEDULER_SWEEP, SCHEDULER_END };
struct scheduler_message {
    uint32_t type;
    int32_t error; /* -errno */
};

struct scheduler {
    struct server *server;
    struct child *child;
    enum scheduler_state state;
    unsigned users;
    bool sweep_due;
    unsigned n_left;        /* children that are not gone: what they have attached may be so still, and must not be twice */
    struct event *patience; /* how long recordings wait for these */
    bool is_stuck;          /* one took longer */
};

/* ---- the child */

static int scheduler_main(int sock, void *arg)
{
    struct sampler *sampler = arg;
    struct scheduler_message m = {.type = SCHEDULER_DONE};

    m.error = sched_attach(sampler);
    int r = fdmsg_send(sock, &m, sizeof(m), &sampler->sched.threads, m.error == 0);
    while (r == 0 && m.error == 0 && fdmsg_recv(sock, &m, sizeof(m), NULL, NULL) == sizeof(m) && m.type == SCHEDULER_SWEEP) {
        sched_sweep(sampler);
        m = (struct scheduler_message){.type = SCHEDULER_DONE};
        r = fdmsg_send(sock, &m, sizeof(m), NULL, 0);
    }
    sched_detach(sampler);
    return r < 0;
}

/* ---- the loop */

/* Until its window is over; and where the map of threads is read then, until that is done: the next child has another one. */
static bool scheduler_is_needed(const struct recording *rec)
{
    bool settles = rec->params.sched_kind == SCHED_WALL || rec->params.sched_kind == SCHED_OFFCPU;

    if (rec->sched == RECORDING_SCHED_NONE)
        return false;
    return rec->phase < PHASE_CLOSING || (rec->phase == PHASE_CLOSING && settles && !rec->drained);
}

/* error: 0: the child died. */
static void scheduler_fail_all(struct scheduler *s, int error)
{
    const char *why = error == -EBUSY ? "the process that had them last hangs in the kernel"
                      : error         ? strerror(-error)
                                      : "the process that has them died";
    char message[128];

    (void)snprintf(message, sizeof(message), "the scheduler's events can't be had: %s", why);
    for (uint32_t slot = 0; slot < CPROFD_MAX_SESSIONS; slot++) {
        struct recording *rec = s->server->recordings[slot];
        if (rec && scheduler_is_needed(rec))
            recording_fail(rec, 503, message);
    }
}

/* Recordings that came since threads were looked through last wait until that has been done for them. */
static void scheduler_ask(struct scheduler *s)
{
    struct scheduler_message m = {.type = SCHEDULER_SWEEP};
    bool due = s->sweep_due;

    if (s->state != SCHEDULER_IDLE)
        return;
    for (uint32_t slot = 0; slot < CPROFD_MAX_SESSIONS; slot++) {
        struct recording *rec = s->server->recordings[slot];
        if (rec && rec->sched == RECORDING_SCHED_DUE) {
            rec->sched = RECORDING_SCHED_ASKED;
            due = true;
        }
    }
    if (!due)
        return;
    s->sweep_due = false;
    s->state = SCHEDULER_BUSY;
    child_set_deadline(s->child, SCHEDULER_DEADLINE_NS);
    (void)child_send(s->child, &m, sizeof(m), NULL, 0); /* where it is gone, its end is told */
}

/* While it is still busy: what ends meanwhile must not have threads looked through while the others' targets are added. */
static void scheduler_done(struct scheduler *s)
{
    for (uint32_t slot = 0; slot < CPROFD_MAX_SESSIONS; slot++) {
        struct recording *rec = s->server->recordings[slot];
        if (rec && rec->sched == RECORDING_SCHED_ASKED)
            recording_sched_ready(rec);
    }
    if (s->state != SCHEDULER_BUSY)
        return; /* the last one has ended */
    s->state = SCHEDULER_IDLE;
    child_set_deadline(s->child, 0);
    scheduler_ask(s);
}

static void scheduler_on_message(struct child *c, const void *data, size_t len, int *fds, size_t n_fds, void *userdata)
{
    struct scheduler *s = userdata;
    const struct scheduler_message *m = data;

    if (s->state == SCHEDULER_BUSY && len == sizeof(*m) && m->type == SCHEDULER_DONE) {
        if (m->error == 0 && n_fds == 1 && s->server->sampler.sched.threads < 0) {
            s->server->sampler.sched.threads = fds[0];
            n_fds = 0;
        }
        if (m->error < 0)
            scheduler_fail_all(s, m->error);
        else
            scheduler_done(s);
    }
    for (size_t i = 0; i < n_fds; i++)
        (void)close(fds[i]);
}

static int scheduler_begin_alone(struct scheduler *s);

static void scheduler_on_ended(struct child *c, bool timed_out, uint64_t cpu_ns, void *userdata)
{
    struct scheduler *s = userdata;
    bool was_told = s->state == SCHEDULER_ENDING;

    s->child = NULL;
    s->state = SCHEDULER_OFF;
    s->sweep_due = false;
    sched_detach(&s->server->sampler); /* of one that died, the map of threads: else it would stay until there is another */
    s->is_stuck = s->is_stuck || (timed_out && s->n_left > 0);
    int r = was_told && s->users > 0 ? scheduler_begin_alone(s) : 0;
    if (!was_told || r < 0)
        scheduler_fail_all(s, r);
}

static bool scheduler_is_awaited(const struct scheduler *s)
{
    for (uint32_t slot = 0; slot < CPROFD_MAX_SESSIONS; slot++)
        if (s->server->recordings[slot] && s->server->recordings[slot]->sched == RECORDING_SCHED_DUE)
            return true;
    return false;
}

static void scheduler_on_gone(void *userdata)
{
    struct scheduler *s = userdata;

    if (--s->n_left > 0)
        return;
    (void)event_del(s->patience);
    s->is_stuck = false;
    int r = s->state == SCHEDULER_OFF && scheduler_is_awaited(s) ? scheduler_begin_alone(s) : 0;
    if (r < 0)
        scheduler_fail_all(s, r);
}

static void scheduler_on_impatient(evutil_socket_t fd, short what, void *userdata)
{
    struct scheduler *s = userdata;

    s->is_stuck = true;
    scheduler_fail_all(s, -EBUSY);
}

static int scheduler_begin(struct scheduler *s)
{
    static const struct child_ops ops = {.message = scheduler_on_message, .ended = scheduler_on_ended, .gone = scheduler_on_gone};
    struct sampler *sampler = &s->server->sampler;
    const int keep[] = {sampler->switch_prog, sampler->waking_prog, sampler->new_task_prog, sampler->threads_map};

    int r = child_spawn(s->server->base, scheduler_main, sampler, keep, sizeof(keep) / sizeof(keep[0]), SCHEDULER_DEADLINE_NS, &ops, s, &s->child);
    if (r < 0)
        return r;
    s->n_left++;
    s->state = SCHEDULER_BUSY;
    for (uint32_t slot = 0; slot < CPROFD_MAX_SESSIONS; slot++)
        if (s->server->recordings[slot] && s->server->recordings[slot]->sched == RECORDING_SCHED_DUE)
            s->server->recordings[slot]->sched = RECORDING_SCHED_ASKED;
    return 0;
}

/* Now, or once the last child is gone. -EBUSY: it hangs. */
static int scheduler_begin_alone(struct scheduler *s)
{
    const struct timeval patience = {.tv_sec = SCHEDULER_DEADLINE_NS / NSEC_PER_SEC};

    if (s->n_left == 0)
        return scheduler_begin(s);
    if (s->is_stuck)
        return -EBUSY;
    if (!event_pending(s->patience, EV_TIMEOUT, NULL))
        (void)event_add(s->patience, &patience);
    return 0;
}

int scheduler_use(struct scheduler *s, struct recording *rec)
{
    rec->sched = RECORDING_SCHED_DUE;
    s->users++;
    int r = s->state == SCHEDULER_OFF ? scheduler_begin_alone(s) : 0;
    if (r < 0) {
        rec->sched = RECORDING_SCHED_NONE;
        s->users--;
        return r;
    }
    scheduler_ask(s);
    return 0;
}

void scheduler_leave(struct scheduler *s, struct recording *rec)
{
    struct scheduler_message m = {.type = SCHEDULER_END};

    if (rec->sched == RECORDING_SCHED_NONE)
        return;
    s->sweep_due = sched_remove(&s->server->sampler, rec->slot) || s->sweep_due;
    rec->sched = RECORDING_SCHED_NONE;
    if (--s->users > 0) {
        scheduler_ask(s);
        return;
    }
    if (!s->child || s->state == SCHEDULER_ENDING)
        return;
    s->state = SCHEDULER_ENDING;
    close_fd(&s->server->sampler.sched.threads);
    child_set_deadline(s->child, SCHEDULER_DEADLINE_NS);
    (void)child_send(s->child, &m, sizeof(m), NULL, 0); /* where it is gone, its end is told */
}

int scheduler_new(struct server *server, struct scheduler **ret)
{
    struct scheduler *s = calloc(1, sizeof(*s));

    if (!s)
        return -ENOMEM;
    s->server = server;
    s->patience = evtimer_new(server->base, scheduler_on_impatient, s);
    if (!s->patience) {
        free(s);
        return -ENOMEM;
    }
    *ret = s;
    return 0;
}

void scheduler_free(struct scheduler *s)
{
    if (!s)
        return;
    event_free(s->patience);
    free(s);
}
