/* What each session does with the scheduler's events of a thread: counts its time, and takes its stack. Included by sched.bpf.c alone. */
#pragma once

#include "bpf/program_count.h"
#include "bpf/sched_stacks.h"
#include "bpf/sched_sums.h"

/* ---- counting */

#define NO_STACK (SCHED_WALKS + 1) /* in place of a way to walk it */

/* The time that a thread ran, when it leaves its CPU. */
static __always_inline void count_run(struct session_ctl *s, struct thread_state *t, struct scratch *x, __u32 slot)
{
    __u64 until_ns = session_until(s), opened_ns = s->opened_ns;

    if (s->sched_kind == SCHED_WALL && opened_ns)
        count_on(s, t, x, slot, clip(x->now_ns, opened_ns, until_ns) - clip(t->in_ns, opened_ns, until_ns));
}

/* The pair of the stack that a thread waits with and that of who woke it becomes a stack of its own, which the reader puts together. */
__noinline int session_pair(struct thread_state *t, struct scratch *x, __u32 slot, __u32 way)
{
    struct session_ctl *s = bpf_map_lookup_elem(&sessions, &slot);
    void *table = bpf_map_lookup_elem(&counts, &slot);
    void *ring = bpf_map_lookup_elem(&records, &slot);
    struct sample_value none = {};

    if (!t || !x || !s || !table || !ring || way >= SCHED_WALKS)
        return 0;
    x = scratch_of_map(x);
    if (!x)
        return 0;
    walk_begin(s, &x->walk);
    x->walk.frames[0] = t->stack_hash[way][0];
    x->walk.frames[1] = t->stack_hash[way][1];
    x->walk.frames[2] = t->woken_by ? t->waker_hash[way][0] : 0;
    x->walk.frames[3] = t->woken_by ? t->waker_hash[way][1] : 0;
    for (__u32 i = 0; i < 4; i++)
        stack_hash(x->walk.hash, x->walk.frames[i]);
    x->walk.n = 4;
    x->walk.record.n_user = 4;
    x->walk.end = STACK_END_PAIR;
    walk_finish(&x->walk);
    if (!give_stack(s, table, ring, x, &none, 1))
        return 0;
    t->stack_hash[SCHED_PAIR][0] = x->walk.record.stack_hash[0];
    t->stack_hash[SCHED_PAIR][1] = x->walk.record.stack_hash[1];
    return 1;
}

/* A wake may come so long before the thread has left its CPU: it said that it would. */
#define EARLY_WAKE_NS 1000000

/* Not where the stack of who woke it was not walked, to save time, or was lost. */
static __always_inline bool waker_is_known(const struct thread_state *t, __u32 slot)
{
    return t->place == THREAD_WAITING && t->wake_ns > t->out_ns && (!t->woken_by || (t->waker_given >> slot & 1));
}

/* The time that a thread was off its CPU, when it is put on one. */
static __always_inline void count_wait(struct session_ctl *s, struct thread_state *t, struct scratch *x, __u32 slot)
{
    __u64 until_ns, opened_ns, left_ns, woken_ns, back_ns;
    bool unseen, queued;
    __u32 way;

    if ((s->sched_kind != SCHED_WALL && s->sched_kind != SCHED_OFFCPU) || !s->opened_ns)
        return;
    until_ns = session_until(s);
    opened_ns = s->opened_ns;
    unseen = t->place <= THREAD_UNSEEN;
    queued = t->place == THREAD_QUEUED;
    way = t->given >> slot & 1 && !unseen ? session_way(s) : NO_STACK;
    if (!queued && t->wake_ns > t->out_ns)
        woken_ns = t->wake_ns;
    else if (queued || (!unseen && t->wake_ns >= t->in_ns && t->wake_ns + EARLY_WAKE_NS >= t->out_ns))
        woken_ns = t->out_ns; /* it could run all the time; or it was woken while it was about to leave */
    else
        woken_ns = x->now_ns; /* nobody told when */
    if (woken_ns > x->now_ns)
        woken_ns = x->now_ns; /* the wake ended a later wait than this one, of whose end nobody told */
    if (s->waker && way != NO_STACK && waker_is_known(t, slot) && session_pair(t, x, slot, way))
        way = SCHED_PAIR;
    left_ns = clip(t->out_ns, opened_ns, until_ns);
    woken_ns = clip(woken_ns, opened_ns, until_ns);
    back_ns = clip(x->now_ns, opened_ns, until_ns);
    if (way == NO_STACK && t->out_ns < opened_ns)
        unseen = true; /* as a dump has found it */
    x->count.hash[0] = way < NO_STACK ? t->stack_hash[way][0] : 0;
    x->count.hash[1] = way < NO_STACK ? t->stack_hash[way][1] : 0;
    x->count.epoch = s->epoch;
    x->count.state = unseen ? SAMPLE_STATE_NONE : t->state;
    count_off(s, t, x, slot, woken_ns - left_ns, back_ns > woken_ns ? back_ns - woken_ns : 0);
}

/* The same, of what nobody told: a function of its own, since it is seldom. */
__noinline int count_missed_wait(struct thread_state *t, struct scratch *x, __u32 slot)
{
    struct session_ctl *s = bpf_map_lookup_elem(&sessions, &slot);

    if (t && x && s)
        count_wait(s, t, x, slot);
    return 0;
}

/* ---- waits for locks (bpf/sched_locks.h has the rest) */

/* The session in a slot is one of those that look at locks. */
static __always_inline bool session_looks_at_locks(const struct session_ctl *s, struct scratch *x, __u32 slot)
{
    if (s->sched_kind != SCHED_BLOCK && s->sched_kind != SCHED_MUTEX)
        return false;
    x->locks |= 1ull << slot;
    x->lock_generation = s->lock_generation;
    return true;
}

/* Counts by the stack that was walked of a thread in the session's way. */
static __always_inline void lock_count(struct session_ctl *s, struct thread_state *t, struct scratch *x, __u32 slot, __u32 state,
                                       __u64 samples, __u64 weight)
{
    void *table = bpf_map_lookup_elem(&counts, &slot);
    void *ring = bpf_map_lookup_elem(&records, &slot);
    struct sample_value add = {.samples = samples, .weight = weight};
    __u32 way = session_way(s) & (SCHED_WALKS - 1);

    x = scratch_of_map(x);
    if (!table || !ring || !x)
        return;
    hash_of(t, way, x->key.stack_hash);
    x->key.tid = t->tid;
    x->key.tgid = t->tgid;
    x->key.epoch = s->epoch;
    x->key.state = state;
    __builtin_memcpy(x->key.comm, t->comm, sizeof(x->key.comm));
    if (s->standing) {
        x->key.tid = 0;
        __builtin_memset(x->key.comm, 0, sizeof(x->key.comm));
    }
    __sync_fetch_and_add(&s->samples, samples);
    count_in(s, table, ring, x, bpf_map_lookup_elem(table, &x->key), &add);
}

/* Block: a wait that is over. x->now_ns: when its thread runs again. */
static __always_inline void lock_count_wait(struct session_ctl *s, struct thread_state *t, struct scratch *x, __u32 slot)
{
    __u64 weight_ns = 0, samples, thin = s->thin > 1 ? s->thin : 1;

    if (s->sched_kind != SCHED_BLOCK || s->state != SESSION_OPEN || s->rate == 0 || t->state != SAMPLE_STATE_LOCK ||
        t->place == THREAD_QUEUED || t->place == THREAD_RUNNING)
        return;
    if (t->place != THREAD_WAITING || t->out_ns < s->opened_ns) {
        __sync_fetch_and_add(&s->began_before, 1);
        return;
    }
    if (!(t->given >> slot & 1))
        return; /* left out to save time; or its stack was lost, which is counted */
    samples = lock_keep_wait(s->rate, x->now_ns - t->out_ns, (__u64)bpf_get_prandom_u32() << 32 | bpf_get_prandom_u32(), &weight_ns);
    if (samples)
        lock_count(s, t, x, slot, SAMPLE_STATE_NONE, t->lock.again ? 0 : samples * thin, weight_ns * thin);
}

/* ---- what each session does with an event */

static __always_inline void sched_begin(struct scratch *x, __u64 now_ns)
{
    x->now_ns = now_ns;
    x->generation = 0;
    x->missed_ns = 0;
    x->locks = 0;
    for (__u32 way = 0; way < SCHED_WALKS; way++)
        x->wanted[way] = 0;
}

static __always_inline void thread_takes_back(struct thread_state *t, __u32 slot)
{
#pragma unroll
    for (__u32 i = 0; i < SCHED_KNOWN_STACKS; i++)
        t->known[i].given &= ~(1ull << slot);
}

/* The session in a slot looks at a thread: what was noted of it for others that had its slot before is void. */
static __always_inline struct session_ctl *session_meets(struct thread_state *t, struct scratch *x, __u32 slot)
{
    struct session_ctl *s;

    if (!t || !x || slot >= CPROFD_MAX_SESSIONS)
        return NULL;
    s = sched_session(slot, t->tgid);
    if (!s || !bpf_map_lookup_elem(&counts, &slot)) /* whose table is being read takes part no more */
        return NULL;
    if (s->generation > x->generation)
        x->generation = s->generation;
    if (t->generation < s->generation) {
        t->given &= ~(1ull << slot);
        thread_takes_back(t, slot);
        t->settled &= ~(1ull << slot);
        t->buried &= ~(1ull << slot);
    }
    return s;
}

/* All sessions have looked at it. */
static __always_inline void thread_met(struct thread_state *t, const struct scratch *x)
{
    if (x->generation > t->generation)
        t->generation = x->generation;
}

/* Where a thread was never told to leave its CPU: it ran, and then waited. With which stack is not known: if it does the same as the time
 * before, it is taken for that one's. */
static __always_inline void count_missed_leave(struct session_ctl *s, struct thread_state *t, struct scratch *x, __u32 slot)
{
    __u64 now_ns = x->now_ns, out_ns = t->out_ns, given = t->given;
    __u32 state = t->state;

    x->now_ns = x->missed_ns;
    count_run(s, t, x, slot);
    x->now_ns = now_ns;
    t->out_ns = x->missed_ns;
    t->place = x->state == SAMPLE_STATE_RUNQ ? THREAD_QUEUED : THREAD_WAITING;
    t->state = x->state;
    if (!x->same_wait)
        t->given &= ~(1ull << slot);
    count_missed_wait(t, x, slot);
    t->out_ns = out_ns;
    t->place = THREAD_RUNNING;
    t->state = state;
    t->given = given;
}

/* Where it was never told to come back: it waited, and then ran. */
static __always_inline void count_missed_come(struct session_ctl *s, struct thread_state *t, struct scratch *x, __u32 slot)
{
    __u64 now_ns = x->now_ns, in_ns = t->in_ns;

    x->now_ns = x->missed_ns;
    count_missed_wait(t, x, slot);
    x->now_ns = now_ns;
    t->in_ns = x->missed_ns;
    count_run(s, t, x, slot);
    t->in_ns = in_ns;
}

/* Block: the same. Its lock waited with it until then, and so did its stack. */
__noinline int lock_count_missed_come(struct thread_state *t, struct scratch *x, __u32 slot)
{
    struct session_ctl *s = bpf_map_lookup_elem(&sessions, &slot);
    __u64 now_ns;

    if (!t || !x || !s)
        return 0;
    now_ns = x->now_ns;
    x->now_ns = x->missed_ns;
    lock_count_wait(s, t, x, slot);
    x->now_ns = now_ns;
    return 0;
}

__noinline int session_looks(struct thread_state *t, struct scratch *x, __u32 slot)
{
    (void)session_meets(t, x, slot);
    return 0;
}

/* Its session wants the stack that a thread has now. */
__noinline int session_wants(struct thread_state *t, struct scratch *x, __u32 slot)
{
    struct session_ctl *s = session_meets(t, x, slot);

    if (s && x && wants_stack(s, x))
        want_stack(s, x, slot);
    return 0;
}

__noinline int session_leaves(struct thread_state *t, struct scratch *x, __u32 slot)
{
    struct session_ctl *s = session_meets(t, x, slot);

    if (!s || !t || !x)
        return 0;
    if (x->missed_ns && t->place > THREAD_UNSEEN)
        __sync_fetch_and_add(&s->lost_switches, 1);
    if (!(t->settled >> slot & 1) && x->missed_ns)
        count_missed_come(s, t, x, slot);
    else if (!(t->settled >> slot & 1))
        count_run(s, t, x, slot);
    if (session_looks_at_locks(s, x, slot) && x->missed_ns)
        lock_count_missed_come(t, x, slot);
    if (session_until(s) <= x->now_ns)
        t->settled |= 1ull << slot;
    if (wants_stack(s, x))
        want_stack(s, x, slot);
    return 0;
}

__noinline int session_comes(struct thread_state *t, struct scratch *x, __u32 slot)
{
    struct session_ctl *s = session_meets(t, x, slot);

    if (!s || !t || !x)
        return 0;
    if (x->missed_ns)
        __sync_fetch_and_add(&s->lost_switches, 1);
    if (!(t->settled >> slot & 1) && x->missed_ns)
        count_missed_leave(s, t, x, slot);
    else if (!(t->settled >> slot & 1))
        count_wait(s, t, x, slot);
    if (session_looks_at_locks(s, x, slot))
        lock_count_wait(s, t, x, slot);
    if (session_until(s) <= x->now_ns)
        t->settled |= 1ull << slot;
    return 0;
}

/* It came back, and nobody told: its wait is over. */
__noinline int session_came_unseen(struct thread_state *t, struct scratch *x, __u32 slot)
{
    struct session_ctl *s = session_meets(t, x, slot);

    if (!s || !t || !x)
        return 0;
    __sync_fetch_and_add(&s->lost_switches, 1);
    if (!(t->settled >> slot & 1))
        count_missed_wait(t, x, slot);
    if (session_looks_at_locks(s, x, slot))
        lock_count_wait(s, t, x, slot);
    return 0;
}

__noinline int session_begins(struct thread_state *t, struct scratch *x, __u32 slot)
{
    struct session_ctl *s = session_meets(t, x, slot);

    if (!s || !t || !x)
        return 0;
    if (s->state == SESSION_OPEN)
        __sync_fetch_and_add(&s->births, 1);
    if (wants_stack(s, x))
        want_stack(s, x, slot);
    return 0;
}

__noinline int session_ends(struct thread_state *t, struct scratch *x, __u32 slot)
{
    struct session_ctl *s = session_meets(t, x, slot);
    __u64 until_ns, opened_ns;

    if (!s || !t || !x)
        return 0;
    if (!s->opened_ns || x->now_ns <= s->opened_ns) {
        /* A dump may have found it, and must not count for the whole window, as of threads that never move: no time, but it was seen. */
        x->count.hash[0] = x->count.hash[1] = 0;
        x->count.epoch = s->epoch;
        if (s->sched_kind == SCHED_WALL || s->sched_kind == SCHED_OFFCPU)
            sched_count_time(t, x, slot, SAMPLE_STATE_CPU, 0, 0);
        return 0;
    }
    until_ns = session_until(s);
    opened_ns = s->opened_ns;
    __sync_fetch_and_add(&s->lifetimes_ns, clip(x->now_ns, opened_ns, until_ns) - clip(t->born_ns, opened_ns, until_ns));
    __sync_fetch_and_add(&s->deaths, 1);
    t->buried |= 1ull << slot;
    return 0;
}

/* For all slots. Global functions, too: in a program's own body verifiers follow such a loop once for each way to come to it. */
#define ALL_SESSIONS(name, each) \
    __noinline int name(struct thread_state *t, struct scratch *x, __u64 slots) \
    { \
        if (!t || !x) \
            return 0; \
        FOR_EACH_SLOT(slot, slots) \
            each(t, x, slot); \
        return 0; \
    }

ALL_SESSIONS(sessions_look, session_looks)
ALL_SESSIONS(sessions_leave, session_leaves)
ALL_SESSIONS(sessions_come, session_comes)
ALL_SESSIONS(sessions_came_unseen, session_came_unseen)
ALL_SESSIONS(sessions_begin, session_begins)
ALL_SESSIONS(sessions_end, session_ends)

/* A thread that may not have switched since some of its target's sessions began. */
static __always_inline void thread_meets(struct thread_state *t, struct scratch *x, __u64 slots)
{
    sessions_look(t, x, slots);
    thread_met(t, x);
}

/* 1: the window of the session in a slot has ended, and somebody may be about to look what was under way. */
__noinline int session_is_closing(__u32 slot, __u32 tgid)
{
    struct session_ctl *s = sched_session(slot, tgid);

    return s && session_until(s) != ~0ull;
}
