/* A dump of a process's threads (bpf/threads.h): an iterator for those that wait, a look at each CPU for those that run. */
#include "bpf/kernel_types.h"

#include <linux/bpf.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "bpf/control.h"
#include "bpf/program_task.h"

#define PROGRAM_HOOKS "bpf/thread_hooks.h"
#include "bpf/program_walk.h"

char LICENSE[] SEC("license") = "GPL";

/* ---- one thread */

static __always_inline void thread_syscall(struct task_struct *task, struct thread_record *t)
{
#if defined(__TARGET_ARCH_arm64)
    t->syscall = ((struct pt_regs___a64 *)bpf_task_pt_regs(task))->syscallno;
    t->args[0] = ((struct user_pt_regs___arm64 *)bpf_task_pt_regs(task))->regs[0];
    t->args[1] = ((struct user_pt_regs___arm64 *)bpf_task_pt_regs(task))->regs[1];
#else
    struct pt_regs___x86 *regs = (struct pt_regs___x86 *)bpf_task_pt_regs(task);

    t->syscall = regs->orig_ax;
    t->args[0] = regs->di;
    t->args[1] = regs->si;
#endif
}

/* When it left its CPU: when it came, and how long it then ran. Real-time tasks have no such account of how long. */
static __always_inline __u64 thread_wait_ns(const struct dump_area *d, struct task_struct *task, __u64 now_ns)
{
    __u64 left = task->sched_info.last_arrival;

    if (!left || now_ns < task->start_time)
        return now_ns - task->start_time;
    if (task->prio >= 100)
        left += task->se.sum_exec_runtime - task->se.prev_sum_exec_runtime;
    left += d->clock_offset_ns;
    return left < now_ns ? now_ns - left : 0;
}

static __always_inline void thread_describe(const struct session_ctl *s, struct dump_area *d, struct task_struct *task,
                                            struct thread_record *t)
{
    __u64 now_ns = bpf_ktime_get_ns();

    __builtin_memset(t, 0, sizeof(*t));
    t->tid = task_tid(task);
    t->state = task->__state;
    t->exit_state = task->exit_state;
    t->on_cpu = !!task->on_cpu;
    t->in_iowait = BPF_CORE_READ_BITFIELD(task, in_iowait);
    t->wait_ns = t->on_cpu ? 0 : thread_wait_ns(d, task, now_ns);
    t->start_ns = task->start_time;
    t->epoch = s->epoch;
    thread_syscall(task, t);
    bpf_probe_read_kernel_str(t->comm, sizeof(t->comm), task->comm);
}

static __always_inline void thread_walk_user(struct session_ctl *s, struct dump_area *d, struct task_struct *task)
{
    struct mm_struct *mm = task->mm;

    d->task = (__u64)task;
    d->pgd = mm ? (__u64)mm->pgd : 0;
    for (__u32 i = 0; i < DUMP_PAGES; i++)
        d->pages[i].address = 1;
    if (mm) {
        walk_user(s, task, &d->walk, s->at_entry);
        walk_labels(s, task, &d->walk);
    }
    walk_finish(&d->walk);
}

/* NULL: its target has ended, and another process may have the number by now. */
static __always_inline struct session_ctl *dump_session(const struct dump_area *d)
{
    __u32 slot = d->slot;
    struct session_ctl *s = bpf_map_lookup_elem(&sessions, &slot);

    return s && !s->closed_ns ? s : NULL;
}

/* ---- threads that wait */

SEC("iter/task")
int dump_thread(struct bpf_iter__task *ctx)
{
    struct seq_file *seq = ctx->meta->seq;
    struct task_struct *task = ctx->task;
    struct dump_area *d = dump_area();
    struct session_ctl *s = d ? dump_session(d) : NULL;
    __u64 n;

    if (!task || !s || task_tgid(task) != d->tgid)
        return 0;
    thread_describe(s, d, task, &d->thread);
    walk_begin(s, &d->walk);
    if (!d->thread.on_cpu) {
        long bytes = bpf_get_task_stack(task, d->walk.frames, CPROFD_MAX_KERNEL_FRAMES * sizeof(__u64), 0);
        walk_kernel_frames(&d->walk, bytes);
        thread_walk_user(s, d, task);
        /* One that began to run meanwhile was walked by what its registers were. */
        d->thread.seen = !task->on_cpu;
    }
    d->thread.stack = d->walk.record;
    n = d->walk.n;
    barrier_var(n);
    if (n > STACK_WALK_FRAMES + LABELS_MAX_WORDS)
        return 0;
    bpf_seq_write(seq, &d->thread, sizeof(d->thread));
    bpf_seq_write(seq, d->walk.frames, n * sizeof(__u64));
    return 0;
}

/* ---- threads that run */

/* In an interrupt of the CPU whose thread is to be looked at. 1: it is the target's, and dump_area has it; 0: it is not. */
SEC("raw_tp/dump_cpu")
int dump_cpu(void *ctx)
{
    struct task_struct *task = bpf_get_current_task_btf();
    struct dump_area *d = dump_area();
    struct session_ctl *s = d ? dump_session(d) : NULL;

    if (!s || task_tgid(task) != d->tgid)
        return 0;
    thread_describe(s, d, task, &d->thread);
    walk_begin(s, &d->walk);
    if (d->kernel)
        walk_kernel_frames(&d->walk, bpf_get_stack(ctx, d->walk.frames, CPROFD_MAX_KERNEL_FRAMES * sizeof(__u64), 0));
    thread_walk_user(s, d, task);
    d->thread.seen = 1;
    d->thread.stack = d->walk.record;
    return 1;
}

/* ---- what is found out first */

/* By whoever has just been put on a CPU: how the scheduler's clock differs from the monotonic one. */
SEC("raw_tp/dump_clock")
int dump_clock(void *ctx)
{
    struct task_struct *task = bpf_get_current_task_btf();
    struct dump_area *d = dump_area();

    if (d)
        d->clock_offset_ns = bpf_ktime_get_ns() - task->sched_info.last_arrival;
    return 0;
}

/* Looks for the kernel's mapping of all memory. It begins at some multiple of 1 GiB, below the caller's own page table, which lies in it. Right is
 * the place from which the caller's page tables lead to a number that it keeps in its memory: args are that number's address, the number,
 * and how many GiB down to begin. 1: found. */
#define CALIBRATE_PLACES 128

SEC("raw_tp/dump_calibrate")
int dump_calibrate(struct bpf_raw_tracepoint_args *ctx)
{
    struct task_struct *task = bpf_get_current_task_btf();
    struct dump_area *d = dump_area();
    __u64 address = ctx->args[0], number = ctx->args[1], skip = ctx->args[2], found = 0;

    if (!d || !task->mm)
        return 0;
    d->pgd = (__u64)BPF_CORE_READ(task, mm, pgd);
    for (__u32 i = 0; i < CALIBRATE_PLACES; i++) {
        d->memory.direct_map = (d->pgd & ~((1ull << 30) - 1)) - ((skip + i) << 30);
        d->pages[(address >> 12) & (DUMP_PAGES - 1)].address = 1;
        if (!stack_read(&found, sizeof(found), address) && found == number)
            return 1;
    }
    d->memory.direct_map = 0;
    return 0;
}
