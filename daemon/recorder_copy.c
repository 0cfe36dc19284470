/* The recorder of events that copy stacks. Owns the rings' mappings and their events, the target's pidfd, and what it learns beside
 * the samples: names of threads, and when what the target maps changed.
 *
 * The rings of CPUs are read one after the other, so what they tell is not in order: names and epochs (copy_history.h) are given to samples by their
 * times, at the end. */
#include <errno.h>
#include <event2/event.h>
#include <libelf.h>
#include <linux/perf_event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "bpf/copy_events.h"
#include "bpf/copy_ring.h"
#include "bpf/copy_timers.h"
#include "daemon/copy_history.h"
#include "daemon/recorder_impl.h"
#include "util/cleanup.h"
#include "util/clock.h"

#define MAX_RINGS 4096
/* Of each stack: what is asked for, and what is kept at least however many samples there are. */
#define STACK_MOST_BYTES 32768u
#define STACK_LEAST_BYTES 4096u
/* A ring carries as much for each tick of its CPU, whoever runs: at high rates less is asked for, so that reading keeps up. */
#define STACKS_BYTES_PER_SECOND (16u << 20)
#define STACK_FAST_BYTES 8192u
/* A tick that comes later than this after it was due is late; one that is less late than that moves the grid. */
#define TICK_LATE_NS 50000u
#define TICK_DRIFT_NS 500000u

#if defined(__x86_64__)
#define COPY_MACHINE EM_X86_64
#define N_KNOWN 17
/* Those that some kernels do not have of a thread that is in a system call: they say ~0. */
#define DOUBTFUL (1u << 3 | 0xfu << 12)
#define STACK_POINTER 7
#else
#define COPY_MACHINE EM_AARCH64
#define N_KNOWN 33
#define DOUBTFUL 0
#define STACK_POINTER 31
#endif

/* One timer's ticks on one CPU. */
struct copy_tick {
    uint64_t due_ns, last_ns;
    uint32_t position, pick; /* in a block of `decimation` ticks, of which one counts */
};

struct copy_source {
    struct recorder_copy *owner;
    struct copy_ring *ring;
    struct event *event;
    int fd;
    struct copy_tick ticks[CPROFD_TIMERS_PER_CPU];
    uint32_t last_pid;         /* who ran at the last tick of any timer; 0: nobody */
    uint64_t throttled_ns;     /* since when; 0: it is not */
    uint64_t last_ns;          /* of the last record */
};

struct recorder_copy {
    struct recorder *r;
    bool kernel;
    enum copy_reach reach;
    struct copy_timers timers; /* cpu-clock */
    struct copy_source **sources;
    size_t n_sources;
    int pidfd;
    struct event *exit_event;
    uint64_t exit_ns, closed_ns;
    struct copy_history history;
};

static struct session_ctl *copy_ctl(const struct recorder_copy *c)
{
    return &c->r->sampler->ctl[c->r->slot];
}

/* ---- what changes */

static void copy_on_name(struct recorder_copy *c, const struct copy_item *item)
{
    if (item->type == COPY_ITEM_FORK)
        copy_history_forked(&c->history, item->time_ns, item->tid, item->parent_tid);
    else
        copy_history_named(&c->history, item->time_ns, item->tid, item->comm);
}

static void copy_notice(struct recorder_copy *c, enum notice_type type, uint64_t time_ns)
{
    const struct session_ctl *ctl = copy_ctl(c);
    const struct session_notice notice = {.type = type, .slot = c->r->slot, .instance = ctl->instance, .epoch = ctl->epoch, .time_ns = time_ns};

    if (c->r->ready && !c->r->orphaned && c->r->ops.notice)
        c->r->ops.notice(c->r, &notice, c->r->userdata);
}

enum copy_change {
    CHANGE_CODE,
    CHANGE_EXEC,
    CHANGE_UNSEEN, /* records were lost: it may have been an exec, and is taken for one */
};

static void copy_new_epoch(struct recorder_copy *c, uint64_t time_ns, enum copy_change change)
{
    struct session_ctl *ctl = copy_ctl(c);
    bool exec = change != CHANGE_CODE;
    uint32_t epoch = copy_history_changed(&c->history, time_ns, exec);

    if (epoch == 0)
        return;
    ctl->epoch = epoch;
    if (exec) {
        ctl->exec_epoch = epoch;
        ctl->exec_unseen = change == CHANGE_UNSEEN && (!ctl->pending_exec || ctl->exec_unseen);
        if (!ctl->pending_exec)
            ctl->pending_exec = epoch;
    }
    copy_notice(c, exec ? NOTICE_EXEC : NOTICE_EPOCH, time_ns);
}

/* ---- ticks */

static uint32_t random_below(uint32_t n)
{
    return n > 1 ? (uint32_t)random() % n : 0;
}

/* The timer that a sample is of; CPROFD_TIMERS_PER_CPU: it is another event's. */
static size_t copy_timer(const struct recorder_copy *c, uint64_t period)
{
    size_t i = 0;
    if (c->r->params.event != EVENT_CPU_CLOCK)
        return CPROFD_TIMERS_PER_CPU;
    while (i < CPROFD_TIMERS_PER_CPU && c->timers.period_ns[i] != period)
        i++;
    return i;
}

/* Ticks are due on a grid. Returns how many of its points have passed since the last one; *ret_late: this one came late. The kernel holds
 * timers back while a CPU is idle (some virtual machines) or stolen, and then they all come as soon as it runs again, which would charge
 * the target with time that was nobody's.
 *
 * The grid moves when other events are opened on the CPU, or the kernel stops the timer for a moment: a little lateness is followed
 * slowly, and two ticks that are whole periods apart make a new grid. */
static uint64_t copy_passed(struct copy_tick *t, uint64_t period_ns, uint64_t now_ns, bool *ret_late)
{
    uint64_t gap_ns = now_ns - t->last_ns;

    *ret_late = false;
    t->last_ns = now_ns;
    if (t->due_ns == 0 || now_ns + TICK_LATE_NS < t->due_ns) {
        t->due_ns = now_ns;
        return 1;
    }
    uint64_t n = (now_ns + TICK_LATE_NS - t->due_ns) / period_ns;
    t->due_ns += n * period_ns;
    if (now_ns <= t->due_ns) {
        t->due_ns = now_ns;
        return n;
    }
    uint64_t late_ns = now_ns - t->due_ns;
    if (late_ns > TICK_LATE_NS && gap_ns >= period_ns / 2 && (gap_ns + TICK_LATE_NS) % period_ns <= 2 * TICK_LATE_NS)
        t->due_ns = now_ns;
    else if (late_ns < TICK_DRIFT_NS)
        t->due_ns += late_ns / 8;
    *ret_late = now_ns - t->due_ns > TICK_LATE_NS;
    return n;
}

/* One tick in each block counts, a random one. */
static bool copy_picked(struct copy_tick *t, uint32_t decimation)
{
    if (t->position == 0)
        t->pick = random_below(decimation);
    bool picked = t->position == t->pick;
    t->position = (t->position + 1) % decimation;
    return picked;
}

/* Whether a sample counts. Bound events tick by their thread's own time, and are never late. */
static bool copy_counts(struct copy_source *s, const struct copy_item *item, bool is_target)
{
    struct recorder_copy *c = s->owner;
    struct session_ctl *ctl = copy_ctl(c);
    size_t timer = copy_timer(c, item->period);
    uint32_t last_pid = s->last_pid;
    bool late = false;
    uint64_t passed = 1;

    if (timer == CPROFD_TIMERS_PER_CPU)
        return is_target;
    s->last_pid = item->pid;
    if (c->reach == COPY_REACH_HOST)
        passed = copy_passed(&s->ticks[timer], item->period, item->time_ns, &late);
    if (!copy_picked(&s->ticks[timer], c->timers.decimation) || !is_target)
        return false;
    /* One that was due while anybody was on the CPU is in place. */
    late = late && last_pid == 0;
    if (ctl->state == SESSION_OPEN && (late || passed > 1))
        ctl->late_weight += (late ? passed : passed - 1) * ctl->weight;
    return !late;
}

/* ---- samples */

/* How much of a stack is kept: so that the samples still to come find room as well, if they come as those before did. */
static size_t copy_stack_room(const struct recorder_copy *c, uint64_t now_ns)
{
    const struct session_ctl *ctl = copy_ctl(c);
    double elapsed = (double)(now_ns - ctl->opened_ns) + 0.1 * NSEC_PER_SEC, all = (double)c->r->params.duration_ns;
    double to_come = elapsed < all ? (double)(ctl->samples + 1) * (all - elapsed) / elapsed : 1;
    double share = (double)(RECORDER_MAX_BYTES - c->r->records_len) / (to_come + 1) - sizeof(struct copy_record);

    if (share >= STACK_MOST_BYTES)
        return STACK_MOST_BYTES;
    return share > STACK_LEAST_BYTES ? (size_t)share & ~(size_t)7 : STACK_LEAST_BYTES;
}

static void copy_fill_registers(struct copy_record *record, const struct copy_item *item)
{
    if (!item->has_registers)
        return;
    record->machine = COPY_MACHINE;
    record->known = (1ull << N_KNOWN) - 1;
    for (unsigned i = 0; i < N_KNOWN; i++) {
        record->registers[i] = item->registers[i];
        if (DOUBTFUL >> i & 1 && item->registers[i] == UINT64_MAX)
            record->known &= ~(1ull << i);
    }
    record->stack_base = item->registers[STACK_POINTER];
}

static void copy_take_sample(struct recorder_copy *c, const struct copy_item *item)
{
    struct session_ctl *ctl = copy_ctl(c);
    size_t room = copy_stack_room(c, item->time_ns), len = item->stack_len < room ? item->stack_len : room;
    struct copy_record *record = recorder_reserve(c->r, COPY_RECORD_BYTES(item->n_kernel, len));

    ctl->samples++;
    if (!record)
        return;
    *record = (struct copy_record){
        .type = RECORD_COPY, .n_kernel = (uint16_t)item->n_kernel, .stack_bytes = (uint32_t)len, .time_ns = item->time_ns,
        .key = {.tid = item->tid, .tgid = item->pid}, .value = {.samples = 1, .weight = ctl->weight * ctl->thin},
    };
    copy_fill_registers(record, item);
    uint8_t *data = (uint8_t *)record->data;
    if (item->n_kernel > 0)
        memcpy(data, item->kernel, item->n_kernel * sizeof(uint64_t));
    data += item->n_kernel * sizeof(uint64_t);
    memset(data + len, 0, (8 - len % 8) % 8);
    if (len > 0)
        memcpy(data, item->stack, len);
}

static void copy_on_sample(struct copy_source *s, const struct copy_item *item)
{
    struct recorder_copy *c = s->owner;
    const struct session_ctl *ctl = copy_ctl(c);
    bool is_target = (pid_t)item->pid == c->r->pid;

    if (!copy_counts(s, item, is_target) || ctl->state < SESSION_OPEN || item->time_ns < ctl->opened_ns)
        return;
    if (ctl->state != SESSION_OPEN && item->time_ns >= c->closed_ns)
        return;
    if (random_below(ctl->thin) == 0)
        copy_take_sample(c, item);
}

/* ---- items */

static void copy_on_target_item(struct recorder_copy *c, const struct copy_item *item)
{
    switch (item->type) {
    case COPY_ITEM_EXEC:
        copy_on_name(c, item);
        copy_new_epoch(c, item->time_ns, CHANGE_EXEC);
        break;
    case COPY_ITEM_NAME:
    case COPY_ITEM_FORK:
        copy_on_name(c, item);
        break;
    case COPY_ITEM_CODE:
        copy_new_epoch(c, item->time_ns, CHANGE_CODE);
        break;
    case COPY_ITEM_EXIT:
        c->exit_ns = item->time_ns > c->exit_ns ? item->time_ns : c->exit_ns;
        break;
    default:
        break;
    }
}

/* The time in which an event did not tick; nobody knows whose it was. Each of the timers stands for its share. */
static void copy_on_throttle(struct copy_source *s, const struct copy_item *item)
{
    struct recorder_copy *c = s->owner;

    if (item->type == COPY_ITEM_THROTTLE) {
        s->throttled_ns = item->time_ns;
    } else if (s->throttled_ns && c->r->params.event == EVENT_CPU_CLOCK && item->time_ns > s->throttled_ns) {
        copy_ctl(c)->late_weight += (item->time_ns - s->throttled_ns) / CPROFD_TIMERS_PER_CPU;
        s->throttled_ns = 0;
    }
}

/* What was lost came after the last record that was not: an exec among it, too, after which the asker's right to trace is another. */
static void copy_on_lost(struct copy_source *s, const struct copy_item *item)
{
    struct session_ctl *ctl = copy_ctl(s->owner);

    ctl->lost_ring += ctl->state == SESSION_OPEN ? item->lost : 0;
    if (ctl->state <= SESSION_OPEN)
        copy_new_epoch(s->owner, s->last_ns, CHANGE_UNSEEN);
}

static void copy_on_item(const struct copy_item *item, void *userdata)
{
    struct copy_source *s = userdata;

    if (item->type == COPY_ITEM_SAMPLE)
        copy_on_sample(s, item);
    else if (item->type == COPY_ITEM_LOST)
        copy_on_lost(s, item);
    else if (item->type == COPY_ITEM_THROTTLE || item->type == COPY_ITEM_UNTHROTTLE)
        copy_on_throttle(s, item);
    else if ((pid_t)item->pid == s->owner->r->pid)
        copy_on_target_item(s->owner, item);
    if (item->time_ns > s->last_ns)
        s->last_ns = item->time_ns;
}

static void copy_read_all(struct recorder_copy *c)
{
    for (size_t i = 0; i < c->n_sources; i++)
        copy_ring_read(c->sources[i]->ring, copy_on_item, c->sources[i]);
}

static void copy_on_ring(evutil_socket_t fd, short what, void *arg)
{
    struct copy_source *s = arg;
    copy_ring_read(s->ring, copy_on_item, s);
}

/* ---- the target's end */

static void copy_on_exit(evutil_socket_t fd, short what, void *arg)
{
    struct recorder_copy *c = arg;
    struct session_ctl *ctl = copy_ctl(c);

    (void)event_del(c->exit_event);
    copy_read_all(c);
    ctl->closed_ns = c->exit_ns ? c->exit_ns : monotonic_ns();
    recorder_close(c->r);
    copy_notice(c, NOTICE_EXIT, ctl->closed_ns);
}

static int copy_watch_exit(struct recorder_copy *c)
{
    c->pidfd = (int)syscall(SYS_pidfd_open, c->r->pid, 0);
    if (c->pidfd < 0)
        return -errno;
    c->exit_event = event_new(c->r->base, c->pidfd, EV_READ | EV_PERSIST, copy_on_exit, c);
    return c->exit_event && event_add(c->exit_event, NULL) == 0 ? 0 : -ENOMEM;
}

/* ---- from the attacher */

static int copy_add_source(struct recorder_copy *c, size_t ring_bytes, int owned_fd)
{
    AUTO_CLOSE int fd = owned_fd;
    if (c->n_sources == MAX_RINGS)
        return -E2BIG;
    struct copy_source **sources = reallocarray(c->sources, c->n_sources + 1, sizeof(struct copy_source *));
    if (!sources)
        return -ENOMEM;
    c->sources = sources;
    struct copy_source *s = calloc(1, sizeof(*s));
    if (!s)
        return -ENOMEM;
    *s = (struct copy_source){.owner = c, .fd = -1};
    sources[c->n_sources++] = s;
    int r = copy_ring_new(fd, ring_bytes, c->kernel, &s->ring);
    if (r < 0)
        return r;
    s->fd = TAKE_FD(fd);
    s->event = event_new(c->r->base, s->fd, EV_READ | EV_PERSIST, copy_on_ring, s);
    return s->event && event_add(s->event, NULL) == 0 ? 0 : -ENOMEM;
}

int recorder_copy_rings(struct recorder_copy *c, const struct attacher_message *m, int *fds, size_t n_fds)
{
    int r = 0;

    for (size_t i = 0; i < n_fds; i++) {
        if (r == 0)
            r = copy_add_source(c, m->ring_bytes, fds[i]);
        else
            (void)close(fds[i]);
    }
    return r;
}

int recorder_copy_ready(struct recorder_copy *c, const struct attacher_message *m, int owned_names_fd)
{
    AUTO_CLOSE int names_fd = owned_names_fd;
    struct copy_name name;
    off_t at = 0;

    c->reach = m->reach;
    for (; pread(names_fd, &name, sizeof(name), at) == sizeof(name); at += (off_t)sizeof(name)) {
        if (name.comm[0]) /* else it ended as it was looked at */
            copy_history_named(&c->history, 0, name.tid, name.comm);
    }
    return copy_watch_exit(c);
}

/* ---- the end */

void recorder_copy_close(struct recorder_copy *c)
{
    const struct session_ctl *ctl = copy_ctl(c);
    if (c->closed_ns == 0)
        c->closed_ns = ctl->closed_ns ? ctl->closed_ns : monotonic_ns();
}

void recorder_copy_finish(struct recorder_copy *c)
{
    struct recorder *r = c->r;

    copy_read_all(c);
    copy_history_sort(&c->history);
    for (size_t at = 0; at < r->records_len;) {
        struct copy_record *record = (struct copy_record *)(void *)(r->records + at);
        const char *name = copy_history_name(&c->history, record->key.tgid, record->key.tid, record->time_ns);
        record->key.epoch = copy_history_epoch(&c->history, record->time_ns);
        if (name)
            memcpy(record->key.comm, name, CPROFD_COMM_LEN);
        at += COPY_RECORD_BYTES(record->n_kernel, record->stack_bytes);
    }
}

double recorder_copy_period(const struct recorder_copy *c)
{
    return c->r->params.event == EVENT_CPU_CLOCK ? copy_timers_mean_period_ns(&c->timers) : (double)c->r->params.period;
}

enum copy_reach recorder_copy_reach(const struct recorder_copy *c)
{
    return c->reach;
}

uint64_t recorder_copy_changes_lost(const struct recorder_copy *c)
{
    return c->history.n_left_out;
}

static uint32_t copy_stack_bytes(const struct session_params *p)
{
    if (p->event != EVENT_CPU_CLOCK)
        return STACK_MOST_BYTES;
    double share = STACKS_BYTES_PER_SECOND * ((double)p->period / NSEC_PER_SEC);
    return share >= STACK_MOST_BYTES ? STACK_MOST_BYTES : share > STACK_FAST_BYTES ? (uint32_t)share & ~7u : STACK_FAST_BYTES;
}

int recorder_copy_new(struct recorder *r, struct copy_request *ret_request)
{
    const struct session_params *p = &r->params;
    uint64_t random[2];
    struct recorder_copy *c = calloc(1, sizeof(*c));
    if (!c)
        return -ENOMEM;
    *c = (struct recorder_copy){.r = r, .kernel = p->kernel, .pidfd = -1};
    r->copy = c;
    *ret_request = (struct copy_request){.pid = r->pid, .type = p->perf_type, .config = p->perf_config, .periods = {p->period}, .n_periods = 1,
                                         .kernel = p->kernel, .stack_bytes = copy_stack_bytes(p)};
    if (p->event == EVENT_CPU_CLOCK) {
        if (getrandom(random, sizeof(random), 0) != sizeof(random))
            return -EIO;
        copy_timers_draw(p->period, random, &c->timers);
        ret_request->n_periods = CPROFD_TIMERS_PER_CPU;
        memcpy(ret_request->periods, c->timers.period_ns, sizeof(ret_request->periods));
    }
    return 0;
}

void recorder_copy_free(struct recorder_copy *c)
{
    if (!c)
        return;
    for (size_t i = 0; i < c->n_sources; i++) {
        if (c->sources[i]->event)
            event_free(c->sources[i]->event);
        copy_ring_free(c->sources[i]->ring);
        close_fd(&c->sources[i]->fd);
        free(c->sources[i]);
    }
    if (c->exit_event)
        event_free(c->exit_event);
    close_fd(&c->pidfd);
    free(c->sources);
    copy_history_deinit(&c->history);
    free(c);
}
