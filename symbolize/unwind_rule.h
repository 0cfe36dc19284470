/* From a row of call frame information to the rule that the stack engine follows (util/unwind_table.h).
 *
 * To add an architecture: a file unwind_NAME.c with its struct unwind_arch, a line in unwind_arch_find, and what the walker needs in
 * util/unwind_table.h. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "symbolize/cfi_program.h"
#include "util/unwind_table.h"

#define UNWIND_CALL_BYTES 5

struct unwind_marks;

struct unwind_arch {
    uint16_t machine;  /* ELF e_machine */
    uint8_t fp, sp;    /* DWARF numbers */
    int32_t trampoline_context; /* where the ucontext is from sp in a signal trampoline that has no CFI */
    /* Where the kernel's ucontext is from sp, in a signal trampoline with this row. False: not to be known. */
    bool (*signal_context)(const struct cfi_row *row, int32_t *ret_offset);
    /* CFA expressions of its own, beyond those that all have. False: it is none. */
    bool (*cfa_expression)(const uint8_t *code, size_t bytes, struct unwind_rule *rule);
    /* True for bytes that nothing runs: what linkers and assemblers put between functions. */
    bool (*is_padding)(const uint8_t *code, size_t bytes);
    /* What the first instruction of a function says whose CFI never changes: UNWIND_CFA_NONE where it moves sp, so that the CFI is wrong;
     * UNWIND_CFA_ROOT where it takes another sp, and so has no caller; else UNWIND_CFA_REGISTER. NULL: nothing. */
    enum unwind_cfa (*first_instruction)(const uint8_t *code, uint64_t bytes);
    /* True for the first instructions of a program: they take sp for their argument, which no compiler's function does. */
    bool (*is_start)(const uint8_t *code, uint64_t bytes);
    uint8_t code_align; /* of instructions */
    /* The target of a call whose UNWIND_CALL_BYTES are these. False: it is none, or its target is not in it. */
    bool (*call_target)(const uint8_t *code, uint64_t address, uint64_t *ret_target);
    /* True for a function that begins by setting its frame pointer. */
    bool (*sets_up_frame)(const uint8_t *code, uint64_t bytes);
    /* The next clone at `from` or behind, of those that have no CFI: its child's code begins and ends there. */
    bool (*find_thread_start)(const uint8_t *code, uint64_t bytes, uint64_t from, uint64_t *ret_start, uint64_t *ret_end);
    /* Reads code without CFI (unwind_assembly.h). NULL: nobody can. */
    int (*read_assembly)(const uint8_t *bytes, uint64_t start, uint64_t end, struct unwind_marks *marks);
    /* Sets the return address's part of a rule whose frame pointer's part is set. False: rows can't express it. */
    bool (*return_address)(const struct cfi_row *row, struct unwind_rule *rule);
};

extern const struct unwind_arch unwind_arch_x86_64, unwind_arch_aarch64;

/* NULL: none such. */
const struct unwind_arch *unwind_arch_find(uint16_t machine);

struct unwind_rule unwind_rule_make(const struct unwind_arch *arch, const struct cfi_row *row, bool is_signal);

/* For architectures' files. The expression "register + offset", alone or as the beginning: *ret_bytes are taken. */
bool unwind_expression_register(const uint8_t *code, size_t bytes, uint64_t *ret_reg, int64_t *ret_offset, size_t *ret_bytes);
/* The return address at CFA + offset, as UNWIND_RA_SAVED; a frame pointer that needs the room is lost. */
bool unwind_rule_ra_saved(int64_t offset, struct unwind_rule *rule);
/* The addend of its CFA stays. */
void unwind_rule_set_saved(struct unwind_rule *rule, enum unwind_fp fp, enum unwind_ra ra);
/* In words of 8 bytes; false: it is none, or too far. */
bool unwind_rule_words(int64_t bytes, int16_t *ret_words);
