/* Unwinds a stack from a copy of its bytes and of the registers, by the CFI of the files themselves (libdw): the way to
 * stacks where no BPF program can walk them, and what checks those that it walked. It shares nothing with the unwinding
 * tables but the files that both are made from.
 *
 * Runs in a sandboxed worker: files come as modules of the symbolizer, through a callback. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct module;

/* Registers go by their DWARF numbers. x86-64: 0 to 15, and 16 the program counter. aarch64: x0 to x30, 31 the stack
 * pointer, and 32 the program counter. */
#define COPY_MAX_REGISTERS 33

struct copy_stack {
    uint16_t machine; /* EM_X86_64, EM_AARCH64 */
    uint64_t registers[COPY_MAX_REGISTERS];
    uint64_t known;   /* a bit for each register whose value is the thread's; pc and sp must be among them */
    uint64_t base;    /* address of the first byte */
    const uint8_t *bytes;
    size_t len;
};

enum copy_end {
    COPY_END_ROOT,        /* the return address is undefined by CFI, or the frame is the program's entry point */
    COPY_END_ZERO,        /* the return address is zero: a bottom, but nothing proves it */
    COPY_END_UNREADABLE,  /* the copy has no such address: it is too short, or the stack goes on elsewhere */
    COPY_END_TOO_DEEP,    /* no room for more frames */
    COPY_END_NO_CODE,     /* no executable mapping covers the return address */
    COPY_END_NO_CFI,      /* no unwind information, and no guess holds */
    COPY_END_UNSUPPORTED, /* malformed unwind information, or what this does not evaluate, or a lost register */
    COPY_END_BAD_CFA,     /* the caller's frame does not lie above this one */
    COPY_END_NO_TIME,     /* the deadline has passed */
};

struct copy_frame {
    uint64_t pc;
    bool exact;   /* not a return address: the innermost frame, a signal's trampoline, or what the signal interrupted */
    bool fp;      /* the step from the frame before was by frame pointer, in code that has no CFI at all */
    bool guessed; /* the step from the frame before was a guess */
};

enum copy_code_kind {
    COPY_CODE_NONE, /* nothing executable is mapped there */
    COPY_CODE_MADE, /* code made at run time: frame pointers are all that there may be */
    COPY_CODE_FILE,
};

struct copy_code {
    enum copy_code_kind kind;
    struct module *module; /* FILE: NULL where the file could not be had */
    uint64_t file_offset;  /* FILE: of the address */
};

struct copy_ops {
    /* What is mapped at an address. */
    void (*code)(void *userdata, uint64_t address, struct copy_code *ret);
};

/* Leaf first. The first frame is always there (room is at least 1). deadline_ns: CLOCK_MONOTONIC. Returns how the walk
 * ended. */
enum copy_end copy_unwind(const struct copy_stack *stack, const struct copy_ops *ops, void *userdata, uint64_t deadline_ns,
                          struct copy_frame *frames, size_t room, size_t *ret_n);
