/* Follows a function's code from its entry along all branches, and reads it as it lies as well: what a jump table or an unwinder leads to (a
 * switch's cases, the code that catches an exception) is found by the second way alone. Where the two disagree on where an instruction begins,
 * there are data among the code, and nothing that only the second way has found is believed. */
#include "symbolize/probe_flow.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "symbolize/elf_segments.h"
#include "symbolize/frame_state.h"
#include "symbolize/probe_insn.h"
#include "util/cleanup.h"

enum { FLOW_REACHED = 1, FLOW_INSIDE = 2 /* of an instruction that is reached */, FLOW_LIES = 4 /* one begins, as it lies */ };

struct probe_flow_due {
    uint64_t address;
    struct frame_state state;
};

const uint8_t *probe_code_at(const struct probe_code *code, uint64_t address, uint64_t *ret_n)
{
    for (size_t i = 0; i < code->segments->n; i++) {
        const struct elf_segment *s = &code->segments->list[i];
        uint64_t into = address - s->address;
        if (!s->executable || address < s->address || into >= s->file_bytes || s->offset > code->n_bytes
            || into >= code->n_bytes - s->offset)
            continue;
        uint64_t left = code->n_bytes - s->offset - into;
        *ret_n = s->file_bytes - into < left ? s->file_bytes - into : left;
        return code->bytes + s->offset + into;
    }
    return NULL;
}

const struct probe_flow_range *probe_flow_range(const struct probe_flow *flow, uint64_t address)
{
    for (size_t i = 0; i < flow->n_ranges; i++)
        if (address >= flow->ranges[i].at.start && address < flow->ranges[i].at.end)
            return &flow->ranges[i];
    return NULL;
}

static int flow_add_range(struct probe_flow *flow, struct probe_range at)
{
    uint64_t n;
    const uint8_t *bytes = at.start < at.end ? probe_code_at(flow->code, at.start, &n) : NULL;
    if (!bytes)
        return -ERANGE;
    if (n > at.end - at.start)
        n = at.end - at.start;
    if (flow->n_ranges == PROBE_FLOW_MAX_RANGES || n > PROBE_FLOW_MAX_BYTES - flow->n_bytes)
        return -E2BIG;
    uint8_t *marks = calloc(n, 1);
    if (!marks)
        return -ENOMEM;
    flow->n_bytes += n;
    flow->ranges[flow->n_ranges++] = (struct probe_flow_range){{at.start, at.start + n}, bytes, marks, false};
    return 0;
}

int probe_flow_init(struct probe_flow *flow, const struct probe_code *code, const struct probe_function *f)
{
    *flow = (struct probe_flow){.code = code};
    if (cs_open(CS_ARCH_X86, CS_MODE_64, &flow->decoder) != CS_ERR_OK || cs_option(flow->decoder, CS_OPT_DETAIL, CS_OPT_ON) != CS_ERR_OK)
        return -ENOMEM;
    flow->insn = cs_malloc(flow->decoder);
    if (!flow->insn)
        return -ENOMEM;
    int r = flow_add_range(flow, f->main);
    for (size_t i = 0; r == 0 && i < f->n_parts && i < PROBE_MAX_PARTS; i++)
        if (!probe_flow_range(flow, f->parts[i].start))
            r = flow_add_range(flow, f->parts[i]);
    return r;
}

void probe_flow_deinit(struct probe_flow *flow)
{
    for (size_t i = 0; i < flow->n_ranges; i++)
        free(flow->ranges[i].marks);
    flow->n_ranges = 0;
    free(TAKE_PTR(flow->due));
    if (flow->insn)
        cs_free(TAKE_PTR(flow->insn), 1);
    if (flow->decoder)
        (void)cs_close(&flow->decoder);
}

bool probe_flow_decode(struct probe_flow *flow, uint64_t address)
{
    uint64_t n;
    const uint8_t *bytes = probe_code_at(flow->code, address, &n);
    size_t size = (size_t)n;
    return bytes && cs_disasm_iter(flow->decoder, &bytes, &size, &address, flow->insn);
}

/* ---- what is reached */

static int flow_push(struct probe_flow *flow, uint64_t address, const struct frame_state *state)
{
    if (flow->n_due == flow->room_due) {
        size_t room = flow->room_due ? 2 * flow->room_due : 32;
        struct probe_flow_due *due = reallocarray(flow->due, room, sizeof(*due));
        if (!due)
            return -ENOMEM;
        flow->due = due;
        flow->room_due = room;
    }
    flow->due[flow->n_due++] = (struct probe_flow_due){address, *state};
    return 0;
}

static bool at_entry_depth(const struct frame_state *state)
{
    return state->by_sp && state->depth == 8;
}

/* To the function that does the rest. */
static int flow_tail(struct probe_flow *flow, uint64_t target, const struct frame_state *state)
{
    struct probe_range at;

    if (!flow->tails || !at_entry_depth(state) || !flow->code->tail || !flow->code->tail(flow->code->userdata, target, &at)) {
        flow->tail_calls++;
        return 0;
    }
    if (probe_flow_range(flow, at.start))
        return flow_push(flow, at.start, state);
    int r = flow_add_range(flow, at);
    if (r == 0)
        return flow_push(flow, at.start, state);
    flow->tail_calls += r != -ENOMEM;
    return r == -ENOMEM ? r : 0;
}

/* A jump out of all known parts: to another function, as the last thing that this one does, or to a part of this one, which has a frame
 * that another function would not take over. */
static int flow_leave(struct probe_flow *flow, uint64_t target, const struct frame_state *state)
{
    uint64_t end = target + PROBE_FLOW_MAX_BYTES / PROBE_FLOW_MAX_RANGES;
    enum probe_part part = flow->code->part ? flow->code->part(flow->code->userdata, target, &end) : PROBE_PART_UNKNOWN;

    if (part == PROBE_PART_FUNCTION || !state->by_sp || state->depth == 8)
        return flow_tail(flow, target, state);
    int r = flow_add_range(flow, (struct probe_range){target, end});
    if (r == -ERANGE)
        flow->torn = true;
    else if (r == -E2BIG)
        flow->too_much = true;
    else if (r == 0)
        r = flow_push(flow, target, state);
    return r == -ENOMEM ? r : 0;
}

static int flow_to(struct probe_flow *flow, uint64_t target, const struct frame_state *state)
{
    return probe_flow_range(flow, target) ? flow_push(flow, target, state) : flow_leave(flow, target, state);
}

/* False: it was reached before, or it lies askew to what was. */
static bool flow_mark(struct probe_flow *flow, const struct probe_flow_range *range, uint64_t address, size_t size)
{
    uint8_t *marks = range->marks + (address - range->at.start);
    size_t left = (size_t)(range->at.end - address);

    if (marks[0] & FLOW_REACHED)
        return false;
    for (size_t i = 0; i < size && i < left; i++)
        flow->torn = flow->torn || (marks[i] & (FLOW_REACHED | FLOW_INSIDE));
    flow->torn = flow->torn || size > left;
    marks[0] |= FLOW_REACHED;
    for (size_t i = 1; i < size && i < left; i++)
        marks[i] |= FLOW_INSIDE;
    return !flow->torn;
}

static void flow_note_return(struct probe_flow *flow, uint64_t address)
{
    for (size_t i = 0; i < flow->n_returns; i++)
        if (flow->returns[i] == address)
            return;
    if (flow->n_returns == PROBE_MAX_RETURNS)
        flow->too_much = true;
    else
        flow->returns[flow->n_returns++] = address;
}

static void flow_note(struct probe_flow *flow, enum probe_flow_kind kind)
{
    uint64_t address;

    if (kind == PROBE_FLOW_RETURN)
        flow_note_return(flow, flow->insn->address);
    flow->computed = flow->computed || kind == PROBE_FLOW_COMPUTED;
    if (!probe_insn_lea(flow->insn, &address))
        return;
    if (flow->n_leas == PROBE_FLOW_MAX_LEAS)
        flow->too_much = true;
    else
        flow->leas[flow->n_leas++] = address;
}

static bool is_call(const struct cs_insn *insn)
{
    return insn->id == X86_INS_CALL;
}

/* From one place up to where the code goes on elsewhere, or was reached before. */
static int flow_follow(struct probe_flow *flow, struct probe_flow_due from)
{
    enum probe_flow_kind kind = PROBE_FLOW_NEXT;
    bool called = false;
    uint64_t target;
    int r = 0;

    while (r == 0 && (kind == PROBE_FLOW_NEXT || kind == PROBE_FLOW_BRANCH)) {
        const struct probe_flow_range *range = probe_flow_range(flow, from.address);
        if (!range) {
            flow->tail_calls += !called; /* behind a call that does not return may be anything */
            return 0;
        }
        if (!probe_flow_decode(flow, from.address)) {
            flow->torn = flow->torn || !called;
            return 0;
        }
        if (!flow_mark(flow, range, from.address, flow->insn->size))
            return 0;
        kind = probe_insn_flow(flow->insn, &target);
        flow_note(flow, kind);
        called = is_call(flow->insn);
        bool at_entry = at_entry_depth(&from.state);
        frame_state_step(&from.state, flow->insn);
        from.address += flow->insn->size;
        if (kind == PROBE_FLOW_COMPUTED || kind == PROBE_FLOW_LINKED)
            flow->tail_calls += at_entry || kind == PROBE_FLOW_LINKED;
        else if (kind == PROBE_FLOW_BRANCH || kind == PROBE_FLOW_JUMP)
            r = flow_to(flow, target, &from.state);
    }
    return r;
}

/* ---- what lies there */

/* Agrees where each instruction that is reached begins one that lies there. */
static bool sweep_agrees(const struct probe_flow_range *range)
{
    for (uint64_t i = 0; i < range->at.end - range->at.start; i++)
        if ((range->marks[i] & FLOW_REACHED) && !(range->marks[i] & FLOW_LIES))
            return false;
    return true;
}

static void flow_sweep(struct probe_flow *flow, struct probe_flow_range *range)
{
    uint64_t address = range->at.start, target;

    while (address < range->at.end && probe_flow_decode(flow, address)) {
        range->marks[address - range->at.start] |= FLOW_LIES;
        address += flow->insn->size;
    }
    range->swept = address == range->at.end && sweep_agrees(range);
    if (!range->swept)
        return;
    for (address = range->at.start; address < range->at.end && probe_flow_decode(flow, address); address += flow->insn->size)
        if (!(range->marks[address - range->at.start] & FLOW_REACHED))
            flow_note(flow, probe_insn_flow(flow->insn, &target));
}

int probe_flow_run(struct probe_flow *flow)
{
    struct frame_state state;
    int r;

    frame_state_at_entry(&state);
    size_t n_own = flow->n_ranges; /* those that are found are not known to have no other's code, */
    r = flow_push(flow, flow->ranges[0].at.start, &state);
    while (r == 0 && flow->n_due > 0 && !flow->torn)
        r = flow_follow(flow, flow->due[--flow->n_due]);
    n_own = flow->tails ? flow->n_ranges : n_own; /* which does not matter here: such places are passed by others anyway */
    for (size_t i = 0; r == 0 && i < n_own; i++)
        flow_sweep(flow, &flow->ranges[i]);
    return r;
}

bool probe_flow_is_insn(const struct probe_flow *flow, uint64_t address)
{
    const struct probe_flow_range *range = probe_flow_range(flow, address);
    if (!range || flow->torn)
        return false;
    uint8_t mark = range->marks[address - range->at.start];
    return (mark & FLOW_REACHED) || (range->swept && (mark & FLOW_LIES));
}
