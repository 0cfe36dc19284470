/* The talk of a recording with its collector: what it is told, and what it answers. Owns nothing: the recording does. */
#include <event2/event.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/log.h"
#include "daemon/recording_impl.h"
#include "daemon/server.h"
#include "util/cleanup.h"
#include "util/clock.h"

/* ---- what the collector is told */

static int recording_send_epoch(struct recording *rec, uint32_t epoch, bool exec)
{
    struct collector_message m = {.type = COLLECTOR_EPOCH, .u.epoch = {epoch, exec}};
    return rec->collector ? child_send(rec->collector, &m, sizeof(m), NULL, 0) : 0;
}

static bool recording_by_root(const struct recording *rec)
{
    return rec->asker.known && rec->asker.uid == 0;
}

/* Takes note of execs, by the control word: a notice may be late or lost. */
void recording_take_execs(struct recording *rec)
{
    bool seen = !__atomic_load_n(&recording_ctl(rec)->exec_unseen, __ATOMIC_ACQUIRE);
    uint32_t first = __atomic_exchange_n(&recording_ctl(rec)->pending_exec, 0, __ATOMIC_ACQ_REL);

    if (first == 0)
        return;
    rec->execed = rec->execed || (seen && rec->phase >= PHASE_OPEN);
    if (!recording_by_root(rec)) /* who may trace whatever runs there */
        image_access_exec(&rec->access, first);
    rec->exec_due = true;
}

/* Tells what is due; what finds no room in the socket stays due. Of an exec before any epoch that began after it, whoever spoke
 * first: the collector drops what is older than what it was told. */
static void recording_tell_now(struct recording *rec)
{
    uint32_t epoch = __atomic_load_n(&recording_ctl(rec)->epoch, __ATOMIC_ACQUIRE);

    recording_take_execs(rec);
    if (rec->exec_due && recording_send_epoch(rec, recording_ctl(rec)->exec_epoch, true) == 0)
        rec->exec_due = false;
    if (!rec->exec_due && rec->epoch_due && recording_send_epoch(rec, epoch, false) == 0)
        rec->epoch_due = false;
}

/* The first news goes at once, what follows soon after it goes together. */
void recording_tell(struct recording *rec)
{
    struct timeval pause = {.tv_usec = RECORDING_TELL_PAUSE_US};

    if (event_pending(rec->tell, EV_TIMEOUT, NULL))
        return;
    recording_tell_now(rec);
    (void)event_add(rec->tell, &pause);
}

void recording_on_tell(int fd, short what, void *arg)
{
    struct recording *rec = arg;

    if (rec->exec_due || rec->epoch_due)
        recording_tell(rec);
}

/* Without its answer the profile has no mappings, and says so. */
void recording_finish_collector(struct recording *rec)
{
    struct collector_message m = {.type = COLLECTOR_FINISH};

    recording_tell_now(rec);
    if (rec->collector && !rec->exec_due && child_send(rec->collector, &m, sizeof(m), NULL, 0) == 0) {
        child_set_deadline(rec->collector, RECORDING_FINISH_DEADLINE_NS + (rec->go.asked ? GOROUTINES_MAX_READ_NS : 0));
        return;
    }
    if (!rec->mappings)
        rec->mappings = "unknown: the target held up the reading of its mappings";
    child_kill(TAKE_PTR(rec->collector));
    rec->tabled = true;
    recording_answer_all(rec);
}

/* ---- the collector */

static void recording_on_ready(struct recording *rec, const struct collector_target *target)
{
    rec->target = *target;
    child_set_deadline(rec->collector, 0);
    if (rec->params.event == EVENT_UPROBE || rec->params.event == EVENT_USDT)
        recording_ask_probe_file(rec);
    else if (rec->params.event == EVENT_CUSTOM)
        recording_custom_begin(rec);
    else if (rec->params.event == EVENT_HEAP)
        recording_heap_begin(rec);
    else if (recording_wants_go(rec))
        recording_ask_program(rec);
    else
        recording_attach(rec, NULL, 0);
}

/* Whether the asker may trace what the target has become. */
static void recording_on_access(struct recording *rec, const struct collector_message *m)
{
    int status = m->u.access.status;

    child_set_deadline(rec->collector, rec->phase == PHASE_CLOSING ? RECORDING_FINISH_DEADLINE_NS : 0);
    if (status != 0 && rec->phase < PHASE_OPEN) {
        recording_fail(rec, status, m->u.access.message);
        return;
    }
    if (rec->phase == PHASE_RECHECKING) {
        recording_ready(rec);
        return;
    }
    recording_take_execs(rec);
    if (!recording_by_root(rec))
        image_access_revoke(&rec->access, m->u.access.unseen, m->u.access.epoch);
    if (status == 0) {
        image_access_grant(&rec->access, m->u.access.epoch, recording_ctl(rec)->exec_epoch);
        return;
    }
    rec->ended = "exec: who asked may not trace the program that was executed then";
    recording_close(rec);
}

static void recording_on_file(struct recording *rec, int error, int fd)
{
    child_set_deadline(rec->collector, rec->phase == PHASE_CLOSING && !rec->tabled ? RECORDING_FINISH_DEADLINE_NS : 0);
    if (rec->phase == PHASE_PLACING && rec->custom)
        recording_custom_on_file(rec, error, fd);
    else if (rec->phase == PHASE_PLACING && !rec->placing && rec->heap)
        recording_heap_on_file(rec, error, fd);
    else if (rec->phase == PHASE_PLACING && !rec->placing)
        recording_find_places(rec, error, fd);
    else
        recording_answer_file(rec, error, fd);
}

static void recording_take_told(struct recording *rec, const struct collector_message *m)
{
    uint64_t mappings = m->u.table.mappings_cut, files = m->u.table.files_cut;

    rec->clock = m->u.table.clock;
    if (!mappings && !files)
        return;
    (void)snprintf(rec->cut, sizeof(rec->cut), "too many: %llu mappings have no name, %llu files no symbols",
                   (unsigned long long)mappings, (unsigned long long)files);
    rec->mappings = rec->cut;
}

static void recording_on_snapshot(struct recording *rec, const struct collector_message *m, int fd)
{
    recording_take_told(rec, m);
    recording_answer_table(rec, fd);
}

static void recording_on_table(struct recording *rec, const struct collector_message *m, int fd, int goroutines)
{
    if (rec->phase != PHASE_CLOSING || rec->table_fd >= 0) {
        (void)close(fd);
        close_fd(&goroutines);
        return;
    }
    recording_take_told(rec, m);
    recording_take_goroutines(rec, m, goroutines);
    rec->table_fd = fd;
    rec->tabled = true;
    recording_check_done(rec);
}

/* The recording may have failed by the first, and be freed a moment later. */
static void recording_on_mappings(struct recording *rec, const struct collector_message *m, int fd)
{
    AUTO_CLOSE int copy = (rec->heap || rec->custom) && fd >= 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 0) : -1;

    recording_unwind_on_mappings(rec, m, fd);
    recording_heap_on_mappings(rec, copy);
    recording_custom_on_mappings(rec, copy);
}

static void recording_on_collector_message(struct child *c, const void *data, size_t len, int *fds, size_t n_fds,
                                         void *userdata)
{
    struct recording *rec = userdata;
    const struct collector_message *m = data;

    if (len != sizeof(*m)) {
        log_error("a collector sent %zu bytes where %zu were due", len, sizeof(*m));
        return;
    }
    int fd = n_fds > 0 ? fds[0] : -1;
    switch (m->type) {
    case COLLECTOR_READY:
        recording_on_ready(rec, &m->u.ready);
        break;
    case COLLECTOR_DENIED:
        recording_fail(rec, m->u.denied.status, m->u.denied.message);
        break;
    case COLLECTOR_ACCESS:
        recording_on_access(rec, m);
        break;
    case COLLECTOR_TABLE:
        recording_on_table(rec, m, fd, n_fds > 1 ? fds[1] : -1);
        break;
    case COLLECTOR_SNAPSHOT:
        recording_on_snapshot(rec, m, fd);
        break;
    case COLLECTOR_MAPPINGS:
        recording_on_mappings(rec, m, fd);
        break;
    case COLLECTOR_OBJECT:
        recording_unwind_on_object(rec, m->u.object.error, fd);
        break;
    case COLLECTOR_PROGRAM:
        child_set_deadline(rec->collector, 0);
        recording_find_go(rec, m->u.program.error, fd);
        break;
    case COLLECTOR_FILE:
        recording_on_file(rec, m->u.file.u.file.error, fd);
        break;
    }
}

/* It hung on the target, or died: a profile that is under way loses its mappings, and says so. */
static void recording_on_collector_ended(struct child *c, bool timed_out, uint64_t cpu_ns, void *userdata)
{
    struct recording *rec = userdata;

    rec->collector = NULL;
    rec->daemon_cpu_ns += cpu_ns;
    if (rec->phase < PHASE_OPEN) {
        recording_fail(rec, 503, timed_out ? "the process does not let itself be read: its memory lock is held (is it stuck?)"
                                        : "the collector died before sampling began");
        return;
    }
    recording_unwind_on_collector_gone(rec);
    if (!rec->tabled)
        rec->mappings = timed_out ? "unknown: the process did not let its mappings be read (its memory lock is held)"
                                : "unknown: the collector died";
    rec->tabled = true;
    recording_answer_all(rec);
    if (rec->watch && rec->phase == PHASE_OPEN) { /* what is mapped from now on would have the names of what was there before */
        rec->lost = true;
        rec->ended = "the process that keeps the target's mappings was lost";
        recording_close(rec);
    } else {
        recording_check_done(rec);
    }
}

const struct child_ops recording_collector_ops = {
    .message = recording_on_collector_message, .ended = recording_on_collector_ended,
};
