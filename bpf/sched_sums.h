/* Counting a thread's time: beside the thread for one session, which is mostly the only one, and in the session's table for others (struct
 * thread_sums). Included by sched_session.h alone. */
#pragma once

#include "bpf/program_count.h"
#include "bpf/sched_stacks.h"

/* Counts x->count in the session's table. 1: it has one; 0: it is being read, or gone. A global function, as others here: verifiers prove it once. */
__noinline int sched_count(struct thread_state *t, struct scratch *x, __u32 slot)
{
    struct session_ctl *s = bpf_map_lookup_elem(&sessions, &slot);
    void *table = bpf_map_lookup_elem(&counts, &slot);
    void *ring = bpf_map_lookup_elem(&records, &slot);
    struct sample_value add;

    if (!t || !x || !s || !table || !ring)
        return 0;
    x = scratch_of_map(x);
    if (!x)
        return 0;
    add = x->count.add;
    x->key.stack_hash[0] = x->count.hash[0];
    x->key.stack_hash[1] = x->count.hash[1];
    x->key.tid = t->tid;
    x->key.tgid = t->tgid;
    x->key.epoch = x->count.epoch;
    x->key.state = x->count.state;
    __builtin_memcpy(x->key.comm, t->comm, sizeof(x->key.comm));
    count_in(s, table, ring, x, bpf_map_lookup_elem(table, &x->key), &add);
    return 1;
}

static __always_inline int sched_count_time(struct thread_state *t, struct scratch *x, __u32 slot, __u32 state, __u64 samples, __u64 ns)
{
    x->count.state = state;
    x->count.add.samples = samples;
    x->count.add.weight = ns;
    return sched_count(t, x, slot);
}

/* ---- sums */

static __always_inline struct thread_sum *sum_at(struct thread_state *t, __u32 i)
{
    barrier_var(i); /* else a compiler that knows its bounds leaves out the mask, by which verifiers before Linux 6.1 learn them */
    return &t->sums.waits[i & (SCHED_KNOWN_STACKS - 1)];
}
_Static_assert((SCHED_KNOWN_STACKS & (SCHED_KNOWN_STACKS - 1)) == 0, "a mask has their numbers");

/* Hands one sum over to its session. What that has no table for any more stays: who has read the table takes it from here. 1: all was given. */
__noinline int sum_give(struct thread_state *t, struct scratch *x, __u32 i)
{
    struct thread_sum *sum;

    if (!t || !x)
        return 0;
    sum = sum_at(t, i);
    x->count.hash[0] = sum->hash[0];
    x->count.hash[1] = sum->hash[1];
    x->count.epoch = sum->epoch;
    if (sum->wait.weight && !sched_count_time(t, x, t->sums.slot, sum->state, sum->wait.samples, sum->wait.weight))
        return 0;
    sum->wait.samples = sum->wait.weight = 0;
    if (sum->queued.weight && !sched_count_time(t, x, t->sums.slot, SAMPLE_STATE_RUNQ, sum->queued.samples, sum->queued.weight))
        return 0;
    sum->queued.samples = sum->queued.weight = 0;
    return 1;
}

/* The session whose sums a thread has, if it is still there. */
static __always_inline struct session_ctl *sums_session(const struct thread_state *t)
{
    __u32 slot = t->sums.slot;
    struct session_ctl *s = bpf_map_lookup_elem(&sessions, &slot);

    return s && s->generation == t->sums.generation && s->state != SESSION_FREE ? s : NULL;
}

/* All of them: the thread ends, or is about to change its name. Not where the session's table is being read: who reads it takes them from here. */
__noinline int sums_give(struct thread_state *t, struct scratch *x)
{
    struct session_ctl *s;
    __u32 slot;

    if (!t || !x)
        return 0;
    s = sums_session(t);
    slot = t->sums.slot;
    if (!s || !bpf_map_lookup_elem(&counts, &slot))
        return 0;
    for (__u32 i = 0; i < SCHED_KNOWN_STACKS; i++)
        sum_give(t, x, i);
    x->count.hash[0] = x->count.hash[1] = 0;
    x->count.epoch = s->epoch;
    if (t->sums.run_ns && sched_count_time(t, x, slot, SAMPLE_STATE_CPU, 0, t->sums.run_ns))
        t->sums.run_ns = 0;
    return 0;
}

/* 1: the thread has sums of the session in a slot from now on; 0: it has another's. */
__noinline int sums_take(struct thread_state *t, __u32 slot)
{
    struct session_ctl *s = bpf_map_lookup_elem(&sessions, &slot);

    if (!t || !s || (t->sums.generation && sums_session(t)))
        return 0;
    __builtin_memset(&t->sums, 0, sizeof(t->sums));
    t->sums.slot = slot;
    t->sums.generation = s->generation;
    return 1;
}

static __always_inline bool sums_are_of(struct thread_state *t, const struct session_ctl *s, __u32 slot)
{
    return t->sums.generation == s->generation || sums_take(t, slot);
}

/* Whether a sum is of what is counted. */
static __always_inline bool sum_is_of(const struct thread_sum *sum, const struct scratch *x)
{
    return sum->hash[0] == x->count.hash[0] && sum->hash[1] == x->count.hash[1] && sum->epoch == x->count.epoch && sum->state == x->count.state;
}

/* That of what is counted, in place of another one if need be; NULL: there is no place, since the session's table is being read. */
static __always_inline struct thread_sum *sum_of(struct thread_state *t, struct scratch *x)
{
    struct thread_sum *sum;
    __u64 hash[2];
    __u32 i, epoch, state;

#pragma unroll
    for (i = 0; i < SCHED_KNOWN_STACKS; i++)
        if (sum_is_of(&t->sums.waits[i], x)) {
            t->sums.last = i;
            return sum_at(t, i);
        }
    hash[0] = x->count.hash[0];
    hash[1] = x->count.hash[1];
    epoch = x->count.epoch;
    state = x->count.state;
    i = t->sums.last + 1;
    t->sums.last = i;
    if (!sum_give(t, x, i))
        return NULL;
    sum = sum_at(t, i);
    sum->hash[0] = hash[0];
    sum->hash[1] = hash[1];
    sum->epoch = epoch;
    sum->state = state;
    return sum;
}

/* A wait of the stack and in the state of x->count, and the time in the run queue behind it. */
static __always_inline void count_off(struct session_ctl *s, struct thread_state *t, struct scratch *x, __u32 slot, __u64 wait_ns, __u64 queued_ns)
{
    struct thread_sum *sum;

    if (!(wait_ns | queued_ns))
        return;
    if (!sums_are_of(t, s, slot)) {
        if (wait_ns)
            sched_count_time(t, x, slot, x->count.state, 1, wait_ns);
        if (queued_ns)
            sched_count_time(t, x, slot, SAMPLE_STATE_RUNQ, !wait_ns, queued_ns);
        return;
    }
    sum = sum_of(t, x);
    if (!sum)
        return;
    sum->wait.samples += !!wait_ns;
    sum->wait.weight += wait_ns;
    sum->queued.samples += !wait_ns;
    sum->queued.weight += queued_ns;
}

/* Time on the CPU. */
static __always_inline void count_on(struct session_ctl *s, struct thread_state *t, struct scratch *x, __u32 slot, __u64 ns)
{
    if (!ns)
        return;
    if (sums_are_of(t, s, slot)) {
        t->sums.run_ns += ns;
        return;
    }
    x->count.hash[0] = x->count.hash[1] = 0;
    x->count.epoch = s->epoch;
    sched_count_time(t, x, slot, SAMPLE_STATE_CPU, 0, ns);
}

/* Its number and name may change. */
static __always_inline void thread_rename(struct thread_state *t, struct scratch *x, struct task_struct *task)
{
    const __u64 *was = (const __u64 *)t->comm, *is = (const __u64 *)task->comm;

    if (t->tid == thread_number(t, task) && was[0] == is[0] && was[1] == is[1])
        return;
    if (t->sums.generation)
        sums_give(t, x);
    thread_name(t, task);
}
