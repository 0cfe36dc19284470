/* Single x86-64 instructions, as a uprobe on them or behind them sees them. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cs_insn;

/* True where each kernel since 5.15 emulates the instruction: push of a register, nop, jumps. Relative calls are emulated too, but in a
 * program with a shadow stack most kernels forget to push onto that, which kills it; and nops of several bytes before 6.17 are not. */
bool probe_insn_is_emulated(const uint8_t *bytes, size_t n);
/* True where the kernel refuses a probe for the instruction's prefixes. */
bool probe_insn_is_refused(const uint8_t *bytes, size_t n);

/* True where the instruction does nothing but go on to the next one: it reads and writes no memory but the stack's and what rip or fs leads
 * to, and changes no argument register of `args` (PROBE_ALL_ARGS; with PROBE_FAULTS_END it may read other memory). insn: with details. */
bool probe_insn_is_plain(const struct cs_insn *insn, uint32_t args);

/* True where it may change rsp or rbp. */
bool probe_insn_moves_frame(const struct cs_insn *insn);

/* Where it goes. */
enum probe_flow_kind {
    PROBE_FLOW_NEXT,     /* on, calls included */
    PROBE_FLOW_BRANCH,   /* to the target, or on */
    PROBE_FLOW_JUMP,     /* to the target */
    PROBE_FLOW_COMPUTED, /* nobody knows */
    PROBE_FLOW_LINKED,   /* to another function, through a pointer of the linker's */
    PROBE_FLOW_RETURN,
    PROBE_FLOW_END,      /* nowhere */
};
enum probe_flow_kind probe_insn_flow(const struct cs_insn *insn, uint64_t *ret_target);
/* The address that an instruction relative to rip makes (lea). */
bool probe_insn_lea(const struct cs_insn *insn, uint64_t *ret_address);
