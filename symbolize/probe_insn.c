/* What the kernel emulates is told by its own rules, byte by byte; what an instruction does, by Capstone. What is not listed here is not plain. */
#include "symbolize/probe_insn.h"

#include <capstone/capstone.h>
#include <string.h>

#include "symbolize/probe_place.h"

/* ---- the kernel's view */

struct opcode {
    bool refused, word_sized, has_rex;
    uint8_t rex;
    const uint8_t *at; /* behind prefixes */
    size_t n, n_prefixes;
};

static struct opcode opcode_find(const uint8_t *bytes, size_t n)
{
    struct opcode o = {0};
    for (; o.n_prefixes < n && memchr("\x66\x67\xf2\xf3\x64\x65\x2e\x36\x3e\x26\xf0", bytes[o.n_prefixes], 11); o.n_prefixes++) {
        o.refused = o.refused || memchr("\x2e\x36\x3e\x26\xf0", bytes[o.n_prefixes], 5);
        o.word_sized = o.word_sized || bytes[o.n_prefixes] == 0x66;
    }
    size_t i = o.n_prefixes;
    o.has_rex = i < n && (bytes[i] & 0xf0) == 0x40;
    if (o.has_rex)
        o.rex = bytes[i++];
    o.at = bytes + i;
    o.n = n - i;
    return o;
}

bool probe_insn_is_refused(const uint8_t *bytes, size_t n)
{
    return opcode_find(bytes, n).refused;
}

bool probe_insn_is_emulated(const uint8_t *bytes, size_t n)
{
    struct opcode o = opcode_find(bytes, n);
    if (o.n == 0 || o.refused || o.word_sized)
        return false;
    uint8_t first = o.at[0], second = o.n > 1 ? o.at[1] : 0;
    if (first >= 0x50 && first <= 0x57)
        return n == 1 || (n == 2 && o.has_rex && o.rex == 0x41);
    if (first == 0x90)
        return n == 1;
    bool jumps = first == 0xeb || first == 0xe9 || (first & 0xf0) == 0x70 || (first == 0x0f && (second & 0xf0) == 0x80);
    return jumps && o.n_prefixes == 0 && !o.has_rex;
}

/* ---- what it does */

/* The bit of the argument register that a register is, or is a part of; 0: none. */
static uint32_t argument_bit(unsigned reg)
{
    static const unsigned parts[6][5] = {
        {X86_REG_RDI, X86_REG_EDI, X86_REG_DI, X86_REG_DIL, 0}, {X86_REG_RSI, X86_REG_ESI, X86_REG_SI, X86_REG_SIL, 0},
        {X86_REG_RDX, X86_REG_EDX, X86_REG_DX, X86_REG_DL, X86_REG_DH}, {X86_REG_RCX, X86_REG_ECX, X86_REG_CX, X86_REG_CL, X86_REG_CH},
        {X86_REG_R8, X86_REG_R8D, X86_REG_R8W, X86_REG_R8B, 0}, {X86_REG_R9, X86_REG_R9D, X86_REG_R9W, X86_REG_R9B, 0},
    };
    for (uint32_t i = 0; i < 6; i++)
        for (int j = 0; j < 5; j++)
            if (parts[i][j] && parts[i][j] == reg)
                return 1u << i;
    return 0;
}

static bool is_stack_pointer(unsigned reg)
{
    return reg == X86_REG_RSP || reg == X86_REG_ESP || reg == X86_REG_SP || reg == X86_REG_SPL;
}

/* Memory that is there, whatever the arguments are. */
static bool memory_is_safe(const x86_op_mem *m)
{
    if (m->segment == X86_REG_FS)
        return m->base == X86_REG_INVALID && m->index == X86_REG_INVALID;
    if (m->segment != X86_REG_INVALID)
        return false;
    return m->base == X86_REG_RIP || (is_stack_pointer(m->base) && m->index == X86_REG_INVALID);
}

/* Instructions of which the first operand is written, and nothing else that matters here. */
static bool writes_first(unsigned id)
{
    static const unsigned ids[] = {
        X86_INS_MOV, X86_INS_MOVABS, X86_INS_MOVZX, X86_INS_MOVSX, X86_INS_MOVSXD, X86_INS_LEA, X86_INS_ADD, X86_INS_SUB, X86_INS_AND, X86_INS_OR,
        X86_INS_XOR, X86_INS_ADC, X86_INS_SBB, X86_INS_INC, X86_INS_DEC, X86_INS_NEG, X86_INS_NOT, X86_INS_SHL, X86_INS_SHR, X86_INS_SAR,
        X86_INS_ROL, X86_INS_ROR, X86_INS_CMOVA, X86_INS_CMOVAE, X86_INS_CMOVB, X86_INS_CMOVBE, X86_INS_CMOVE, X86_INS_CMOVNE, X86_INS_CMOVG,
        X86_INS_CMOVGE, X86_INS_CMOVL, X86_INS_CMOVLE, X86_INS_CMOVS, X86_INS_CMOVNS, X86_INS_SETE, X86_INS_SETNE, X86_INS_SETA, X86_INS_SETAE,
        X86_INS_SETB, X86_INS_SETBE, X86_INS_SETG, X86_INS_SETGE, X86_INS_SETL, X86_INS_SETLE, X86_INS_MOVAPS, X86_INS_MOVUPS, X86_INS_MOVQ,
        X86_INS_MOVD, X86_INS_PXOR, X86_INS_XORPS, X86_INS_BSR, X86_INS_BSF, X86_INS_MOVDQA, X86_INS_MOVDQU,
    };
    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++)
        if (ids[i] == id)
            return true;
    return false;
}

static bool only_reads(unsigned id)
{
    return id == X86_INS_CMP || id == X86_INS_TEST || id == X86_INS_BT || id == X86_INS_NOP || id == X86_INS_ENDBR64 || id == X86_INS_PUSH;
}

/* rsp moves by a known number of bytes, or is aligned. */
static bool moves_stack_plainly(const struct cs_insn *insn)
{
    const cs_x86 *x = &insn->detail->x86;
    return (insn->id == X86_INS_SUB || insn->id == X86_INS_ADD || insn->id == X86_INS_AND) && x->op_count == 2
           && x->operands[0].reg == X86_REG_RSP && x->operands[1].type == X86_OP_IMM;
}

bool probe_insn_is_plain(const struct cs_insn *insn, uint32_t args)
{
    const cs_x86 *x = &insn->detail->x86;
    bool reads = only_reads(insn->id);

    if (insn->id == X86_INS_NOP || (insn->size == 2 && memcmp(insn->bytes, "\x66\x90", 2) == 0))
        return true;
    if ((!reads && !writes_first(insn->id)) || x->prefix[0] == X86_PREFIX_LOCK)
        return false;
    for (uint8_t i = 0; i < x->op_count; i++) {
        bool written = i == 0 && !reads, may_fault = (args & PROBE_FAULTS_END) && !written;
        if (x->operands[i].type == X86_OP_MEM && insn->id != X86_INS_LEA && !may_fault && !memory_is_safe(&x->operands[i].mem))
            return false;
    }
    if (reads || x->op_count == 0 || x->operands[0].type != X86_OP_REG)
        return reads || x->op_count > 0;
    if (is_stack_pointer(x->operands[0].reg))
        return moves_stack_plainly(insn);
    return !(argument_bit(x->operands[0].reg) & args);
}

bool probe_insn_moves_frame(const struct cs_insn *insn)
{
    const cs_x86 *x = &insn->detail->x86;
    unsigned reg = x->op_count > 0 && x->operands[0].type == X86_OP_REG ? x->operands[0].reg : X86_REG_INVALID;

    if (insn->id == X86_INS_CMP || insn->id == X86_INS_TEST || insn->id == X86_INS_BT || insn->id == X86_INS_NOP)
        return false;
    return insn->id == X86_INS_PUSH || is_stack_pointer(reg) || reg == X86_REG_RBP || reg == X86_REG_EBP || reg == X86_REG_BP
           || reg == X86_REG_BPL;
}

/* ---- where it goes */

static bool in_group(const struct cs_insn *insn, unsigned group)
{
    for (uint8_t i = 0; i < insn->detail->groups_count; i++)
        if (insn->detail->groups[i] == group)
            return true;
    return false;
}

/* Jumps that Capstone does not count among them. xbegin: what is taken back goes on at its target. */
static bool is_odd_jump(unsigned id)
{
    return id == X86_INS_XBEGIN || id == X86_INS_LOOP || id == X86_INS_LOOPE || id == X86_INS_LOOPNE || id == X86_INS_JRCXZ || id == X86_INS_JECXZ;
}

enum probe_flow_kind probe_insn_flow(const struct cs_insn *insn, uint64_t *ret_target)
{
    const cs_x86 *x = &insn->detail->x86;

    if (in_group(insn, X86_GRP_RET))
        return PROBE_FLOW_RETURN;
    if (insn->id == X86_INS_UD2 || insn->id == X86_INS_UD0 || insn->id == X86_INS_HLT || insn->id == X86_INS_INT3)
        return PROBE_FLOW_END;
    if (!in_group(insn, X86_GRP_JUMP) && !is_odd_jump(insn->id))
        return PROBE_FLOW_NEXT;
    if (x->op_count == 1 && x->operands[0].type == X86_OP_MEM && x->operands[0].mem.base == X86_REG_RIP)
        return PROBE_FLOW_LINKED;
    if (x->op_count != 1 || x->operands[0].type != X86_OP_IMM)
        return PROBE_FLOW_COMPUTED;
    *ret_target = (uint64_t)x->operands[0].imm;
    return insn->id == X86_INS_JMP ? PROBE_FLOW_JUMP : PROBE_FLOW_BRANCH;
}

bool probe_insn_lea(const struct cs_insn *insn, uint64_t *ret_address)
{
    const cs_x86 *x = &insn->detail->x86;

    if (insn->id != X86_INS_LEA || x->op_count != 2 || x->operands[1].type != X86_OP_MEM || x->operands[1].mem.base != X86_REG_RIP)
        return false;
    *ret_address = insn->address + insn->size + (uint64_t)x->operands[1].mem.disp;
    return true;
}
