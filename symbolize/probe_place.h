/* Where in a function uprobes go. What a hit costs depends on the probed instruction: some the kernel emulates (arch_uprobe_analyze_insn in
 * arch/x86/kernel/uprobes.c), all others it runs out of line, single-stepped, which costs 2 to 20 times as much. So the probe of a function's
 * entry goes to the first emulated instruction that is provably as good as the entry, and results are read at the function's own ret
 * instructions, never by a return probe, which kills programs that unwind through it. x86-64. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct elf_segments;

/* How far the shortest jumps lead, their own bytes included. */
#define PROBE_NARROW_REACH 130u
/* In one function. */
#define PROBE_MAX_RETURNS 256

enum probe_want {
    PROBE_ARGS,   /* one place that each call passes exactly once, with the argument registers that were asked for as they were at the entry */
    PROBE_RESULT, /* all places where a call ends, with the result in rax and the return address at *rsp */
    PROBE_ENDS,   /* the same, in functions of the file as well to which this one jumps as the last thing that it does: others pass these, too */
};

enum probe_cost { PROBE_EMULATED, PROBE_STEPPED };

/* Argument registers, as bits of `args`: rdi, rsi, rdx, rcx, r8, r9. */
#define PROBE_ALL_ARGS 0x3fu
/* Beside them: a call that faults before the place need not be seen, so memory may be read before it. Of functions whose faults end the
 * program, as of an allocator. */
#define PROBE_FAULTS_END 0x40u

/* Crosses from a worker as it is. */
struct probe_point {
    uint64_t file_offset;
    uint32_t into;  /* bytes behind the entry; of a part of the function that is not behind it: UINT32_MAX */
    uint16_t cost;  /* enum probe_cost */
    uint16_t at_entry; /* 1: the return address is at *rsp, and rbp is the caller's */
    char insn[16];  /* its name: "push", "je", "ret" */
};

struct probe_points {
    uint64_t entry;           /* file offset: for the symbol */
    struct probe_point *list; /* ARGS: one; RESULT: in no order */
    size_t n;
    uint32_t tail_calls;      /* RESULT, ENDS: ways out of the function by a jump: another one's ret ends such a call, and nobody sees its result */
    uint32_t ways_in;         /* RESULT, ENDS: jumps from elsewhere into the function's middle: what comes by them passes its rets as well */
};

void probe_points_deinit(struct probe_points *points);

/* What is known of an address outside of a function to which it jumps. */
enum probe_part {
    PROBE_PART_UNKNOWN,
    PROBE_PART_FUNCTION, /* it belongs to another one */
};

struct probe_range {
    uint64_t start, end;
};

/* A file's code. Addresses are those of its tables. */
struct probe_code {
    const uint8_t *bytes;
    uint64_t n_bytes;
    const struct elf_segments *segments;
    /* ret_end: of what is unknown, where the next function begins, if that is known. NULL: all is unknown. */
    enum probe_part (*part)(void *userdata, uint64_t address, uint64_t *ret_end);
    /* Of what a function jumps to in the end: its range, behind the PLT if need be. False: it is in another file, or nobody knows. NULL: so it is
     * always. */
    bool (*tail)(void *userdata, uint64_t address, struct probe_range *ret);
    void *userdata;
};

#define PROBE_MAX_PARTS 4
struct probe_function {
    struct probe_range main, parts[PROBE_MAX_PARTS]; /* parts: what was put elsewhere (NAME.cold) */
    size_t n_parts;
    uint64_t before;      /* where an instruction begins, PROBE_NARROW_REACH before it or a little more; its own start: not known */
    uint64_t other_entry; /* the first place behind its start where something else begins, too; UINT64_MAX: none */
};

/* args: PROBE_ARGS alone. *ret is the caller's to deinit. 0; -ERANGE: not code; -EILSEQ: its bytes can't be understood, and no place in it is
 * safe; -ENODATA: (PROBE_RESULT) it has no ret: it ends by jumps alone, or never; -E2BIG: too large, or too many of them; -ENOMEM. */
int probe_place_find(const struct probe_code *code, const struct probe_function *f, enum probe_want want, uint32_t args,
                     struct probe_points *ret);

/* The cost and the name of the instruction at an address, where there is one. */
void probe_place_describe(const struct probe_code *code, uint64_t address, struct probe_point *ret);

/* The one instruction `into` bytes behind the function's start, where one begins there: anywhere else a probe would break the program. 0;
 * probe_place_find's errors. */
int probe_place_at(const struct probe_code *code, const struct probe_function *f, uint64_t into, struct probe_points *ret);
