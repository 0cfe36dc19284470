/* A proof by exhaustion. Jumps over wide distances are looked for at each byte, whether an instruction begins there or not: for so small a
 * window a false one is rare, and costs no more than a cheaper place. With narrow ones that would find too many, so instructions are decoded
 * there, and bytes taken one by one only where that fails. Left out is what no compiler makes: tables of one function that lead into another,
 * and code that catches exceptions at a function's beginning. */
#include "symbolize/probe_jumps.h"

#include <string.h>

#include "symbolize/elf_segments.h"
#include "symbolize/probe_flow.h"
#include "symbolize/probe_insn.h"

/* Further back nobody decodes to find out how instructions lie. */
#define MAX_LEAD_BYTES (1u << 16)
#define MAX_TABLE_ENTRIES 4096u

struct window {
    uint64_t first, n; /* addresses */
};

static bool window_has(const struct window *w, uint64_t address)
{
    return address - w->first < w->n;
}

/* ---- wide */

static bool is_wide_jump(const uint8_t *code, uint64_t at)
{
    uint8_t opcode = code[at], before = at > 0 ? code[at - 1] : 0;
    return opcode == 0xe8 || opcode == 0xe9 || (before == 0x0f && (opcode & 0xf0) == 0x80) || (before == 0xc7 && opcode == 0xf8);
}

/* The first one at or behind `at` in a segment's code, or n. */
static uint64_t find_wide_jump(const uint8_t *code, uint64_t n, uint64_t address, const struct window *w, uint64_t at)
{
    for (; n >= 5 && at <= n - 5; at++) {
        int32_t distance;
        memcpy(&distance, code + at + 1, sizeof(distance));
        if (window_has(w, address + at + 5 + (uint64_t)(int64_t)distance) && is_wide_jump(code, at))
            return at;
    }
    return n;
}

static bool any_wide_jump(const struct probe_code *code, const struct window *w)
{
    for (size_t i = 0; i < code->segments->n; i++) {
        const struct elf_segment *s = &code->segments->list[i];
        uint64_t n;
        const uint8_t *bytes = probe_code_at(code, s->address, &n);
        if (bytes && s->executable && find_wide_jump(bytes, n, s->address, w, 0) < n)
            return true;
    }
    return false;
}

uint32_t probe_jumps_count_ways_in(const struct probe_flow *flow)
{
    const struct probe_range *main = &flow->ranges[0].at;
    const struct window w = {main->start + 1, main->end - main->start - 1};
    uint32_t found = 0;

    for (size_t i = 0; i < flow->code->segments->n; i++) {
        const struct elf_segment *s = &flow->code->segments->list[i];
        uint64_t n, at = 0;
        const uint8_t *bytes = s->executable ? probe_code_at(flow->code, s->address, &n) : NULL;
        while (bytes && (at = find_wide_jump(bytes, n, s->address, &w, at)) < n)
            found += !probe_flow_range(flow, s->address + at++);
    }
    return found;
}

/* ---- narrow */

static bool is_narrow_jump(uint8_t opcode)
{
    return opcode == 0xeb || (opcode & 0xf0) == 0x70 || (opcode & 0xfc) == 0xe0;
}

static bool any_narrow_byte(const struct probe_code *code, uint64_t from, uint64_t to, const struct window *w)
{
    uint64_t n;
    for (uint64_t at = from; at < to; at++) {
        const uint8_t *bytes = probe_code_at(code, at, &n);
        if (bytes && n >= 2 && is_narrow_jump(bytes[0]) && window_has(w, at + 2 + (uint64_t)(int64_t)(int8_t)bytes[1]))
            return true;
    }
    return false;
}

/* Among the instructions that lie behind one another from `from` on; those before `near` can't reach the window. Where they come to a place
 * that is none, or do not end at `to`, byte by byte. */
static bool any_narrow_jump(struct probe_flow *flow, uint64_t from, uint64_t near, uint64_t to, bool ends_there, const struct window *w)
{
    uint64_t at = from, target;
    bool found = false;

    while (at < to && probe_flow_decode(flow, at)) {
        enum probe_flow_kind kind = probe_insn_flow(flow->insn, &target);
        found = found || (at >= near && (kind == PROBE_FLOW_BRANCH || kind == PROBE_FLOW_JUMP) && window_has(w, target));
        at += flow->insn->size;
    }
    if (at < to || (ends_there && at != to))
        return any_narrow_byte(flow->code, near, to, w);
    return found;
}

static uint64_t sooner(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static bool any_narrow_near(struct probe_flow *flow, const struct probe_function *f, const struct window *w)
{
    uint64_t start = f->main.start, end = flow->ranges[0].at.end, near = start > PROBE_NARROW_REACH ? start - PROBE_NARROW_REACH : 0;
    uint64_t far = w->first + w->n + PROBE_NARROW_REACH;
    bool lead_known = f->before < start && start - f->before <= MAX_LEAD_BYTES;

    uint64_t lead = lead_known ? f->before : start; /* byte by byte up to there */
    if (near < lead && any_narrow_byte(flow->code, near, lead, w))
        return true;
    if (lead < start && any_narrow_jump(flow, lead, near, start, true, w))
        return true;
    if (flow->ranges[0].swept ? any_narrow_jump(flow, start, start, sooner(end, far), false, w)
                              : any_narrow_byte(flow->code, start, sooner(end, far), w))
        return true;
    return end < far && any_narrow_jump(flow, end, end, far, false, w);
}

/* ---- tables */

static bool table_leads_into(const struct probe_code *code, uint64_t table, const struct window *w)
{
    for (size_t i = 0; i < code->segments->n; i++) {
        const struct elf_segment *s = &code->segments->list[i];
        uint64_t into = table - s->address;
        if (table < s->address || into >= s->file_bytes || s->offset > code->n_bytes || into >= code->n_bytes - s->offset)
            continue;
        uint64_t left = sooner(s->file_bytes - into, code->n_bytes - s->offset - into);
        for (uint64_t at = 0; at + 4 <= left && at < 4 * MAX_TABLE_ENTRIES; at += 4) {
            int32_t distance;
            memcpy(&distance, code->bytes + s->offset + into + at, sizeof(distance));
            if (window_has(w, table + (uint64_t)(int64_t)distance))
                return true;
        }
    }
    return false;
}

/* Pointers into the window, in whatever section: a table of addresses, or a relocation that makes one. */
static bool any_pointer(const struct probe_code *code, const struct window *w)
{
    for (uint64_t at = 0; code->n_bytes >= 8 && at <= code->n_bytes - 8; at += 8) {
        uint64_t word;
        memcpy(&word, code->bytes + at, sizeof(word));
        if (window_has(w, word))
            return true;
    }
    return false;
}

bool probe_jumps_lead_into(struct probe_flow *flow, const struct probe_function *f, uint64_t last)
{
    const struct window w = {f->main.start + 1, last - f->main.start};

    if (any_narrow_near(flow, f, &w) || any_wide_jump(flow->code, &w))
        return true;
    if (!flow->computed)
        return false;
    for (size_t i = 0; i < flow->n_leas; i++)
        if (table_leads_into(flow->code, flow->leas[i], &w))
            return true;
    return flow->too_much || any_pointer(flow->code, &w);
}
