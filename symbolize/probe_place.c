/* Chooses. What a function does is probe_flow's, what leads into it probe_jumps'. */
#include "symbolize/probe_place.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "symbolize/elf_segments.h"
#include "symbolize/probe_flow.h"
#include "symbolize/probe_insn.h"
#include "symbolize/probe_jumps.h"
#include "util/cleanup.h"

/* Behind the entry nobody looks further. */
#define MAX_PROLOGUE_BYTES 128

void probe_points_deinit(struct probe_points *points)
{
    free(TAKE_PTR(points->list));
    points->n = 0;
}

/* The instruction at an address, as a place. False: none is there, or it is in no segment. */
static bool point_at(struct probe_flow *flow, uint64_t address, struct probe_point *ret)
{
    uint64_t start = flow->ranges[0].at.start, target;
    *ret = (struct probe_point){.into = address >= start && address - start < UINT32_MAX ? (uint32_t)(address - start) : UINT32_MAX};

    if (!elf_segments_offset(flow->code->segments, address, &ret->file_offset) || !probe_flow_decode(flow, address))
        return false;
    ret->cost = probe_insn_is_emulated(flow->insn->bytes, flow->insn->size) ? PROBE_EMULATED : PROBE_STEPPED;
    ret->at_entry = ret->into == 0 || probe_insn_flow(flow->insn, &target) == PROBE_FLOW_RETURN;
    (void)snprintf(ret->insn, sizeof(ret->insn), "%.15s", flow->insn->mnemonic);
    return true;
}

static int points_add(struct probe_points *points, const struct probe_point *point)
{
    struct probe_point *list = reallocarray(points->list, points->n + 1, sizeof(*list));
    if (!list)
        return -ENOMEM;
    points->list = list;
    list[points->n++] = *point;
    return 0;
}

/* ---- arguments */

/* The first emulated instruction of the straight way in; false: there is none before something that matters. */
static bool find_emulated(struct probe_flow *flow, const struct probe_function *f, uint32_t args, struct probe_point *ret)
{
    uint64_t at = f->main.start;
    bool moved = false;

    while (at < flow->ranges[0].at.end && at - f->main.start < MAX_PROLOGUE_BYTES && point_at(flow, at, ret)) {
        ret->at_entry = !moved;
        if (ret->cost == PROBE_EMULATED)
            return true;
        if (!probe_insn_is_plain(flow->insn, args))
            return false;
        moved = moved || probe_insn_moves_frame(flow->insn);
        at += flow->insn->size;
    }
    return false;
}

static int find_entry(struct probe_flow *flow, const struct probe_function *f, uint32_t args, struct probe_points *points)
{
    struct probe_point entry, better;

    if (!point_at(flow, f->main.start, &entry))
        return -EILSEQ;
    if (entry.cost == PROBE_EMULATED || flow->torn || !find_emulated(flow, f, args, &better)
        || f->main.start + better.into >= f->other_entry || probe_jumps_lead_into(flow, f, f->main.start + better.into))
        return points_add(points, &entry);
    return points_add(points, &better);
}

/* ---- results */

/* Where a jump's targets are not known, all places where it may lead to are. */
static bool is_all_known(const struct probe_flow *flow)
{
    bool swept = true;

    for (size_t i = 0; i < (flow->tails ? flow->n_ranges : 1); i++)
        swept = swept && flow->ranges[i].swept;
    return swept || !flow->computed;
}

static int find_returns(struct probe_flow *flow, struct probe_points *points)
{
    struct probe_point point;

    if (flow->torn || !is_all_known(flow))
        return -EILSEQ;
    if (flow->too_much)
        return -E2BIG;
    if (flow->n_returns == 0)
        return -ENODATA;
    points->tail_calls = flow->tail_calls;
    points->ways_in = probe_jumps_count_ways_in(flow);
    for (size_t i = 0; i < flow->n_returns; i++) {
        int r = point_at(flow, flow->returns[i], &point) ? points_add(points, &point) : -EILSEQ;
        if (r < 0)
            return r;
    }
    return 0;
}

void probe_place_describe(const struct probe_code *code, uint64_t address, struct probe_point *ret)
{
    CLEANUP(probe_flow_deinit) struct probe_flow flow = {0};
    struct probe_point point;

    if (probe_flow_init(&flow, code, &(struct probe_function){.main = {address, address + 1}}) == 0 && point_at(&flow, address, &point)) {
        ret->cost = point.cost;
        memcpy(ret->insn, point.insn, sizeof(ret->insn));
    }
}

int probe_place_find(const struct probe_code *code, const struct probe_function *f, enum probe_want want, uint32_t args,
                     struct probe_points *ret)
{
    CLEANUP(probe_flow_deinit) struct probe_flow flow = {0};
    CLEANUP(probe_points_deinit) struct probe_points points = {0};

    int r = probe_flow_init(&flow, code, f);
    flow.tails = want == PROBE_ENDS;
    if (r == 0)
        r = probe_flow_run(&flow);
    if (r == 0 && !elf_segments_offset(code->segments, f->main.start, &points.entry))
        r = -ERANGE;
    if (r == 0)
        r = want == PROBE_ARGS ? find_entry(&flow, f, args, &points) : find_returns(&flow, &points);
    if (r < 0)
        return r;
    *ret = points;
    points = (struct probe_points){0};
    return 0;
}

int probe_place_at(const struct probe_code *code, const struct probe_function *f, uint64_t into, struct probe_points *ret)
{
    CLEANUP(probe_flow_deinit) struct probe_flow flow = {0};
    CLEANUP(probe_points_deinit) struct probe_points points = {0};
    struct probe_point point;

    int r = probe_flow_init(&flow, code, f);
    if (r == 0)
        r = probe_flow_run(&flow);
    if (r == 0 && (!probe_flow_is_insn(&flow, f->main.start + into) || !point_at(&flow, f->main.start + into, &point)
                   || !elf_segments_offset(code->segments, f->main.start, &points.entry)))
        r = -EILSEQ;
    if (r == 0)
        r = points_add(&points, &point);
    if (r < 0)
        return r;
    *ret = points;
    points = (struct probe_points){0};
    return 0;
}
