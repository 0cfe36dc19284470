/* Follows pushes, pops, arithmetic on rsp, and copies of it in registers and in one stack slot, which is how assembly that aligns its stack
 * finds back. Whatever else touches a register ends what was known of it. */
#include "symbolize/frame_state.h"

#include <capstone/capstone.h>
#include <string.h>

#define RBP 6
#define RSP 7
#define NO_REGISTER (-1)
/* No frame is larger: what instructions add up to beyond is not followed. */
#define MAX_FRAME_BYTES (1 << 28)
/* rax, rdx, rcx, rsi, rdi, r8-r11 */
#define CALLER_SAVED 0x0f37

static int dwarf_register(unsigned reg)
{
    static const unsigned registers[16] = {
        X86_REG_RAX, X86_REG_RDX, X86_REG_RCX, X86_REG_RBX, X86_REG_RSI, X86_REG_RDI, X86_REG_RBP, X86_REG_RSP,
        X86_REG_R8,  X86_REG_R9,  X86_REG_R10, X86_REG_R11, X86_REG_R12, X86_REG_R13, X86_REG_R14, X86_REG_R15,
    };
    for (int i = 0; i < 16; i++)
        if (registers[i] == reg)
            return i;
    return NO_REGISTER;
}

/* The register that a part of it (eax, ax, al) belongs to. */
static int whole_register(unsigned reg)
{
    static const unsigned parts[16][4] = {
        {X86_REG_EAX, X86_REG_AX, X86_REG_AL, X86_REG_AH}, {X86_REG_EDX, X86_REG_DX, X86_REG_DL, X86_REG_DH},
        {X86_REG_ECX, X86_REG_CX, X86_REG_CL, X86_REG_CH}, {X86_REG_EBX, X86_REG_BX, X86_REG_BL, X86_REG_BH},
        {X86_REG_ESI, X86_REG_SI, X86_REG_SIL, 0},         {X86_REG_EDI, X86_REG_DI, X86_REG_DIL, 0},
        {X86_REG_EBP, X86_REG_BP, X86_REG_BPL, 0},         {X86_REG_ESP, X86_REG_SP, X86_REG_SPL, 0},
        {X86_REG_R8D, X86_REG_R8W, X86_REG_R8B, 0},        {X86_REG_R9D, X86_REG_R9W, X86_REG_R9B, 0},
        {X86_REG_R10D, X86_REG_R10W, X86_REG_R10B, 0},     {X86_REG_R11D, X86_REG_R11W, X86_REG_R11B, 0},
        {X86_REG_R12D, X86_REG_R12W, X86_REG_R12B, 0},     {X86_REG_R13D, X86_REG_R13W, X86_REG_R13B, 0},
        {X86_REG_R14D, X86_REG_R14W, X86_REG_R14B, 0},     {X86_REG_R15D, X86_REG_R15W, X86_REG_R15B, 0},
    };
    int found = dwarf_register(reg);
    for (int i = 0; found == NO_REGISTER && i < 16; i++)
        for (int j = 0; j < 4; j++)
            if (parts[i][j] == reg)
                found = i;
    return found;
}

void frame_state_at_entry(struct frame_state *ret)
{
    *ret = (struct frame_state){.by_sp = true, .depth = 8};
}

/* ---- parts of a step */

static bool has_copy(const struct frame_state *s, int reg)
{
    return reg >= 0 && (s->copies & 1u << reg);
}

static void drop_copy(struct frame_state *s, int reg)
{
    s->copies &= (uint16_t)~(1u << reg);
}

static void set_copy(struct frame_state *s, int reg, int32_t offset)
{
    s->copies |= (uint16_t)(1u << reg);
    s->copy[reg] = offset;
}

/* rsp += bytes. What lies below it is gone. */
static void move_sp(struct frame_state *s, int64_t bytes)
{
    if (bytes < -(1 << 24) || bytes > 1 << 24) {
        s->by_sp = s->by_slot = false;
        return;
    }
    if (s->by_slot)
        s->slot_at -= (int32_t)bytes;
    if (s->by_sp)
        s->depth -= (int32_t)bytes;
    if (s->by_slot && (s->slot_at < 0 || s->slot_at > MAX_FRAME_BYTES))
        s->by_slot = false;
    if (s->by_sp && (s->depth < 0 || s->depth > MAX_FRAME_BYTES))
        s->by_sp = false;
}

/* rsp is where CFA = rsp + depth. */
static void set_sp(struct frame_state *s, bool known, int32_t depth)
{
    s->by_slot = false;
    s->by_sp = known && depth >= 0;
    s->depth = depth;
}

/* rbp is loaded from CFA + offset. */
static void load_fp(struct frame_state *s, bool known, int32_t offset)
{
    drop_copy(s, RBP);
    s->fp_changed = !(known && s->fp_saved && s->fp_at == offset);
}

static void write_register(struct frame_state *s, int reg)
{
    if (reg == RSP) {
        set_sp(s, false, 0);
        return;
    }
    drop_copy(s, reg);
    if (reg == RBP)
        s->fp_changed = true;
}

/* Where in the frame an operand in memory lies: from CFA (*ret_known), and from rsp (by_sp_base). */
struct place {
    bool known, by_sp_base;
    int32_t from_cfa, from_sp;
};

static struct place place_of(const struct frame_state *s, const x86_op_mem *mem)
{
    struct place p = {0};
    int base = dwarf_register(mem->base);

    if (mem->index != X86_REG_INVALID || mem->segment != X86_REG_INVALID || mem->disp < -(1 << 24) || mem->disp > 1 << 24)
        return p;
    int32_t disp = (int32_t)mem->disp;
    if (base == RSP) {
        p.by_sp_base = true;
        p.from_sp = disp;
        p.known = s->by_sp;
        p.from_cfa = disp - s->depth;
    } else if (has_copy(s, base)) {
        p.known = true;
        p.from_cfa = disp - s->copy[base];
    }
    return p;
}

/* ---- instructions */

static void step_push(struct frame_state *s, const cs_x86_op *op)
{
    if (op->type == X86_OP_REG && dwarf_register(op->reg) == RBP && !s->fp_changed && s->by_sp) {
        s->fp_saved = true;
        s->fp_at = -(s->depth + 8);
    }
    move_sp(s, -8);
}

static void step_pop(struct frame_state *s, const cs_x86_op *op)
{
    int reg = op->type == X86_OP_REG ? dwarf_register(op->reg) : NO_REGISTER;
    int32_t at = -s->depth;
    bool known = s->by_sp;

    move_sp(s, 8);
    if (reg == RBP)
        load_fp(s, known, at);
    else if (reg != NO_REGISTER)
        write_register(s, reg);
}

/* mov reg, reg; lea reg, [reg + disp]: reg = source + disp. */
static void step_copy(struct frame_state *s, int to, int from, int64_t disp)
{
    bool known = from == RSP ? s->by_sp : has_copy(s, from);
    int32_t offset = from == RSP ? s->depth : from >= 0 ? s->copy[from] : 0;

    if (disp < -(1 << 24) || disp > 1 << 24 || offset < -MAX_FRAME_BYTES || offset > MAX_FRAME_BYTES)
        known = false;
    else
        offset -= (int32_t)disp;
    if (to == RSP && from == RSP) {
        move_sp(s, disp);
    } else if (to == RSP) {
        set_sp(s, known, offset);
    } else {
        write_register(s, to);
        if (known)
            set_copy(s, to, offset);
    }
}

static void step_load(struct frame_state *s, int to, const x86_op_mem *mem)
{
    struct place from = place_of(s, mem);
    bool slot = s->by_slot && from.by_sp_base && from.from_sp == s->slot_at;
    int32_t add = s->slot_add;

    if (to == RSP) {
        set_sp(s, slot, add);
    } else if (to == RBP && !slot) {
        load_fp(s, from.known, from.from_cfa);
    } else {
        write_register(s, to);
        if (slot)
            set_copy(s, to, add);
    }
}

static void step_store(struct frame_state *s, const x86_op_mem *mem, int from, unsigned bytes)
{
    struct place to = place_of(s, mem);

    if (to.by_sp_base && s->by_slot && to.from_sp < s->slot_at + 8 && to.from_sp + (int32_t)bytes > s->slot_at)
        s->by_slot = false;
    if (to.known && s->fp_saved && to.from_cfa < s->fp_at + 8 && to.from_cfa + (int32_t)bytes > s->fp_at)
        s->fp_saved = false;
    if (bytes != 8 || from == NO_REGISTER)
        return;
    if (to.by_sp_base && to.from_sp >= 0 && has_copy(s, from)) {
        s->by_slot = true;
        s->slot_at = to.from_sp;
        s->slot_add = s->copy[from];
    } else if (from == RBP && !s->fp_changed && to.known) {
        s->fp_saved = true;
        s->fp_at = to.from_cfa;
    }
}

static void step_mov(struct frame_state *s, const cs_x86 *x86)
{
    const cs_x86_op *to = &x86->operands[0], *from = &x86->operands[1];
    int source = from->type == X86_OP_REG ? dwarf_register(from->reg) : NO_REGISTER;

    if (to->type == X86_OP_MEM) {
        step_store(s, &to->mem, source, to->size);
        return;
    }
    int reg = dwarf_register(to->reg);
    if (reg == NO_REGISTER) {
        int part = whole_register(to->reg);
        if (part != NO_REGISTER)
            write_register(s, part);
    } else if (from->type == X86_OP_MEM) {
        step_load(s, reg, &from->mem);
    } else if (source != NO_REGISTER) {
        step_copy(s, reg, source, 0);
    } else {
        write_register(s, reg);
    }
}

static void step_lea(struct frame_state *s, const cs_x86 *x86)
{
    const x86_op_mem *mem = &x86->operands[1].mem;
    int to = dwarf_register(x86->operands[0].reg), from = dwarf_register(mem->base);

    if (to == NO_REGISTER)
        to = whole_register(x86->operands[0].reg);
    else if (from != NO_REGISTER && mem->index == X86_REG_INVALID) {
        step_copy(s, to, from, mem->disp);
        return;
    }
    if (to != NO_REGISTER)
        write_register(s, to);
}

/* True: it was add or sub of a constant to rsp. */
static bool step_arithmetic(struct frame_state *s, const cs_x86 *x86, bool add)
{
    if (x86->operands[0].type != X86_OP_REG || dwarf_register(x86->operands[0].reg) != RSP || x86->operands[1].type != X86_OP_IMM)
        return false;
    move_sp(s, add ? x86->operands[1].imm : -x86->operands[1].imm);
    return true;
}

/* mov rsp, rbp; pop rbp */
static void step_leave(struct frame_state *s)
{
    bool known = has_copy(s, RBP);
    int32_t depth = s->copy[RBP];

    set_sp(s, known, depth);
    move_sp(s, 8);
    load_fp(s, known, -depth);
}

static void step_any(struct frame_state *s, const cs_insn *insn)
{
    const cs_detail *detail = insn->detail;

    for (uint8_t i = 0; i < detail->x86.op_count; i++) {
        const cs_x86_op *op = &detail->x86.operands[i];
        if (op->type == X86_OP_MEM && (op->access & CS_AC_WRITE))
            step_store(s, &op->mem, NO_REGISTER, op->size);
        int reg = op->type == X86_OP_REG && (op->access & CS_AC_WRITE) ? whole_register(op->reg) : NO_REGISTER;
        if (reg != NO_REGISTER)
            write_register(s, reg);
    }
    for (uint8_t i = 0; i < detail->regs_write_count; i++) {
        int reg = whole_register(detail->regs_write[i]);
        if (reg != NO_REGISTER)
            write_register(s, reg);
    }
}

void frame_state_step(struct frame_state *s, const struct cs_insn *insn)
{
    const cs_x86 *x86 = &insn->detail->x86;

    switch (insn->id) {
    case X86_INS_PUSH:
        step_push(s, &x86->operands[0]);
        return;
    case X86_INS_POP:
        step_pop(s, &x86->operands[0]);
        return;
    case X86_INS_PUSHFQ:
        move_sp(s, -8);
        return;
    case X86_INS_POPFQ:
        move_sp(s, 8);
        return;
    case X86_INS_LEAVE:
        step_leave(s);
        return;
    case X86_INS_MOV:
        step_mov(s, x86);
        return;
    case X86_INS_LEA:
        step_lea(s, x86);
        return;
    case X86_INS_CALL: /* which comes back with rsp as it was */
        s->copies &= (uint16_t)~CALLER_SAVED;
        return;
    case X86_INS_ADD:
        if (step_arithmetic(s, x86, true))
            return;
        break;
    case X86_INS_SUB:
        if (step_arithmetic(s, x86, false))
            return;
        break;
    default:
        break;
    }
    step_any(s, insn);
}

/* ---- ways that meet */

bool frame_state_join(struct frame_state *s, const struct frame_state *o)
{
    struct frame_state before = *s;

    s->by_sp = s->by_sp && o->by_sp && s->depth == o->depth;
    s->by_slot = s->by_slot && o->by_slot && s->slot_at == o->slot_at && s->slot_add == o->slot_add;
    s->copies &= o->copies;
    for (int i = 0; i < 16; i++)
        if (has_copy(s, i) && s->copy[i] != o->copy[i])
            drop_copy(s, i);
    s->fp_saved = s->fp_saved && o->fp_saved && s->fp_at == o->fp_at;
    s->fp_changed = s->fp_changed || o->fp_changed;
    return s->by_sp != before.by_sp || s->by_slot != before.by_slot || s->copies != before.copies || s->fp_saved != before.fp_saved ||
           s->fp_changed != before.fp_changed;
}

/* ---- rules */

static struct unwind_rule rule_of_cfa(const struct frame_state *s)
{
    struct unwind_rule rule = {.cfa = UNWIND_CFA_NONE};

    if (s->by_sp) {
        rule.cfa = UNWIND_CFA(UNWIND_CFA_REGISTER, RSP | UNWIND_REG_GUESSED);
        rule.cfa_offset = s->depth;
        return rule;
    }
    if (has_copy(s, RBP)) {
        rule.cfa = UNWIND_CFA(UNWIND_CFA_REGISTER, RBP | UNWIND_REG_GUESSED);
        rule.cfa_offset = s->copy[RBP];
        return rule;
    }
    if (s->by_slot && s->slot_add >= 0 && s->slot_add % 8 == 0 && s->slot_add / 8 <= UNWIND_MAX_ADDEND) {
        rule.cfa = UNWIND_CFA(UNWIND_CFA_MEMORY, RSP | UNWIND_REG_GUESSED);
        rule.cfa_offset = s->slot_at;
        rule.saved = (uint8_t)(s->slot_add / 8 << 4);
        return rule;
    }
    for (int i = 0; i < 16; i++) {
        if (has_copy(s, i)) {
            rule.cfa = (uint8_t)UNWIND_CFA(UNWIND_CFA_REGISTER, i | UNWIND_REG_GUESSED);
            rule.cfa_offset = s->copy[i];
            return rule;
        }
    }
    return rule;
}

struct unwind_rule frame_state_rule(const struct frame_state *s)
{
    struct unwind_rule rule = rule_of_cfa(s);

    if (UNWIND_CFA_KIND(rule.cfa) == UNWIND_CFA_NONE || !s->fp_changed)
        return rule;
    if (s->fp_saved && s->fp_at % 8 == 0 && s->fp_at >= INT16_MIN * 8 && s->fp_at <= INT16_MAX * 8) {
        rule.saved |= UNWIND_SAVED(UNWIND_FP_CFA, UNWIND_RA_CFA);
        rule.saved_offset = (int16_t)(s->fp_at / 8);
    } else {
        rule.saved |= UNWIND_SAVED(UNWIND_FP_UNDEFINED, UNWIND_RA_CFA);
    }
    return rule;
}
