/* The order of an execution trace, as exec_trace_order.c makes it and the encoders read it, and what these share. Private to these. */
#pragma once

#include "pprof/exec_trace.h"
#include "pprof/table.h"
#include "pprof/vec.h"

#define EXEC_NONE UINT32_MAX

enum exec_step_type {
    STEP_NOTHING = 0, /* skipped */
    STEP_NEW,     /* absent -> runnable */
    STEP_UNBLOCK, /* waiting -> runnable */
    STEP_IN,      /* runnable -> running on cpu, which runs nothing */
    STEP_OUT,     /* running on cpu -> state */
    STEP_GONE,    /* runnable or waiting, as state says -> absent: its end was not seen */
    STEP_SAMPLE,  /* no change */
};

struct exec_step {
    uint64_t time_ns;
    uint32_t thread; /* index */
    uint32_t actor;  /* index of a thread that runs (at an early wake: ran), or EXEC_NONE */
    uint32_t stack;
    uint16_t cpu;
    uint16_t call;
    uint8_t type;
    uint8_t state;
    bool invented;
};

struct exec_thread {
    uint32_t tid;
    uint32_t turn;      /* counts the threads that had this tid before */
    uint32_t first;     /* the index of the first that had it */
    const char *name;   /* NULL: unknown */
    uint8_t state;      /* at the window's start */
    uint16_t cpu;       /* RUNNING: where */
    uint32_t stack;     /* then */
    uint32_t root_frame; /* its own function, or EXEC_NONE */
};

struct exec_order {
    const struct exec_trace *trace;
    VEC(struct exec_thread) threads;
    VEC(struct exec_step) steps; /* by time */
    uint32_t n_cpus;             /* 1 + the highest that was seen */
    struct exec_counts counts;
};

/* ---- exec_trace_stacks.c */

/* Go's own limit, and enough for people. */
#define EXEC_MAX_SHOWN_FRAMES 128

/* A stack as it is shown: without the frames that start threads, and at most EXEC_MAX_SHOWN_FRAMES: what does not fit is left out
 * before the root. */
struct exec_shown {
    const uint32_t *head; /* references to frames, leaf first */
    size_t n_head;
    size_t n_left_out;
    const uint32_t *tail; /* after what was left out */
    size_t n_tail;
};

struct exec_shown exec_stack_shown(const struct exec_trace *trace, uint32_t stack);
/* The frame that a whole stack's thread began with, or EXEC_NONE: the stack is not whole, or has nothing of the thread's own. */
uint32_t exec_stack_root(const struct exec_trace *trace, uint32_t stack);

/* ---- exec_trace_words.c */

#define EXEC_WORDS_BYTES 96

/* Why a thread left the CPU, in words that Go's viewer sorts into its profiles by: "sync" for locks, "network" for sockets and
 * readiness, neither for all else. */
void exec_reason(const struct exec_trace *trace, uint8_t state, uint16_t call, char ret[EXEC_WORDS_BYTES]);
/* The same for viewers that sort nothing: "lock (futex)". */
void exec_state_words(const struct exec_trace *trace, uint8_t state, uint16_t call, char ret[EXEC_WORDS_BYTES]);

/* ---- bytes */

struct exec_bytes {
    uint8_t *items;
    size_t n, cap;
    bool failed; /* memory was short: what is there is not whole */
};

#define EXEC_MAX_BODY_BYTES ((size_t)INT32_MAX)

void bytes_put(struct exec_bytes *b, const void *data, size_t len);
void bytes_put_byte(struct exec_bytes *b, uint8_t byte);
void bytes_put_uvarint(struct exec_bytes *b, uint64_t value);
void bytes_put_text(struct exec_bytes *b, const char *text);
void bytes_printf(struct exec_bytes *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void bytes_deinit(struct exec_bytes *b);
/* Hands the bytes over. 0, -ENOMEM or -EFBIG. */
int bytes_finish(struct exec_bytes *b, uint8_t **ret_data, size_t *ret_len);
