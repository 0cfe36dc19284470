/* The scheduler's events of a thread as records of a trace, for each session that wants them: into the session's ring, one by one. Included
 * by sched.bpf.c alone. */
#pragma once

#include "bpf/sched_session.h"

/* include/uapi/asm-generic/unistd.h, arch/x86/entry/syscalls/syscall_64.tbl */
#if defined(__TARGET_ARCH_arm64)
#define SYSCALL_NANOSLEEP 101
#define SYSCALL_CLOCK_NANOSLEEP 115
#else
#define SYSCALL_NANOSLEEP 35
#define SYSCALL_CLOCK_NANOSLEEP 230
#endif

/* Whether the current task is who wakes a thread, and not an interrupt that came upon it. The kernel's own counter of interrupts is out of
 * reach where it keeps no addresses of variables (CONFIG_KALLSYMS_ALL); but who wakes somebody does it in a system call, and who sleeps for
 * a time is woken by the clock. What remains is an interrupt within a system call. */
static __always_inline bool task_wakes(struct task_struct *task, const struct thread_state *woken)
{
    if (woken->place == THREAD_WAITING && (woken->syscall == SYSCALL_NANOSLEEP || woken->syscall == SYSCALL_CLOCK_NANOSLEEP))
        return false;
    return task_syscall(task) >= 0;
}

/* A wake may come so long before the thread has left its CPU: it said that it would (pprof/exec_trace_order.c). */
#define TRACE_EARLY_WAKE_NS 1000000

/* What a record says of its event: the event, and flags above it. */
#define TRACE_EVENT_RECOVERED 0x100

/* One event of a thread, with a stack of by's: its own, or what it had its actor's taken for. */
__noinline int trace_event(struct thread_state *t, struct thread_state *by, __u32 slot_event, __u32 actor, __u64 now_ns)
{
    __u32 slot = slot_event & 0xff, event = slot_event >> 8 & 0xff, way;
    struct session_ctl *s = bpf_map_lookup_elem(&sessions, &slot);
    void *ring = bpf_map_lookup_elem(&records, &slot);
    struct trace_record r = {.type = RECORD_TRACE, .syscall = -1};

    if (!t || !by || !s || !ring || s->sched_kind != SCHED_TRACE || s->state != SESSION_OPEN || s->full_ns)
        return 0;
    way = session_way(s);
    r.event = event;
    r.cpu = bpf_get_smp_processor_id();
    r.time_ns = now_ns;
    r.tid = t->tid;
    r.actor = actor;
    r.epoch = s->epoch;
    r.state = slot_event >> 8 & TRACE_EVENT_RECOVERED ? TRACE_RECOVERED : 0;
    if (event == TRACE_OUT) {
        r.syscall = t->syscall;
        r.state = t->state;
    }
    if (event != TRACE_IN && (event != TRACE_WAKING || actor) && way < SCHED_WALKS && by->given >> (slot & 63) & 1) {
        hash_of(by, way, r.stack_hash);
    }
    __builtin_memcpy(r.comm, t->comm, sizeof(r.comm));
    if (emit(ring, &r, sizeof(r))) {
        __sync_fetch_and_add(&s->lost_ring, 1);
        s->full_ns = now_ns;
    } else {
        __sync_fetch_and_add(&s->samples, 1);
    }
    return 0;
}

/* An event of a thread's own. */
__noinline int trace_own(struct thread_state *t, __u64 slots, __u32 event, __u64 now_ns)
{
    FOR_EACH_SLOT(slot, slots)
        trace_event(t, t, slot | event << 8, 0, now_ns);
    return 0;
}

/* Whether the end of the wait that a thread is in has been told of. */
static __always_inline bool trace_woken(const struct thread_state *t)
{
    return t->wake_ns >= t->in_ns && t->wake_ns + TRACE_EARLY_WAKE_NS >= t->out_ns;
}

/* A thread leaves a CPU that it was never seen to be put on: kernels have been seen to skip events of a CPU that wakes up from idleness. Its
 * accounts tell how long it has run since, and before that had waited for its CPU. Where they don't fit, nothing is told. */
static __always_inline void trace_missed(struct task_struct *task, struct thread_state *t, __u64 slots, __u64 now_ns)
{
    __u64 ran_ns = task->se.sum_exec_runtime - task->se.prev_sum_exec_runtime, delay_ns = 0, in_ns;

    if (t->place <= THREAD_RUNNING || ran_ns >= now_ns - t->out_ns)
        return;
    if (bpf_core_field_exists(task->sched_info.run_delay))
        delay_ns = task->sched_info.run_delay - t->run_delay_ns;
    in_ns = now_ns - ran_ns;
    if (t->place == THREAD_WAITING && !trace_woken(t))
        trace_own(t, slots, TRACE_WAKING | TRACE_EVENT_RECOVERED, delay_ns < in_ns - t->out_ns ? in_ns - delay_ns : in_ns);
    trace_own(t, slots, TRACE_IN | TRACE_EVENT_RECOVERED, in_ns);
}

/* The same for a thread that is put on a CPU, and was never seen to be woken. */
static __always_inline void trace_missed_wake(struct task_struct *task, struct thread_state *t, __u64 slots, __u64 now_ns)
{
    __u64 queued_ns = task->sched_info.last_queued + t->clock_ns;

    if (t->place != THREAD_WAITING || trace_woken(t) || !t->clock_ns)
        return;
    if (queued_ns > t->out_ns && queued_ns <= now_ns)
        trace_own(t, slots, TRACE_WAKING | TRACE_EVENT_RECOVERED, queued_ns);
}

/* A thread leaves its CPU: what of its accounts tells more later. */
static __always_inline void trace_account(struct task_struct *task, struct thread_state *t)
{
    if (!bpf_core_field_exists(task->sched_info.last_arrival))
        return;
    if (t->place == THREAD_RUNNING)
        t->clock_ns = t->in_ns - task->sched_info.last_arrival;
}

static __always_inline void trace_end(struct thread_state *t, __u64 slots, __u64 now_ns)
{
    t->state = SAMPLE_STATE_NONE;
    t->syscall = -1;
    t->given = 0;
    trace_own(t, slots, TRACE_OUT, now_ns);
}

/* Its maker is the current task, whose stack was taken for it. */
static __always_inline void trace_begin(struct thread_state *t, __u64 slots, __u64 now_ns)
{
    __u32 actor = task_tid(bpf_get_current_task_btf());

    FOR_EACH_SLOT(slot, slots)
        trace_event(t, t, slot | TRACE_NEW << 8, actor, now_ns);
}

/* The stack of who wakes, for those that trace. */
static __always_inline void trace_walk_waker(void *ctx, struct thread_state *waker, struct scratch *x, __u64 slots, __u64 tracing)
{
    thread_meets(waker, x, slots);
    FOR_EACH_SLOT(slot, tracing)
        session_wants(waker, x, slot);
    (void)thread_registers(bpf_get_current_task_btf(), x);
    thread_gives_all(ctx, waker, x);
}
