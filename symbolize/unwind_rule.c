/* What all architectures share. A frame pointer that rows can't follow is said to be lost, which harms those callers alone that need
 * it; a CFA or a return address that they can't follow makes the row unsupported. */
#include "symbolize/unwind_rule.h"

#include <dwarf.h>

#include "symbolize/cfi_cursor.h"

#define MAX_CFA_REGISTER 31 /* what UNWIND_CFA has room for */

const struct unwind_arch *unwind_arch_find(uint16_t machine)
{
    static const struct unwind_arch *const all[] = {&unwind_arch_x86_64, &unwind_arch_aarch64};
    for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
        if (all[i]->machine == machine)
            return all[i];
    return NULL;
}

bool unwind_expression_register(const uint8_t *code, size_t bytes, uint64_t *ret_reg, int64_t *ret_offset, size_t *ret_bytes)
{
    struct cfi_cursor c = {code, code + bytes, false};
    uint8_t op = (uint8_t)cfi_get(&c, 1);
    uint64_t reg;
    if (op >= DW_OP_breg0 && op <= DW_OP_breg31)
        reg = op - DW_OP_breg0;
    else if (op == DW_OP_bregx)
        reg = cfi_get_uleb(&c);
    else
        return false;
    int64_t offset = cfi_get_sleb(&c);
    if (c.bad)
        return false;
    *ret_reg = reg;
    *ret_offset = offset;
    *ret_bytes = (size_t)(c.at - code);
    return true;
}

bool unwind_rule_words(int64_t bytes, int16_t *ret_words)
{
    if (bytes % 8 || bytes / 8 < INT16_MIN || bytes / 8 > INT16_MAX)
        return false;
    *ret_words = (int16_t)(bytes / 8);
    return true;
}

void unwind_rule_set_saved(struct unwind_rule *rule, enum unwind_fp fp, enum unwind_ra ra)
{
    rule->saved = (uint8_t)((rule->saved & ~UNWIND_SAVED(3, 3)) | UNWIND_SAVED(fp, ra));
}

static bool set_cfa(struct unwind_rule *rule, enum unwind_cfa kind, uint64_t reg, int64_t offset)
{
    if (reg > MAX_CFA_REGISTER || offset < INT32_MIN || offset > INT32_MAX)
        return false;
    rule->cfa = (uint8_t)UNWIND_CFA(kind, reg);
    rule->cfa_offset = (int32_t)offset;
    return true;
}

static bool cfa_from_expression(const struct unwind_arch *arch, const struct cfi_column *cfa, struct unwind_rule *rule)
{
    uint64_t reg;
    int64_t offset;
    size_t taken;
    if (arch->cfa_expression && arch->cfa_expression(cfa->expression, cfa->expression_bytes, rule))
        return true;
    if (!unwind_expression_register(cfa->expression, cfa->expression_bytes, &reg, &offset, &taken))
        return false;
    if (taken == cfa->expression_bytes)
        return set_cfa(rule, UNWIND_CFA_REGISTER, reg, offset);
    struct cfi_cursor rest = {cfa->expression + taken, cfa->expression + cfa->expression_bytes, false};
    if (cfi_get(&rest, 1) != DW_OP_deref)
        return false;
    uint64_t addend = 0;
    if (rest.at < rest.end && cfi_get(&rest, 1) == DW_OP_plus_uconst)
        addend = cfi_get_uleb(&rest);
    if (rest.bad || rest.at < rest.end || addend % 8 || addend / 8 > UNWIND_MAX_ADDEND)
        return false;
    rule->saved = (uint8_t)(addend / 8 << 4);
    return set_cfa(rule, UNWIND_CFA_MEMORY, reg, offset);
}

static bool cfa_from(const struct unwind_arch *arch, const struct cfi_column *cfa, struct unwind_rule *rule)
{
    if (cfa->kind == CFI_REGISTER)
        return set_cfa(rule, UNWIND_CFA_REGISTER, cfa->reg, cfa->value);
    return cfa->kind == CFI_EXPRESSION && cfa_from_expression(arch, cfa, rule);
}

/* Saved at an address that an expression computes: relative to fp, or to the register that the CFA is relative to. */
static enum unwind_fp fp_from_expression(const struct unwind_arch *arch, const struct cfi_row *row, int16_t *ret_words)
{
    uint64_t reg;
    int64_t offset, from_cfa;
    size_t taken;
    if (!unwind_expression_register(row->fp.expression, row->fp.expression_bytes, &reg, &offset, &taken)
        || taken != row->fp.expression_bytes)
        return UNWIND_FP_UNDEFINED;
    if (row->cfa.kind == CFI_REGISTER && row->cfa.reg == reg && !__builtin_sub_overflow(offset, row->cfa.value, &from_cfa)
        && unwind_rule_words(from_cfa, ret_words))
        return UNWIND_FP_CFA;
    return reg == arch->fp && unwind_rule_words(offset, ret_words) ? UNWIND_FP_FP : UNWIND_FP_UNDEFINED;
}

static enum unwind_fp fp_from(const struct unwind_arch *arch, const struct cfi_row *row, int16_t *ret_words)
{
    switch (row->fp.kind) {
    case CFI_UNSET:
    case CFI_SAME:
        return UNWIND_FP_SAME;
    case CFI_OFFSET:
        return unwind_rule_words(row->fp.value, ret_words) ? UNWIND_FP_CFA : UNWIND_FP_UNDEFINED;
    case CFI_EXPRESSION:
        return fp_from_expression(arch, row, ret_words);
    default:
        return UNWIND_FP_UNDEFINED;
    }
}

bool unwind_rule_ra_saved(int64_t offset, struct unwind_rule *rule)
{
    enum unwind_fp fp = UNWIND_SAVED_FP(rule->saved);
    int16_t words;
    if (!unwind_rule_words(offset, &words))
        return false;
    if (fp != UNWIND_FP_SAME)
        fp = UNWIND_FP_UNDEFINED;
    unwind_rule_set_saved(rule, fp, UNWIND_RA_SAVED);
    rule->saved_offset = words;
    return true;
}

/* The walker takes the CFA for the caller's stack pointer. */
static bool sp_is_cfa(const struct cfi_row *row)
{
    return row->sp.kind == CFI_UNSET || (row->sp.kind == CFI_VAL_OFFSET && row->sp.value == 0);
}

struct unwind_rule unwind_rule_make(const struct unwind_arch *arch, const struct cfi_row *row, bool is_signal)
{
    static const struct unwind_rule unsupported = {.cfa = UNWIND_CFA_UNSUPPORTED}, root = {.cfa = UNWIND_CFA_ROOT};
    struct unwind_rule rule = {0};
    if (row->ra.kind == CFI_UNDEFINED)
        return root;
    if (is_signal) {
        if (!arch->signal_context(row, &rule.cfa_offset))
            return unsupported;
        rule.cfa = UNWIND_CFA_SIGNAL;
        return rule;
    }
    if (!sp_is_cfa(row) || !cfa_from(arch, &row->cfa, &rule))
        return unsupported;
    unwind_rule_set_saved(&rule, fp_from(arch, row, &rule.saved_offset), UNWIND_RA_CFA);
    return arch->return_address(row, &rule) ? rule : unsupported;
}
