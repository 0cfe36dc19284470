/* What is known of a frame between two instructions of x86-64 code, and how an instruction changes it. For assembly that says nothing of
 * itself: its code is read as a debugger's user would read it. Registers by their DWARF numbers. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "util/unwind_table.h"

struct cs_insn;

/* Each way to the canonical frame address (CFA) that holds. */
struct frame_state {
    bool by_sp;      /* CFA = rsp + depth */
    bool by_slot;    /* CFA = *(rsp + slot_at) + slot_add */
    uint16_t copies; /* a bit for each register r: CFA = r + copy[r] */
    bool fp_saved;   /* the caller's rbp is at CFA + fp_at */
    bool fp_changed; /* rbp is not the caller's */
    bool doubtful;   /* nobody is known to lead here: what others say counts more */
    int32_t depth, slot_at, slot_add, fp_at;
    int32_t copy[16];
};

void frame_state_at_entry(struct frame_state *ret);
/* insn: decoded with its details. */
void frame_state_step(struct frame_state *state, const struct cs_insn *insn);
/* Keeps what holds on both ways. True: something of *state held no more. */
bool frame_state_join(struct frame_state *state, const struct frame_state *other);
/* As a rule that is marked as a guess; UNWIND_CFA_NONE where no way is left. */
struct unwind_rule frame_state_rule(const struct frame_state *state);
