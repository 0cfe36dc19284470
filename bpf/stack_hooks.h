/* What the stack engine asks of its surroundings (bpf/stack.h), as BPF programs answer it: the current task's memory and registers.
 * Included by program_walk.h alone. */
#pragma once

#include "bpf/shared_maps.h"
#include "bpf/stack_walk.h"

static long stack_read(void *to, __u32 size, __u64 address)
{
    return bpf_probe_read_user(to, size, (void *)address);
}

STACK_GLOBAL __u64 stack_find_probed_return(__u64 slot)
{
    return task_probed_return(bpf_get_current_task_btf(), slot);
}

static __always_inline __u64 stack_probed_return(__u64 slot)
{
    struct task_struct *task = bpf_get_current_task_btf();

    return task->utask ? stack_find_probed_return(slot) : 0;
}

#if defined(__TARGET_ARCH_arm64)

static __always_inline int stack_register(__u32 reg, __u64 *ret)
{
    return 0; /* CFA rules of aarch64 name sp and x29 */
}

static __always_inline void stack_registers_of(struct pt_regs *all, struct stack_walk *walk)
{
    struct user_pt_regs___arm64 *regs = (struct user_pt_regs___arm64 *)all;

    walk->pc = regs->pc;
    walk->sp = regs->sp;
    walk->fp = regs->regs[29];
    walk->lr = regs->regs[30];
}

#else

STACK_GLOBAL __u64 stack_register_value(__u32 reg)
{
    struct pt_regs___x86 *regs = (struct pt_regs___x86 *)bpf_task_pt_regs(bpf_get_current_task_btf());

    switch (reg) {
    case 0: return regs->ax;
    case 1: return regs->dx;
    case 2: return regs->cx;
    case 3: return regs->bx;
    case 4: return regs->si;
    case 5: return regs->di;
    case 8: return regs->r8;
    case 9: return regs->r9;
    case 10: return regs->r10;
    case 11: return regs->r11;
    case 12: return regs->r12;
    case 13: return regs->r13;
    case 14: return regs->r14;
    case 15: return regs->r15;
    default: return 0;
    }
}

static __always_inline int stack_register(__u32 reg, __u64 *ret)
{
    *ret = stack_register_value(reg);
    return reg < 16;
}

static __always_inline void stack_registers_of(struct pt_regs *all, struct stack_walk *walk)
{
    struct pt_regs___x86 *regs = (struct pt_regs___x86 *)all;

    walk->pc = regs->ip;
    walk->sp = regs->sp;
    walk->fp = regs->bp;
}

#endif

static __always_inline void stack_first_registers(struct task_struct *task, struct stack_walk *walk)
{
    stack_registers_of((struct pt_regs *)bpf_task_pt_regs(task), walk);
}
