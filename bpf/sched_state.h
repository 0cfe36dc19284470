/* What the scheduler's programs know of a thread of a target, by its task. Shared with the loop's side, which reads it once a window has ended:
 * waits that were under way then are in no count yet. */
#pragma once

#include "bpf/lock_waits.h"
#include "bpf/stack_walk.h"

/* Threads of all targets together; and their map is there while a session needs it. */
#define SCHED_MAX_THREADS 32768
/* Stacks are walked with a run queue locked: deeper ones are cut. */
#define SCHED_MAX_FRAMES 128
/* System calls by number; higher ones are of class OTHER. */
#define SCHED_SYSCALLS 512
/* A look at this table comes first, so that switches between other processes cost little. */
#define SCHED_FILTER_ENTRIES 65536

/* The slots whose sessions want the scheduler's events of a target. */
struct sched_wishes {
    __u64 all;     /* 0: it is nobody's */
    __u64 tracing; /* each event by itself */
    __u64 waking;  /* who wakes, too: these, and those */
    __u32 tgid;
    __u32 next;    /* 1 + index of another one whose number ends so; 0: none */
    __u32 slot;    /* the first of all; mostly the only one */
    __u32 pad;
};

/* But for kept, written by the loop. A program may be reading what is changed: it then has what a target's sessions wanted a moment ago,
 * or those of another one, which take no events that are not theirs. */
struct sched_filter_table {
    __u8 targets[SCHED_FILTER_ENTRIES]; /* by the end of its number: 1 + index of the first */
    struct sched_wishes wishes[CPROFD_MAX_SESSIONS];
    __u64 locks_since_ns[LOCK_GENERATIONS];
    __u64 kept; /* dead threads that stayed in the map of threads, since the loop looked last */
};

/* How stacks may be walked: each a stack of its own. */
#define SCHED_WALK_KERNEL 1 /* with the kernel's frames */
#define SCHED_WALK_FP 2     /* by frame pointers alone */
#define SCHED_WALKS 4
#define SCHED_PAIR SCHED_WALKS /* in place of a way: with who woke the thread */

enum thread_place {
    THREAD_NEW = 0,    /* nothing is known of it */
    THREAD_UNSEEN,     /* off the CPU, since before it was first seen */
    THREAD_RUNNING,
    THREAD_QUEUED,     /* it could run: it was preempted, or has just begun */
    THREAD_WAITING,
    THREAD_DEAD,       /* since out_ns; kept for those whose window has just ended */
};

/* A thread waits, is preempted and wakes others in few places, again and again: of so many the stacks are remembered. */
#define SCHED_KNOWN_STACKS 2

/* Where the return addresses of a kernel stack are, in words from where the program's context is; see sched_kernel.h. */
#define KERNEL_NOTES 64

struct kernel_notes {
    __u64 check;             /* over the words there, and the last one below the user's registers */
    __u32 n;                 /* 0: not known */
    __u32 pad;
    __u16 at[KERNEL_NOTES];
};

struct thread_stack {
    __u64 met_ns;  /* last; 0: there is none */
    __u64 seed;    /* the hash without any frames: its first session's; */
    __u64 begun;   /* and with the kernel's */
    __u64 labels;  /* labels_stamp: behind it are those that the thread had then */
    __u64 hash[2]; /* of all */
    __u64 given;   /* slots whose sessions have it */
    __u32 space, version, by_fp, way;
    struct stack_notes notes;
    struct kernel_notes kernel;
};

/* What one session has counted of a thread and has yet to get: a look into its table at each switch costs more than all else that counting does.
 * It gets them where they make way for others, where the thread ends or changes its name, and from the loop once its window has ended. */
struct thread_sum {
    __u64 hash[2];
    __u32 epoch;
    __u32 state;
    struct sample_value wait;   /* in that state, */
    struct sample_value queued; /* and in the run queue behind it */
};

struct thread_sums {
    __u32 generation; /* the session's; 0: nobody's */
    __u32 slot;
    __u64 run_ns;
    __u32 last;       /* of waits: that which was added to last */
    __u32 pad;
    struct thread_sum waits[SCHED_KNOWN_STACKS];
};

struct thread_state {
    __u64 born_ns;  /* monotonic */
    __u64 in_ns;    /* when it was put on its CPU last; 0: before it was first seen */
    __u64 out_ns;   /* when it left it last; 0: the same */
    __u64 exec_ns;  /* its time on CPUs so far, by the kernel's account, at the last of these two */
    __u64 waits, preempted; /* how often it has left its CPU to wait, and for others, then, by the same */
    __u64 wake_ns;  /* when it was woken last. Before out_ns: while it was about to leave */
    __u64 given;    /* slots whose sessions have the stack that it left its CPU with */
    __u64 settled;  /* slots whose windows have ended, and that have all of it */
    __u64 buried;   /* slots whose sessions have counted its death */
    __u32 generation; /* the newest session that has looked at it: given, settled and buried hold for those of older ones */
    __u32 tgid;
    __u32 tid;      /* both in the daemon's PID namespace */
    __u32 place;    /* enum thread_place */
    __u32 woken_by; /* 1: a thread of its process, with waker_hash; 0: somebody else */
    __u32 woken_pad;
    __u64 waker_given; /* slots whose sessions have the stack that it was woken with */
    __u64 waker_hash[SCHED_WALKS][2];
    __u32 state;    /* enum sample_state: why it left its CPU last */
    __s32 syscall;  /* the system call that it was in then; negative: none */
    char comm[CPROFD_COMM_LEN];
    __u64 locks;           /* slots whose sessions looked at locks when it left its CPU last; */
    struct lock_wait lock; /* then this is valid */
    __u64 run_delay_ns; /* the kernel's count of its time without a CPU, when it left it last */
    __u64 clock_ns;     /* traces: what the scheduler's clock was behind ours when it was put on it */
    __u64 stack_hash[SCHED_WALKS + 1][2]; /* by which stack */
    struct thread_sums sums;
    struct thread_stack known[SCHED_KNOWN_STACKS];
};
