/* x86-64's part of unwinding rules (System V ABI, AMD64 supplement, 3.7). */
#include <dwarf.h>
#include <elf.h>
#include <string.h>

#include "symbolize/unwind_assembly.h"
#include "symbolize/unwind_rule.h"

#define X86_RBP 6
#define X86_RSP 7
#define MAX_REGISTER 15
#define START_BYTES 12

/* In the kernel's struct ucontext (arch/x86/include/uapi/asm/sigcontext.h). */
#define UCONTEXT_RSP 160
#define UCONTEXT_RIP 168

/* glibc's __restore_rt: CFA = *(rsp + 160), return address at rsp + 168. */
static bool signal_context(const struct cfi_row *row, int32_t *ret_offset)
{
    uint64_t cfa_reg, ra_reg;
    int64_t cfa_offset, ra_offset;
    size_t cfa_bytes, ra_bytes;
    if (row->cfa.kind != CFI_EXPRESSION || row->ra.kind != CFI_EXPRESSION
        || !unwind_expression_register(row->cfa.expression, row->cfa.expression_bytes, &cfa_reg, &cfa_offset, &cfa_bytes)
        || !unwind_expression_register(row->ra.expression, row->ra.expression_bytes, &ra_reg, &ra_offset, &ra_bytes))
        return false;
    if (cfa_bytes + 1 != row->cfa.expression_bytes || row->cfa.expression[cfa_bytes] != DW_OP_deref
        || ra_bytes != row->ra.expression_bytes || cfa_reg != X86_RSP || ra_reg != X86_RSP)
        return false;
    if (cfa_offset < INT16_MIN || cfa_offset > INT16_MAX || ra_offset != cfa_offset - UCONTEXT_RSP + UCONTEXT_RIP)
        return false;
    *ret_offset = (int32_t)cfa_offset - UCONTEXT_RSP;
    return true;
}

/* What ld writes for the entries of a lazy PLT: rsp + 8, and 8 more behind their push, which ends at byte 11 of 16 (10 where an endbr64
 * stands before it): breg7 8; breg16 0; lit15; and; litN; ge; lit3; shl; plus. */
static bool plt_expression(const uint8_t *code, size_t bytes, struct unwind_rule *rule)
{
    static const uint8_t before[] = {DW_OP_breg7, 8, DW_OP_breg16, 0, DW_OP_lit15, DW_OP_and};
    static const uint8_t after[] = {DW_OP_ge, DW_OP_lit3, DW_OP_shl, DW_OP_plus};
    if (bytes != sizeof(before) + 1 + sizeof(after) || memcmp(code, before, sizeof(before)) != 0
        || memcmp(code + sizeof(before) + 1, after, sizeof(after)) != 0)
        return false;
    uint8_t literal = code[sizeof(before)];
    if (literal < DW_OP_lit0 || literal > DW_OP_lit15)
        return false;
    rule->cfa = UNWIND_CFA(UNWIND_CFA_PLT, X86_RSP);
    rule->cfa_offset = literal - DW_OP_lit0;
    return true;
}

static bool call_target(const uint8_t *code, uint64_t address, uint64_t *ret_target)
{
    int32_t distance;
    memcpy(&distance, code + 1, sizeof(distance));
    *ret_target = address + UNWIND_CALL_BYTES + (uint64_t)(int64_t)distance;
    return code[0] == 0xe8;
}

static bool sets_up_frame(const uint8_t *code, uint64_t bytes)
{
    static const uint8_t endbr[] = {0xf3, 0x0f, 0x1e, 0xfa}, frame[] = {0x55, 0x48, 0x89, 0xe5}; /* push %rbp; mov %rsp,%rbp */
    if (bytes >= sizeof(endbr) + sizeof(frame) && memcmp(code, endbr, sizeof(endbr)) == 0)
        code += sizeof(endbr);
    return bytes >= sizeof(frame) && memcmp(code, frame, sizeof(frame)) == 0;
}

/* syscall; test %eax,%eax; jnz to the parent's; xor %ebp,%ebp: the child's, up to there */
static bool find_thread_start(const uint8_t *code, uint64_t bytes, uint64_t from, uint64_t *ret_start, uint64_t *ret_end)
{
    static const uint8_t head[] = {0x0f, 0x05, 0x85, 0xc0, 0x75}, child[] = {0x31, 0xed};
    const uint8_t *at;
    while (from < bytes && (at = memmem(code + from, bytes - from, head, sizeof(head)))) {
        uint64_t place = (uint64_t)(at - code), start = place + sizeof(head) + 1;
        from = place + 1;
        if (start + sizeof(child) > bytes || memcmp(code + start, child, sizeof(child)) != 0)
            continue;
        uint8_t distance = code[start - 1];
        if (distance <= INT8_MAX && distance >= sizeof(child) && distance <= bytes - start) {
            *ret_start = start;
            *ret_end = start + distance;
            return true;
        }
    }
    return false;
}

static bool return_address(const struct cfi_row *row, struct unwind_rule *rule)
{
    if (row->ra.kind == CFI_OFFSET && row->ra.value == -8)
        return true;
    if (row->ra.kind == CFI_OFFSET)
        return unwind_rule_ra_saved(row->ra.value, rule);
    /* vfork, whose child would overwrite the stack's */
    if (row->ra.kind != CFI_REGISTER || row->ra.reg > MAX_REGISTER || UNWIND_SAVED_FP(rule->saved) != UNWIND_FP_SAME)
        return false;
    unwind_rule_set_saved(rule, UNWIND_FP_SAME, UNWIND_RA_REGISTER);
    rule->saved_offset = (int16_t)row->ra.reg;
    return true;
}

/* nop in its lengths: 90, or 0f 1f and a ModRM byte with what it asks for, each behind prefixes. 0: it is none. */
static size_t nop_bytes(const uint8_t *code, size_t bytes)
{
    size_t prefixes = 0;
    while (prefixes < bytes && (code[prefixes] == 0x66 || code[prefixes] == 0x2e))
        prefixes++;
    if (prefixes < bytes && code[prefixes] == 0x90)
        return prefixes + 1;
    if (bytes - prefixes < 3 || code[prefixes] != 0x0f || code[prefixes + 1] != 0x1f)
        return 0;
    switch (code[prefixes + 2]) {
    case 0x00:
        return prefixes + 3;
    case 0x40:
        return prefixes + 4;
    case 0x44:
        return prefixes + 5;
    case 0x80:
        return prefixes + 7;
    case 0x84:
        return prefixes + 8;
    default:
        return 0;
    }
}

/* Nops, int3 and zeros. */
static bool is_padding(const uint8_t *code, size_t bytes)
{
    for (size_t at = 0, taken; at < bytes; at += taken) {
        taken = code[at] == 0xcc || code[at] == 0 ? 1 : nop_bytes(code + at, bytes - at);
        if (taken == 0)
            return false;
    }
    return true;
}

static bool is_start(const uint8_t *code, uint64_t bytes)
{
    static const uint8_t take_sp[] = {0x48, 0x89, 0xe7}; /* mov %rsp,%rdi: behind an endbr64 or an xor %rbp,%rbp */
    return memmem(code, bytes < START_BYTES ? bytes : START_BYTES, take_sp, sizeof(take_sp)) != NULL;
}

/* glibc has three: __mpn_addmul_1 and __mpn_submul_1 push rbx and rbp, and a coroutine's __start_context takes its sp from rbx. */
static enum unwind_cfa first_instruction(const uint8_t *code, uint64_t bytes)
{
    static const uint8_t endbr64[] = {0xf3, 0x0f, 0x1e, 0xfa};
    if (bytes >= sizeof(endbr64) && memcmp(code, endbr64, sizeof(endbr64)) == 0) {
        code += sizeof(endbr64);
        bytes -= sizeof(endbr64);
    }
    if (bytes >= 1 && (code[0] & 0xf8) == 0x50)
        return UNWIND_CFA_NONE;
    if (bytes >= 2 && code[0] == 0x41 && (code[1] & 0xf8) == 0x50)
        return UNWIND_CFA_NONE;
    if (bytes >= 3 && (code[0] & 0xfb) == 0x48 && code[1] == 0x89 && (code[2] & 0xc7) == 0xc4)
        return UNWIND_CFA_ROOT;
    return UNWIND_CFA_REGISTER;
}

const struct unwind_arch unwind_arch_x86_64 = {
    .machine = EM_X86_64,
    .fp = X86_RBP,
    .sp = X86_RSP,
    .signal_context = signal_context,
    .cfa_expression = plt_expression,
    .is_padding = is_padding,
    .first_instruction = first_instruction,
    .is_start = is_start,
    .code_align = 1,
    .call_target = call_target,
    .sets_up_frame = sets_up_frame,
    .find_thread_start = find_thread_start,
    .read_assembly = unwind_assembly_read,
    .return_address = return_address,
};
