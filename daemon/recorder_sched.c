/* What a recorder that accounts for all of the threads' time does beside the others (bpf/sched.h, daemon/sched_settle.h): before the
 * window a dump of the target's threads, behind it what was under way. Owns the dumper, and what was read. */
#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bpf/sched.h"
#include "daemon/child.h"
#include "daemon/dumper.h"
#include "daemon/recorder_impl.h"
#include "daemon/sched_settle.h"
#include "daemon/stack_pairs.h"
#include "util/cleanup.h"
#include "util/clock.h"

/* Threads that are dumped take their turn with those of others. */
#define RECORDER_DUMP_DEADLINE_NS (3 * NSEC_PER_SEC)
#define READ_AT_ONCE 1024
/* Threads that seem to run at a window's end, and that are looked at; and for how long they must seem so. */
#define RECORDER_MAX_DOUBTED 512
#define RECORDER_LEAST_DOUBT_NS NSEC_PER_MSEC

struct threads_read {
    struct settle_thread *threads;
    size_t n, room;
};

struct recorder_sched {
    struct child *dumper;
    bool preparing;
    struct raw_profile dump;
    bool dumped;
    char not_dumped[256]; /* why; else "" */
    struct raw_count *found;
    size_t n_found;
    struct threads_read closed;
    struct settle_result settled;
    bool is_settled;
};

int recorder_sched_new(struct recorder *r)
{
    if (r->params.sched_kind != SCHED_WALL && r->params.sched_kind != SCHED_OFFCPU)
        return 0;
    r->sched = calloc(1, sizeof(*r->sched));
    return r->sched ? 0 : -ENOMEM;
}

void recorder_sched_free(struct recorder *r)
{
    struct recorder_sched *s = r->sched;

    if (!s)
        return;
    child_kill(s->dumper);
    if (s->dumped)
        raw_profile_close(&s->dump);
    free(s->found);
    free(s->closed.threads);
    free(s->settled.counts);
    free(s);
    r->sched = NULL;
}

/* ---- the dump */

static void sched_prepared(struct recorder *r)
{
    if (!r->sched->preparing)
        return;
    r->sched->preparing = false;
    r->ops.prepared(r, r->userdata);
}

/* Marks threads that have ended: there is nothing more to come of them. */
static int sched_take_dump(struct recorder_sched *s, int fd)
{
    int e = raw_table_open(fd, &s->dump);
    if (e < 0)
        return e;
    s->dumped = true;
    s->found = calloc(s->dump.n_counts + 1, sizeof(*s->found));
    if (!s->found)
        return -ENOMEM;
    s->n_found = s->dump.n_counts;
    for (size_t i = 0; i < s->n_found; i++) {
        s->found[i] = s->dump.counts[i];
        if (i < s->dump.n_threads && strcmp(s->dump.threads[i].state, "exited") == 0)
            s->found[i].key.state = SAMPLE_STATE_NONE;
    }
    return 0;
}

static void sched_on_message(struct child *c, const void *data, size_t len, int *fds, size_t n_fds, void *userdata)
{
    struct recorder *r = userdata;
    const struct attacher_message *m = data;
    struct attacher_message end = {.type = ATTACHER_END};
    int e = -EPROTO;

    if (len == sizeof(*m) && m->type == ATTACHER_DUMPED && n_fds == 1 && !r->sched->dumped)
        e = sched_take_dump(r->sched, fds[0]);
    else if (len == sizeof(*m) && m->type == ATTACHER_FAILED)
        e = m->error;
    for (size_t i = 0; i < n_fds; i++)
        (void)close(fds[i]);
    if (len == sizeof(*m) && m->type == ATTACHER_READY)
        return;
    if (e < 0)
        (void)snprintf(r->sched->not_dumped, sizeof(r->sched->not_dumped), "%s", strerror(-e));
    (void)child_send(r->sched->dumper, &end, sizeof(end), NULL, 0);
    sched_prepared(r);
}

static void sched_on_ended(struct child *c, bool timed_out, uint64_t cpu_ns, void *userdata)
{
    struct recorder *r = userdata;

    r->sched->dumper = NULL;
    r->attacher_cpu_ns += cpu_ns;
    if (r->sched->preparing)
        (void)snprintf(r->sched->not_dumped, sizeof(r->sched->not_dumped), "the process that dumps them took too long, or died");
    sched_prepared(r);
}

bool recorder_prepare(struct recorder *r)
{
    static const struct child_ops ops = {.message = sched_on_message, .ended = sched_on_ended};
    const struct dump_programs *d = &r->sampler->dump;
    struct dumper_request request = {.programs = d, .slot = r->slot, .pid = r->pid, .kernel = r->params.kernel};
    const int keep[] = {d->thread_prog, d->cpu_prog, d->clock_prog, d->lock_fd};
    struct attacher_message open = {.type = ATTACHER_OPEN};
    struct recorder_sched *s = r->sched;

    if (!s)
        return true;
    if (!d->area) {
        (void)snprintf(s->not_dumped, sizeof(s->not_dumped), "%.255s", d->error);
        return true;
    }
    int e = child_spawn(r->base, dumper_main, &request, keep, sizeof(keep) / sizeof(keep[0]), RECORDER_DUMP_DEADLINE_NS, &ops, r, &s->dumper);
    if (e == 0)
        e = child_send(s->dumper, &open, sizeof(open), NULL, 0);
    if (e < 0)
        (void)snprintf(s->not_dumped, sizeof(s->not_dumped), "%s", strerror(-e));
    s->preparing = e == 0;
    return e < 0;
}

/* ---- what is under way */

static int threads_add(struct threads_read *t, uint32_t tgid, const struct thread_state *state)
{
    if (state->tgid != tgid)
        return 0;
    if (t->n == t->room) {
        size_t room = t->room ? 2 * t->room : 256;
        struct settle_thread *grown = reallocarray(t->threads, room, sizeof(*grown));
        if (!grown)
            return -ENOMEM;
        t->threads = grown;
        t->room = room;
    }
    t->threads[t->n++] = (struct settle_thread){.state = *state};
    return 0;
}

/* The target's threads, as the programs know them now. 0 or -errno. */
static int threads_read(const struct recorder *r, struct threads_read *ret)
{
    AUTO_FREE uint64_t *tasks = calloc(READ_AT_ONCE, sizeof(*tasks));
    AUTO_FREE struct thread_state *states = calloc(READ_AT_ONCE, sizeof(*states));
    uint32_t position = 0, n;
    bool first = true;
    if (r->sampler->sched.threads < 0)
        return -ENOENT;
    int e = tasks && states ? 0 : -ENOMEM, more = e;

    while (e == 0 && more == 0) {
        n = READ_AT_ONCE;
        more = bpf_map_lookup_batch(r->sampler->sched.threads, first ? NULL : &position, &position, tasks, states, &n, NULL);
        if (more < 0 && more != -ENOENT)
            return more;
        for (uint32_t i = 0; e == 0 && i < n; i++)
            e = threads_add(ret, (uint32_t)r->pid, &states[i]);
        first = false;
    }
    return e;
}

/* What the kernel says of a thread in one of its files. False: it can't be read. */
static bool thread_read(pid_t pid, uint32_t tid, const char *name, char *text, size_t len)
{
    char path[64];

    (void)snprintf(path, sizeof(path), "/proc/%d/task/%u/%s", pid, tid, name);
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, len - 1);
    if (n <= 0)
        return false;
    text[n] = '\0';
    return true;
}

/* Whether a thread waits now: neither runs nor could run. */
static bool thread_waits(pid_t pid, uint32_t tid)
{
    char text[256];
    const char *state = thread_read(pid, tid, "stat", text, sizeof(text)) ? strrchr(text, ')') : NULL;

    return state && state[1] == ' ' && strchr("SDTtI", state[2]);
}

/* When it must have left its CPU, by how long it has run since it came. */
static uint64_t thread_left_ns(pid_t pid, const struct thread_state *t)
{
    char text[64];
    uint64_t run_ns = thread_read(pid, t->tid, "schedstat", text, sizeof(text)) ? strtoull(text, NULL, 10) : 0;

    return t->in_ns + (run_ns > t->exec_ns ? run_ns - t->exec_ns : 1);
}

/* Some kernels don't tell of each switch. A thread that seems to have run for long at the end, but waits, has left its CPU. */
static void sched_find_missed(struct recorder *r, uint64_t until_ns)
{
    struct threads_read *closed = &r->sched->closed;
    unsigned left = RECORDER_MAX_DOUBTED;

    for (size_t i = 0; i < closed->n && left > 0; i++) {
        const struct thread_state *t = &closed->threads[i].state;
        if (t->place != THREAD_RUNNING || t->in_ns >= until_ns || until_ns - t->in_ns < RECORDER_LEAST_DOUBT_NS)
            continue;
        left--;
        if (thread_waits(r->pid, t->tid))
            closed->threads[i].left_ns = thread_left_ns(r->pid, t);
    }
}

void recorder_sched_close(struct recorder *r)
{
    const struct session_ctl *ctl = recorder_ctl(r);

    if (!r->sched)
        return;
    if (threads_read(r, &r->sched->closed) < 0)
        r->sched->closed.n = 0; /* then what was under way is that of a moment later */
    sched_find_missed(r, ctl->closed_ns ? ctl->closed_ns : ctl->until_ns);
}

/* The dump's stacks, and those of what nobody saw. */
static int sched_add_stacks(struct recorder *r)
{
    const struct stack_record nobody_saw[] = {
        {.type = RECORD_STACK, .end = STACK_END_UNSEEN, .stack_hash = SETTLE_UNSEEN_HASH},
        {.type = RECORD_STACK, .end = STACK_END_UNSAMPLED, .stack_hash = SETTLE_UNSAMPLED_HASH},
    };
    const struct recorder_sched *s = r->sched;
    void *room = recorder_reserve(r, sizeof(nobody_saw));

    if (!room)
        return -ENOMEM;
    memcpy(room, nobody_saw, sizeof(nobody_saw));
    if (!s->dumped || s->dump.n_records == 0)
        return 0;
    room = recorder_reserve(r, s->dump.records[0]->len);
    if (!room)
        return -ENOMEM;
    memcpy(room, s->dump.records[0] + 1, s->dump.records[0]->len);
    return 0;
}

/* Counts that found no room in the table are among the records: takes them out, to be settled as the others, behind which they are put. */
static int sched_take_samples(struct recorder *r)
{
    size_t at = 0, kept = 0, bytes;
    struct raw_count *counts = reallocarray(r->counts, r->n_counts + r->records_len / sizeof(struct sample_record) + 1, sizeof(*counts));

    if (!counts)
        return -ENOMEM;
    r->counts = counts;
    for (; at < r->records_len; at += bytes) {
        const struct stack_record *record = (const void *)(r->records + at);
        bytes = recorder_record_bytes(record);
        if (bytes == 0 || bytes > r->records_len - at)
            break;
        if (record->type == RECORD_SAMPLE) {
            const struct sample_record *sample = (const void *)record;
            r->counts[r->n_counts++] = (struct raw_count){sample->key, sample->value};
            r->n_records--;
            continue;
        }
        memmove(r->records + kept, record, bytes);
        kept += bytes;
    }
    memmove(r->records + kept, r->records + at, r->records_len - at);
    r->records_len = kept + r->records_len - at;
    return 0;
}

static int sched_settle_counts(struct recorder *r, const struct threads_read *ended)
{
    const struct session_ctl *ctl = recorder_ctl(r);
    struct recorder_sched *s = r->sched;
    struct settle_request request = {
        .ctl = ctl, .slot = r->slot, .until_ns = ctl->closed_ns ? ctl->closed_ns : ctl->until_ns,
        .way = (ctl->kernel ? SCHED_WALK_KERNEL : 0) | (ctl->unwind == UNWIND_BY_FRAME_POINTERS ? SCHED_WALK_FP : 0),
        .running = ctl->sched_kind == SCHED_WALL, .counts = r->counts, .n_counts = r->n_counts, .closed = s->closed.threads,
        .n_closed = s->closed.n, .ended = ended->threads, .n_ended = ended->n, .found = s->found, .n_found = s->n_found,
    };

    int e = sched_settle(&request, &s->settled);
    if (e < 0)
        return e;
    memcpy(s->settled.not_dumped, s->not_dumped, sizeof(s->not_dumped));
    s->is_settled = true;
    e = sched_add_stacks(r);
    return e < 0 || !r->params.waker ? e : stack_pairs_join(r);
}

int recorder_sched_settle(struct recorder *r)
{
    struct threads_read ended = {0};

    if (!r->sched)
        return 0;
    int e = threads_read(r, &ended);
    e = e < 0 ? e : sched_take_samples(r);
    e = e < 0 ? e : sched_settle_counts(r, &ended);
    free(ended.threads);
    return e;
}

const struct settle_result *recorder_settled(const struct recorder *r)
{
    return r->sched && r->sched->is_settled ? &r->sched->settled : NULL;
}
