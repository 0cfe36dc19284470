/* What the BPF programs and their reader share: the layout of maps and of the records in the rings.
 * Included by *.bpf.c and by user code: __u types only, no pointers, sizes asserted. */
#pragma once

#ifndef __bpf__
#include <linux/types.h>
#endif

#define CPROFD_MAX_SESSIONS 64
#define CPROFD_MAX_FRAMES 1024       /* user frames; deeper stacks are cut at the root end and marked */
#define CPROFD_MAX_KERNEL_FRAMES 127 /* the kernel's own limit (perf_event_max_stack) */
#define CPROFD_COMM_LEN 16
#define CPROFD_TIMERS_PER_CPU 3      /* timer events, see timers.h */

/* Why a walk ended. Everything but ROOT is shown as a frame "[truncated: REASON]" at the root end. */
enum stack_end {
    STACK_END_ROOT = 0,    /* proven bottom: by its CFI, or the entry point */
    STACK_END_UNPROVEN,    /* the frame-pointer chain ended in zero: a bottom, but nothing proves it */
    STACK_END_BAD_FP,      /* the next frame pointer does not lie above this one */
    STACK_END_UNREADABLE,  /* the stack slot could not be read (paged out, or not a stack) */
    STACK_END_TOO_DEEP,    /* more than CPROFD_MAX_FRAMES */
    STACK_END_NO_USER,     /* a kernel thread, or a task whose mm is gone */
    STACK_END_NO_CODE,     /* the return address lies in no executable mapping */
    STACK_END_NEW_CODE,    /* code that was mapped so recently that its table is not there yet */
    STACK_END_NO_CFI,      /* code without unwind information, and no guess holds */
    STACK_END_UNSUPPORTED, /* unwind information that the walker can't evaluate */
    STACK_END_BAD_CFA,     /* the rules lead to a frame that does not lie above this one: a stack switch, or wrong rules */
    STACK_END_NO_TIME,     /* a worker that unwinds copies had no time left for this one */
    STACK_END_RUNNING,     /* a thread that ran, and was not met where it was looked for */
    STACK_END_UNSEEN,      /* a wait that had begun before anybody looked at the thread */
    STACK_END_UNSAMPLED,   /* time on a CPU of a thread that no timer met */
    STACK_END_EARLIER,     /* the root; and the stack stands in place of the one that made the thread, which nobody saw */
    STACK_END_WOKEN,       /* no end: between the stack of who waits and that of who woke it */
    STACK_END_WOKEN_FROM_OUTSIDE, /* the same, where that was an interrupt, or another process */
    STACK_END_PAIR,        /* no stack: n_user 4, the hashes of one that waited and of one that woke it (all 0: from outside) */
    STACK_END_COUNT,
};

/* A user frame is an address, sign-extended from bit 56 (x86-64's vsyscall page is in the upper half), and above that how it was
 * found. */
#define STACK_FRAME(address, flags) (((address) & 0x01ffffffffffffffull) | (flags))
#define STACK_FRAME_ADDRESS(frame) ((__u64)((__s64)((frame) << 7) >> 7))
#define STACK_FRAME_EXACT (1ull << 57)   /* not a return address: the innermost frame, or what a signal interrupted */
#define STACK_FRAME_GUESSED (1ull << 58) /* the step from the frame before was a guess */
#define STACK_FRAME_FP (1ull << 59)      /* the step from the frame before was by frame pointer, without CFI */
/* In place of a frame: the stack of who woke the thread, from its root on, stands before; or nothing, where that was no thread of its process.
 * Addresses that no code has. */
#define STACK_FRAME_WOKEN STACK_FRAME(0x00fffffffffffff0ull, STACK_FRAME_EXACT)
#define STACK_FRAME_WOKEN_FROM_OUTSIDE STACK_FRAME(0x00fffffffffffff1ull, STACK_FRAME_EXACT)

/* What a thread did in the time that a sample stands for. */
enum sample_state {
    SAMPLE_STATE_NONE = 0, /* the kind has no states */
    SAMPLE_STATE_CPU,      /* ran */
    SAMPLE_STATE_RUNQ,     /* could have run, but no CPU was free */
    SAMPLE_STATE_LOCK,     /* waited for another thread: futexes, semaphores, file locks */
    SAMPLE_STATE_IO,       /* waited for a disk, a pipe, a socket, a terminal */
    SAMPLE_STATE_SLEEP,    /* waited for time to pass, or for any of several events */
    SAMPLE_STATE_OTHER,    /* waited for something else in the kernel, or was stopped */
    SAMPLE_STATE_COUNT,
};

/* One key of a session's counts: a stack in a thread. The hash stands for the frames: the session's ring
 * holds one stack_record with the same hash. Zeroed before use. */
struct sample_key {
    __u64 stack_hash[2]; /* 128 bits, seeded per session: a collision is out of reach by accident */
    __u32 tid;           /* in the daemon's PID namespace */
    __u32 tgid;
    __u32 epoch;         /* of the target's mappings: see struct session_event */
    __u32 state;         /* enum sample_state */
    char comm[CPROFD_COMM_LEN]; /* the thread's name at the sample; any bytes, NUL-padded */
};

struct sample_value {
    __u64 samples;
    __u64 weight; /* nanoseconds for timers, events for everything else */
};

/* Ring records begin with a type. */
enum record_type {
    RECORD_STACK = 1,  /* struct stack_record: the first time that a session sees a stack */
    RECORD_SAMPLE = 2, /* struct sample_record: a count that found no room in the table */
    RECORD_COPY = 3,   /* struct copy_record: a sample with a copy of its user stack */
    RECORD_TRACE = 4,  /* struct trace_record: an event of a trace */
};

/* The labels that a thread had given itself (include/cprofd/labels.h) are a part of its stack: the hash is over both. They are in so many words
 * behind the frames: for each set its length in bytes, and its entries, the last word filled up with zeros. */
enum label_state {
    LABELS_KNOWN = 0,
    LABELS_UNREADABLE, /* some of the thread's could not be read, or are none */
    LABELS_LATE,       /* not all files of the target had been read: it may have others */
    LABELS_NO_ROOM,    /* it has some, but the session has seen so many different ones that no more are told apart */
    LABELS_STATES,
};
/* What the public header has, which would define its variable here: tests/unit/test_labels.c compares them. */
#define LABELS_SET_BYTES 612    /* CPROFD_LABELS_MAX_BYTES */
#define LABELS_ENTRY_PAIR 255   /* CPROFD_LABEL_PAIR */
#define LABELS_ENTRY_LOST 254   /* CPROFD_LABEL_LOST */
#define LABELS_PLACES 4      /* variables of one process: in objects that do not share theirs */
#define LABELS_READ_BYTES 312 /* in one reading; two have all */
#define LABELS_SET_WORDS (1 + 2 * LABELS_READ_BYTES / 8)
#define LABELS_MAX_WORDS (LABELS_PLACES * LABELS_SET_WORDS)

struct stack_record {
    __u32 type;
    __u16 n_kernel; /* frames[0 .. n_kernel): kernel, leaf first */
    __u16 n_user;   /* frames[n_kernel .. n_kernel+n_user): user, leaf first, callers as return address; STACK_FRAME_* */
    __u32 end;      /* enum stack_end of the user part */
    __u16 label_words;
    __u16 label_state; /* enum label_state */
    __u64 stack_hash[2];
    __u64 frames[];
};

#define STACK_RECORD_BYTES(record) \
    (sizeof(struct stack_record) + ((__u64)(record)->n_kernel + (record)->n_user + (record)->label_words) * sizeof(__u64))

struct sample_record {
    __u32 type;
    __u32 pad;
    struct sample_key key;
    struct sample_value value;
};

enum trace_event {
    TRACE_OUT = 1, /* the thread leaves its CPU */
    TRACE_IN,      /* it is put on one */
    TRACE_WAKING,  /* it is woken by the actor */
    TRACE_NEW,     /* the actor has made it */
    TRACE_EVENT_COUNT,
};

/* The kernel did not tell of it when it happened, and its own accounts of the thread say when it did. */
#define TRACE_RECOVERED 1

struct trace_record {
    __u32 type;
    __u8 event;    /* enum trace_event */
    __u8 state;    /* OUT: enum sample_state: what it waits for, RUNQ: it could run on, NONE: it ends; else TRACE_RECOVERED, or 0 */
    __u16 cpu;     /* of the thread; WAKING, NEW: of the actor */
    __u64 time_ns; /* monotonic */
    __u32 tid;     /* as in sample_key */
    __u32 actor;   /* WAKING, NEW: a thread of the same process; 0: nobody of it */
    __u32 epoch;   /* as in sample_key */
    __s32 syscall; /* OUT: the system call that it is in; negative: none */
    __u64 stack_hash[2]; /* of the thread; WAKING, NEW: of the actor. 0: there is none */
    char comm[CPROFD_COMM_LEN]; /* the thread's name */
};

/* A user stack that is yet to be unwound: of a sample by itself, or a second copy of one whose stack was walked, to check the
 * walk. */
#define COPY_REGISTERS 33 /* by DWARF number; x86-64 has 17, aarch64 33 */
#define COPY_MAX_STACK_BYTES 65536

struct copy_record {
    __u32 type;
    __u16 n_kernel;          /* kernel frames, leaf first, behind this struct */
    __u16 machine;           /* ELF e_machine */
    __u32 stack_bytes;       /* behind the kernel frames, padded to 8 bytes */
    __u32 pad;
    __u64 time_ns;           /* monotonic */
    __u64 stack_base;        /* address of the first byte */
    __u64 known;             /* a bit for each register; 0: there is no user stack */
    __u64 registers[COPY_REGISTERS];
    struct sample_key key;   /* a check's: with the hash of the stack that was walked; else hashes are 0 */
    struct sample_value value; /* samples 0: a check, which was counted elsewhere */
    __u64 data[];
};

#define COPY_RECORD_BYTES(n_kernel, stack_bytes) \
    (sizeof(struct copy_record) + ((__u64)(n_kernel) + ((__u64)(stack_bytes) + 7) / 8) * 8)

#ifndef __bpf__
/* As it stands in labels and queries; "" for NONE, and for what is no state. */
static inline const char *sample_state_name(__u32 state)
{
    static const char *const names[SAMPLE_STATE_COUNT] = {"", "cpu", "runq", "lock", "io", "sleep", "other"};

    return state < SAMPLE_STATE_COUNT ? names[state] : "";
}

_Static_assert(sizeof(struct copy_record) == 368, "layout shared with BPF");
_Static_assert(sizeof(struct sample_key) == 48, "layout shared with BPF");
_Static_assert(sizeof(struct sample_value) == 16, "layout shared with BPF");
_Static_assert(sizeof(struct stack_record) == 32, "layout shared with BPF");
_Static_assert(sizeof(struct sample_record) == 72, "layout shared with BPF");
_Static_assert(sizeof(struct trace_record) == 64, "layout shared with BPF");
#endif
