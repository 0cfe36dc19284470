/* The stacks of threads that leave their CPUs: which session wants them, whether they are known from before, and giving them to sessions. To
 * walk a stack costs more than all else at a switch, and threads leave in few places, again and again: so what a walk read is noted, and
 * read again the next time. Included by sched.bpf.c alone. */
#pragma once

#include "bpf/program_count.h"
#include "bpf/program_session.h"
#include "bpf/program_walk.h"
#include "bpf/sched_kernel.h"
#include "bpf/sched_thread.h"

/* The same working space, by its place: verifiers before Linux 6.2 take no key from memory that a function was handed. */
static __always_inline struct scratch *scratch_of_map(const struct scratch *x)
{
    __u32 level = x->level;

    return bpf_map_lookup_elem(&scratches, &level);
}

/* How the session wants its stacks walked. */
static __always_inline __u32 session_way(const struct session_ctl *s)
{
    return (s->kernel ? SCHED_WALK_KERNEL : 0) | (s->unwind == UNWIND_BY_FRAME_POINTERS ? SCHED_WALK_FP : 0);
}

/* The stack that was walked so. */
static __always_inline void hash_of(const struct thread_state *t, __u32 way, __u64 ret[2])
{
    barrier_var(way); /* else a compiler that knows its bounds leaves out the mask, by which verifiers before Linux 6.1 learn them */
    way &= SCHED_WALKS - 1;
    ret[0] = t->stack_hash[way][0];
    ret[1] = t->stack_hash[way][1];
}

/* Whether the session wants the stack of the wait that begins. */
static __always_inline bool wants_stack(const struct session_ctl *s, const struct scratch *x)
{
    bool waits = s->sched_kind == SCHED_BLOCK && s->rate != 0 && x->state == SAMPLE_STATE_LOCK;

    if (s->sched_kind != SCHED_WALL && s->sched_kind != SCHED_OFFCPU && s->sched_kind != SCHED_TRACE && !waits)
        return false;
    return s->state != SESSION_CLOSED && (s->thin <= 1 || bpf_get_prandom_u32() % s->thin == 0);
}

static __always_inline void want_stack(const struct session_ctl *s, struct scratch *x, __u32 slot)
{
    __u32 way = session_way(s) & (SCHED_WALKS - 1);

    if (!x->wanted[way] || session_has_labels(s)) /* one that knows where labels are, if there is one */
        x->first[way] = slot;
    x->wanted[way] |= 1ull << slot;
}

/* Whether a stack that is known is the current one, whose user's part is about to be walked, and all who want it have it. The kernel's part has
 * been walked, or is as noted. */
static __always_inline bool known_is_this(const struct thread_stack *known, struct scratch *x, __u32 way, bool walked)
{
    __u64 wanted = x->wanted[way];

    if (known->notes.pc != x->walk.pc || known->notes.from != x->walk.sp || known->notes.fp != x->walk.fp || !known->met_ns)
        return false;
    if (known->notes.lr != x->walk.lr || known->labels != x->labels)
        return false;
    if (known->way != way || known->space != x->walk.space || known->version != x->walk.version || known->by_fp != x->walk.by_fp)
        return false;
    if (!x->walk.unprobed || (known->given & wanted) != wanted || (walked ? known->begun : known->seed) != x->walk.hash[0])
        return false;
    if ((way & SCHED_WALK_KERNEL) && !walked && !kernel_is_as_noted(&known->kernel, x))
        return false;
    return stack_is_as_noted(&x->walk, &known->notes);
}

/* The thread has left so before: 1, and t->stack_hash has it. walked: the kernel's part has been walked. */
static __always_inline bool thread_knows(struct thread_state *t, struct scratch *x, __u32 way, bool walked)
{
#pragma unroll
    for (__u32 i = 0; i < SCHED_KNOWN_STACKS; i++) {
        struct thread_stack *known = &t->known[i];
        if (!known_is_this(known, x, way, walked))
            continue;
        if (walked)
            kernel_note(&known->kernel, x, 1);
        known->met_ns = x->now_ns;
        t->stack_hash[way][0] = known->hash[0];
        t->stack_hash[way][1] = known->hash[1];
        t->given |= x->wanted[way];
        return true;
    }
    return false;
}

/* A stack that was just walked, and given to all who could take it. */
__noinline int known_set(struct thread_stack *known, struct scratch *x, __u32 way, __u64 given)
{
    if (!known || !x || way >= SCHED_WALKS)
        return 0;
    known->met_ns = x->now_ns;
    known->seed = x->seed;
    known->begun = x->begun;
    known->labels = x->labels;
    known->hash[0] = x->walk.record.stack_hash[0];
    known->hash[1] = x->walk.record.stack_hash[1];
    known->given = given & x->wanted[way];
    known->space = x->walk.space;
    known->version = x->walk.version;
    known->by_fp = x->walk.by_fp;
    known->way = way;
    known->notes = x->walk.notes;
    if (way & SCHED_WALK_KERNEL)
        kernel_note(&known->kernel, x, 0);
    return 0;
}

/* In place of that which was met longest ago. Not where it was preempted in its own code: that is hardly twice the same place. Nor where its labels
 * were not in memory: the next time they may be. */
__noinline int thread_remembers(struct thread_state *t, struct scratch *x, __u32 way)
{
    struct task_struct *task = bpf_get_current_task_btf();
    __u64 oldest_ns = ~0ull;

    if (!t || !x || !task->mm || x->walk.notes.n > STACK_NOTES || !x->walk.unprobed)
        return 0;
    if ((x->state == SAMPLE_STATE_RUNQ && task_syscall(task) < 0) || x->walk.record.label_state == LABELS_UNREADABLE)
        return 0;
#pragma unroll
    for (__u32 i = 0; i < SCHED_KNOWN_STACKS; i++)
        if (t->known[i].met_ns < oldest_ns)
            oldest_ns = t->known[i].met_ns;
#pragma unroll
    for (__u32 i = 0; i < SCHED_KNOWN_STACKS; i++)
        if (t->known[i].met_ns == oldest_ns)
            return known_set(&t->known[i], x, way, t->given);
    return 0;
}

static __always_inline void thread_forgets(struct thread_state *t)
{
#pragma unroll
    for (__u32 i = 0; i < SCHED_KNOWN_STACKS; i++)
        t->known[i].met_ns = 0;
}

/* The user's part, noted. */
static __always_inline void walk_user_noted(struct stack_walk *walk)
{
    walk->notes.pc = walk->pc;
    walk->notes.fp = walk->fp;
    walk->notes.lr = walk->lr;
    walk->notes.from = walk->sp;
    walk->notes.check = 0;
    walk->notes.n = 0;
    walk->notes.words = 0;
    stack_push(walk, STACK_FRAME_EXACT);
    for (__u32 i = 0; i < SCHED_MAX_FRAMES / STEPS; i++)
        if (!stack_steps(walk))
            break;
    walk->record.n_user = walk->n - walk->record.n_kernel;
}

/* The registers that its stack begins with, in all ways. Returns the system call that it is in; negative: none. */
static __always_inline __s32 thread_registers(struct task_struct *task, struct scratch *x)
{
    struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(task);

    stack_registers_of(regs, &x->walk);
    x->pc = x->walk.pc;
    x->sp = x->walk.sp;
    x->fp = x->walk.fp;
    x->lr = x->walk.lr;
    return registers_syscall(regs);
}

/* Begins with the current thread's stack in one of the ways, by the session's tables. 1: it is one that all who want it have been given
 * before, and t->stack_hash has it. */
__noinline int thread_is_known(struct thread_state *t, struct scratch *x, __u32 slot, __u32 way)
{
    struct task_struct *task = bpf_get_current_task_btf();
    struct session_ctl *s = bpf_map_lookup_elem(&sessions, &slot);

    barrier_var(way); /* else a compiler that knows its bounds leaves out the mask, by which verifiers before Linux 6.1 learn them */
    way &= SCHED_WALKS - 1;
    if (!t || !x || !s)
        return 0;
    session_follow(s, slot, task);
    walk_begin(s, &x->walk);
    x->seed = x->walk.hash[0];
    if (!task->mm)
        return 0;
    if (way & SCHED_WALK_KERNEL)
        kernel_look(x);
    x->labels = task_labels_stamp(s, task);
    x->walk.pc = x->pc;
    x->walk.sp = x->sp;
    x->walk.fp = x->fp;
    x->walk.lr = x->lr;
    walk_user_begin_at(s, task, &x->walk);
    return thread_knows(t, x, way, false);
}

/* Walks it, after the kernel's frames that are in x->walk. 1: t->stack_hash has it, and x->walk; 0: it was known, but for places of the
 * kernel's frames. */
__noinline int thread_walk(struct thread_state *t, struct scratch *x, __u32 slot, __u32 way)
{
    struct task_struct *task = bpf_get_current_task_btf();
    struct session_ctl *s = bpf_map_lookup_elem(&sessions, &slot);

    barrier_var(way);
    way &= SCHED_WALKS - 1;
    if (!t || !x || !s)
        return 0;
    x->begun = x->walk.hash[0];
    if (task->mm) {
        if ((way & SCHED_WALK_KERNEL) && thread_knows(t, x, way, true))
            return 0;
        walk_user_noted(&x->walk);
        walk_labels(s, task, &x->walk);
    }
    walk_finish(&x->walk);
    t->stack_hash[way][0] = x->walk.record.stack_hash[0];
    t->stack_hash[way][1] = x->walk.record.stack_hash[1];
    return 1;
}

/* Hands the stack in a scratch over to the session in a slot. */
__noinline int session_give(struct thread_state *t, struct scratch *x, __u32 slot)
{
    struct session_ctl *s = bpf_map_lookup_elem(&sessions, &slot);
    void *table = bpf_map_lookup_elem(&counts, &slot);
    void *ring = bpf_map_lookup_elem(&records, &slot);
    struct sample_value none = {};

    if (!t || !x || !s || !table || !ring || slot >= CPROFD_MAX_SESSIONS)
        return 0;
    if (s->state == SESSION_ARMED && x->walk.end == STACK_END_NEW_CODE)
        return 0; /* its tables are on their way: the dump as the window opens has it whole */
    x = scratch_of_map(x);
    if (!x)
        return 0;
    if (give_stack(s, table, ring, x, &none, 1))
        t->given |= 1ull << slot;
    else if (s->sched_kind == SCHED_TRACE && s->state == SESSION_OPEN && !s->full_ns)
        s->full_ns = x->now_ns;
    return 0;
}

/* To all who want what was walked in a way. */
__noinline int sessions_give(struct thread_state *t, struct scratch *x, __u64 wanted)
{
    if (!t || !x)
        return 0;
    FOR_EACH_SLOT(slot, wanted)
        session_give(t, x, slot);
    return 0;
}

/* The current thread's stack, for all who want it walked in a way. */
static __always_inline void thread_gives(void *ctx, struct thread_state *t, struct scratch *x, __u32 way)
{
    __u64 wanted = x->wanted[way];
    __u32 first;

    if (!wanted)
        return;
    first = x->first[way];
    x->kernel_from = (__u64)ctx;
    if (thread_is_known(t, x, first, way))
        return;
    if (way & SCHED_WALK_KERNEL)
        walk_kernel(ctx, &x->walk);
    if (thread_walk(t, x, first, way)) {
        sessions_give(t, x, wanted);
        thread_remembers(t, x, way);
    }
}

/* All that is wanted; its registers are in x. */
static __always_inline void thread_gives_all(void *ctx, struct thread_state *t, struct scratch *x)
{
    t->given = 0;
    for (__u32 way = 0; way < SCHED_WALKS; way++)
        thread_gives(ctx, t, x, way);
}
