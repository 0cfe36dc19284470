/* What the stack engine must know of aarch64; see stack_x86.h. */
#pragma once

#include "bpf/stack_walk.h"

#define STACK_FP 29
#define STACK_LR 30
#define STACK_SP 31
#define STACK_PC 32
#define STACK_GUESSED(reg) 0
/* Pointer authentication signs return addresses in the bits above user space's 48 (52 with LVA, where bit 55 is still clear). */
#define STACK_CODE_ADDRESS(pc) ((pc) & 0x0000ffffffffffffull)

/* struct ucontext, arch/arm64/include/uapi/asm/sigcontext.h: uc_mcontext at 176 has fault_address, x0-x30, sp, pc. */
STACK_INLINE int stack_context_offset(__u32 reg)
{
    return reg <= 32 ? 184 + (int)reg * 8 : -1;
}

/* mov x8, #139; svc #0 */
STACK_INLINE int stack_is_signal_return(const __u8 code[16])
{
    return code[0] == 0x68 && code[1] == 0x11 && code[2] == 0x80 && code[3] == 0xd2 && code[4] == 0x01 && code[5] == 0 && code[6] == 0 &&
           code[7] == 0xd4;
}

/* The link register would have to be believed: prologues and epilogues lose their caller. */
STACK_INLINE int stack_frame_state(const __u8 code[16])
{
    return STACK_FP_OWN;
}

/* bl imm26, blr xN (blraa and the like too). */
STACK_INLINE int stack_call_before(const __u8 code[8], __u64 address, __u64 *ret_target)
{
    __u32 word = code[4] | (__u32)code[5] << 8 | (__u32)code[6] << 16 | (__u32)code[7] << 24;

    *ret_target = 0;
    if (word >> 26 == 0x25) {
        *ret_target = address - 4 + (__s64)((__s32)(word << 6) >> 6) * 4;
        return 1;
    }
    return (word & 0xfffffc1f) == 0xd63f0000 || (word & 0xfefff800) == 0xd63f0800;
}
