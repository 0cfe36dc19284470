/* Waits for locks and their releases, from the scheduler's events: block charges who waits, mutex who releases (bpf/lock_waits.h has the
 * accounting). Included by sched.bpf.c alone. */
#pragma once

#include "bpf/lock_waits.h"

/* include/linux/sched.h */
#define TASK_EXITING 0x4 /* in task_struct.flags */

/* Locks that are waited for now, of all targets. Its values have a guard, which needs their type, and can't be in a map of maps. */
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, LOCK_BUCKETS);
    __type(key, __u32);
    __type(value, struct lock_bucket);
} locks SEC(".maps");

/* Its address space as a number, which verifiers let nothing be made of a pointer. */
static __always_inline __u64 task_space(struct task_struct *task)
{
    return (__u64)BPF_CORE_READ(task, mm) & ~LOCK_GENERATION;
}

/* generation: of the sessions that look at the target's locks. */
static __always_inline __u64 lock_space(struct task_struct *task, __u64 generation)
{
    return task_space(task) | (generation & LOCK_GENERATION);
}

/* By generation. */
static __always_inline const __u64 *locks_since(void)
{
    __u32 zero = 0;
    struct sched_filter_table *filter = bpf_map_lookup_elem(&sched_filter, &zero);

    return filter ? filter->locks_since_ns : NULL;
}

static __always_inline struct lock_bucket *lock_bucket_at(const struct lock_place *place)
{
    __u32 index = lock_bucket_of(place);

    return bpf_map_lookup_elem(&locks, &index);
}

/* The system call that a task is in. */
static __always_inline void task_call(struct task_struct *task, struct lock_syscall *ret)
{
    ret->number = task_syscall(task);
#if defined(__TARGET_ARCH_arm64)
    struct user_pt_regs___arm64 *regs = (void *)bpf_task_pt_regs(task);
    ret->args[0] = ((struct pt_regs___a64 *)regs)->orig_x0;
    ret->args[1] = regs->regs[1];
    ret->args[2] = regs->regs[2];
    ret->args[3] = regs->regs[3];
    ret->args[4] = regs->regs[4];
#else
    struct pt_regs___x86 *regs = (void *)bpf_task_pt_regs(task);
    ret->args[0] = regs->di;
    ret->args[1] = regs->si;
    ret->args[2] = regs->dx;
    ret->args[3] = regs->r10;
    ret->args[4] = regs->r8;
#endif
}

/* What tells its stack from others, for now: where it called from. */
static __always_inline __u64 task_stack_mark(struct task_struct *task)
{
#if defined(__TARGET_ARCH_arm64)
    struct user_pt_regs___arm64 *regs = (void *)bpf_task_pt_regs(task);
    return lock_mix(regs->sp) ^ regs->pc ^ lock_mix(regs->regs[29]);
#else
    struct pt_regs___x86 *regs = (void *)bpf_task_pt_regs(task);
    return lock_mix(regs->sp) ^ regs->ip ^ lock_mix(regs->bp);
#endif
}

/* ---- counters */

__noinline int lock_lost(__u32 slot, __u32 tgid)
{
    struct session_ctl *s = sched_session(slot, tgid);

    if (s)
        __sync_fetch_and_add(&s->lost_locks, 1);
    return 0;
}

__noinline int lock_abandoned(__u32 slot, __u32 tgid, __u64 ns)
{
    struct session_ctl *s = sched_session(slot, tgid);

    if (s && s->state == SESSION_OPEN)
        __sync_fetch_and_add(&s->abandoned_ns, ns);
    return 0;
}

/* ---- who waits */

/* The current thread goes to wait for what may be a lock. */
__noinline int lock_leaves(struct thread_state *t, struct scratch *x)
{
    struct task_struct *task = bpf_get_current_task_btf();
    struct lock_syscall syscall;
    struct lock_call call;
    struct lock_place place;
    struct lock_bucket *bucket;
    const __u64 *since_ns = locks_since();

    if (!t || !x || !since_ns)
        return 0;
    task_call(task, &syscall);
    lock_call_of(&syscall, &call);
    place.space = lock_space(task, x->lock_generation);
    place.address = call.type == LOCK_CALL_WAIT ? call.address : 0;
    bucket = lock_bucket_at(&place);
    if (!bucket || lock_wait_begin(bucket, since_ns, &t->lock, &place, call.value, task_stack_mark(task), x->now_ns))
        return 0;
    FOR_EACH_SLOT(slot, x->locks)
        lock_lost(slot, t->tgid);
    return 0;
}

/* A thread runs again. */
__noinline int lock_comes(struct thread_state *t, struct scratch *x)
{
    struct lock_release release = {};
    struct lock_bucket *bucket;
    const __u64 *since_ns = locks_since();

    if (!t || !x || !since_ns)
        return 0;
    bucket = lock_bucket_at(&t->lock.place);
    if (!bucket)
        return 0;
    lock_wait_end(bucket, since_ns, &t->lock, x->now_ns, &release);
    if (release.abandoned_ns)
        FOR_EACH_SLOT(slot, x->locks)
            lock_abandoned(slot, t->tgid, release.abandoned_ns);
    return 0;
}

/* ---- who releases */

/* Where the current thread, of the same address space, wakes the one that waits (w); address 0: it is in no call that does. Of a thread
 * that ends, the kernel wakes those who wait for its end, at a word of its own, and who wait for what it holds. */
static __always_inline void lock_waking_call(struct task_struct *waker, const struct lock_wait *w, struct lock_call *ret)
{
    struct lock_syscall syscall;

    if (waker->flags & TASK_EXITING) {
        *ret = (struct lock_call){.type = LOCK_CALL_OTHER};
        if (w->state == LOCK_WAIT_COUNTED && (__u64)BPF_CORE_READ(waker, clear_child_tid) != w->place.address)
            lock_call_wake(ret, w->place.address, 0, 1, false);
        return;
    }
    task_call(waker, &syscall);
    lock_call_of(&syscall, ret);
}

/* Whether a thread of another address space wakes at the same word, as far as can be seen: the word has the same place in its page. */
static __always_inline bool lock_is_shared(const struct lock_call *call, const struct lock_wait *w)
{
    return call->is_shared && w->state == LOCK_WAIT_COUNTED && ((call->address ^ w->place.address) & 4095) == 0;
}

/* When a thread came back from its last wait; 0: from none that was seen. */
static __always_inline __u64 lock_came_ns(struct task_struct *task)
{
    const struct thread_state *t = thread_find(task);

    return t ? t->lock.returned_ns : 0;
}

enum lock_by { LOCK_BY_NONE, LOCK_BY_OWN, LOCK_BY_OTHER };

/* A thread is woken by the current one. x->release: what that means. enum lock_by: whether it may be a release, by a thread of the same
 * address space or another. */
__noinline int lock_woken(struct thread_state *t, struct scratch *x, __u64 space)
{
    struct task_struct *waker = bpf_get_current_task_btf();
    struct lock_place place;
    struct lock_bucket *bucket;
    struct lock_call call = {.type = LOCK_CALL_OTHER};
    const __u64 *since_ns = locks_since();
    bool own;

    if (!t || !x || !since_ns)
        return 0;
    x->release = (struct lock_release){.contentions = 0};
    t->lock.woken_ns = x->now_ns;
    place.space = space;
    own = task_space(waker) == (space & ~LOCK_GENERATION);
    if (waker->mm)
        lock_waking_call(waker, &t->lock, &call);
    place.address = call.address;
    if (t->lock.state == LOCK_WAIT_COUNTED && ((own && call.second == t->lock.place.address) || (!own && lock_is_shared(&call, &t->lock))))
        place.address = t->lock.place.address;
    else if (!own)
        call.type = LOCK_CALL_OTHER;
    if (call.type == LOCK_CALL_WAKE) {
        bucket = lock_bucket_at(&place);
        if (bucket)
            lock_wait_release(bucket, since_ns, &t->lock, &place, waker->pid, lock_came_ns(waker), call.wakes, x->now_ns, &x->release);
    }
    bucket = lock_bucket_at(&t->lock.place);
    if (bucket)
        lock_wait_quit(bucket, since_ns, &t->lock, x->now_ns, &x->release);
    if ((waker->flags & TASK_EXITING) || call.type == LOCK_CALL_WAKE)
        x->release.abandoned_ns = 0; /* who waited for its end has it; or was moved elsewhere, and has been there what it waited for */
    return call.type != LOCK_CALL_WAKE ? LOCK_BY_NONE : own ? LOCK_BY_OWN : LOCK_BY_OTHER;
}

/* Mutex: whether this release is one of those that the session keeps. */
static __always_inline bool lock_wants_release(const struct session_ctl *s)
{
    if (s->sched_kind != SCHED_MUTEX || s->fraction == 0)
        return false;
    return (s->fraction == 1 || bpf_get_prandom_u32() % s->fraction == 0) && (s->thin <= 1 || bpf_get_prandom_u32() % s->thin == 0);
}

/* What a waking by (enum lock_by) means to the session in a slot. */
__noinline int session_woken(struct thread_state *t, struct scratch *x, __u32 slot, __u32 by)
{
    struct session_ctl *s;

    if (!t || !x || slot >= CPROFD_MAX_SESSIONS)
        return 0;
    s = sched_session(slot, t->tgid);
    if (!s || s->state != SESSION_OPEN)
        return 0;
    if (x->release.abandoned_ns)
        __sync_fetch_and_add(&s->abandoned_ns, x->release.abandoned_ns);
    if (!x->release.contentions)
        return 0;
    if (by == LOCK_BY_OTHER)
        __sync_fetch_and_add(&s->foreign_releases, 1);
    else if (lock_wants_release(s))
        want_stack(s, x, slot);
    return 0;
}

__noinline int session_counts_release(struct thread_state *waker, struct scratch *x, __u32 slot, __u32 state)
{
    struct session_ctl *s;
    __u64 n;

    if (!waker || !x || slot >= CPROFD_MAX_SESSIONS)
        return 0;
    s = sched_session(slot, waker->tgid);
    if (!s || !(waker->given >> slot & 1))
        return 0;
    n = s->fraction * (s->thin > 1 ? s->thin : 1);
    lock_count(s, waker, x, slot, state, n, n * x->release.waited_ns);
    return 0;
}

/* A thread (t, its task) is woken by the current one. */
static __always_inline void lock_wakes(void *ctx, struct task_struct *task, struct thread_state *t, struct scratch *x, __u64 slots)
{
    __u32 state = t->lock.value ? SAMPLE_STATE_LOCK : SAMPLE_STATE_OTHER;
    struct thread_state *waker;
    __u64 wanted;
    int by;

    by = lock_woken(t, x, lock_space(task, t->lock.place.space));
    if (by == LOCK_BY_NONE && !x->release.abandoned_ns)
        return;
    FOR_EACH_SLOT(slot, x->locks)
        session_woken(t, x, slot, by);
    /* It may not have switched since anybody looked. */
    waker = by == LOCK_BY_OWN ? thread_of(bpf_get_current_task_btf(), t->tgid, x->locks) : NULL;
    if (!waker)
        return;
    waker->lock.wakes++;
    wanted = x->wanted[0] | x->wanted[1] | x->wanted[2] | x->wanted[3];
    if (!wanted)
        return;
    thread_rename(waker, x, bpf_get_current_task_btf());
    thread_meets(waker, x, slots);
    (void)thread_registers(bpf_get_current_task_btf(), x);
    thread_gives_all(ctx, waker, x);
    FOR_EACH_SLOT(slot, wanted)
        session_counts_release(waker, x, slot, state);
    waker->given = 0; /* where it woke another is not where it leaves its CPU */
}
