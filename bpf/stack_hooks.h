/* What the stack engine asks of its surroundings (bpf/stack.h), as BPF programs answer it: the current task's memory and registers.
 * Included by program_walk.h alone. */
#pragma once

#include "bpf/shared_maps.h"
#include "bpf/stack_walk.h"

static long stack_read(void *to, __u32 size, __u64 address)
{
    return bpf_probe_read_user(to, size, (void *)address);
}

static __always_inline const __u8 *stack_chunk(__u32 place)
{
    __u32 slab = UNWIND_PLACE_SLAB(place), chunk = UNWIND_PLACE_CHUNK(place);
    void *chunks = place ? bpf_map_lookup_elem(&unwind_slabs, &slab) : NULL;

    return chunks ? bpf_map_lookup_elem(chunks, &chunk) : NULL;
}

static __always_inline struct stack_cached *stack_cache(__u32 index)
{
    return bpf_map_lookup_elem(&rule_cache, &index);
}

/* The kernel keeps what return probes replaced in a list; as many as may be live on one stack. */
#define MAX_RETURN_INSTANCES 64

STACK_GLOBAL __u64 stack_find_probed_return(__u64 slot)
{
    struct task_struct *task = bpf_get_current_task_btf();
    struct return_instance *instance = BPF_CORE_READ(task, utask, return_instances);

    for (__u32 i = 0; i < MAX_RETURN_INSTANCES && instance; i++) {
        if (BPF_CORE_READ(instance, stack) == slot)
            return BPF_CORE_READ(instance, orig_ret_vaddr);
        instance = BPF_CORE_READ(instance, next);
    }
    return 0;
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

static __always_inline void stack_first_registers(struct task_struct *task, struct stack_walk *walk)
{
    struct user_pt_regs___arm64 *regs = (struct user_pt_regs___arm64 *)bpf_task_pt_regs(task);

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

static __always_inline void stack_first_registers(struct task_struct *task, struct stack_walk *walk)
{
    struct pt_regs___x86 *regs = (struct pt_regs___x86 *)bpf_task_pt_regs(task);

    walk->pc = regs->ip;
    walk->sp = regs->sp;
    walk->fp = regs->bp;
}

#endif
