/* One stack in BPF: the working space for it, the kernel's frames and the user's. Included by *.bpf.c, after their kernel
 * types. */
#pragma once

#include "bpf/control.h"
#include "bpf/shared_maps.h"
#include "bpf/stack_walk.h"

/* ---- what the stack engine asks of its surroundings (bpf/stack.h), whoever's stack it is; PROGRAM_HOOKS have the rest */

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

static __always_inline __u64 task_probed_return(struct task_struct *task, __u64 slot)
{
    struct return_instance *instance = BPF_CORE_READ(task, utask, return_instances);

    for (__u32 i = 0; i < MAX_RETURN_INSTANCES && instance; i++) {
        if (BPF_CORE_READ(instance, stack) == slot)
            return BPF_CORE_READ(instance, orig_ret_vaddr);
        instance = BPF_CORE_READ(instance, next);
    }
    return 0;
}

#ifndef PROGRAM_HOOKS
#define PROGRAM_HOOKS "bpf/stack_hooks.h"
#endif
#include PROGRAM_HOOKS

#include "bpf/stack.h" /* last: it uses the hooks */
#include "bpf/stack_labels.h"

#define STEPS 32 /* in one call; CPROFD_MAX_FRAMES is its square */
_Static_assert(STEPS * STEPS == CPROFD_MAX_FRAMES, "two levels of loops reach the deepest frame");

STACK_GLOBAL int stack_steps(struct stack_walk *walk)
{
    if (!walk)
        return 0;
    for (__u32 i = 0; i < STEPS; i++)
        if (!stack_step(walk))
            return 0;
    return 1;
}

/* Inline, and what a program does beside walking is not: a chain of calls has 512 bytes of stack in all, of which verifiers before
 * Linux 6.8 count 32 at least for each call. */
static __always_inline void stack_step_all(struct stack_walk *walk)
{
    for (__u32 i = 0; i < STEPS; i++)
        if (!stack_steps(walk))
            break;
}

static __always_inline struct scratch *scratch_take(__u32 *ret_level)
{
    __u32 zero = 0;
    __u64 *used = bpf_map_lookup_elem(&scratches_used, &zero);

    if (!used)
        return NULL;
#pragma unroll
    for (__u32 level = 0; level < SCRATCH_LEVELS; level++) {
        __u64 bit = 1ull << level;
        if (!(__sync_fetch_and_or(used, bit) & bit)) {
            __u32 key = level;
            *ret_level = level;
            return bpf_map_lookup_elem(&scratches, &key);
        }
    }
    return NULL;
}

static __always_inline void scratch_release(__u32 level)
{
    __u32 zero = 0;
    __u64 *used = bpf_map_lookup_elem(&scratches_used, &zero);

    if (used)
        __sync_fetch_and_and(used, ~(1ull << level));
}

/* Begins the walk with the kernel's frames, so many bytes of them, or an error. Kernel and user parts are hashed apart: a user stack that
 * ends as a kernel stack begins is another stack. */
static __always_inline void walk_kernel_frames(struct stack_walk *walk, long bytes)
{
    __u32 n = bytes > 0 ? bytes / sizeof(__u64) : 0;

    for (__u32 i = 0; i < CPROFD_MAX_KERNEL_FRAMES && i < n; i++)
        stack_hash(walk->hash, walk->frames[i]);
    stack_hash(walk->hash, n);
    walk->record.n_kernel = n;
    walk->n = n;
}

static __always_inline void walk_kernel(void *ctx, struct stack_walk *walk)
{
    walk_kernel_frames(walk, bpf_get_stack(ctx, walk->frames, CPROFD_MAX_KERNEL_FRAMES * sizeof(__u64), 0));
}

/* What is known before the first step, the registers are in walk. */
static __always_inline void walk_user_begin_at(struct session_ctl *s, struct task_struct *task, struct stack_walk *walk)
{
    __u64 space = s->space;

    walk->space = (__u32)space;
    walk->by_fp = s->unwind == UNWIND_BY_FRAME_POINTERS || walk->space == 0;
    if (space >> 32 != s->exec_epoch)
        walk->space = 0; /* of the image before */
    walk->registers = 0;
    walk->mapping.end = 0;
    walk->guessed_fp = 0;
    walk->unprobed = !task->utask;
    walk->exact = 1;
    walk->end = STACK_END_TOO_DEEP;
    stack_begin(walk);
}

static __always_inline void walk_user_begin(struct session_ctl *s, struct task_struct *task, struct stack_walk *walk)
{
    stack_first_registers(task, walk);
    walk_user_begin_at(s, task, walk);
}

/* at_entry: the return address is at the stack's top. */
static __always_inline void walk_user(struct session_ctl *s, struct task_struct *task, struct stack_walk *walk, bool at_entry)
{
    walk_user_begin(s, task, walk);
    stack_push(walk, STACK_FRAME_EXACT);
    if (!at_entry || stack_step_entry(walk))
        stack_step_all(walk);
    walk->record.n_user = walk->n - walk->record.n_kernel;
}

/* Where a task has its thread-local storage; 0: not known. */
static __always_inline __u64 task_thread_pointer(struct task_struct *task)
{
#if defined(__TARGET_ARCH_arm64)
    struct task_struct___a64 *own = (struct task_struct___a64 *)task;

    return bpf_core_field_exists(own->thread.uw.tp_value) ? own->thread.uw.tp_value : 0;
#else
    struct task_struct___x86 *own = (struct task_struct___x86 *)task;

    return bpf_core_field_exists(own->thread.fsbase) ? own->thread.fsbase : 0;
#endif
}

static __always_inline bool session_has_labels(const struct session_ctl *s)
{
    return s->labels.places[0] && s->labels.exec_epoch == s->exec_epoch;
}

/* Whether there may be more places than are known: looked at before them, since what the loop finds out meanwhile comes after. */
static __always_inline bool session_labels_are_late(const struct session_ctl *s, struct task_struct *task)
{
    bool unfollowed = !s->mm && s->listed_vm && task->mm->exec_vm != s->listed_vm; /* a dump follows no epochs */

    return s->labels.known_epoch != s->epoch + 1 || unfollowed;
}

/* Stands for the labels that a thread has, as far as can be told now, and for what is said of them: the same number, the same labels. */
static __always_inline __u64 task_labels_stamp(const struct session_ctl *s, struct task_struct *task)
{
    bool late = session_labels_are_late(s, task);
    __u64 stamp = session_has_labels(s) ? labels_stamp(&s->labels, task_thread_pointer(task)) : 0;

    return stamp << 1 | late;
}

/* The walk is complete but for them. */
static __always_inline void walk_labels(const struct session_ctl *s, struct task_struct *task, struct stack_walk *walk)
{
    bool late = session_labels_are_late(s, task);

    if (session_has_labels(s))
        labels_add(walk, &s->labels, task_thread_pointer(task), s->standing ? LABELS_MAX_STANDING : LABELS_MAX_STACKS);
    if (late && walk->record.label_state == LABELS_KNOWN) {
        walk->record.label_state = LABELS_LATE;
        stack_hash(walk->hash, LABELS_LATE);
    }
}

/* A stack without frames yet. */
static __always_inline void walk_begin(struct session_ctl *s, struct stack_walk *walk)
{
    walk->hash[0] = s->seed[0];
    walk->hash[1] = s->seed[1];
    walk->end = STACK_END_NO_USER;
    walk->n = 0;
    walk->record.type = RECORD_STACK;
    walk->record.n_kernel = 0;
    walk->record.n_user = 0;
    walk->record.label_words = 0;
    walk->record.label_state = LABELS_KNOWN;
}

/* It is complete. */
static __always_inline void walk_finish(struct stack_walk *walk)
{
    stack_hash(walk->hash, walk->end);
    walk->record.end = walk->end;
    walk->record.stack_hash[0] = walk->hash[0];
    walk->record.stack_hash[1] = walk->hash[1];
}

static __always_inline void collect_stack_at(void *ctx, struct session_ctl *s, struct task_struct *task, struct stack_walk *walk,
                                             bool at_entry)
{
    walk_begin(s, walk);
    if (s->kernel)
        walk_kernel(ctx, walk);
    if (task->mm) {
        walk_user(s, task, walk, at_entry);
        walk_labels(s, task, walk);
    }
    walk_finish(walk);
}

static __always_inline void collect_stack(void *ctx, struct session_ctl *s, struct task_struct *task, struct stack_walk *walk)
{
    collect_stack_at(ctx, s, task, walk, s->at_entry);
}
