/* Kernel stacks that are as they were: to have the kernel unwind its stack costs more than all else that a switch with it does.
 *
 * The unwinder's way hangs on where it begins and on the return addresses that it meets. It begins in our own program, called from the
 * tracepoint, whose context lies on that stack: from there to the function that the system call's entry called, all functions' frames have a
 * fixed size, so that the same calls leave their return addresses in the same places, counted from the context. (That outermost function's own
 * frame varies where kernels randomize it; its return address lies just below the user's registers.) Which places those are the unwinder does not
 * tell: so all that hold one of its frames' addresses are noted, some of which are remains of earlier calls; where one of them has changed but the
 * unwinder finds the same frames, that one is dropped. As long as all that is noted is there, the stack is the same.
 *
 * Included by sched.bpf.c alone. */
#pragma once

#include "bpf/program_walk.h"

#define KERNEL_IMAGE_WORDS 512
#define KERNEL_IMAGE (STACK_WALK_FRAMES - KERNEL_IMAGE_WORDS) /* behind frames, labels as a rule, and the user's noted words */
_Static_assert(KERNEL_IMAGE >= CPROFD_MAX_KERNEL_FRAMES + STACK_LOOK_WORDS, "the noted words leave it alone");
_Static_assert(KERNEL_IMAGE >= CPROFD_MAX_KERNEL_FRAMES + SCHED_MAX_FRAMES + 1, "the user's frames do, too");

/* Frames of our program, and of what called it below its context. */
#define KERNEL_OWN_FRAMES 5

static __always_inline __u64 kernel_word(const struct scratch *x, __u32 at)
{
    return x->walk.frames[KERNEL_IMAGE + (at & (KERNEL_IMAGE_WORDS - 1))];
}

/* Reads the current thread's kernel stack from x->kernel_from on; nothing, where it is too long. Other architectures' return addresses may be
 * signed. */
__noinline int kernel_look(struct scratch *x)
{
#if defined(__TARGET_ARCH_x86)
    __u64 bytes;

    if (!x)
        return 0;
    x->kernel_words = 0;
    *(volatile __u64 *)&x->kernel_to = (__u64)bpf_task_pt_regs(bpf_get_current_task_btf()); /* by way of memory a number */
    bytes = *(volatile __u64 *)&x->kernel_to - x->kernel_from;
    if (bytes > KERNEL_IMAGE_WORDS * 8 || bytes < 8 || (bytes & 7))
        return 0;
    if (bpf_probe_read_kernel(x->walk.frames + KERNEL_IMAGE, bytes, (void *)x->kernel_from))
        return 0;
    x->kernel_words = (__u32)bytes / 8;
#endif
    return 0;
}

/* Whether all noted places have what they had. */
__noinline int kernel_is_as_noted(const struct kernel_notes *notes, const struct scratch *x)
{
    __u64 check = 0;

    if (!notes || !x || notes->n == 0 || x->kernel_words == 0)
        return 0;
    for (__u32 i = 0; i < KERNEL_NOTES && i < notes->n; i++) {
        if (notes->at[i] >= x->kernel_words)
            return 0;
        check = stack_check(check, kernel_word(x, notes->at[i]));
    }
    return stack_check(check, kernel_word(x, x->kernel_words - 1)) == notes->check;
}

static __always_inline __u64 kernel_bit(__u64 address)
{
    return 1ull << ((address * 0x9fb21c651e98df25ull) >> 58);
}

/* What may be a return address: kernel text, modules and our own programs. */
static __always_inline bool kernel_is_code(__u64 word)
{
    return word >= 0xffffffff80000000ull && word < 0xffffffffff000000ull;
}

static __always_inline __u32 kernel_noted_at(const struct kernel_notes *notes, __u32 i)
{
    barrier_var(i); /* else a compiler that knows its bounds leaves out the mask, by which verifiers before Linux 6.1 learn them */
    return notes->at[i & (KERNEL_NOTES - 1)];
}

/* Narrowing: whether a place was noted before, too. They come in ascending order. */
static __always_inline bool kernel_was_noted(const struct kernel_notes *notes, struct scratch *x, __u32 at)
{
    for (__u32 i = 0; i < KERNEL_NOTES; i++) {
        __u32 old = x->kernel_old, noted;
        if (old >= KERNEL_NOTES || old >= x->kernel_n_old)
            return false;
        noted = kernel_noted_at(notes, old);
        if (noted >= at)
            return noted == at;
        x->kernel_old = old + 1;
    }
    return false;
}

/* A place that holds what may be one of the frames' addresses. 1: there is nothing more to be found. */
__noinline int kernel_note_word(struct kernel_notes *notes, struct scratch *x, __u32 at)
{
    __u64 word;
    __u32 n, frame;

    if (!notes || !x)
        return 1;
    n = notes->n;
    if (n >= KERNEL_NOTES)
        return 1;
    if (x->kernel_n_old && !kernel_was_noted(notes, x, at))
        return 0;
    word = kernel_word(x, at);
    if (x->kernel_frame == 0)
        for (__u32 i = 0; i < KERNEL_OWN_FRAMES; i++)
            if (x->walk.frames[i] == word)
                x->kernel_frame = i;
    frame = x->kernel_frame;
    barrier_var(frame);
    if (frame < CPROFD_MAX_KERNEL_FRAMES && x->walk.frames[frame & 127] == word)
        x->kernel_frame = frame + 1;
    notes->check = stack_check(notes->check, word);
    notes->n = n + 1;
    barrier_var(n);
    notes->at[n & (KERNEL_NOTES - 1)] = (__u16)at; /* of the old ones, one that has been read */
    return x->kernel_frame + 1 >= x->walk.record.n_kernel;
}

/* Some of the words, so that verifiers need not follow all in one go. 1: there is nothing more to be found. */
#define KERNEL_NOTE_STEP 32

__noinline int kernel_note_words(struct kernel_notes *notes, struct scratch *x, __u32 from)
{
    if (!notes || !x)
        return 1;
    for (__u32 i = 0; i < KERNEL_NOTE_STEP; i++) {
        __u32 at = from + i;
        __u64 word = kernel_word(x, at);
        if (at + 1 >= x->kernel_words)
            return 1;
        if (kernel_is_code(word) && (x->kernel_mask & kernel_bit(word)) && kernel_note_word(notes, x, at))
            return 1;
    }
    return 0;
}

/* Notes the places of the kernel's frames, which are in x->walk. narrow: where the same frames had been noted before: those that still hold. */
__noinline int kernel_note(struct kernel_notes *notes, struct scratch *x, __u32 narrow)
{
    __u32 n, words;

    if (!notes || !x)
        return 0;
    n = x->walk.record.n_kernel;
    words = x->kernel_words;
    x->kernel_n_old = narrow ? notes->n : 0;
    x->kernel_old = 0;
    x->kernel_frame = 0;
    notes->check = 0;
    notes->n = 0;
    if (n < 2 || n > CPROFD_MAX_KERNEL_FRAMES || words < 2)
        return 0;
    x->kernel_mask = 0;
    for (__u32 i = 0; i < CPROFD_MAX_KERNEL_FRAMES && i < n; i++)
        x->kernel_mask |= kernel_bit(x->walk.frames[i]);
    for (__u32 i = 0; i < KERNEL_IMAGE_WORDS / KERNEL_NOTE_STEP; i++)
        if (kernel_note_words(notes, x, i * KERNEL_NOTE_STEP))
            break;
    if (x->kernel_frame + 1 == n && kernel_word(x, words - 1) == x->walk.frames[(n - 1) & (STACK_LOOK_WORDS - 1)])
        notes->check = stack_check(notes->check, kernel_word(x, words - 1));
    else
        notes->n = 0;
    return 0;
}
