/* What the stack engine must know of x86-64. stack_arm64.h has the same for aarch64; a further architecture is a further file
 * like these:
 *
 *   STACK_SP, STACK_FP       DWARF numbers of the stack and the frame pointer
 *   stack_context_offset     where in the kernel's ucontext a register lies, or PC with STACK_PC; -1: not there
 *   stack_return_address     the caller's program counter, by a rule and its CFA
 *   stack_is_signal_return   are these the instructions that end a signal handler?
 *   stack_frame_state        how far is code that keeps frame pointers with its frame, by its instructions?
 *   stack_call_before        do the bytes before a return address look like a call? And of what?
 *   STACK_GUESSED            which rules are guesses
 *   STACK_CODE_ADDRESS       strips what hardware adds to a return address */
#pragma once

#include "bpf/stack_walk.h"

#define STACK_FP 6
#define STACK_SP 7
#define STACK_PC 16
#define STACK_GUESSED(reg) ((reg) & UNWIND_REG_GUESSED) /* is a rule with this register a guess? */
#define STACK_CODE_ADDRESS(pc) (pc)

/* struct ucontext, arch/x86/include/uapi/asm/sigcontext.h: uc_mcontext at 40 has r8-r15, di, si, bp, bx, dx, ax, cx, sp, ip. */
STACK_INLINE int stack_context_offset(__u32 reg)
{
    if (reg >= 8 && reg <= 15)
        return 40 + (reg - 8) * 8;
    switch (reg) {
    case 5: return 40 + 8 * 8;   /* di */
    case 4: return 40 + 9 * 8;   /* si */
    case 6: return 40 + 10 * 8;  /* bp */
    case 3: return 40 + 11 * 8;  /* bx */
    case 1: return 40 + 12 * 8;  /* dx */
    case 0: return 40 + 13 * 8;  /* ax */
    case 2: return 40 + 14 * 8;  /* cx */
    case 7: return 40 + 15 * 8;  /* sp */
    case 16: return 40 + 16 * 8; /* ip */
    default: return -1;
    }
}

/* mov $15,%rax (7 bytes, or 5 by %eax); syscall */
STACK_INLINE int stack_is_signal_return(const __u8 code[16])
{
    if (code[0] == 0x48 && code[1] == 0xc7 && code[2] == 0xc0 && code[3] == 15 && code[4] == 0)
        return code[7] == 0x0f && code[8] == 0x05;
    return code[0] == 0xb8 && code[1] == 15 && code[2] == 0 && code[5] == 0x0f && code[6] == 0x05;
}

/* By the 8 bytes before an instruction and the 8 from it on. */
STACK_INLINE int stack_frame_state(const __u8 code[16])
{
    const __u8 *at = code + 8;

    if (at[0] == 0xc3 || at[0] == 0xc2) /* ret */
        return STACK_FP_CALLERS;
    if (at[0] == 0xf3 && at[1] == 0x0f && at[2] == 0x1e && at[3] == 0xfa) /* endbr64 */
        return STACK_FP_CALLERS;
    if (at[0] == 0x55 && at[1] == 0x48 && at[2] == 0x89 && at[3] == 0xe5) /* push %rbp; mov %rsp,%rbp */
        return STACK_FP_CALLERS;
    return code[7] == 0x55 && at[0] == 0x48 && at[1] == 0x89 && at[2] == 0xe5 ? STACK_FP_PUSHED : STACK_FP_OWN;
}

/* The 8 bytes before a return address. 0: no call ends there; 1: one does, and *ret_target is the function where the instruction
 * names it, else 0. */
STACK_INLINE int stack_call_before(const __u8 code[8], __u64 address, __u64 *ret_target)
{
    *ret_target = 0;
    if (code[3] == 0xe8) { /* call rel32 */
        __u32 offset = code[4] | (__u32)code[5] << 8 | (__u32)code[6] << 16 | (__u32)code[7] << 24;
        *ret_target = address + (__s64)(__s32)offset;
        return 1;
    }
    /* call r/m (ff /2), by its ModRM byte: register, [register], [register + disp8], [rip + disp32], [register + disp32], and the
     * same with a SIB byte. */
    if (code[6] == 0xff && (code[7] & 0xf8) == 0xd0)
        return 1;
    if (code[6] == 0xff && (code[7] & 0xf8) == 0x10 && code[7] != 0x14 && code[7] != 0x15)
        return 1;
    if (code[5] == 0xff && (((code[6] & 0xf8) == 0x50 && code[6] != 0x54) || code[6] == 0x14))
        return 1;
    if (code[4] == 0xff && code[5] == 0x54)
        return 1;
    if (code[2] == 0xff && (((code[3] & 0xf8) == 0x90 && code[3] != 0x94) || code[3] == 0x15))
        return 1;
    return code[1] == 0xff && (code[2] == 0x94 || (code[2] == 0x14 && (code[3] & 7) == 5));
}
