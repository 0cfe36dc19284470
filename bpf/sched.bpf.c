/* What the scheduler does with the threads of targets: when each leaves its CPU, why, and with which stack; when it is woken, and when it
 * runs again. One set of programs on the whole host serves all sessions, and is attached only while one needs it.
 *
 * All of it runs with interrupts off and a run queue locked: nothing here allocates, and walks are bounded. A session's table gets
 * (stack, thread, state) -> time:
 *   - a wait, once it is over, split where the thread was woken: until then its state's, from then on RUNQ's;
 *   - the time on the CPU, exact, without a stack (hash 0, state CPU): which stacks had it, timers tell;
 *   - waits without a stack (hash 0). Of state NONE: the thread was off its CPU before it was first seen, and what it was waiting for a
 *     dump of all threads tells (bpf/threads.h). Of other states: it was not walked, to save time.
 * A window's end cuts what is under way: the loop's side charges that, unless a program comes first (thread_state.settled). */
#include "bpf/kernel_types.h"

#include <linux/bpf.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#define STACK_NOTING

#include "bpf/sched_session.h"
#include "bpf/sched_thread.h"
#include "bpf/trace_events.h"

#include "bpf/sched_locks.h"

char LICENSE[] SEC("license") = "GPL";

/* ---- what it costs */

/* Reading the clock is a good part of it: one event in so many stands for all, of those that come fast one in more. Bits. */
#define COST_SLOW_SHIFT 3
#define COST_FAST_SHIFT 6
#define COST_FAST_NS 1000000

__noinline int session_charge(__u32 slot, __u32 tgid, __u64 spent_ns, __u32 events)
{
    struct session_ctl *s = sched_session(slot, tgid);

    if (s)
        charge_spent(s, spent_ns, events);
    return 0;
}

__noinline int sessions_charge(__u32 tgid, __u64 slots, __u64 spent_ns, __u32 events)
{
    FOR_EACH_SLOT(slot, slots)
        session_charge(slot, tgid, spent_ns, events);
    return 0;
}

/* before_ns: when the event before it was. */
static __always_inline void charge_sessions(const struct sched_wishes *of, __u64 began_ns, __u64 before_ns)
{
    __u32 shift = began_ns - before_ns < COST_FAST_NS ? COST_FAST_SHIFT : COST_SLOW_SHIFT;

    if ((began_ns * 0x9fb21c651e98df25ull) >> (64 - shift) == 0) /* as good as by chance */
        sessions_charge(of->tgid, of->all, bpf_ktime_get_ns() - began_ns, 1u << shift);
}

/* ---- the events */

/* Where windows have just ended, who settles them still wants to know of the thread. */
static __always_inline void thread_dies(struct task_struct *task, struct thread_state *t, struct scratch *x, __u64 slots)
{
    int closing = 0;

    sums_give(t, x);
    sessions_end(t, x, slots);
    FOR_EACH_SLOT(slot, slots)
        closing |= session_is_closing(slot, t->tgid);
    t->place = THREAD_DEAD;
    t->out_ns = x->now_ns;
    if (closing)
        thread_is_kept();
    else
        thread_remove(task);
}

/* When a thread must have been put on its CPU, or must have left it, where nobody told us: by how long it has run since. */
static __always_inline __u64 missed_come_ns(struct task_struct *task, const struct thread_state *t, __u64 now_ns)
{
    __u64 ran_ns = task->se.sum_exec_runtime - t->exec_ns;

    if (t->place == THREAD_RUNNING)
        return 0;
    if (t->place <= THREAD_UNSEEN) /* seen for the first time */
        ran_ns = task->se.sum_exec_runtime - task->se.prev_sum_exec_runtime;
    return ran_ns < now_ns - t->out_ns ? now_ns - ran_ns : t->out_ns;
}

static __always_inline __u64 missed_leave_ns(struct task_struct *task, const struct thread_state *t, __u64 now_ns)
{
    __u64 ran_ns = task->se.sum_exec_runtime - t->exec_ns;

    if (t->place != THREAD_RUNNING)
        return 0;
    return ran_ns < now_ns - t->in_ns ? t->in_ns + ran_ns : now_ns;
}

/* Why it left then. It has not run since: where it did not lose its CPU to another it is still in the system call that it waited in. */
static __always_inline void missed_leave_state(struct task_struct *task, const struct thread_state *t, struct scratch *x)
{
    __s32 syscall = task_syscall(task);

    x->state = task->nvcsw == t->waits ? SAMPLE_STATE_RUNQ : wait_state(task, syscall);
    x->same_wait = x->state == t->state && (x->state == SAMPLE_STATE_RUNQ || syscall == t->syscall);
}

/* Nobody told of its coming, nor of its leaving again, but it has run since it left: it came when it had been in the run queue for as long as
 * the kernel says. What then follows is a leaving that nobody told of. */
static __always_inline void thread_came_unseen(struct task_struct *task, struct thread_state *t, struct scratch *x, __u64 slots)
{
    __u64 now_ns = x->now_ns, ran_ns = task->se.sum_exec_runtime - t->exec_ns, latest_ns, delay_ns = 0;

    if (t->place <= THREAD_RUNNING || ran_ns == 0)
        return;
    if (bpf_core_field_exists(task->sched_info.run_delay))
        delay_ns = task->sched_info.run_delay - t->run_delay_ns;
    latest_ns = ran_ns < now_ns - t->out_ns ? now_ns - ran_ns : t->out_ns;
    x->now_ns = delay_ns < latest_ns - t->out_ns ? t->out_ns + delay_ns : latest_ns;
    sessions_came_unseen(t, x, slots);
    if (t->lock.state != LOCK_WAIT_NONE)
        lock_comes(t, x);
    t->in_ns = x->now_ns;
    t->place = THREAD_RUNNING;
    x->now_ns = now_ns;
}

/* Nobody told of its leaving, nor of its coming again, but it has left more often than this once. It was away for as long as it did not run:
 * when is not known, and why no more than that it was preempted, or was not. */
static __always_inline void thread_left_unseen(struct task_struct *task, struct thread_state *t, struct scratch *x, __u64 slots)
{
    __u64 now_ns = x->now_ns, ran_ns = task->se.sum_exec_runtime - t->exec_ns, waits = task->nvcsw - t->waits;
    __u32 state = x->state;

    if (t->place != THREAD_RUNNING || waits + (task->nivcsw - t->preempted) < 2 || ran_ns >= now_ns - t->in_ns)
        return;
    waits -= state != SAMPLE_STATE_RUNQ; /* that which it begins now */
    t->out_ns = t->in_ns;
    t->place = waits ? THREAD_WAITING : THREAD_QUEUED;
    if (!waits)
        t->state = SAMPLE_STATE_RUNQ;
    else if (t->state == SAMPLE_STATE_RUNQ)
        t->state = SAMPLE_STATE_OTHER;
    t->given = 0;
    x->now_ns = now_ns - ran_ns;
    sessions_came_unseen(t, x, slots);
    t->in_ns = x->now_ns;
    t->place = THREAD_RUNNING;
    x->now_ns = now_ns;
}

/* Nobody told of its coming. Its lock counts it no more, else it would wait there forever; and if it goes to wait for it again at once, that is
 * the same wait. */
static __always_inline void thread_waits_no_more(struct thread_state *t, struct scratch *x)
{
    __u64 now_ns = x->now_ns;

    if (t->lock.state == LOCK_WAIT_NONE && !(x->missed_ns && x->locks && t->state == SAMPLE_STATE_LOCK))
        return;
    if (x->missed_ns)
        x->now_ns = x->missed_ns;
    lock_comes(t, x);
    x->now_ns = now_ns;
}

/* What the kernel's account of it is at an event: by that the next one sees what it was not told of. */
static __always_inline void thread_account(const struct task_struct *task, struct thread_state *t)
{
    t->exec_ns = task->se.sum_exec_runtime;
    t->waits = task->nvcsw;
    t->preempted = task->nivcsw;
}

static __always_inline void thread_leaves(void *ctx, struct task_struct *task, struct thread_state *t, struct scratch *x,
                                          const struct sched_wishes *of)
{
    __s32 syscall = thread_registers(task, x);

    thread_rename(t, x, task);
    x->state = task_is_queued(task) ? SAMPLE_STATE_RUNQ : wait_state(task, syscall);
    thread_left_unseen(task, t, x, of->all);
    x->missed_ns = missed_come_ns(task, t, x->now_ns);
    if (of->all == 1ull << (of->slot & 63))
        session_leaves(t, x, of->slot);
    else
        sessions_leave(t, x, of->all);
    thread_met(t, x);
    thread_waits_no_more(t, x);
    thread_account(task, t);
    if (of->tracing) {
        trace_missed(task, t, of->tracing, x->now_ns);
        trace_account(task, t);
    }
    if (bpf_core_field_exists(task->sched_info.run_delay))
        t->run_delay_ns = task->sched_info.run_delay;
    if (task->__state & TASK_DEAD) {
        trace_end(t, of->tracing, x->now_ns);
        thread_dies(task, t, x, of->all);
        return;
    }
    t->syscall = syscall;
    t->out_ns = x->now_ns;
    t->state = x->state;
    t->place = x->state == SAMPLE_STATE_RUNQ ? THREAD_QUEUED : THREAD_WAITING;
    t->locks = x->locks;
    if (t->locks && t->state == SAMPLE_STATE_LOCK)
        lock_leaves(t, x);
    thread_gives_all(ctx, t, x);
    if (of->tracing)
        trace_own(t, of->tracing, TRACE_OUT, x->now_ns);
}

static __always_inline void thread_comes(struct task_struct *task, struct thread_state *t, struct scratch *x, const struct sched_wishes *of)
{
    if (t->place <= THREAD_UNSEEN)
        t->state = wait_state(task, task_syscall(task));
    thread_came_unseen(task, t, x, of->all);
    x->missed_ns = missed_leave_ns(task, t, x->now_ns);
    if (x->missed_ns)
        missed_leave_state(task, t, x);
    if (of->all == 1ull << (of->slot & 63))
        session_comes(t, x, of->slot);
    else
        sessions_come(t, x, of->all);
    thread_account(task, t);
    if (t->lock.state != LOCK_WAIT_NONE || (x->locks && t->state == SAMPLE_STATE_LOCK))
        lock_comes(t, x);
    if (t->place == THREAD_QUEUED && x->locks)
        lock_wait_queued(&t->lock, lock_since(t->out_ns, x->now_ns));
    thread_met(t, x);
    if (of->tracing)
        trace_missed_wake(task, t, of->tracing, x->now_ns);
    t->in_ns = x->now_ns;
    t->place = THREAD_RUNNING;
    if (of->tracing)
        trace_own(t, of->tracing, TRACE_IN, x->now_ns);
}

__noinline int session_lost_event(__u32 slot, __u32 tgid)
{
    struct session_ctl *s = sched_session(slot, tgid);

    if (s)
        __sync_fetch_and_add(&s->lost_nested, 1);
    return 0;
}

__noinline int sessions_lost_event(__u64 slots, __u32 tgid)
{
    FOR_EACH_SLOT(slot, slots)
        session_lost_event(slot, tgid);
    return 0;
}

/* The working space for an event at this time; NULL: there is none, which is counted. */
static __always_inline struct scratch *sched_take(const struct sched_wishes *of, __u64 now_ns, __u32 *ret_level)
{
    struct scratch *x = scratch_take(ret_level);

    if (!x) {
        sessions_lost_event(of->all, of->tgid);
        return NULL;
    }
    sched_begin(x, now_ns);
    x->level = *ret_level;
    return x;
}

/* The event has one more argument on kernels since 5.18, which is not needed: see task_is_queued. */
SEC("tp_btf/sched_switch")
int BPF_PROG(on_switch, bool preempted, struct task_struct *before, struct task_struct *next)
{
    __u64 now_ns, before_ns = 0;
    struct sched_wishes left, comes;
    struct thread_state *t;
    struct scratch *x;
    __u32 level;

    sched_wishes_of(before, &left);
    sched_wishes_of(next, &comes);
    if (!(left.all | comes.all))
        return 0;
    now_ns = bpf_ktime_get_ns();
    x = sched_take(left.all ? &left : &comes, now_ns, &level);
    if (!x)
        return 0;
    t = left.all ? thread_of(before, left.tgid, left.all) : NULL;
    if (t)
        before_ns = t->in_ns;
    if (t)
        thread_leaves(ctx, before, t, x, &left);
    t = comes.all ? thread_of(next, comes.tgid, comes.all) : NULL;
    sched_begin(x, now_ns);
    if (t && !left.all)
        before_ns = t->out_ns;
    if (t)
        thread_comes(next, t, x, &comes);
    scratch_release(level);
    charge_sessions(left.all ? &left : &comes, now_ns, before_ns);
    return 0;
}

/* A wake for those that trace, or ask who it was: a thread of the same process, with its stack, or somebody else. */
static __always_inline void thread_woken(void *ctx, struct thread_state *t, const struct sched_wishes *of, __u64 now_ns)
{
    struct task_struct *task = bpf_get_current_task_btf();
    struct thread_state *by = t;
    struct scratch *x;
    __u32 actor = 0, level;

    t->woken_by = 0;
    if (!of->waking)
        return;
    if (task_tgid(task) == of->tgid && task_wakes(task, t)) {
        t->woken_by = 1;
        t->waker_given = 0;
        by = thread_of(task, of->tgid, of->waking);
        x = by ? sched_take(of, now_ns, &level) : NULL;
        if (x) {
            trace_walk_waker(ctx, by, x, of->all, of->waking);
            t->waker_given = by->given;
            __builtin_memcpy(t->waker_hash, by->stack_hash, sizeof(t->waker_hash));
            scratch_release(level);
        } else if (by) {
            by->given = 0; /* it has left where these were taken */
        }
        actor = by ? by->tid : 0;
    }
    if (by) {
        FOR_EACH_SLOT(slot, of->tracing)
            trace_event(t, by, slot | TRACE_WAKING << 8, actor, now_ns);
        if (actor)
            by->given = 0; /* where it woke another is not where it leaves its CPU */
    }
}

SEC("tp_btf/sched_waking")
int BPF_PROG(on_waking, struct task_struct *task)
{
    struct sched_wishes of;
    struct thread_state *t;
    struct scratch *x;
    __u64 now_ns;
    __u32 level;

    sched_wishes_of(task, &of);
    if (!of.all)
        return 0;
    now_ns = bpf_ktime_get_ns();
    t = thread_of(task, of.tgid, of.all);
    if (!t)
        return 0;
    t->wake_ns = now_ns;
    if (t->place == THREAD_NEW && !task->on_cpu)
        t->place = THREAD_UNSEEN;
    if (t->locks && (x = sched_take(&of, now_ns, &level))) {
        x->locks = t->locks;
        lock_wakes(ctx, task, t, x, of.all);
        scratch_release(level);
    }
    thread_woken(ctx, t, &of, now_ns);
    charge_sessions(&of, now_ns, t->out_ns);
    return 0;
}

/* Its place in memory is another's, and nobody told us of its end: it ended when it was seen last. */
static __always_inline void thread_is_gone(struct thread_state *t, struct scratch *x, __u64 slots)
{
    __u64 now_ns = x->now_ns;

    x->now_ns = t->in_ns > t->out_ns ? t->in_ns : t->out_ns;
    if (t->lock.state != LOCK_WAIT_NONE) {
        x->locks = t->locks;
        lock_comes(t, x);
        x->locks = 0;
    }
    sums_give(t, x);
    sessions_end(t, x, slots);
    x->now_ns = now_ns;
}

/* Called by the thread that makes the new one: the stack that the new one's wait for its first CPU is charged to. */
SEC("tp_btf/task_newtask")
int BPF_PROG(on_new_task, struct task_struct *task, __u64 flags)
{
    struct sched_wishes of;
    struct thread_state *t;
    struct scratch *x;
    __u64 now_ns;
    __u32 level;

    sched_wishes_of(task, &of);
    if (!of.all)
        return 0;
    now_ns = bpf_ktime_get_ns();
    x = sched_take(&of, now_ns, &level);
    if (!x)
        return 0;
    t = thread_find(task);
    if (t && t->place != THREAD_DEAD)
        thread_is_gone(t, x, of.all);
    else if (t && thread_moves_aside(t))
        sessions_lost_thread(of.all, of.tgid);
    thread_remove(task);
    t = thread_of(task, of.tgid, of.all);
    if (!t) {
        scratch_release(level);
        return 0;
    }
    x->state = SAMPLE_STATE_RUNQ;
    sessions_begin(t, x, of.all);
    thread_met(t, x);
    t->out_ns = t->born_ns;
    t->syscall = -1;
    t->place = THREAD_QUEUED;
    t->state = SAMPLE_STATE_RUNQ;
    (void)thread_registers(bpf_get_current_task_btf(), x);
    thread_gives_all(ctx, t, x);
    trace_begin(t, of.tracing, now_ns);
    thread_forgets(t); /* it was its maker's */
    scratch_release(level);
    charge_sessions(&of, now_ns, 0);
    return 0;
}
