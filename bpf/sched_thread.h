/* Threads as the scheduler's programs know them: whose they are, what is known of each, and what it waits for. Included by sched.bpf.c alone. */
#pragma once

#include "bpf/program_task.h"
#include "bpf/sched_maps.h"

/* enum sample_state by system call: what a thread waits for in it. Set before loading. */
const volatile __u8 syscall_states[SCHED_SYSCALLS];

/* include/linux/sched.h */
#define TASK_STOPPED_OR_TRACED 0xc
#define TASK_DEAD 0x80

/* ---- whose they are */

#define FOR_EACH_SLOT(slot, slots) \
    for (__u32 slot = 0; slot < CPROFD_MAX_SESSIONS && (slots) >> slot; slot++) \
        if ((slots) >> slot & 1)

/* The wishes of a target whose number ends as another's do: 1 + their index, or 0. */
__noinline int sched_find_behind(__u32 at, __u32 tgid)
{
    __u32 zero = 0;
    struct sched_filter_table *filter = bpf_map_lookup_elem(&sched_filter, &zero);

    for (__u32 i = 0; filter && i < CPROFD_MAX_SESSIONS && at; i++) {
        const struct sched_wishes *wishes = &filter->wishes[(at - 1) & (CPROFD_MAX_SESSIONS - 1)];
        if (wishes->tgid == tgid)
            return at;
        at = wishes->next;
    }
    return 0;
}

/* What is wanted of the events of a task; ret->all 0: nothing. */
static __always_inline void sched_wishes_of(struct task_struct *task, struct sched_wishes *ret)
{
    __u32 zero = 0, tgid = task_tgid(task);
    struct sched_filter_table *filter = bpf_map_lookup_elem(&sched_filter, &zero);
    const struct sched_wishes *wishes;
    __u32 at;

    ret->all = 0;
    if (!filter)
        return;
    at = filter->targets[tgid & (SCHED_FILTER_ENTRIES - 1)];
    if (!at)
        return;
    wishes = &filter->wishes[(at - 1) & (CPROFD_MAX_SESSIONS - 1)];
    if (wishes->tgid != tgid) {
        at = sched_find_behind(wishes->next, tgid);
        if (!at)
            return;
        wishes = &filter->wishes[(at - 1) & (CPROFD_MAX_SESSIONS - 1)];
    }
    ret->tgid = tgid;
    ret->slot = wishes->slot;
    ret->tracing = wishes->tracing;
    ret->waking = wishes->waking;
    ret->all = wishes->all;
}

/* The session in a slot, if it wants the scheduler's events of this target. */
static __always_inline struct session_ctl *sched_session(__u32 slot, __u32 tgid)
{
    struct session_ctl *s = bpf_map_lookup_elem(&sessions, &slot);

    if (!s || s->tgid != tgid || s->sched_kind == SCHED_NONE || s->state == SESSION_FREE)
        return NULL;
    return s;
}

/* When its window ended; far off while it is open. */
static __always_inline __u64 session_until(const struct session_ctl *s)
{
    __u64 until_ns = s->closed_ns ? s->closed_ns : s->until_ns; /* as who settles it takes it */

    return until_ns ? until_ns : ~0ull;
}

static __always_inline __u64 clip(__u64 ns, __u64 from_ns, __u64 until_ns)
{
    return ns < from_ns ? from_ns : ns > until_ns ? until_ns : ns;
}

/* ---- threads */

static const struct thread_state no_thread;

static __always_inline struct thread_state *thread_find(struct task_struct *task)
{
    __u32 zero = 0;
    __u64 key = (__u64)task;
    void *map = bpf_map_lookup_elem(&threads, &zero);

    return map ? bpf_map_lookup_elem(map, &key) : NULL;
}

/* Its number. A thread gives it back before it leaves its CPU for the last time, and is the same for that. */
static __always_inline __u32 thread_number(const struct thread_state *t, struct task_struct *task)
{
    __u32 tid = task_tid(task);

    return tid ? tid : t->tid;
}

/* Its number and name. */
static __always_inline void thread_name(struct thread_state *t, struct task_struct *task)
{
    t->tid = thread_number(t, task);
    /* In two words, which is cheaper than to ask for a copy. Behind its end may be more of an earlier one. */
    ((__u64 *)t->comm)[0] = ((const __u64 *)task->comm)[0];
    ((__u64 *)t->comm)[1] = ((const __u64 *)task->comm)[1];
}

/* A new one. */
static __always_inline struct thread_state *thread_add(struct task_struct *task, __u32 tgid)
{
    __u32 zero = 0;
    __u64 key = (__u64)task;
    void *map = bpf_map_lookup_elem(&threads, &zero);
    struct thread_state *t;

    if (!map)
        return NULL;
    (void)bpf_map_update_elem(map, &key, &no_thread, BPF_NOEXIST); /* who wakes it may be adding it, too */
    t = bpf_map_lookup_elem(map, &key);
    if (!t)
        return NULL;
    t->tgid = tgid;
    t->born_ns = task->start_time;
    t->in_ns = t->born_ns; /* whatever it has done, not before */
    t->out_ns = t->born_ns;
    thread_name(t, task);
    return t;
}

static __always_inline void thread_remove(struct task_struct *task)
{
    __u32 zero = 0;
    __u64 key = (__u64)task;
    void *map = bpf_map_lookup_elem(&threads, &zero);

    if (map)
        (void)bpf_map_delete_elem(map, &key);
}

/* Though it is dead: the loop removes it once nobody wants to know of it. */
static __always_inline void thread_is_kept(void)
{
    __u32 zero = 0;
    struct sched_filter_table *filter = bpf_map_lookup_elem(&sched_filter, &zero);

    if (filter)
        __sync_fetch_and_add(&filter->kept, 1);
}

/* A dead thread that is kept makes room for one that has its place in memory: from now on it is known by when it was born. 0, or an error. */
static __always_inline long thread_moves_aside(const struct thread_state *t)
{
    __u32 zero = 0;
    __u64 key = t->born_ns << 1 | 1; /* nobody's address */
    void *map = bpf_map_lookup_elem(&threads, &zero);

    return map ? bpf_map_update_elem(map, &key, t, BPF_ANY) : 0;
}

__noinline int session_lost_thread(__u32 slot, __u32 tgid)
{
    struct session_ctl *s = sched_session(slot, tgid);

    if (s)
        __sync_fetch_and_add(&s->lost_threads, 1);
    return 0;
}

__noinline int sessions_lost_thread(__u64 slots, __u32 tgid)
{
    FOR_EACH_SLOT(slot, slots)
        session_lost_thread(slot, tgid);
    return 0;
}

/* The thread of an event; NULL: there is no room for it, which is counted. */
static __always_inline struct thread_state *thread_of(struct task_struct *task, __u32 tgid, __u64 slots)
{
    struct thread_state *t = thread_find(task);

    if (!t)
        t = thread_add(task, tgid);
    if (t)
        return t;
    sessions_lost_thread(slots, tgid);
    return NULL;
}

/* ---- what a thread waits for */

/* Whether the task that leaves its CPU could run on. Of its state it is too late to ask: one that has gone to sleep may have been woken
 * since, by another CPU, which waits for this switch to be over before it puts it on a queue again. */
static __always_inline bool task_is_queued(struct task_struct *task)
{
    if (task->on_rq == 0)
        return false;
    return !bpf_core_field_exists(task->se.sched_delayed) || !task->se.sched_delayed;
}

static __always_inline __u32 wait_state(struct task_struct *task, __s32 syscall)
{
    __u32 state;

    if (BPF_CORE_READ_BITFIELD(task, in_iowait))
        return SAMPLE_STATE_IO;
    if (task->__state & TASK_STOPPED_OR_TRACED)
        return SAMPLE_STATE_OTHER;
    if (syscall < 0 || syscall >= SCHED_SYSCALLS)
        return SAMPLE_STATE_OTHER;
    state = syscall_states[syscall & (SCHED_SYSCALLS - 1)];
    return state ? state : SAMPLE_STATE_OTHER;
}
