/* The state of a walk, and what every rule of the stack engine uses: adding a frame, hashing it. */
#pragma once

#include "bpf/sample.h"
#include "bpf/unwind.h"

#define STACK_INLINE static inline __attribute__((always_inline))

/* A global function in BPF: the verifier proves it once, not for each of a thousand frames or each program that calls it, which also
 * loads on kernels without bpf_loop (before 5.17). */
#ifdef __bpf__
#define STACK_GLOBAL __attribute__((noinline))
#else
#define STACK_GLOBAL static __attribute__((unused))
#endif

#define STACK_WALK_FRAMES (CPROFD_MAX_KERNEL_FRAMES + CPROFD_MAX_FRAMES)
#define STACK_GUESS_WORDS 64
#define STACK_WINDOW_WORDS 32

/* A rule that was found before. The return addresses of one sample are mostly those of the one before: a look at one cache line in place
 * of two searches. A program may be interrupted or preempted between any two accesses by another that writes the same entry: the check tells
 * whether the rule is that of an address, whoever wrote which of the two. */
struct stack_cached {
    __u64 rule;
    __u64 check; /* over the address, the version of the space that it was found in, and the rule */
};
#define STACK_CACHE_ENTRIES 2048

/* What a walk read of the stack, so that one who comes back to the same registers can tell by a look at the same places whether another walk
 * would find the same. */
#define STACK_NOTES 128

struct stack_notes {
    __u64 pc, from, fp, lr; /* the registers that it began with; from: the stack pointer; lr: as in struct stack_walk */
    __u64 check;            /* over all words that were read there */
    __u32 n;                /* of them; more than STACK_NOTES: it hung on more than that, or on other things */
    __u32 words;            /* that reach from there to the last of them */
    __u16 at[STACK_NOTES];  /* words from there */
};

struct stack_walk {
    __u64 pc, sp, fp; /* of the current frame */
    __u64 lr;         /* aarch64: its link register, where the frame has not saved it */
    __u64 registers;  /* address of the registers that a signal saved, once the walk has passed a signal frame */
    __u64 slot;       /* where the current frame's return address was found */
    __u64 rule;       /* the current rule: struct unwind_rule as it lies in memory */
    struct unwind_mapping mapping; /* of the current frame, or of one before */
    struct unwind_mapping mine;    /* that, while guessing looks at others: the programs' own stack is short (512 bytes in all) */
    __u32 space;      /* place of the target's mappings */
    __u32 version;    /* of the space; 0: there is none */
    __u32 by_fp;      /* 1: frame pointers alone */
    __u32 exact;      /* 1: pc is no return address, and other registers than sp and fp are known */
    __u32 guessed_fp; /* 1: fp may be anything */
    __u32 unprobed;   /* 1: no return probe is live in the thread */
    __u32 low, high;  /* of a search */
    __u32 look_from, look_words; /* of a look at noted words: which of them have been read */
    __u64 window_at;  /* address of window[]; no multiple of 8: it holds nothing */
    __u64 window[STACK_WINDOW_WORDS]; /* of the stack: frames are small, and one long reading is cheaper than several short ones */
    __u64 hash[2];    /* over all frames so far */
    __u32 end;        /* enum stack_end, once a step returned 0 */
    int best;         /* enum stack_rating: of the guesses so far */
    __u32 n;          /* frames so far, the kernel's included */
    __u32 rated;      /* words that guesses have looked at closely */
    __u64 words[STACK_GUESS_WORDS]; /* of the stack, while guessing */
    struct stack_notes notes;       /* where STACK_NOTING is defined */
    __u64 label_sets[LABELS_PLACES]; /* their addresses, so that none is taken twice */
    struct stack_record record;     /* with the frames behind it: what the reader gets */
    __u64 frames[STACK_WALK_FRAMES + LABELS_MAX_WORDS];
};

/* How far a function that keeps frame pointers is with its own. */
enum stack_frame_state {
    STACK_FP_OWN,    /* the frame pointer is this function's */
    STACK_FP_CALLERS,   /* it is the caller's, and the return address on top of the stack */
    STACK_FP_PUSHED, /* it is the caller's, and on top of the stack too */
};

/* Two independent multiplicative hashes: together 128 bits, so that by accident no two stacks of a session share both. */
STACK_INLINE void stack_hash(__u64 hash[2], __u64 frame)
{
    hash[0] = (hash[0] ^ frame) * 0x9fb21c651e98df25ull;
    hash[0] ^= hash[0] >> 32;
    hash[1] = (hash[1] + frame) * 0xd6e8feb86659fd93ull;
    hash[1] ^= hash[1] >> 29;
}

/* Two words that lie where two others lay have the same check by accident alone, and cheaply so. */
STACK_INLINE __u64 stack_check(__u64 check, __u64 word)
{
    return (check + word) * 0x9fb21c651e98df25ull;
}

/* The walk hangs on more than what is noted. */
STACK_INLINE void stack_note_unknown(struct stack_walk *walk)
{
#ifdef STACK_NOTING
    walk->notes.n = STACK_NOTES + 1;
#endif
}

/* The walk has read a word, or a pair of them. */
STACK_INLINE void stack_note(struct stack_walk *walk, __u64 address, const __u64 *words, __u32 pair)
{
#ifdef STACK_NOTING
    __u64 at = address - walk->notes.from;
    __u32 n = walk->notes.n, end = (__u32)(at >> 3) + 1 + pair;

    if (n > STACK_NOTES - 2 || (at & 7) || at >> 3 > 0xfffe) {
        stack_note_unknown(walk);
        return;
    }
    walk->notes.check = stack_check(walk->notes.check, words[0]);
    walk->notes.at[n] = (__u16)(at >> 3);
    if (pair) {
        walk->notes.check = stack_check(walk->notes.check, words[1]);
        walk->notes.at[n + 1] = (__u16)(at >> 3) + 1;
    }
    walk->notes.n = n + 1 + pair;
    if (walk->notes.words < end)
        walk->notes.words = end;
#endif
}

/* Adds the current frame, found as flags say (STACK_FRAME_*). 0 where there is no room: what the kernel's part left over is not the
 * user's. */
STACK_INLINE int stack_push(struct stack_walk *walk, __u64 flags)
{
    __u64 frame = STACK_FRAME(walk->pc, flags);
    __u32 n = walk->n;

    if (n >= STACK_WALK_FRAMES || n >= (__u32)walk->record.n_kernel + CPROFD_MAX_FRAMES)
        return 0;
    walk->frames[n] = frame;
    walk->n = n + 1;
    stack_hash(walk->hash, frame);
    return 1;
}

/* A walk ends. Always 0. */
STACK_INLINE int stack_ends(struct stack_walk *walk, __u32 end)
{
    walk->end = end;
    return 0;
}

/* Goes on with the caller: 1, or 0 where there is none. What is no user address is data that a wrong rule named. */
STACK_INLINE int stack_goes_on(struct stack_walk *walk, __u64 pc, __u64 flags)
{
    if (pc == 0)
        return stack_ends(walk, STACK_END_UNPROVEN);
    if (pc >> 56 || pc < 4096)
        return stack_ends(walk, STACK_END_NO_CODE);
    walk->pc = pc;
    walk->exact = !!(flags & STACK_FRAME_EXACT);
    return stack_push(walk, flags) ? 1 : stack_ends(walk, STACK_END_TOO_DEEP);
}
