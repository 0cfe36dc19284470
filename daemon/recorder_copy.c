/* The recorder of events that copy stacks. Owns the rings' mappings and their events, the target's pidfd, and what it learns beside
 * the samples: names of threads, and when what the target maps changed.
 *
 * The rings of CPUs are read one after the other, so what they tell is not in order: names and epochs are given to samples by their
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
#include "daemon/recorder_impl.h"
#include "util/cleanup.h"
#include "util/clock.h"

#define MAX_RINGS 4096
#define MAX_NAMES 262144
#define MAX_EPOCHS 65536
#define MAX_PARENTS 64 /* threads that started one another, all without a name of their own */
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

/* A thread's name from a time on. */
struct name_change {
    uint64_t time_ns;
    uint32_t tid;
    uint32_t parent_tid; /* it has begun, by the name of this thread; 0: comm is its name */
    char comm[CPROFD_COMM_LEN];
};

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
    struct name_change *names;
    size_t n_names, cap_names;
    uint64_t *epochs;          /* when each epoch from the second on began */
    size_t n_epochs, cap_epochs;
};

static struct session_ctl *copy_ctl(const struct recorder_copy *c)
{
    return &c->r->sampler->ctl[c->r->slot];
}

/* ---- names and epochs */

static void copy_add_name(struct recorder_copy *c, const struct name_change *name)
{
    if (c->n_names == c->cap_names) {
        size_t cap = c->cap_names ? 2 * c->cap_names : 64;
        struct name_change *names = cap <= MAX_NAMES ? reallocarray(c->names, cap, sizeof(*names)) : NULL;
        if (!names)
            return; /* the thread goes by the name before */
        c->names = names;
        c->cap_names = cap;
    }
    c->names[c->n_names++] = *name;
}

static void copy_on_name(struct recorder_copy *c, const struct copy_item *item)
{
    struct name_change name = {.time_ns = item->time_ns, .tid = item->tid};

    if (item->type == COPY_ITEM_FORK)
        name.parent_tid = item->parent_tid;
    else
        memcpy(name.comm, item->comm, sizeof(name.comm));
    copy_add_name(c, &name);
}

static void copy_notice(struct recorder_copy *c, enum notice_type type, uint64_t time_ns)
{
    const struct session_ctl *ctl = copy_ctl(c);
    const struct session_notice notice = {.type = type, .slot = c->r->slot, .instance = ctl->instance, .epoch = ctl->epoch, .time_ns = time_ns};

    if (c->r->ready && !c->r->orphaned && c->r->ops.notice)
        c->r->ops.notice(c->r, &notice, c->r->userdata);
}

static bool copy_epochs_room(struct recorder_copy *c)
{
    if (c->n_epochs < c->cap_epochs)
        return true;
    size_t cap = c->cap_epochs ? 2 * c->cap_epochs : 64;
    uint64_t *epochs = cap <= MAX_EPOCHS ? reallocarray(c->epochs, cap, sizeof(*epochs)) : NULL;
    if (!epochs)
        return false;
    c->epochs = epochs;
    c->cap_epochs = cap;
    return true;
}

/* What the target maps has changed. Another CPU's ring may have told of a later change before: then a change of mappings goes with that,
 * but an exec begins that epoch sooner, for no sample of the new image may count as one of the image before. Nor is an exec left out
 * for want of room: the last epoch is its own then. */
static void copy_new_epoch(struct recorder_copy *c, uint64_t time_ns, bool exec)
{
    struct session_ctl *ctl = copy_ctl(c);
    bool room = copy_epochs_room(c);

    if (!room && (!exec || c->n_epochs == 0))
        return;
    for (size_t i = c->n_epochs; exec && i > 0 && time_ns < c->epochs[i - 1]; i--)
        c->epochs[i - 1] = time_ns;
    if (room) {
        bool sooner = c->n_epochs > 0 && time_ns < c->epochs[c->n_epochs - 1];
        c->epochs[c->n_epochs] = sooner ? c->epochs[c->n_epochs - 1] : time_ns;
        c->n_epochs++;
        ctl->epoch++;
    }
    if (exec) {
        ctl->exec_epoch = ctl->epoch;
        if (!ctl->pending_exec)
            ctl->pending_exec = ctl->epoch;
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
        copy_new_epoch(c, item->time_ns, true);
        break;
    case COPY_ITEM_NAME:
    case COPY_ITEM_FORK:
        copy_on_name(c, item);
        break;
    case COPY_ITEM_CODE:
        copy_new_epoch(c, item->time_ns, false);
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

static void copy_on_item(const struct copy_item *item, void *userdata)
{
    struct copy_source *s = userdata;

    if (item->type == COPY_ITEM_SAMPLE)
        copy_on_sample(s, item);
    else if (item->type == COPY_ITEM_LOST)
        copy_ctl(s->owner)->lost_ring += copy_ctl(s->owner)->state == SESSION_OPEN ? item->lost : 0;
    else if (item->type == COPY_ITEM_THROTTLE || item->type == COPY_ITEM_UNTHROTTLE)
        copy_on_throttle(s, item);
    else if ((pid_t)item->pid == s->owner->r->pid)
        copy_on_target_item(s->owner, item);
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
        struct name_change first = {.tid = name.tid};
        memcpy(first.comm, name.comm, sizeof(first.comm));
        if (first.comm[0]) /* else it ended as it was looked at */
            copy_add_name(c, &first);
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

static int name_compare(const void *a, const void *b)
{
    const struct name_change *x = a, *y = b;
    if (x->tid != y->tid)
        return x->tid < y->tid ? -1 : 1;
    return x->time_ns < y->time_ns ? -1 : x->time_ns > y->time_ns;
}

/* What is known of a thread's name at a time, or else the first that is known of it. NULL: nothing. */
static const struct name_change *copy_find_name(const struct recorder_copy *c, uint32_t tid, uint64_t time_ns)
{
    size_t low = 0, high = c->n_names;

    while (low < high) { /* the first that is beyond */
        size_t middle = low + (high - low) / 2;
        const struct name_change *n = &c->names[middle];
        if (n->tid < tid || (n->tid == tid && n->time_ns <= time_ns))
            low = middle + 1;
        else
            high = middle;
    }
    if (low > 0 && c->names[low - 1].tid == tid)
        return &c->names[low - 1];
    return low < c->n_names && c->names[low].tid == tid ? &c->names[low] : NULL;
}

static void copy_name_sample(const struct recorder_copy *c, struct copy_record *record)
{
    const struct name_change *n = copy_find_name(c, record->key.tid, record->time_ns);

    for (unsigned i = 0; i < MAX_PARENTS && n && n->parent_tid; i++)
        n = copy_find_name(c, n->parent_tid, n->time_ns);
    if (!n || n->parent_tid) /* the record of its beginning was lost */
        n = copy_find_name(c, record->key.tgid, record->time_ns);
    if (n && !n->parent_tid)
        memcpy(record->key.comm, n->comm, CPROFD_COMM_LEN);
}

static uint32_t copy_epoch_at(const struct recorder_copy *c, uint64_t time_ns)
{
    size_t low = 0, high = c->n_epochs;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (c->epochs[middle] <= time_ns)
            low = middle + 1;
        else
            high = middle;
    }
    return (uint32_t)low;
}

void recorder_copy_finish(struct recorder_copy *c)
{
    struct recorder *r = c->r;

    copy_read_all(c);
    if (c->n_names > 0)
        qsort(c->names, c->n_names, sizeof(*c->names), name_compare);
    for (size_t at = 0; at < r->records_len;) {
        struct copy_record *record = (struct copy_record *)(void *)(r->records + at);
        record->key.epoch = copy_epoch_at(c, record->time_ns);
        copy_name_sample(c, record);
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
    free(c->names);
    free(c->epochs);
    free(c);
}
