/* All that a function does: its instructions as they are reached, and as they lie. */
#pragma once

#include <capstone/capstone.h>

#include "symbolize/probe_place.h"

/* Addresses from which jump tables may be read. */
#define PROBE_FLOW_MAX_LEAS 64
/* Parts of one function: itself, those that are known to be its own, and those that are found. */
#define PROBE_FLOW_MAX_RANGES 16
#define PROBE_FLOW_MAX_BYTES (1u << 20)

struct probe_flow_range {
    struct probe_range at;
    const uint8_t *code;
    uint8_t *marks; /* for each byte: PROBE_FLOW_* */
    bool swept;     /* all of it decodes, one instruction behind the other, and what is reached agrees */
};

struct probe_flow {
    const struct probe_code *code;
    csh decoder;
    cs_insn *insn;
    struct probe_flow_range ranges[PROBE_FLOW_MAX_RANGES];
    size_t n_ranges, n_bytes;
    struct probe_flow_due *due; /* branch targets that are still to be followed */
    size_t n_due, room_due;
    uint64_t leas[PROBE_FLOW_MAX_LEAS];
    size_t n_leas;
    uint64_t returns[PROBE_MAX_RETURNS];
    size_t n_returns;
    uint32_t tail_calls;
    bool tails;     /* what it jumps to in the end is followed as well; else such ways are counted */
    bool computed;  /* it has jumps that nobody knows the targets of */
    bool too_much;  /* of something: what stands here is not all */
    bool torn;      /* instructions overlap, or what is reached is none */
};

/* Bytes of an executable segment from address on; NULL: it is in none. */
const uint8_t *probe_code_at(const struct probe_code *code, uint64_t address, uint64_t *ret_n);

/* 0; -ERANGE: the function is not code, or empty; -E2BIG; -ENOMEM. To be deinit in any case. */
int probe_flow_init(struct probe_flow *flow, const struct probe_code *code, const struct probe_function *f);
/* Follows all of it. 0 or -ENOMEM. */
int probe_flow_run(struct probe_flow *flow);
void probe_flow_deinit(struct probe_flow *flow);

/* The range that holds an address, or NULL. */
const struct probe_flow_range *probe_flow_range(const struct probe_flow *flow, uint64_t address);
/* Decodes into flow->insn; false: no instruction of that segment. */
bool probe_flow_decode(struct probe_flow *flow, uint64_t address);
/* True where an instruction begins at the address, by each account. */
bool probe_flow_is_insn(const struct probe_flow *flow, uint64_t address);
