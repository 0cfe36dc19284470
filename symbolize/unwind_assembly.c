/* Follows each function's code from its entry along all branches, with what is known of the frame before each instruction
 * (frame_state.h). Functions begin where the code begins, where a call leads, and perhaps at aligned places that nothing else leads to. A
 * computed jump (a switch) leads to what follows it in its function and nothing else leads to, with the frame that it has. */
#include "symbolize/unwind_assembly.h"

#include <capstone/capstone.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "symbolize/frame_state.h"
#include "util/cleanup.h"

#define FUNCTION_ALIGN 16
/* Code takes less than one; a file that was made to take more costs no more than this. */
#define MAX_STEPS_PER_BYTE 2

/* An instruction's place in the code, as offset from its beginning. */
struct known {
    uint32_t state;  /* index + 1 of the state before it; 0: not reached */
    uint8_t bytes;   /* of the instruction */
    bool is_called;
    bool is_computed; /* a computed jump */
};

struct assembly {
    const uint8_t *code;
    uint64_t start; /* file offset */
    uint32_t len;
    csh decoder;
    cs_insn *insn;
    struct known *known; /* len of them */
    struct frame_state *states;
    size_t n_states, room_states;
    uint32_t *due; /* places whose state is new, or has changed */
    size_t n_due, room_due;
    uint64_t steps_left;
};

static void assembly_deinit(struct assembly *a)
{
    if (a->insn)
        cs_free(a->insn, 1);
    if (a->decoder)
        (void)cs_close(&a->decoder);
    free(a->known);
    free(a->states);
    free(a->due);
}

static int assembly_init(struct assembly *a, const uint8_t *code, uint32_t len)
{
    a->code = code;
    a->len = len;
    a->steps_left = (uint64_t)len * MAX_STEPS_PER_BYTE;
    a->known = calloc(len, sizeof(*a->known));
    if (!a->known)
        return -ENOMEM;
    if (cs_open(CS_ARCH_X86, CS_MODE_64, &a->decoder) != CS_ERR_OK)
        return -ENOMEM;
    if (cs_option(a->decoder, CS_OPT_DETAIL, CS_OPT_ON) != CS_ERR_OK)
        return -ENOMEM;
    a->insn = cs_malloc(a->decoder);
    return a->insn ? 0 : -ENOMEM;
}

static bool assembly_decode(struct assembly *a, uint32_t at)
{
    const uint8_t *code = a->code + at;
    size_t size = a->len - at;
    uint64_t address = at;

    return at < a->len && cs_disasm_iter(a->decoder, &code, &size, &address, a->insn);
}

/* ---- what is reached */

static int push_due(struct assembly *a, uint32_t at)
{
    if (a->n_due == a->room_due) {
        size_t room = a->room_due ? 2 * a->room_due : 256;
        uint32_t *due = reallocarray(a->due, room, sizeof(*due));
        if (!due)
            return -ENOMEM;
        a->due = due;
        a->room_due = room;
    }
    a->due[a->n_due++] = at;
    return 0;
}

static int add_state(struct assembly *a, uint32_t at, const struct frame_state *state)
{
    if (a->n_states == a->room_states) {
        size_t room = a->room_states ? 2 * a->room_states : 1024;
        struct frame_state *states = reallocarray(a->states, room, sizeof(*states));
        if (!states)
            return -ENOMEM;
        a->states = states;
        a->room_states = room;
    }
    a->states[a->n_states++] = *state;
    a->known[at].state = (uint32_t)a->n_states;
    return push_due(a, at);
}

/* Code at a place is reached in a state. */
static int reach(struct assembly *a, uint64_t at, const struct frame_state *state)
{
    if (at >= a->len)
        return 0;
    struct known *known = &a->known[at];
    if (known->state == 0)
        return add_state(a, (uint32_t)at, state);
    struct frame_state *before = &a->states[known->state - 1];
    if (state->doubtful && !before->doubtful)
        return 0;
    if (!state->doubtful && before->doubtful) {
        *before = *state;
        return push_due(a, (uint32_t)at);
    }
    return frame_state_join(before, state) ? push_due(a, (uint32_t)at) : 0;
}

static bool in_group(const cs_insn *insn, unsigned group)
{
    for (uint8_t i = 0; i < insn->detail->groups_count; i++)
        if (insn->detail->groups[i] == group)
            return true;
    return false;
}

/* The target of a direct branch; false: it has none. */
static bool branch_target(const cs_insn *insn, uint64_t *ret)
{
    const cs_x86 *x86 = &insn->detail->x86;

    if (x86->op_count != 1 || x86->operands[0].type != X86_OP_IMM)
        return false;
    *ret = (uint64_t)x86->operands[0].imm;
    return true;
}

static bool ends_flow(const cs_insn *insn)
{
    return insn->id == X86_INS_JMP || insn->id == X86_INS_UD2 || insn->id == X86_INS_HLT || insn->id == X86_INS_INT3 || in_group(insn, X86_GRP_RET);
}

/* True where what follows a call is padding up to a function, or a function: the call was of one that does not return. */
static bool is_behind_function(struct assembly *a, uint32_t at)
{
    if (at < a->len && (a->start + at) % FUNCTION_ALIGN == 0)
        return a->known[at].is_called;
    while (at < a->len && (a->start + at) % FUNCTION_ALIGN != 0) {
        if (!assembly_decode(a, at) || (a->insn->id != X86_INS_NOP && a->insn->id != X86_INS_INT3))
            return false;
        at += a->insn->size;
    }
    return true;
}

static int follow(struct assembly *a, uint32_t at)
{
    struct frame_state state = a->states[a->known[at].state - 1], entry;
    uint64_t target;
    int r = 0;

    if (!assembly_decode(a, at))
        return 0;
    a->known[at].bytes = (uint8_t)a->insn->size;
    frame_state_step(&state, a->insn);
    if (in_group(a->insn, X86_GRP_CALL)) {
        uint32_t next = at + a->insn->size;
        frame_state_at_entry(&entry);
        entry.doubtful = state.doubtful;
        if (branch_target(a->insn, &target) && target < a->len) {
            a->known[target].is_called = true;
            r = reach(a, target, &entry);
        }
        return r == 0 && !is_behind_function(a, next) ? reach(a, next, &state) : r;
    } else if (in_group(a->insn, X86_GRP_JUMP)) {
        if (branch_target(a->insn, &target))
            r = reach(a, target, &state);
        else
            a->known[at].is_computed = true;
    }
    return r == 0 && !ends_flow(a->insn) ? reach(a, (uint64_t)at + a->insn->size, &state) : r;
}

static int follow_all(struct assembly *a)
{
    int r = 0;

    while (r == 0 && a->n_due > 0 && a->steps_left > 0) {
        a->steps_left--;
        r = follow(a, a->due[--a->n_due]);
    }
    return r;
}

/* ---- functions */

/* How many bytes of padding are at a place; 0: it is code. */
static uint32_t filler_bytes(struct assembly *a, uint32_t at)
{
    if (a->code[at] == 0 || a->code[at] == 0x90 || a->code[at] == 0xcc)
        return 1;
    if (a->code[at] != 0x66 && a->code[at] != 0x0f)
        return 0;
    return assembly_decode(a, at) && a->insn->id == X86_INS_NOP ? (uint32_t)a->insn->size : 0;
}

/* How code begins that nothing led to: as the computed jump before it says (jump: its state), or as a function. False: nobody knows. */
static bool supposed_state(const struct assembly *a, uint32_t at, uint32_t jump, bool first, struct frame_state *ret)
{
    if (jump) {
        *ret = a->states[jump - 1];
        ret->doubtful = true;
        return true;
    }
    frame_state_at_entry(ret);
    ret->doubtful = !first;
    return first || (a->start + at) % FUNCTION_ALIGN == 0;
}

static int find_functions(struct assembly *a)
{
    struct frame_state state;
    uint32_t jump = 0, bytes; /* jump: the state at the last computed jump of the function */
    bool first = true;
    int r = 0;

    for (uint32_t at = 0; r == 0 && at < a->len && a->steps_left > 0; at += bytes) {
        const struct known *known = &a->known[at];
        if (known->state) {
            jump = known->is_computed ? known->state : known->is_called ? 0 : jump;
            bytes = known->bytes ? known->bytes : 1;
            first = false;
            continue;
        }
        bytes = filler_bytes(a, at);
        if (bytes > 0)
            continue;
        if (!supposed_state(a, at, jump, first, &state)) {
            bytes = 1;
            continue;
        }
        r = reach(a, at, &state);
        r = r == 0 ? follow_all(a) : r;
    }
    return r;
}

/* ---- marks */

static bool rules_equal(const struct unwind_rule *x, const struct unwind_rule *y)
{
    return memcmp(x, y, sizeof(*x)) == 0;
}

/* Neighbours with one rule become one mark. */
static int add_marks(const struct assembly *a, uint64_t start, struct unwind_marks *marks)
{
    struct unwind_mark run = {0};

    for (uint32_t at = 0; at < a->len; at++) {
        const struct known *known = &a->known[at];
        if (known->state == 0 || known->bytes == 0)
            continue;
        struct unwind_rule rule = frame_state_rule(&a->states[known->state - 1]);
        uint64_t offset = start + at;
        if (offset == run.end && rules_equal(&rule, &run.rule)) {
            run.end = offset + known->bytes;
            continue;
        }
        int r = UNWIND_CFA_KIND(run.rule.cfa) != UNWIND_CFA_NONE ? unwind_marks_add(marks, run.start, run.end, run.rule) : 0;
        if (r < 0)
            return r;
        run = (struct unwind_mark){offset, offset + known->bytes, rule};
    }
    return UNWIND_CFA_KIND(run.rule.cfa) != UNWIND_CFA_NONE ? unwind_marks_add(marks, run.start, run.end, run.rule) : 0;
}

int unwind_assembly_read(const uint8_t *bytes, uint64_t start, uint64_t end, struct unwind_marks *marks)
{
    CLEANUP(assembly_deinit) struct assembly a = {.start = start};

    if (start >= end || end - start > UNWIND_MAX_ASSEMBLY_BYTES)
        return 0;
    int r = assembly_init(&a, bytes + start, (uint32_t)(end - start));
    if (r == 0)
        r = find_functions(&a);
    return r == 0 ? add_marks(&a, start, marks) : r;
}
