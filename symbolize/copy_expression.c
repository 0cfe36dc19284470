/* A stack machine. Whoever wrote the file wrote the expression: every step is counted, every index checked. Owns nothing. */
#include "symbolize/copy_expression.h"

#include <dwarf.h>
#include <errno.h>
#include <string.h>

#include "symbolize/copy_unwind.h"

#define MAX_STACK 64
#define MAX_STEPS 2048 /* loops are allowed */

_Static_assert(sizeof(((struct copy_registers *)0)->value) == COPY_MAX_REGISTERS * sizeof(uint64_t), "room for all");

struct machine {
    struct copy_context *context;
    uint64_t stack[MAX_STACK];
    size_t n;
    enum copy_place place;
};

int copy_register(const struct copy_registers *r, uint64_t number, uint64_t *ret)
{
    if (number >= COPY_MAX_REGISTERS || !(r->known >> number & 1))
        return -ENODATA;
    *ret = r->value[number];
    return 0;
}

int copy_read(const struct copy_stack *stack, uint64_t address, size_t size, uint64_t *ret)
{
    uint64_t value = 0;

    if (size == 0 || size > sizeof(value))
        return -ENOTSUP;
    if (address < stack->base || address - stack->base > stack->len || stack->len - (address - stack->base) < size)
        return -EFAULT;
    memcpy(&value, stack->bytes + (address - stack->base), size); /* both machines are little-endian */
    *ret = value;
    return 0;
}

static int push(struct machine *m, uint64_t value)
{
    if (m->n == MAX_STACK)
        return -ENOTSUP;
    m->stack[m->n++] = value;
    return 0;
}

static int pop(struct machine *m, uint64_t *ret)
{
    if (m->n == 0)
        return -ENOTSUP;
    *ret = m->stack[--m->n];
    return 0;
}

static int push_register(struct machine *m, uint64_t number, uint64_t offset)
{
    uint64_t value;
    int r = copy_register(m->context->registers, number, &value);
    if (r < 0)
        return r;
    m->context->used |= 1ull << number;
    return push(m, value + offset);
}

static int pick(struct machine *m, uint64_t depth)
{
    return depth < m->n ? push(m, m->stack[m->n - 1 - depth]) : -ENOTSUP;
}

/* Exchanges the top of the stack: with the second, or among three. */
static int rotate(struct machine *m, size_t n)
{
    if (m->n < n)
        return -ENOTSUP;
    uint64_t top = m->stack[m->n - 1];
    memmove(&m->stack[m->n - n + 1], &m->stack[m->n - n], (n - 1) * sizeof(top));
    m->stack[m->n - n] = top;
    return 0;
}

static int load(struct machine *m, uint64_t size)
{
    uint64_t address, value;
    int r = pop(m, &address);
    if (r == 0)
        r = copy_read(m->context->stack, address, size, &value);
    return r < 0 ? r : push(m, value);
}

static int unary(struct machine *m, uint8_t atom)
{
    uint64_t a;
    int r = pop(m, &a);
    if (r < 0)
        return r;
    if (atom == DW_OP_abs)
        return push(m, (int64_t)a < 0 ? -a : a);
    return push(m, atom == DW_OP_neg ? -a : ~a);
}

static int divide(struct machine *m, int64_t a, int64_t b)
{
    if (b == 0 || (a == INT64_MIN && b == -1))
        return -ENOTSUP;
    return push(m, (uint64_t)(a / b));
}

static int binary(struct machine *m, uint8_t atom)
{
    uint64_t a, b;
    if (pop(m, &b) < 0 || pop(m, &a) < 0)
        return -ENOTSUP;
    int64_t x = (int64_t)a, y = (int64_t)b;
    switch (atom) {
    case DW_OP_and:
        return push(m, a & b);
    case DW_OP_div:
        return divide(m, x, y);
    case DW_OP_minus:
        return push(m, a - b);
    case DW_OP_mod:
        return b ? push(m, a % b) : -ENOTSUP;
    case DW_OP_mul:
        return push(m, a * b);
    case DW_OP_or:
        return push(m, a | b);
    case DW_OP_plus:
        return push(m, a + b);
    case DW_OP_xor:
        return push(m, a ^ b);
    case DW_OP_shl:
        return push(m, b < 64 ? a << b : 0);
    case DW_OP_shr:
        return push(m, b < 64 ? a >> b : 0);
    case DW_OP_shra:
        return push(m, (uint64_t)(x >> (b < 63 ? b : 63)));
    case DW_OP_eq:
        return push(m, x == y);
    case DW_OP_ne:
        return push(m, x != y);
    case DW_OP_lt:
        return push(m, x < y);
    case DW_OP_le:
        return push(m, x <= y);
    case DW_OP_gt:
        return push(m, x > y);
    default:
        return push(m, x >= y);
    }
}

/* The operation that a jump leads to; n_ops: the end. -ENOTSUP: into the midst of one. */
static int jump(const Dwarf_Op *ops, size_t n_ops, size_t *at)
{
    Dwarf_Word target = ops[*at].offset + 3 + (Dwarf_Word)(int16_t)ops[*at].number;

    for (size_t i = 0; i < n_ops; i++) {
        if (ops[i].offset == target) {
            *at = i;
            return 0;
        }
    }
    if (n_ops == 0 || target <= ops[n_ops - 1].offset)
        return -ENOTSUP;
    *at = n_ops;
    return 0;
}

static int branch(struct machine *m, const Dwarf_Op *ops, size_t n_ops, size_t *at)
{
    uint64_t condition = 1;
    int r = ops[*at].atom == DW_OP_bra ? pop(m, &condition) : 0;
    if (r < 0)
        return r;
    if (condition)
        return jump(ops, n_ops, at);
    ++*at;
    return 0;
}

static int place_register(struct machine *m, uint64_t number)
{
    m->place = COPY_PLACE_REGISTER;
    return push(m, number);
}

/* All but jumps. */
static int step(struct machine *m, const Dwarf_Op *op)
{
    uint8_t atom = op->atom;

    if (atom >= DW_OP_lit0 && atom <= DW_OP_lit31)
        return push(m, atom - DW_OP_lit0);
    if (atom >= DW_OP_breg0 && atom <= DW_OP_breg31)
        return push_register(m, atom - DW_OP_breg0, op->number);
    if (atom >= DW_OP_reg0 && atom <= DW_OP_reg31)
        return place_register(m, atom - DW_OP_reg0);
    switch (atom) {
    case DW_OP_addr:
        return push(m, op->number + m->context->bias);
    case DW_OP_const1u:
    case DW_OP_const1s:
    case DW_OP_const2u:
    case DW_OP_const2s:
    case DW_OP_const4u:
    case DW_OP_const4s:
    case DW_OP_const8u:
    case DW_OP_const8s:
    case DW_OP_constu:
    case DW_OP_consts:
        return push(m, op->number);
    case DW_OP_bregx:
        return push_register(m, op->number, op->number2);
    case DW_OP_regx:
        return place_register(m, op->number);
    case DW_OP_call_frame_cfa:
        return m->context->has_cfa ? push(m, m->context->cfa) : -ENOTSUP;
    case DW_OP_plus_uconst:
        return m->n > 0 ? (m->stack[m->n - 1] += op->number, 0) : -ENOTSUP;
    case DW_OP_dup:
        return pick(m, 0);
    case DW_OP_over:
        return pick(m, 1);
    case DW_OP_pick:
        return pick(m, op->number);
    case DW_OP_drop:
        return m->n > 0 ? (m->n--, 0) : -ENOTSUP;
    case DW_OP_swap:
        return rotate(m, 2);
    case DW_OP_rot:
        return rotate(m, 3);
    case DW_OP_deref:
        return load(m, 8);
    case DW_OP_deref_size:
        return load(m, op->number);
    case DW_OP_abs:
    case DW_OP_neg:
    case DW_OP_not:
        return unary(m, atom);
    case DW_OP_nop:
        return 0;
    case DW_OP_stack_value:
        m->place = COPY_PLACE_VALUE;
        return 0;
    }
    bool two = atom == DW_OP_and || (atom >= DW_OP_div && atom <= DW_OP_mul) || atom == DW_OP_or || atom == DW_OP_plus ||
               (atom >= DW_OP_shl && atom <= DW_OP_xor) || (atom >= DW_OP_eq && atom <= DW_OP_ne);
    return two ? binary(m, atom) : -ENOTSUP;
}

int copy_evaluate(struct copy_context *c, const Dwarf_Op *ops, size_t n_ops, enum copy_place *ret_place,
                  uint64_t *ret_value)
{
    struct machine m = {.context = c, .place = *ret_place};
    size_t at = 0;

    for (unsigned steps = 0; at < n_ops; steps++) {
        bool jumps = ops[at].atom == DW_OP_skip || ops[at].atom == DW_OP_bra;
        int r = steps == MAX_STEPS ? -ENOTSUP : jumps ? branch(&m, ops, n_ops, &at) : step(&m, &ops[at]);
        if (r < 0)
            return r;
        at += !jumps;
    }
    if (m.n == 0)
        return -ENOTSUP;
    *ret_place = m.place;
    *ret_value = m.stack[m.n - 1];
    return 0;
}
