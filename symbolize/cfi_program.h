/* Programs of DWARF's call frame information (DWARF 5, 6.4): from the instructions of a CIE and an FDE to rows. Only the columns that
 * the stack engine follows are kept: the frame pointer, the stack pointer and the return address. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum cfi_kind {
    CFI_UNSET = 0,      /* no rule */
    CFI_UNDEFINED,
    CFI_SAME,
    CFI_OFFSET,         /* at CFA + value */
    CFI_VAL_OFFSET,     /* is CFA + value */
    CFI_REGISTER,       /* is in register reg; as a CFA: register reg + value */
    CFI_EXPRESSION,     /* at the address that it computes; as a CFA: what it computes */
    CFI_VAL_EXPRESSION, /* is what it computes */
};

struct cfi_column {
    uint8_t kind;
    uint32_t reg;              /* CFI_REGISTER */
    uint32_t expression_bytes;
    union {
        int64_t value;
        const uint8_t *expression;
    };
};

struct cfi_row {
    struct cfi_column cfa, fp, sp, ra;
    int64_t cfa_offset; /* the last one named: where the CFA is an expression, DW_CFA_def_cfa_register goes back to it */
};

/* DWARF numbers of the columns kept. */
struct cfi_registers {
    uint32_t fp, sp, ra;
};

/* What decodes the address of DW_CFA_set_loc, in the CIE's encoding. */
struct cfi_cursor;
struct cfi_program {
    const uint8_t *code;
    size_t bytes;
    uint64_t code_align;
    int64_t data_align;
    struct cfi_registers registers;
    const struct cfi_row *initial; /* of the FDE's CIE: DW_CFA_restore goes back to it. NULL: this is a CIE's own program */
    uint64_t start, end;           /* addresses covered */
    uint64_t (*get_address)(void *userdata, struct cfi_cursor *c);
    /* A row that is in force from address on; addresses ascend. NULL row: from here on nothing can be said. */
    void (*put_row)(void *userdata, uint64_t address, const struct cfi_row *row);
    void *userdata;
};

#define CFI_MAX_REMEMBERED 32 /* states; compilers nest one or two */

/* The FDE's rows, by put_row. A program that is malformed, or goes back, ends with a NULL row. */
void cfi_run(const struct cfi_program *program);

/* The row that a CIE's program makes. False: it is malformed. */
bool cfi_run_initial(const struct cfi_program *program, struct cfi_row *ret);
