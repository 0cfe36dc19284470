/* The client processes. Owns each one's child. What a client says is believed as far as it can do no harm: a file that is no file,
 * or that it could change by the same descriptor, is none, and ends it. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/child.h"
#include "daemon/debuginfod_impl.h"
#include "daemon/log.h"
#include "util/cleanup.h"
#include "util/clock.h"

#define SLOT_START_NS (20 * NSEC_PER_SEC)
#define SLOT_LOOKUP_NS (3 * NSEC_PER_SEC)
#define SLOT_GRACE_NS (10 * NSEC_PER_SEC) /* beyond what the client itself allows a download */
#define SLOT_IDLE_NS (60 * NSEC_PER_SEC)
#define SLOT_STUCK_NS (2 * NSEC_PER_SEC)

static const struct child_ops *slot_ops(void);
static uint64_t dead_cpu_ns; /* of clients: children outlive who started them */

static bool slot_downloads(const struct debuginfod_slot *slot)
{
    return slot != &slot->d->slots[0];
}

static void slot_kill(struct debuginfod_slot *slot)
{
    child_kill(TAKE_PTR(slot->child));
    slot->ready = false;
}

static struct fetch *slots_next(struct debuginfod *d, enum fetch_stage stage)
{
    struct fetch *f;

    TAILQ_FOREACH(f, &d->fetches, link)
        if (f->stage == stage)
            return f;
    return NULL;
}

/* No client can be had for those that wait for one now. */
static void slot_refuse(struct debuginfod_slot *slot)
{
    struct fetch *f;

    while ((f = slots_next(slot->d, slot_downloads(slot) ? FETCH_QUEUED : FETCH_UNKNOWN)))
        fetch_finish(slot->d, f, -EAGAIN, -1);
}

/* 0 or -errno. */
static int slot_start(struct debuginfod_slot *slot)
{
    slot->since_ns = monotonic_ns();
    int r = debuginfod_process_start(slot->d->base, &slot->d->command, SLOT_START_NS, slot_ops(), slot, &slot->child);

    if (r < 0)
        log_warning("debuginfod: no client can be started: %s", strerror(-r));
    return r;
}

/* None of them will run: said once. */
static void slots_give_up(struct debuginfod *d, const char *why)
{
    log_error("debuginfod is switched on, and no debug files can be fetched: %s", why);
    d->unusable = true;
    slots_kill(d);
    debuginfod_finish_all(d, -ELIBACC);
}

/* ---- what becomes of questions */

static void slot_on_lookup(struct debuginfod *d, struct fetch *f, const struct debuginfod_message *m, int fd)
{
    f->absent = m->absent;
    if (m->error == 0)
        fetch_finish(d, f, 0, fd);
    else
        fetch_queue(d, f);
}

static void slot_on_download(struct debuginfod *d, struct debug_server *s, struct fetch *f, const struct debuginfod_message *m, int fd)
{
    if (m->error == 0 || m->error == -ENOENT || m->error == -EFBIG) {
        server_answered(s);
    } else {
        f->error = m->error == -EBADMSG ? -EBADMSG : -EHOSTUNREACH;
        server_failed(s, m->text);
    }
    if (m->error == -EFBIG && !f->error)
        f->error = -EFBIG;
    f->stage = FETCH_QUEUED;
    if (m->error == 0)
        fetch_finish(d, f, 0, fd);
}

static bool slot_answer_ok(const struct debuginfod_slot *slot, const struct debuginfod_message *m, int fd)
{
    struct stat st;

    if (m->type != DEBUGINFOD_ANSWER || !slot->fetch || m->error > 0 || (m->error == 0) != (fd >= 0) ||
        strcmp(m->build_id, slot->fetch->build_id) != 0)
        return false;
    return fd < 0 || ((fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDONLY && fstat(fd, &st) == 0 && S_ISREG(st.st_mode));
}

static void slot_on_answer(struct debuginfod_slot *slot, const struct debuginfod_message *m, int fd)
{
    struct debuginfod *d = slot->d;
    struct fetch *f = TAKE_PTR(slot->fetch);

    child_set_deadline(slot->child, SLOT_IDLE_NS);
    if (slot_downloads(slot))
        slot_on_download(d, &d->servers[slot->server], f, m, fd);
    else
        slot_on_lookup(d, f, m, fd);
    debuginfod_wake(d);
}

/* ---- messages */

static void slot_on_ready(struct debuginfod_slot *slot, const struct debuginfod_message *m)
{
    struct debuginfod *d = slot->d;

    if (m->error < 0) {
        slots_give_up(d, m->text);
        return;
    }
    if (m->text[0] && !d->told)
        log_warning("debuginfod: %s", m->text);
    d->told = true;
    slot->ready = true;
    child_set_deadline(slot->child, SLOT_IDLE_NS);
    debuginfod_wake(d);
}

/* It ended, or has to: its question goes on without it. */
static void slot_lost(struct debuginfod_slot *slot, const char *why)
{
    struct debuginfod *d = slot->d;
    struct fetch *f = TAKE_PTR(slot->fetch);
    bool ready = slot->ready;

    slot_kill(slot);
    if (!ready) {
        slots_give_up(d, "what would fetch them ended as it began");
        return;
    }
    if (f && slot_downloads(slot)) {
        f->error = -EHOSTUNREACH;
        f->stage = FETCH_QUEUED;
        server_failed(&d->servers[slot->server], why);
    } else if (f) {
        log_warning("debuginfod: looking into the cache: %s", why);
        fetch_queue(d, f);
    }
    debuginfod_wake(d);
}

static void slot_on_message(struct child *c, const void *data, size_t len, int *fds, size_t n_fds, void *userdata)
{
    struct debuginfod_slot *slot = userdata;
    struct debuginfod_message m;
    AUTO_CLOSE int fd = n_fds > 0 ? fds[0] : -1;

    for (size_t i = 1; i < n_fds; i++)
        (void)close(fds[i]);
    if (len != sizeof(m)) {
        slot_lost(slot, "what asks it sent nonsense");
        return;
    }
    memcpy(&m, data, sizeof(m));
    m.text[sizeof(m.text) - 1] = m.build_id[sizeof(m.build_id) - 1] = '\0';
    if (m.type == DEBUGINFOD_READY && !slot->ready)
        slot_on_ready(slot, &m);
    else if (slot_answer_ok(slot, &m, fd))
        slot_on_answer(slot, &m, fd);
    else
        slot_lost(slot, "what asks it sent nonsense");
}

/* One that was idle for its time is not missed. */
static void slot_on_ended(struct child *c, bool timed_out, uint64_t cpu_ns, void *userdata)
{
    struct debuginfod_slot *slot = userdata;

    slot->child = NULL;
    if (slot->ready && !slot->fetch) {
        slot->ready = false;
    } else if (!slot->ready && timed_out) { /* a machine that has no time for it may have some later */
        log_warning("debuginfod: a client did not begin in time");
        slot_refuse(slot);
    } else {
        slot_lost(slot, timed_out ? "no answer in time" : "what asks it died");
    }
}

static const struct child_ops *slot_ops(void)
{
    static const struct child_ops ops = {.message = slot_on_message, .ended = slot_on_ended, .total_cpu_ns = &dead_cpu_ns};
    return &ops;
}

/* ---- giving work */

static void slot_ask(struct debuginfod_slot *slot, struct fetch *f, uint32_t type, uint32_t server, uint64_t deadline_ns)
{
    struct debuginfod_message m = {.type = type, .server = server};

    strcpy(m.build_id, f->build_id);
    f->stage = type == DEBUGINFOD_LOOKUP ? FETCH_LOOKING : FETCH_LOADING;
    slot->fetch = f;
    slot->server = server;
    slot->since_ns = monotonic_ns();
    child_set_deadline(slot->child, deadline_ns);
    if (child_send(slot->child, &m, sizeof(m), NULL, 0) < 0)
        slot_lost(slot, "what asks it does not listen");
}

/* The next file of the queue that there still is a server for; the others are answered. */
static struct fetch *slots_next_download(struct debuginfod *d, int *ret_server)
{
    struct fetch *f;

    while ((f = slots_next(d, FETCH_QUEUED))) {
        *ret_server = servers_choose(d, f);
        if (*ret_server >= 0)
            return f;
        fetch_finish(d, f, fetch_error(f), -1);
    }
    return NULL;
}

/* Gives it its next question; no server may be left for those that wait. */
static void slot_serve(struct debuginfod_slot *slot)
{
    struct debuginfod *d = slot->d;
    int server = 0;
    struct fetch *f = slot_downloads(slot) ? slots_next_download(d, &server) : slots_next(d, FETCH_UNKNOWN);

    if (f && slot_downloads(slot))
        slot_ask(slot, f, DEBUGINFOD_DOWNLOAD, (uint32_t)server, d->command.timeout_seconds * NSEC_PER_SEC + SLOT_GRACE_NS);
    else if (f)
        slot_ask(slot, f, DEBUGINFOD_LOOKUP, 0, SLOT_LOOKUP_NS);
}

static size_t slots_count(const struct debuginfod *d, enum fetch_stage stage)
{
    const struct fetch *f;
    size_t n = 0;

    TAILQ_FOREACH(f, &d->fetches, link)
        n += f->stage == stage;
    return n;
}

/* No more clients are started than there are questions for them. */
void slots_pump(struct debuginfod *d)
{
    size_t starting = 0;

    for (size_t i = 0; i < DEBUGINFOD_SLOTS && !d->unusable; i++) {
        struct debuginfod_slot *slot = &d->slots[i];
        size_t waiting = slots_count(d, slot_downloads(slot) ? FETCH_QUEUED : FETCH_UNKNOWN);
        if (slot->fetch || waiting <= (slot_downloads(slot) ? starting : 0))
            continue;
        if (slot->ready)
            slot_serve(slot);
        else if (slot->child || slot_start(slot) == 0)
            starting += slot_downloads(slot);
        else
            slot_refuse(slot);
    }
}

void slots_begin(struct debuginfod *d)
{
    (void)slot_start(&d->slots[0]); /* else tried again with the first question */
}

void slots_kill(struct debuginfod *d)
{
    for (size_t i = 0; i < DEBUGINFOD_SLOTS; i++) {
        slot_kill(&d->slots[i]);
        d->slots[i].fetch = NULL;
    }
}

bool slots_are_stuck(const struct debuginfod *d)
{
    uint64_t now_ns = monotonic_ns();

    for (size_t i = 1; i < DEBUGINFOD_SLOTS; i++)
        if (!d->slots[i].fetch || now_ns - d->slots[i].since_ns < SLOT_STUCK_NS)
            return false;
    return true;
}

bool slots_cache_is_stuck(const struct debuginfod *d)
{
    const struct debuginfod_slot *slot = &d->slots[0];
    return slot->child && (!slot->ready || slot->fetch) && monotonic_ns() - slot->since_ns > SLOT_STUCK_NS;
}

uint64_t debuginfod_cpu_ns(const struct debuginfod *d)
{
    uint64_t ns = dead_cpu_ns;

    for (size_t i = 0; i < DEBUGINFOD_SLOTS; i++)
        ns += d->slots[i].child ? child_cpu_ns(d->slots[i].child) : 0;
    return ns;
}
