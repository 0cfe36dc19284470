/* Evaluates the DWARF expressions of CFI over the registers and the copied stack of one frame. */
#pragma once

#include <elfutils/libdw.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct copy_stack;

struct copy_registers {
    uint64_t value[33]; /* COPY_MAX_REGISTERS */
    uint64_t known;    /* a bit for each */
    uint64_t presumed; /* likewise: known by a presumption alone */
};

struct copy_context {
    const struct copy_stack *stack;
    const struct copy_registers *registers; /* of the frame */
    uint64_t used;                          /* a bit for each register that was asked for */
    uint64_t bias;                          /* between the file's addresses and the process's */
    uint64_t cfa;
    bool has_cfa;
};

enum copy_place { COPY_PLACE_VALUE, COPY_PLACE_MEMORY, COPY_PLACE_REGISTER };

/* Evaluates; what the result is the expression itself may say, or else it is as given in *ret_place. 0; -EFAULT: it reads
 * what was not copied; -ENODATA: it needs a register that is lost; -ENOTSUP. */
int copy_evaluate(struct copy_context *c, const Dwarf_Op *ops, size_t n_ops, enum copy_place *ret_place,
                  uint64_t *ret_value);

/* A register's value. -ENODATA where it is lost, or there is none of that number. */
int copy_register(const struct copy_registers *r, uint64_t number, uint64_t *ret);
/* Little-endian bytes of the copy, as a number. -EFAULT: it has no such address. */
int copy_read(const struct copy_stack *stack, uint64_t address, size_t size, uint64_t *ret);
