/* The interpreter behind unwinding rows. libdw has one, which answers for one address at a time: for a table of all addresses it would
 * run each program once for each row. */
#include "symbolize/cfi_program.h"

#include <dwarf.h>

#include "symbolize/cfi_cursor.h"

#define CFI_LOW_BITS 0x3f
#define CFI_AARCH64_NEGATE_RA_STATE_WITH_PC 0x2c

struct cfi_machine {
    const struct cfi_program *program;
    struct cfi_cursor code;
    struct cfi_row row;
    bool changed; /* since the last row that was put: rows begin at advances, not at instructions */
    uint64_t address;
    size_t n_remembered;
    struct cfi_row remembered[CFI_MAX_REMEMBERED];
};

static struct cfi_column *column_of(struct cfi_machine *m, uint64_t reg)
{
    const struct cfi_registers *r = &m->program->registers;
    struct cfi_column *found = NULL;
    if (reg == r->ra)
        found = &m->row.ra;
    else if (reg == r->fp)
        found = &m->row.fp;
    else if (reg == r->sp)
        found = &m->row.sp;
    m->changed |= found != NULL;
    return found;
}

static void set_column(struct cfi_machine *m, uint64_t reg, struct cfi_column value)
{
    struct cfi_column *column = column_of(m, reg);
    if (column)
        *column = value;
}

static void restore_column(struct cfi_machine *m, uint64_t reg)
{
    const struct cfi_row *initial = m->program->initial;
    struct cfi_column *column = column_of(m, reg);
    if (!initial)
        cfi_cursor_fail(&m->code);
    else if (column)
        *column = column == &m->row.ra ? initial->ra : column == &m->row.fp ? initial->fp : initial->sp;
}

static int64_t scaled(const struct cfi_machine *m, uint64_t factor)
{
    return (int64_t)(factor * (uint64_t)m->program->data_align);
}

static void set_offset(struct cfi_machine *m, uint64_t reg, uint8_t kind, uint64_t factor)
{
    set_column(m, reg, (struct cfi_column){.kind = kind, .value = scaled(m, factor)});
}

static struct cfi_column get_expression(struct cfi_machine *m, uint8_t kind)
{
    uint64_t bytes = cfi_get_uleb(&m->code);
    struct cfi_column column = {.kind = kind, .expression = m->code.at};
    cfi_skip(&m->code, bytes);
    column.expression_bytes = bytes > UINT32_MAX ? UINT32_MAX : (uint32_t)bytes;
    return column;
}

static void set_cfa(struct cfi_machine *m, uint64_t reg, int64_t offset)
{
    uint32_t number = reg > UINT32_MAX ? UINT32_MAX : (uint32_t)reg;
    m->row.cfa = (struct cfi_column){.kind = CFI_REGISTER, .reg = number, .value = offset};
    m->row.cfa_offset = offset;
    m->changed = true;
}

/* A CFA that is an expression stays one, as libgcc has it. */
static void set_cfa_offset(struct cfi_machine *m, int64_t offset)
{
    m->row.cfa_offset = offset;
    if (m->row.cfa.kind == CFI_REGISTER)
        m->row.cfa.value = offset;
    m->changed = true;
}

static void put(struct cfi_machine *m)
{
    if (m->changed && m->program->initial && m->address < m->program->end)
        m->program->put_row(m->program->userdata, m->address, &m->row);
    m->changed = false;
}

static void advance(struct cfi_machine *m, uint64_t factor)
{
    uint64_t delta;
    put(m);
    if (__builtin_mul_overflow(factor, m->program->code_align, &delta)
        || __builtin_add_overflow(m->address, delta, &m->address))
        m->address = UINT64_MAX;
}

static void set_address(struct cfi_machine *m)
{
    uint64_t address = m->program->initial ? m->program->get_address(m->program->userdata, &m->code) : 0;
    if (!m->program->initial || address < m->address) {
        cfi_cursor_fail(&m->code);
        return;
    }
    put(m);
    m->address = address;
}

static void remember(struct cfi_machine *m)
{
    if (m->n_remembered == CFI_MAX_REMEMBERED)
        cfi_cursor_fail(&m->code);
    else
        m->remembered[m->n_remembered++] = m->row;
}

static void restore_state(struct cfi_machine *m)
{
    if (m->n_remembered == 0) {
        cfi_cursor_fail(&m->code);
        return;
    }
    m->row = m->remembered[--m->n_remembered];
    m->changed = true;
}

/* Instructions that begin with the register whose column they set. */
static void run_column(struct cfi_machine *m, uint8_t op)
{
    struct cfi_cursor *c = &m->code;
    uint64_t reg = cfi_get_uleb(c), from;
    switch (op) {
    case DW_CFA_offset_extended:
        return set_offset(m, reg, CFI_OFFSET, cfi_get_uleb(c));
    case DW_CFA_offset_extended_sf:
        return set_offset(m, reg, CFI_OFFSET, (uint64_t)cfi_get_sleb(c));
    case DW_CFA_GNU_negative_offset_extended:
        return set_offset(m, reg, CFI_OFFSET, 0 - cfi_get_uleb(c));
    case DW_CFA_val_offset:
        return set_offset(m, reg, CFI_VAL_OFFSET, cfi_get_uleb(c));
    case DW_CFA_val_offset_sf:
        return set_offset(m, reg, CFI_VAL_OFFSET, (uint64_t)cfi_get_sleb(c));
    case DW_CFA_restore_extended:
        return restore_column(m, reg);
    case DW_CFA_undefined:
        return set_column(m, reg, (struct cfi_column){.kind = CFI_UNDEFINED});
    case DW_CFA_same_value:
        return set_column(m, reg, (struct cfi_column){.kind = CFI_SAME});
    case DW_CFA_register:
        from = cfi_get_uleb(c);
        return set_column(m, reg, (struct cfi_column){.kind = CFI_REGISTER, .reg = from > UINT32_MAX ? UINT32_MAX : (uint32_t)from});
    case DW_CFA_expression:
        return set_column(m, reg, get_expression(m, CFI_EXPRESSION));
    case DW_CFA_val_expression:
        return set_column(m, reg, get_expression(m, CFI_VAL_EXPRESSION));
    default:
        cfi_cursor_fail(c);
    }
}

/* Instructions that change the CFA. False: it is none of them. */
static bool run_cfa(struct cfi_machine *m, uint8_t op)
{
    struct cfi_cursor *c = &m->code;
    uint64_t reg;
    switch (op) {
    case DW_CFA_def_cfa:
        reg = cfi_get_uleb(c);
        set_cfa(m, reg, (int64_t)cfi_get_uleb(c));
        return true;
    case DW_CFA_def_cfa_sf:
        reg = cfi_get_uleb(c);
        set_cfa(m, reg, scaled(m, (uint64_t)cfi_get_sleb(c)));
        return true;
    case DW_CFA_def_cfa_register:
        set_cfa(m, cfi_get_uleb(c), m->row.cfa_offset);
        return true;
    case DW_CFA_def_cfa_offset:
        set_cfa_offset(m, (int64_t)cfi_get_uleb(c));
        return true;
    case DW_CFA_def_cfa_offset_sf:
        set_cfa_offset(m, scaled(m, (uint64_t)cfi_get_sleb(c)));
        return true;
    case DW_CFA_def_cfa_expression:
        m->row.cfa = get_expression(m, CFI_EXPRESSION);
        m->changed = true;
        return true;
    default:
        return false;
    }
}

/* Instructions that say to which addresses the next ones belong. False: it is none of them. */
static bool run_advance(struct cfi_machine *m, uint8_t op)
{
    switch (op) {
    case DW_CFA_set_loc:
        set_address(m);
        return true;
    case DW_CFA_advance_loc1:
        advance(m, cfi_get(&m->code, 1));
        return true;
    case DW_CFA_advance_loc2:
        advance(m, cfi_get(&m->code, 2));
        return true;
    case DW_CFA_advance_loc4:
        advance(m, cfi_get(&m->code, 4));
        return true;
    case DW_CFA_MIPS_advance_loc8:
        advance(m, cfi_get(&m->code, 8));
        return true;
    default:
        return false;
    }
}

static void run_extended(struct cfi_machine *m, uint8_t op)
{
    switch (op) {
    case DW_CFA_nop:
    case DW_CFA_AARCH64_negate_ra_state: /* pointer authentication: whoever reads return addresses masks them */
    case CFI_AARCH64_NEGATE_RA_STATE_WITH_PC:
        return;
    case DW_CFA_GNU_args_size: /* for exceptions alone */
        (void)cfi_get_uleb(&m->code);
        return;
    case DW_CFA_remember_state:
        return remember(m);
    case DW_CFA_restore_state:
        return restore_state(m);
    default:
        if (!run_advance(m, op) && !run_cfa(m, op))
            run_column(m, op);
    }
}

static void run_one(struct cfi_machine *m)
{
    uint8_t op = (uint8_t)cfi_get(&m->code, 1), low = op & CFI_LOW_BITS;
    switch (op & ~CFI_LOW_BITS) {
    case DW_CFA_advance_loc:
        return advance(m, low);
    case DW_CFA_offset:
        return set_offset(m, low, CFI_OFFSET, cfi_get_uleb(&m->code));
    case DW_CFA_restore:
        return restore_column(m, low);
    default:
        return run_extended(m, op);
    }
}

void cfi_run(const struct cfi_program *program)
{
    struct cfi_machine m;
    m.program = program;
    m.code = (struct cfi_cursor){program->code, program->code + program->bytes, false};
    m.row = *program->initial;
    m.changed = true;
    m.address = program->start;
    m.n_remembered = 0;
    while (m.code.at < m.code.end && m.address < program->end)
        run_one(&m);
    if (!m.code.bad)
        put(&m);
    else if (m.address < program->end)
        program->put_row(program->userdata, m.address, NULL);
}

bool cfi_run_initial(const struct cfi_program *program, struct cfi_row *ret)
{
    struct cfi_machine m;
    m.program = program;
    m.code = (struct cfi_cursor){program->code, program->code + program->bytes, false};
    m.row = (struct cfi_row){0};
    m.changed = false;
    m.address = 0;
    m.n_remembered = 0;
    while (m.code.at < m.code.end)
        run_one(&m);
    *ret = m.row;
    return !m.code.bad;
}
