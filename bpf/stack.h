/* The stack engine: walks a user stack from its registers, one step a frame. Compiled into the BPF programs, and for the
 * host too, so that unit tests and fuzzers run the very code that the kernel runs.
 *
 * A step asks the tables (stack_tables.h) which rule holds at the frame's address, and follows it. Code that has none keeps frame
 * pointers (JIT compilers), or its caller is guessed (stack_guess.h). A walk has found the root only where the rule says that there is
 * no return address; wherever else it ends, it ended too early.
 *
 * The includer defines
 *   long stack_read(void *to, __u32 size, __u64 address)   user memory: 0, or a negative error
 *   stack_chunk, stack_cache                               see stack_tables.h
 *   int stack_register(__u32 reg, __u64 *ret)              of the interrupted thread, by DWARF number: 1, or 0 where it is not known
 *   __u64 stack_probed_return(__u64 slot)                  what a return probe has replaced in that slot; 0: nothing */
#pragma once

#include "bpf/stack_walk.h"

#if defined(__aarch64__) || defined(__TARGET_ARCH_arm64) || defined(STACK_ARM64)
#include "bpf/stack_arm64.h"
#else
#include "bpf/stack_x86.h"
#endif

#include "bpf/stack_guess.h"
#include "bpf/stack_resolver.h"
#include "bpf/stack_tables.h"

/* Makes the window hold two words at an address. 0: it can't; where the stack ends within it, or the rest of it is not in memory, they may
 * still be there. */
STACK_INLINE int stack_window(struct stack_walk *walk, __u64 address, __u32 *ret_index)
{
    __u64 at = address - walk->window_at;

    if ((at & 7) || at > (STACK_WINDOW_WORDS - 2) * 8) {
        walk->window_at = 1;
        if ((address & 7) || stack_read(walk->window, sizeof(walk->window), address))
            return 0;
        walk->window_at = address;
        at = 0;
    }
    *ret_index = (__u32)(at >> 3) & (STACK_WINDOW_WORDS - 1);
    return 1;
}

/* Two words of the stack. 0, or a negative error. */
STACK_INLINE long stack_look_pair(struct stack_walk *walk, __u64 pair[2], __u64 address)
{
    __u32 i;

    if (!stack_window(walk, address, &i))
        return stack_read(pair, 16, address);
    pair[0] = walk->window[i];
    pair[1] = walk->window[(i + 1) & (STACK_WINDOW_WORDS - 1)];
    return 0;
}

STACK_INLINE long stack_look_word(struct stack_walk *walk, __u64 *word, __u64 address)
{
    __u32 i;

    if (!stack_window(walk, address, &i))
        return stack_read(word, 8, address);
    *word = walk->window[i];
    return 0;
}

/* The same, and noted. */
STACK_INLINE long stack_read_pair(struct stack_walk *walk, __u64 pair[2], __u64 address)
{
    if (stack_look_pair(walk, pair, address)) {
        stack_note_unknown(walk);
        return -1;
    }
    stack_note(walk, address, pair, 1);
    return 0;
}

STACK_INLINE long stack_read_word(struct stack_walk *walk, __u64 *word, __u64 address)
{
    if (stack_look_word(walk, word, address)) {
        stack_note_unknown(walk);
        return -1;
    }
    stack_note(walk, address, word, 0);
    return 0;
}

#ifdef STACK_NOTING
/* Words in one reading, into where the walk's frames would be: to ask for memory is what costs, more than its length. */
#define STACK_LOOK_WORDS 256
_Static_assert(CPROFD_MAX_KERNEL_FRAMES + STACK_LOOK_WORDS <= STACK_WALK_FRAMES, "there is room for them");

/* Reads noted words from one of them on, with the result in memory: verifiers would follow each course of it through all the words behind. */
STACK_INLINE int stack_look(struct stack_walk *walk, const struct stack_notes *notes, __u32 at)
{
    __u64 bytes = (notes->words - at) * 8ull;

    bytes = bytes < STACK_LOOK_WORDS * 8 ? bytes : STACK_LOOK_WORDS * 8;
    if (stack_read(walk->frames + CPROFD_MAX_KERNEL_FRAMES, bytes, notes->from + at * 8ull))
        return 0;
    walk->look_from = at;
    walk->look_words = (__u32)bytes / 8;
    return 1;
}

STACK_GLOBAL int stack_look_further(struct stack_walk *walk, const struct stack_notes *notes, __u32 at)
{
    return walk && notes && stack_look(walk, notes, at);
}

/* Whether all that an earlier walk from the same registers read is still there. */
STACK_GLOBAL int stack_is_as_noted(struct stack_walk *walk, const struct stack_notes *notes)
{
    __u64 check = 0;

    if (!walk || !notes)
        return 0;
    if (notes->n && !stack_look(walk, notes, notes->at[0])) /* mostly all of them */
        return 0;
    for (__u32 i = 0; i < STACK_NOTES && i < notes->n; i++) {
        __u32 at = notes->at[i];
        if (at - walk->look_from >= walk->look_words && !stack_look_further(walk, notes, at))
            return 0;
        check = stack_check(check, walk->frames[CPROFD_MAX_KERNEL_FRAMES + ((at - walk->look_from) & (STACK_LOOK_WORDS - 1))]);
    }
    return check == notes->check;
}
#endif

/* Where a return probe's trampoline stands in for the return address, the one that it replaced. */
STACK_INLINE __u64 stack_return_at(struct stack_walk *walk, __u64 slot, __u64 address)
{
    __u64 probed = walk->unprobed ? 0 : stack_probed_return(slot);

    walk->slot = slot;
    return probed ? probed : STACK_CODE_ADDRESS(address);
}

/* ---- frame pointers */

/* [fp] holds the caller's fp, [fp + 8] the return address, and stacks grow downwards. */
STACK_INLINE int stack_step_frame_pointer(struct stack_walk *walk)
{
    __u64 frame[2];

    if (walk->fp == 0)
        return stack_ends(walk, STACK_END_UNPROVEN);
    if (walk->fp < walk->sp || (walk->fp & 7))
        return stack_ends(walk, STACK_END_BAD_FP);
    if (stack_read_pair(walk, frame, walk->fp))
        return stack_ends(walk, STACK_END_UNREADABLE);
    frame[1] = stack_return_at(walk, walk->fp + 8, frame[1]);
    if (frame[1] >> 56 || (frame[1] && frame[1] < 4096))
        return stack_ends(walk, STACK_END_BAD_FP);
    walk->sp = walk->fp + sizeof(frame);
    walk->fp = frame[0];
    return stack_goes_on(walk, frame[1], STACK_FRAME_FP);
}

/* The first step from a function's first instruction: the caller's frame pointer is still in place, and the return address on
 * top of the stack. */
STACK_INLINE int stack_step_entry(struct stack_walk *walk)
{
    __u64 address;

    stack_note_unknown(walk);
    if (stack_read(&address, sizeof(address), walk->sp))
        return stack_ends(walk, STACK_END_UNREADABLE);
    address = stack_return_at(walk, walk->sp, address);
    walk->sp += sizeof(address);
    return stack_goes_on(walk, address, 0);
}

/* Code that is known to keep frame pointers. In its innermost frame, its instructions tell whether it has set its own yet. */
STACK_INLINE int stack_step_kept_frame(struct stack_walk *walk)
{
    __u8 code[16];
    int state = STACK_FP_OWN;

    if (walk->exact)
        stack_note_unknown(walk);
    if (walk->exact && !stack_read(code, sizeof(code), walk->pc - sizeof(code) / 2))
        state = stack_frame_state(code);
    if (state == STACK_FP_CALLERS)
        return stack_step_entry(walk);
    if (state == STACK_FP_PUSHED)
        walk->fp = walk->sp;
    if (stack_step_frame_pointer(walk))
        return 1;
    stack_note_unknown(walk);
    if (walk->end != STACK_END_BAD_FP || !stack_guess(walk))
        return 0;
    /* HotSpot's compiled methods use the register for other things, but have pushed it first. */
    (void)stack_read(&walk->fp, 8, walk->slot - 8);
    return 1;
}

/* ---- signals */

/* The kernel's record of what a handler interrupted, at `context`. All registers are known again. */
STACK_GLOBAL int stack_step_signal(struct stack_walk *walk, __u64 context)
{
    __u64 pc;

    if (!walk)
        return 0;
    stack_note_unknown(walk);
    walk->registers = context;
    walk->guessed_fp = 0;
    if (stack_read(&walk->sp, 8, context + stack_context_offset(STACK_SP)) ||
        stack_read(&walk->fp, 8, context + stack_context_offset(STACK_FP)) || stack_read(&pc, 8, context + stack_context_offset(STACK_PC)))
        return stack_ends(walk, STACK_END_UNREADABLE);
#ifdef STACK_LR
    if (stack_read(&walk->lr, 8, context + stack_context_offset(STACK_LR)))
        return stack_ends(walk, STACK_END_UNREADABLE);
#endif
    return stack_goes_on(walk, pc, STACK_FRAME_EXACT);
}

/* ---- rules */

/* A register of the current frame: 1, or 0 where it is not known. But for sp and fp, registers are known where walk->exact is set, and not
 * followed: in further frames it is what it was in the innermost one, of which the caller must not be sure. */
STACK_INLINE int stack_base(struct stack_walk *walk, __u32 reg, __u64 *ret)
{
    int offset;

    if (reg == STACK_SP) {
        *ret = walk->sp;
        return 1;
    }
    if (reg == STACK_FP) {
        *ret = walk->fp;
        return 1;
    }
    stack_note_unknown(walk);
    if (!walk->registers)
        return stack_register(reg, ret);
    offset = stack_context_offset(reg);
    return offset >= 0 && !stack_read(ret, 8, walk->registers + offset);
}

/* The register that a rule says the return address is still in: where it is not the link register, fp is SAME, and the rule has its
 * number. */
STACK_INLINE int stack_return_register(struct stack_walk *walk, __u32 reg, __u64 *ret)
{
#ifdef STACK_LR
    *ret = STACK_CODE_ADDRESS(walk->lr);
    return walk->exact;
#else
    return walk->exact && stack_base(walk, reg, ret);
#endif
}

/* The CFA by the current rule: 1, or 0 with walk->end. */
STACK_INLINE int stack_cfa(struct stack_walk *walk, __u32 kind, __u32 reg, __s32 offset, __u32 addend, __u64 *ret)
{
    __u64 base;

    if (kind == UNWIND_CFA_PLT) {
        *ret = walk->sp + 8 + ((walk->pc & 15) >= (__u64)offset ? 8 : 0);
        return 1;
    }
    if (!stack_base(walk, reg, &base))
        return stack_ends(walk, STACK_END_UNSUPPORTED);
    base += (__s64)offset;
    if (kind == UNWIND_CFA_MEMORY && stack_read_word(walk, &base, base))
        return stack_ends(walk, STACK_END_UNREADABLE);
    *ret = base + addend * 8;
    return 1;
}

/* The caller's frame pointer and return address, by the rule and its CFA: 1, or 0 with walk->end. */
STACK_INLINE int stack_saved(struct stack_walk *walk, __u64 rule, __u64 cfa, __u64 *ret_pc)
{
    __u32 saved = (rule >> 8) & 0xff, fp = UNWIND_SAVED_FP(saved), ra = UNWIND_SAVED_RA(saved);
    __s64 offset = (__s64)(__s16)(rule >> 16) * 8;
    __u64 at = cfa + offset, pair[2], slot = cfa - 8;

    if (ra == UNWIND_RA_REGISTER) {
        if (!stack_return_register(walk, (__u32)(rule >> 16) & 31, ret_pc))
            return stack_ends(walk, STACK_END_UNSUPPORTED);
        if (fp == UNWIND_FP_SAME)
            return 1;
    } else if (fp == UNWIND_FP_CFA && (ra == UNWIND_RA_AFTER_FP || (ra == UNWIND_RA_CFA && at + 8 == slot))) {
        /* Side by side, as a prologue's first push leaves them: one reading. */
        if (stack_read_pair(walk, pair, at))
            return stack_ends(walk, STACK_END_UNREADABLE);
        walk->fp = pair[0];
        walk->guessed_fp = 0;
        *ret_pc = stack_return_at(walk, at + 8, pair[1]);
        return 1;
    } else {
        if (ra == UNWIND_RA_SAVED)
            slot = at;
        if (stack_read_word(walk, ret_pc, slot))
            return stack_ends(walk, STACK_END_UNREADABLE);
        *ret_pc = stack_return_at(walk, slot, *ret_pc);
    }
    if (fp == UNWIND_FP_FP) {
        /* Compilers go on saying so in the epilogue, where the pop has restored it: then it does not point into this frame. */
        if (walk->fp < walk->sp || walk->fp >= cfa)
            return 1;
        at = walk->fp + offset;
    }
    if (fp == UNWIND_FP_UNDEFINED) {
        walk->guessed_fp = 1;
    } else if (fp != UNWIND_FP_SAME) {
        if (stack_read_word(walk, &walk->fp, at))
            return stack_ends(walk, STACK_END_UNREADABLE);
        walk->guessed_fp = 0;
    }
    return 1;
}

/* How far up the stack a register that may have changed is believed. */
#define STACK_DOUBTFUL_BYTES (1 << 20)

/* A CFA relative to a register that is not followed: what is known of such frames, or else the innermost frame's register, which
 * assembly's own helpers leave alone. 1: *ret_doubt: the return address must prove it; or 0 with walk->end. */
STACK_INLINE int stack_cfa_unfollowed(struct stack_walk *walk, __u32 kind, __u32 reg, __s32 offset, __u32 addend, __u64 *ret, __u32 *ret_doubt)
{
    stack_note_unknown(walk);
    *ret = kind == UNWIND_CFA_REGISTER ? stack_resolver_cfa(walk, reg, offset) : 0;
    if (*ret)
        return 1;
    *ret_doubt = STACK_END_UNSUPPORTED;
    if (!stack_cfa(walk, kind, reg, offset, addend, ret) || *ret - walk->sp > STACK_DOUBTFUL_BYTES)
        return stack_ends(walk, STACK_END_UNSUPPORTED);
    return 1;
}

/* By a rule that names a CFA. */
STACK_INLINE int stack_step_cfa(struct stack_walk *walk, __u64 rule)
{
    __u32 kind = UNWIND_CFA_KIND(rule & 0xff), reg = UNWIND_CFA_REG(rule & 0xff), saved = (__u32)(rule >> 8) & 0xff;
    __u32 guessed = kind != UNWIND_CFA_PLT ? STACK_GUESSED(reg) : 0;
    __u32 addend = kind == UNWIND_CFA_MEMORY ? UNWIND_SAVED_ADDEND(saved) : 0;
    int in_register = UNWIND_SAVED_RA(saved) == UNWIND_RA_REGISTER, other = kind == UNWIND_CFA_REGISTER && (saved & UNWIND_OTHER_STACK);
    __s32 offset = (__s32)(rule >> 32);
    __u32 doubt = 0; /* what ends the walk where the return address is none */
    __u64 cfa, pc;

    reg &= ~guessed;
    if (walk->exact || reg == STACK_SP || reg == STACK_FP) {
        if (!stack_cfa(walk, kind, reg, offset, addend, &cfa))
            return 0;
    } else if (!stack_cfa_unfollowed(walk, kind, reg, offset, addend, &cfa, &doubt)) {
        return 0;
    }
    /* Each call has pushed something, unless its return address is in a register, or stacks are switched. */
    if (!other && (cfa < walk->sp || (cfa == walk->sp && !in_register)))
        return stack_ends(walk, STACK_END_BAD_CFA);
    if (guessed || (walk->guessed_fp && reg == STACK_FP))
        doubt = STACK_END_NO_CFI;
    if (!stack_saved(walk, rule, cfa, &pc))
        return 0;
    if (doubt)
        stack_note_unknown(walk);
    if (doubt && !stack_is_return(walk, pc))
        return stack_ends(walk, doubt);
    walk->sp = cfa;
    return stack_goes_on(walk, pc, doubt ? STACK_FRAME_GUESSED : 0);
}

/* By a rule that is what the code looks like: where that leads to no return address, as if nothing were known. */
STACK_INLINE int stack_step_guessed(struct stack_walk *walk)
{
    __u64 fp = walk->fp;
    __u32 guessed_fp = walk->guessed_fp;

    stack_note_unknown(walk);
    if (stack_step_cfa(walk, walk->rule))
        return 1;
    if (walk->end == STACK_END_TOO_DEEP)
        return 0;
    walk->fp = fp;
    walk->guessed_fp = guessed_fp;
    return stack_guess(walk);
}

/* Code of a file that says nothing of itself. */
STACK_INLINE int stack_step_unknown(struct stack_walk *walk)
{
    __u8 code[16];

    stack_note_unknown(walk);
    if (!walk->exact && !stack_read(code, sizeof(code), walk->pc) && stack_is_signal_return(code))
        return stack_step_signal(walk, walk->sp);
    return stack_guess(walk);
}

/* One step: 1: walk->pc is the caller's, and a frame; 0: walk->end says why there is none. */
STACK_GLOBAL int stack_step(struct stack_walk *walk)
{
    __u64 address;

    if (!walk)
        return 0;
    if (walk->by_fp)
        return stack_step_frame_pointer(walk);
    address = walk->exact ? walk->pc : walk->pc - 1; /* the call: a function may end in one */
    if (!stack_rule_at(walk, address))
        return stack_ends(walk, STACK_END_NEW_CODE);
    switch (UNWIND_CFA_KIND(walk->rule & 0xff)) {
    case UNWIND_CFA_NONE:
        return stack_step_unknown(walk);
    case UNWIND_CFA_ROOT:
        return stack_ends(walk, STACK_END_ROOT);
    case UNWIND_CFA_SIGNAL:
        return stack_step_signal(walk, walk->sp + (__s64)(__s32)(walk->rule >> 32));
    case UNWIND_CFA_FRAME_POINTER:
        return stack_step_kept_frame(walk);
    case UNWIND_CFA_UNSUPPORTED:
        return stack_ends(walk, STACK_END_UNSUPPORTED);
    default:
        if (UNWIND_CFA_KIND(walk->rule & 0xff) != UNWIND_CFA_PLT && STACK_GUESSED(UNWIND_CFA_REG(walk->rule & 0xff)))
            return stack_step_guessed(walk);
        return stack_step_cfa(walk, walk->rule);
    }
}
