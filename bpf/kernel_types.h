/* The kernel's types, as far as our programs read them: names and shapes only. CO-RE relocates every access to the
 * layout of the kernel that runs, so one build serves them all and no vmlinux.h of the build machine is needed. */
#pragma once

#include <linux/types.h>

#include <stdbool.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

/* What a return probe replaced by its trampoline's address, innermost first. */
struct return_instance {
    unsigned long orig_ret_vaddr;
    unsigned long stack; /* where it was */
    struct return_instance *next;
};

struct uprobe_task {
    struct return_instance *return_instances;
};

struct mm_struct {
    unsigned long exec_vm;
    void *pgd;
};

struct pid_namespace;

struct upid {
    int nr;
    struct pid_namespace *ns;
};

struct pid {
    unsigned int level;
    struct upid numbers[1];
};

enum pid_type { PIDTYPE_PID, PIDTYPE_TGID };

struct signal_struct {
    struct {
        int counter;
    } live;
    struct pid *pids[4];
    unsigned long long sum_sched_runtime;
};

struct sched_entity {
    __u64 sum_exec_runtime;
    __u64 prev_sum_exec_runtime; /* when it was last put on its CPU */
    unsigned char sched_delayed; /* since Linux 6.12: it waits, but has been left on the run queue for now */
};

struct sched_info {
    unsigned long long run_delay; /* time that it could run, and had no CPU */
    unsigned long long last_queued; /* since when it could run and has no CPU, by the scheduler's clock; 0: it has one, or waits */
    unsigned long long last_arrival; /* when it was last put on a CPU, by the scheduler's clock; 0: never */
};

/* Where a thread has its thread-local storage, by architecture. */
struct thread_struct___x86 {
    unsigned long fsbase;
};

struct thread_struct___a64 {
    struct {
        unsigned long tp_value;
    } uw;
};

struct task_struct___x86 {
    struct thread_struct___x86 thread;
};

struct task_struct___a64 {
    struct thread_struct___a64 thread;
};

struct task_struct {
    unsigned int __state;
    unsigned int flags;
    int on_cpu;
    int prio;
    struct sched_info sched_info;
    int on_rq;
    struct mm_struct *mm;
    int pid;
    int tgid;
    int exit_state;
    unsigned in_iowait : 1;
    struct task_struct *group_leader;
    struct pid *thread_pid;
    struct signal_struct *signal;
    struct sched_entity se;
    unsigned long nvcsw, nivcsw;
    struct uprobe_task *utask;
    int *clear_child_tid; /* who joins it waits there */
    unsigned long long start_time; /* monotonic */
    char comm[16];
};

struct task_rss_stat {
    int events;
};

struct task_struct___before_6_2 {
    struct task_rss_stat rss_stat;
};

struct seq_file;

struct bpf_iter_meta {
    struct seq_file *seq;
};

struct bpf_iter__task {
    struct bpf_iter_meta *meta;
    struct task_struct *task;
};

struct linux_binprm;

struct trace_event_raw_task_newtask {
    __u64 clone_flags;
};

struct trace_event_raw_rss_stat {
    unsigned int mm_id, curr;
    int member;
    long size;
};

/* The saved user registers, by architecture; a suffix after ___ is no part of a type's name to CO-RE. */
struct pt_regs___x86 {
    unsigned long r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di, orig_ax, ip, cs, flags, sp;
};

struct user_pt_regs___arm64 {
    __u64 regs[31];
    __u64 sp;
    __u64 pc;
};

struct pt_regs___a64 {
    __u64 orig_x0;
    int syscallno;
};

#pragma clang attribute pop
