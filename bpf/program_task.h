/* Who a task is, as the daemon's own PID namespace numbers it. Included by each *.bpf.c once, after its kernel types: whoami is a program of
 * each object, and runs once behind its loading. */
#pragma once

__u64 self_namespace; /* a struct pid_namespace *; set by whoami, run once in the daemon */
__u32 self_level;

/* Where a pid has its number of the daemon's namespace. Verifiers before Linux 6.2 let nothing be added to a kernel's pointer that has no
 * bounds which they see; the kernel has 32 levels at most. */
static __always_inline const void *pid_own_number(struct pid *pid)
{
    __u64 offset = (__u64)self_level * bpf_core_type_size(struct upid);

    return (void *)pid + bpf_core_field_offset(struct pid, numbers) + (offset & 1023);
}

SEC("raw_tp/whoami")
int whoami(void *ctx)
{
    struct task_struct *task = bpf_get_current_task_btf();
    struct pid *pid = task->thread_pid;
    struct upid upid = {};

    self_level = pid->level;
    if (bpf_probe_read_kernel(&upid, bpf_core_type_size(struct upid), pid_own_number(pid)))
        return 1;
    self_namespace = (__u64)upid.ns;
    return 0;
}

/* The number of a pid in the daemon's namespace; 0 where it has none there. */
static __noinline __u32 pid_number(struct pid *pid)
{
    struct upid upid = {};

    if (!pid || pid->level < self_level)
        return 0;
    if (bpf_probe_read_kernel(&upid, sizeof(upid), pid_own_number(pid)))
        return 0;
    return (__u64)upid.ns == self_namespace ? upid.nr : 0;
}

static __always_inline __u32 task_tgid(struct task_struct *task)
{
    return self_level == 0 ? task->tgid : pid_number(task->signal->pids[PIDTYPE_TGID]);
}

static __always_inline __u32 task_tid(struct task_struct *task)
{
    return self_level == 0 ? task->pid : pid_number(task->thread_pid);
}

/* The system call that a task with these registers is in; -1: none. */
static __always_inline __s32 registers_syscall(struct pt_regs *regs)
{
#if defined(__TARGET_ARCH_arm64)
    return ((struct pt_regs___a64 *)regs)->syscallno;
#else
    return (__s32)((struct pt_regs___x86 *)regs)->orig_ax;
#endif
}

static __always_inline __s32 task_syscall(struct task_struct *task)
{
    return registers_syscall((struct pt_regs *)bpf_task_pt_regs(task));
}
