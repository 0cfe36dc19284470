/* The stack engine: walks a user stack from its registers, one step a frame. Compiled into the BPF programs, and for the
 * host too, so that unit tests run the very code that the kernel runs.
 *
 * A step is a global function in BPF: the verifier then proves it once, not for each of a thousand frames, which
 * also loads on kernels without bpf_loop (before 5.17).
 *
 * The includer defines `long stack_read(void *to, __u32 size, __u64 address)`: 0, or a negative error. */
#pragma once

#include "bpf/sample.h"

#define STACK_WALK_FRAMES (CPROFD_MAX_KERNEL_FRAMES + CPROFD_MAX_FRAMES)

struct stack_walk {
    __u64 pc, sp, fp; /* of the current frame */
    __u64 hash[2];    /* over all frames so far */
    __u32 end;        /* enum stack_end, once a step returned 0 */
    __u32 n;          /* frames so far, the kernel's included */
    struct stack_record record; /* with the frames behind it: what the reader gets */
    __u64 frames[STACK_WALK_FRAMES];
};

/* Two independent multiplicative hashes: together 128 bits, so that by accident no two stacks of a session share both. */
static inline __attribute__((always_inline)) void stack_hash(__u64 hash[2], __u64 pc)
{
    hash[0] = (hash[0] ^ pc) * 0x9fb21c651e98df25ull;
    hash[0] ^= hash[0] >> 32;
    hash[1] = (hash[1] + pc) * 0xd6e8feb86659fd93ull;
    hash[1] ^= hash[1] >> 29;
}

/* Adds the current frame. 0 where there is no room: what the kernel's part left over is not the user's. */
static inline __attribute__((always_inline)) int stack_push(struct stack_walk *walk)
{
    __u32 n = walk->n;

    if (n >= STACK_WALK_FRAMES || n >= (__u32)walk->record.n_kernel + CPROFD_MAX_FRAMES)
        return 0;
    walk->frames[n] = walk->pc;
    walk->n = n + 1;
    stack_hash(walk->hash, walk->pc);
    return 1;
}

/* The frame-pointer rule: [fp] holds the caller's fp, [fp + 8] the return address, and stacks grow downwards. 1: walk->pc
 * is the caller's; 0: walk->end says why there is none. */
static inline __attribute__((always_inline)) int stack_step_frame_pointer(struct stack_walk *walk)
{
    __u64 frame[2];

    if (walk->fp == 0) {
        walk->end = STACK_END_UNPROVEN;
        return 0;
    }
    if (walk->fp < walk->sp || (walk->fp & 7)) {
        walk->end = STACK_END_BAD_FP;
        return 0;
    }
    if (stack_read(frame, sizeof(frame), walk->fp)) {
        walk->end = STACK_END_UNREADABLE;
        return 0;
    }
    if (frame[1] == 0) {
        walk->end = STACK_END_UNPROVEN;
        return 0;
    }
    /* A user address has its upper bits clear: anything else is data that a register without a frame pointer named. */
    if (frame[1] >> 56 || frame[1] < 4096) {
        walk->end = STACK_END_BAD_FP;
        return 0;
    }
    walk->sp = walk->fp + sizeof(frame);
    walk->fp = frame[0];
    walk->pc = frame[1];
    if (!stack_push(walk)) {
        walk->end = STACK_END_TOO_DEEP;
        return 0;
    }
    return 1;
}

/* The first step from a function's first instruction: the caller's frame pointer is still in place, and the return address on
 * top of the stack. */
static inline __attribute__((always_inline)) int stack_step_entry(struct stack_walk *walk)
{
    __u64 address;

    if (stack_read(&address, sizeof(address), walk->sp)) {
        walk->end = STACK_END_UNREADABLE;
        return 0;
    }
    walk->pc = address;
    walk->sp += sizeof(address);
    return stack_push(walk);
}
