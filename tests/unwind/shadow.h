/* The true call stack of a program that is stepped: what its calls pushed and its returns took. It owes nothing to unwinding
 * information, and so can judge those who read it.
 *
 * What it can't know is said: a stack that the program switched to and that nothing is known of ends where the switch was. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <capstone/capstone.h>

#include "tests/unwind/tracee.h"

enum instruction_kind { INSTRUCTION_PLAIN, INSTRUCTION_CALL, INSTRUCTION_RET, INSTRUCTION_JUMP, INSTRUCTION_POP, INSTRUCTION_SYSTEM_CALL };

struct instruction {
    uint8_t kind;   /* enum instruction_kind */
    uint8_t length;
};

struct shadow_entry {
    uint64_t slot;    /* where the return address lies; of a signal: its frame */
    uint64_t address;
    uint64_t stack;   /* which stack the slot is in: its mapping's end */
    bool interrupted; /* not a return address: what a signal interrupted */
};

/* What is below a chain's last entry. */
enum shadow_bottom {
    SHADOW_ROOT,    /* nothing: the thread began there */
    SHADOW_NOTHING, /* nothing, though the stack may not say so: a coroutine */
    SHADOW_UNKNOWN, /* a function went on with another stack */
};

struct shadow_chain {
    struct shadow_entry *entries;
    size_t n, size;
    uint64_t stack_start, stack; /* the mapping of the stack pointer */
    enum shadow_bottom bottom;
    bool fresh;                  /* just switched to: the first transfer's return address is not known yet */
};

struct shadow {
    csh decoder;
    struct instruction_cache *instructions;
    struct shadow_chain chain, *parked; /* parked: of stacks that were switched away from */
    size_t n_parked;
};

int shadow_init(struct shadow *shadow);
void shadow_deinit(struct shadow *shadow);
/* Nothing is below the current instruction: a thread's or a program's first one. */
int shadow_begin(struct shadow *shadow, struct tracee *tracee);
/* The current instruction's callers are known from elsewhere, innermost first, with each one's stack pointer. */
int shadow_begin_with(struct shadow *shadow, struct tracee *tracee, const uint64_t *callers, const uint64_t *stack_pointers, size_t n);
/* The current instruction is one that a call just reached. */
int shadow_called(struct shadow *shadow, struct tracee *tracee);
struct instruction shadow_decode(struct shadow *shadow, struct tracee *tracee, uint64_t pc);
/* After one step, from the registers before it. */
int shadow_step(struct shadow *shadow, struct tracee *tracee, const struct user_regs_struct *before, struct instruction instruction);

/* The frames, innermost first; how many there are in all, of which the first `size` are written. interrupted: frames that are no return
 * address. ret_settled: false while the program is between two stacks, or has rewritten return addresses that it is about to leave by
 * (exceptions): what the true stack is then is a matter of opinion. */
size_t shadow_frames(struct shadow *shadow, struct tracee *tracee, uint64_t *frames, bool *interrupted, size_t size, bool *ret_settled);
/* A copy of the chain as it is, to go on from later. */
int shadow_copy(const struct shadow_chain *from, struct shadow_chain *ret_to);
