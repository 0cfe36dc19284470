/* The self-audit: of some samples, spread evenly over the window, the stack is copied as well, for a worker to unwind by other means.
 * Included by sampler.bpf.c alone. */
#pragma once

#include "bpf/control.h"

#define AUDIT_PAGE_BYTES 4096
#define AUDIT_PAGES 8
#define AUDIT_RED_ZONE_BYTES 128 /* below the stack pointer, but in use */

/* What is not filled of the stack, the reader cuts off. */
struct audit_record {
    struct copy_record copy;
    __u8 stack[AUDIT_PAGES * AUDIT_PAGE_BYTES];
};

#if defined(__TARGET_ARCH_arm64)

static __always_inline __u64 audit_registers(struct task_struct *task, struct copy_record *copy)
{
    struct user_pt_regs___arm64 *regs = (struct user_pt_regs___arm64 *)bpf_task_pt_regs(task);

    copy->machine = 183; /* EM_AARCH64 */
    copy->known = (1ull << 33) - 1;
#pragma unroll
    for (__u32 i = 0; i < 31; i++)
        copy->registers[i] = regs->regs[i];
    copy->registers[31] = regs->sp;
    copy->registers[32] = regs->pc;
    return regs->sp;
}

#else

static __always_inline __u64 audit_registers(struct task_struct *task, struct copy_record *copy)
{
    struct pt_regs___x86 *regs = (struct pt_regs___x86 *)bpf_task_pt_regs(task);
    const __u64 values[] = {regs->ax, regs->dx, regs->cx, regs->bx, regs->si, regs->di, regs->bp, regs->sp, regs->r8,
                            regs->r9, regs->r10, regs->r11, regs->r12, regs->r13, regs->r14, regs->r15, regs->ip};

    copy->machine = 62; /* EM_X86_64 */
    copy->known = (1ull << 17) - 1;
    __builtin_memcpy(copy->registers, values, sizeof(values));
    return values[7];
}

#endif

static __always_inline void audit_copy(struct task_struct *task, const struct sample_key *key, struct audit_record *r)
{
    __u64 base, pages = 0;

    r->copy.type = RECORD_COPY;
    r->copy.n_kernel = 0;
    r->copy.pad = 0;
    r->copy.time_ns = 0;
    r->copy.key = *key;
    r->copy.value.samples = 0;
    r->copy.value.weight = 0;
    __builtin_memset(r->copy.registers, 0, sizeof(r->copy.registers));
    base = (audit_registers(task, &r->copy) - AUDIT_RED_ZONE_BYTES) & ~(__u64)(AUDIT_PAGE_BYTES - 1);
    r->copy.stack_base = base;
    /* Page by page: the stack may end with any. */
#pragma unroll
    for (__u32 i = 0; i < AUDIT_PAGES; i++)
        if (pages == i && !bpf_probe_read_user(r->stack + i * AUDIT_PAGE_BYTES, AUDIT_PAGE_BYTES, (void *)(base + i * AUDIT_PAGE_BYTES)))
            pages++;
    r->copy.stack_bytes = pages * AUDIT_PAGE_BYTES;
}

/* Hands a copy over, if it is time for one. key: of the sample that was just walked and counted. */
static __always_inline void audit_sample(struct session_ctl *s, void *ring, struct task_struct *task, const struct sample_key *key, __u64 now_ns)
{
    struct audit_record *r;

    if (!s->audit_gap_ns || now_ns < s->audit_next_ns || s->audits >= AUDIT_MAX_SAMPLES || !task->mm)
        return;
    s->audit_next_ns = now_ns + s->audit_gap_ns;
    __sync_fetch_and_add(&s->audits, 1);
    r = bpf_ringbuf_reserve(ring, sizeof(*r), 0);
    if (!r) {
        __sync_fetch_and_add(&s->audits_lost, 1);
        return;
    }
    audit_copy(task, key, r);
    bpf_ringbuf_submit(r, 0);
}
