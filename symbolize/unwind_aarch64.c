/* aarch64's part of unwinding rules (DWARF for the Arm 64-bit Architecture). */
#include <elf.h>
#include <string.h>

#include "symbolize/unwind_rule.h"

#define ARM_FP 29
#define ARM_LR 30
#define ARM_SP 31
#define START_INSTRUCTIONS 4
#define NOP 0xd503201fu
#define MOV_X0_SP 0x910003e0u

/* In the kernel's struct rt_sigframe, where sp points in the vDSO's trampoline: the ucontext follows the siginfo. */
#define SIGINFO_BYTES 128

static bool signal_context(const struct cfi_row *row, int32_t *ret_offset)
{
    *ret_offset = SIGINFO_BYTES;
    return true;
}

/* In x30 until it is saved, which mostly is beside the frame pointer. */
static bool return_address(const struct cfi_row *row, struct unwind_rule *rule)
{
    enum unwind_fp fp = UNWIND_SAVED_FP(rule->saved);
    bool in_lr = row->ra.kind == CFI_SAME || (row->ra.kind == CFI_REGISTER && row->ra.reg == ARM_LR);
    int16_t words;
    if (in_lr) {
        unwind_rule_set_saved(rule, fp, UNWIND_RA_REGISTER);
        if (fp == UNWIND_FP_SAME || fp == UNWIND_FP_UNDEFINED)
            rule->saved_offset = ARM_LR;
        return true;
    }
    if (row->ra.kind != CFI_OFFSET)
        return false;
    if (fp == UNWIND_FP_CFA && unwind_rule_words(row->ra.value, &words) && words == rule->saved_offset + 1) {
        unwind_rule_set_saved(rule, fp, UNWIND_RA_AFTER_FP);
        return true;
    }
    return unwind_rule_ra_saved(row->ra.value, rule);
}

/* Nops, and the zeros of a linker. */
static bool is_padding(const uint8_t *code, size_t bytes)
{
    for (size_t at = 0; at + 4 <= bytes; at += 4) {
        uint32_t instruction;
        memcpy(&instruction, code + at, sizeof(instruction));
        if (instruction != NOP && instruction != 0)
            return false;
    }
    return true;
}

static bool is_start(const uint8_t *code, uint64_t bytes)
{
    for (size_t i = 0; i < START_INSTRUCTIONS && 4 * (i + 1) <= bytes; i++) {
        uint32_t instruction;
        memcpy(&instruction, code + 4 * i, sizeof(instruction));
        if (instruction == MOV_X0_SP)
            return true;
    }
    return false;
}

const struct unwind_arch unwind_arch_aarch64 = {
    .machine = EM_AARCH64,
    .fp = ARM_FP,
    .sp = ARM_SP,
    .trampoline_context = SIGINFO_BYTES,
    .signal_context = signal_context,
    .is_padding = is_padding,
    .is_start = is_start,
    .return_address = return_address,
};
