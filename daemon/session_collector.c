/* The talk of a session with its collector: what it is told, and what it answers. Owns nothing: the session does. */
#include <event2/event.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/log.h"
#include "daemon/server.h"
#include "daemon/session_impl.h"
#include "util/cleanup.h"
#include "util/clock.h"

/* ---- what the collector is told */

static int session_send_epoch(struct session *s, uint32_t epoch, bool exec)
{
    struct collector_message m = {.type = COLLECTOR_EPOCH, .u.epoch = {epoch, exec}};
    return s->collector ? child_send(s->collector, &m, sizeof(m), NULL, 0) : 0;
}

static bool session_by_root(const struct session *s)
{
    return s->asker.known && s->asker.uid == 0;
}

/* Takes note of execs, by the control word: a notice may be late or lost. */
void session_take_execs(struct session *s)
{
    bool seen = !__atomic_load_n(&session_ctl(s)->exec_unseen, __ATOMIC_ACQUIRE);
    uint32_t first = __atomic_exchange_n(&session_ctl(s)->pending_exec, 0, __ATOMIC_ACQ_REL);

    if (first == 0)
        return;
    s->execed = s->execed || (seen && s->phase >= PHASE_OPEN);
    if (!session_by_root(s)) /* who may trace whatever runs there */
        image_access_exec(&s->access, first);
    s->exec_due = true;
}

/* Tells what is due; what finds no room in the socket stays due. Of an exec before any epoch that began after it, whoever spoke
 * first: the collector drops what is older than what it was told. */
static void session_tell_now(struct session *s)
{
    uint32_t epoch = __atomic_load_n(&session_ctl(s)->epoch, __ATOMIC_ACQUIRE);

    session_take_execs(s);
    if (s->exec_due && session_send_epoch(s, session_ctl(s)->exec_epoch, true) == 0)
        s->exec_due = false;
    if (!s->exec_due && s->epoch_due && session_send_epoch(s, epoch, false) == 0)
        s->epoch_due = false;
}

/* The first news goes at once, what follows soon after it goes together. */
void session_tell(struct session *s)
{
    struct timeval pause = {.tv_usec = SESSION_TELL_PAUSE_US};

    if (event_pending(s->tell, EV_TIMEOUT, NULL))
        return;
    session_tell_now(s);
    (void)event_add(s->tell, &pause);
}

void session_on_tell(int fd, short what, void *arg)
{
    struct session *s = arg;

    if (s->exec_due || s->epoch_due)
        session_tell(s);
}

/* Without its answer the profile has no mappings, and says so. */
void session_finish_collector(struct session *s)
{
    struct collector_message m = {.type = COLLECTOR_FINISH};

    session_tell_now(s);
    if (s->collector && !s->exec_due && child_send(s->collector, &m, sizeof(m), NULL, 0) == 0) {
        child_set_deadline(s->collector, SESSION_FINISH_DEADLINE_NS);
        return;
    }
    if (!s->mappings)
        s->mappings = "unknown: the target held up the reading of its mappings";
    child_kill(TAKE_PTR(s->collector));
    s->tabled = true;
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

/* Whether the asker may trace what the target has become. */
static void session_on_access(struct session *s, const struct collector_message *m)
{
    int status = m->u.access.status;

    child_set_deadline(s->collector, s->phase == PHASE_CLOSING ? SESSION_FINISH_DEADLINE_NS : 0);
    if (status != 0 && s->phase < PHASE_OPEN) {
        session_error(s, status, m->u.access.message);
        return;
    }
    if (s->phase == PHASE_RECHECKING) {
        session_open(s);
        return;
    }
    session_take_execs(s);
    if (!session_by_root(s))
        image_access_revoke(&s->access, m->u.access.unseen, m->u.access.epoch);
    if (status == 0) {
        image_access_grant(&s->access, m->u.access.epoch, session_ctl(s)->exec_epoch);
        return;
    }
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
        session_on_access(s, m);
        break;
    case COLLECTOR_TABLE:
        session_on_table(s, m, fd);
        break;
    case COLLECTOR_MAPPINGS:
        session_unwind_on_mappings(s, m, fd);
        break;
    case COLLECTOR_OBJECT:
        session_unwind_on_object(s, m->u.object.error, fd);
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
    session_unwind_on_collector_gone(s);
    if (!s->tabled)
        s->mappings = timed_out ? "unknown: the process did not let its mappings be read (its memory lock is held)"
                                : "unknown: the collector died";
    s->tabled = true;
    if (s->phase == PHASE_CLOSING && s->drained)
        session_render(s);
    else if (s->phase == PHASE_RENDERING && s->job)
        worker_job_file(s->job, -ESRCH, -1);
}

const struct child_ops session_collector_ops = {
    .message = session_on_collector_message, .ended = session_on_collector_ended,
};
