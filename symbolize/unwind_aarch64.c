/* aarch64's part of unwinding rules (DWARF for the Arm 64-bit Architecture). */
#include <elf.h>
#include <string.h>

#include "symbolize/unwind_rule.h"

#define ARM_FP 29
#define ARM_LR 30
#define ARM_SP 31
#define START_INSTRUCTIONS 4
#define SVC_0 0xd4000001u
#define MAX_CHILD_BYTES 64
#define NOP 0xd503201fu
#define MOV_X0_SP 0x910003e0u

static uint32_t instruction_at(const uint8_t *code)
{
    uint32_t instruction;
    memcpy(&instruction, code, sizeof(instruction));
    return instruction;
}

/* In the kernel's struct rt_sigframe, where sp points in the vDSO's trampoline: the ucontext follows the siginfo. */
#define SIGINFO_BYTES 128

static bool signal_context(const struct cfi_row *row, int32_t *ret_offset)
{
    *ret_offset = SIGINFO_BYTES;
    return true;
}

/* bl */
static bool call_target(const uint8_t *code, uint64_t address, uint64_t *ret_target)
{
    uint32_t instruction = instruction_at(code);
    int64_t words = (int32_t)(instruction << 6) >> 6;
    *ret_target = address + (uint64_t)(4 * words);
    return instruction >> 26 == 0x25;
}

/* stp x29,x30,[sp,...] in a function's first instructions, with or without moving sp. */
static bool sets_up_frame(const uint8_t *code, uint64_t bytes)
{
    for (size_t i = 0; i < START_INSTRUCTIONS && 4 * (i + 1) <= bytes; i++) {
        uint32_t instruction = instruction_at(code + 4 * i);
        if ((instruction & 0xfe407fff) == 0xa8007bfd)
            return true;
    }
    return false;
}

/* svc #0; cbz x0,child; ret; child: ... mov x8,#93; svc #0 */
static bool find_thread_start(const uint8_t *code, uint64_t bytes, uint64_t from, uint64_t *ret_start, uint64_t *ret_end)
{
    static const uint32_t head[] = {SVC_0, 0xb4000040u, 0xd65f03c0u}, mov_x8_exit = 0xd2800ba8u;
    for (uint64_t at = (from + 3) / 4 * 4; at + sizeof(head) <= bytes; at += 4) {
        if (memcmp(code + at, head, sizeof(head)) != 0)
            continue;
        uint64_t start = at + sizeof(head), most = bytes - start < MAX_CHILD_BYTES ? bytes - start : MAX_CHILD_BYTES;
        for (uint64_t end = 8; end <= most; end += 4)
            if (instruction_at(code + start + end - 8) == mov_x8_exit && instruction_at(code + start + end - 4) == SVC_0) {
                *ret_start = start;
                *ret_end = start + end;
                return true;
            }
    }
    return false;
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
        uint32_t instruction = instruction_at(code + at);
        if (instruction != NOP && instruction != 0)
            return false;
    }
    return true;
}

static bool is_start(const uint8_t *code, uint64_t bytes)
{
    for (size_t i = 0; i < START_INSTRUCTIONS && 4 * (i + 1) <= bytes; i++)
        if (instruction_at(code + 4 * i) == MOV_X0_SP)
            return true;
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
    .code_align = 4,
    .call_target = call_target,
    .sets_up_frame = sets_up_frame,
    .find_thread_start = find_thread_start,
    .return_address = return_address,
};
