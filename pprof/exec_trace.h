/* The execution trace of a process: what its threads did, switch by switch, in the formats of viewers. Pure functions from events
 * and symbolized stacks to bytes.
 *
 * What is recorded on several CPUs can lack events, or have them in an order that no scheduler could have run. Readers refuse
 * such traces (Go's rejects the first goroutine that starts twice), so exec_order_build makes one story of them: each thread is in one
 * state at a time, each CPU runs one thread at a time. What it had to invent or drop for that is counted. The encoders take its
 * result, and nothing else.
 *
 * Sources: go/src/internal/trace/order.go and tracev2/events.go (Go 1.23 and later), perfetto's protos/perfetto/trace, and the
 * Trace Event Format document of Chromium. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum exec_event_type {
    EXEC_OUT = 1, /* tid leaves the CPU, for a reason that state and call tell */
    EXEC_IN,      /* tid begins to run on the CPU */
    EXEC_WAKING,  /* tid is made runnable by actor */
    EXEC_NEW,     /* tid begins, made by actor */
    EXEC_SAMPLE,  /* tid runs on the CPU: what a timer saw */
    EXEC_STATUS,  /* tid exists, and is in state: what somebody saw who looked */
};

enum exec_state {
    EXEC_ABSENT = 0, /* not there yet, or not any more */
    EXEC_RUNNING,
    EXEC_RUNNABLE,
    EXEC_LOCK, /* waits: for a lock, */
    EXEC_IO,   /* for a device, */
    EXEC_SLEEP, /* for a time, */
    EXEC_OTHER, /* for something else */
    EXEC_STATE_COUNT,
};

static inline bool exec_state_waits(uint8_t state) { return state >= EXEC_LOCK && state < EXEC_STATE_COUNT; }

#define EXEC_NO_STACK 0
#define EXEC_NO_CALL 0
#define EXEC_MAX_CPUS 8192
#define EXEC_ANY_CPU UINT16_MAX /* STATUS: not known */

struct exec_event {
    uint64_t time_ns; /* monotonic */
    uint32_t tid;     /* never 0 */
    uint32_t actor;   /* WAKING, NEW: the thread of this process that did it; 0: none that is known */
    uint32_t stack;   /* of tid, of actor for WAKING and NEW; EXEC_NO_STACK, or 1 + the index in stacks */
    uint16_t cpu;     /* of tid, of actor for WAKING and NEW */
    uint16_t call;    /* OUT: 1 + the number of the system call that it is in, or EXEC_NO_CALL */
    uint8_t type;     /* enum exec_event_type */
    uint8_t state;    /* enum exec_state; OUT: ABSENT for a thread that ended */
};

struct exec_frame {
    const char *function; /* never NULL */
    const char *file;     /* "" where unknown */
    uint64_t address;
    uint32_t line;        /* 0: unknown */
    bool starts_threads;  /* libc's or the loader's, before a thread's own function: not shown at a stack's root */
};

/* What the thread had said of what it did (include/cprofd/labels.h). */
struct exec_label {
    const char *key, *value; /* no key twice in a stack */
};

/* frames[refs[first .. first + n)], leaf first, inlined functions as frames of their own. */
struct exec_stack {
    uint32_t first, n;
    uint32_t first_label, n_labels;
    bool rooted; /* its last frame is where the thread began */
};

struct exec_name {
    uint32_t tid;
    const char *name; /* any bytes */
};

struct exec_note {
    const char *key, *value;
};

struct exec_trace {
    const struct exec_event *events; /* in any order */
    size_t n_events;
    const struct exec_frame *frames;
    size_t n_frames;
    const uint32_t *refs;
    size_t n_refs;
    const struct exec_stack *stacks;
    size_t n_stacks;
    const struct exec_label *labels;
    size_t n_labels;
    const struct exec_name *names; /* of one tid's, the last counts */
    size_t n_names;
    const struct exec_note *notes; /* what the trace says of itself */
    size_t n_notes;
    uint64_t start_ns, end_ns; /* the window, monotonic: events outside are left out */
    uint32_t pid;
    const char *process; /* its name, any bytes */
    const char *(*call_name)(uint32_t number); /* NULL where unknown */
};

/* What building an order took. */
struct exec_counts {
    uint64_t events;   /* in the window: switches, wakes and beginnings */
    uint64_t invented; /* made up, for what must have been lost */
    uint64_t dropped;  /* left out, since nothing fits them */
    uint64_t moved;    /* wakes that were recorded while the thread was still on its way off the CPU */
};

struct exec_order;

/* 0, -ENOMEM, -EINVAL (an index out of bounds, a tid 0, a CPU beyond EXEC_MAX_CPUS, an unknown type or state). trace must outlive
 * the order. */
int exec_order_build(const struct exec_trace *trace, struct exec_order **ret);
void exec_order_free(struct exec_order *order);
struct exec_counts exec_order_counts(const struct exec_order *order);

/* Finished bodies; *ret_data is the caller's to free. 0, -ENOMEM, or -EFBIG (above 2 GiB). */
int exec_encode_go(const struct exec_order *order, uint8_t **ret_data, size_t *ret_len);
int exec_encode_perfetto(const struct exec_order *order, uint8_t **ret_data, size_t *ret_len);
int exec_encode_chrome(const struct exec_order *order, uint8_t **ret_data, size_t *ret_len);
