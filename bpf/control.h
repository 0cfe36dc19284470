/* What the loop and the BPF programs tell each other about sessions. The array of session_ctl is mapped into
 * the loop, so opening and closing a window is one store; the counters are read the same way.
 * Included by *.bpf.c and by user code. */
#pragma once

#include "bpf/cost.h"
#include "bpf/sample.h"

enum session_state {
    SESSION_FREE = 0,
    SESSION_ARMED,  /* events tick, nothing counts: the phases of the timers are being made random */
    SESSION_OPEN,   /* the window */
    SESSION_CLOSED, /* its end, or the target's */
};

/* How an event's cookie names its session: by instance too, so that an event that outlives its session (its attacher was
 * killed and hangs in the kernel) counts for none. */
#define COOKIE(slot, timer, instance) ((__u64)(slot) | (__u64)(timer) << 8 | (__u64)(instance) << 32)
#define COOKIE_SLOT(cookie) ((cookie) & 0xff)
#define COOKIE_TIMER(cookie) (((cookie) >> 8) & 0xff)
#define COOKIE_INSTANCE(cookie) ((cookie) >> 32)

/* Where a timer's struct timer_phase is in its map. */
#define TIMER_PHASE(slot, n_cpus, cpu, timer) (((slot) * (n_cpus) + (cpu)) * CPROFD_TIMERS_PER_CPU + (timer))

#define UNWIND_SPACE(place, exec_epoch) ((__u64)(place) | (__u64)(exec_epoch) << 32)

/* How user stacks are walked. */
enum unwind_mode {
    UNWIND_BY_TABLES = 0,
    UNWIND_BY_FRAME_POINTERS,
};

/* What a session wants of the scheduler's events. */
enum sched_kind {
    SCHED_NONE = 0, /* nothing: it has events of its own alone */
    SCHED_WALL,     /* all of the threads' time, running or not */
    SCHED_OFFCPU,   /* that off the CPU */
    SCHED_BLOCK,    /* waits for locks, by who waits */
    SCHED_MUTEX,    /* the same, by who holds them */
    SCHED_TRACE,    /* each event */
    SCHED_CREATE,   /* new threads */
};

/* What a session's probes in a Go program are for (bpf/go_waits.h). */
enum go_waits_kind { GO_WAITS_NONE = 0, GO_WAITS_BLOCK, GO_WAITS_MUTEX };

/* Copied in one window, at most. */
#define AUDIT_MAX_SAMPLES 256

#define GROWTH_UNKNOWN (~0ull)

/* Where threads of a target have their labels, one word each: how far from the thread pointer, or the address of the word that says so, which a
 * shared object's loader has written. 0: there is none. */
#define LABELS_PLACE_OFFSET (1ull << 62) /* | the offset's lower half */
#define LABELS_PLACE_SLOT (1ull << 63)   /* | the address */
/* Different stacks with labels that a session tells apart. */
#define LABELS_MAX_STACKS 65536
#define LABELS_MAX_STANDING 8192 /* of one that goes on for as long as it is let */

struct session_labels {
    __u64 places[LABELS_PLACES]; /* the loop's; the first is 0 where there are none. Any time */
    __u32 exec_epoch;            /* that they are of */
    __u32 stacks;                /* BPF's: with labels that were handed over */
    __u32 known_epoch;           /* the loop's: 1 + the epoch in which it knew all places; 0: it never did. Any time */
    __u32 pad;
};

/* A target's anonymous memory and swap, bytes. Each of the first two is GROWTH_UNKNOWN until it is known: by the loop, which looks as the window
 * opens, or by an event before that. */
struct session_growth {
    __u64 anon;          /* now */
    __u64 swap;
    __u32 mm_id;         /* what the tracepoint calls the address space; 0: not known yet */
    __u32 batched;       /* 1: this kernel counts pages of a thread apart, and adds them up now and then */
    __u64 process;       /* the target's struct signal_struct *; 0: not known yet */
    __u64 added;         /* by the target's own threads: what the samples show, before any is left out; */
    __u64 freed;         /* and given back by them */
    __u64 others_added;  /* for the target, by others: the kernel's threads, processes that share its memory, debuggers; */
    __u64 others_freed;
    __u64 swap_left;     /* less of it is swapped out: it came back, or was given up */
    __u64 exec_bytes;    /* what was there of a new image when it was first seen */
};

/* A window's edge that programs compare with their clocks is told in advance: one that has read its clock and not yet looked for an edge would
 * count past one that has been by then. */
#define SESSION_EDGE_NOTICE_NS 20000

struct session_ctl {
    /* written by the loop before the session is armed */
    __u32 state;
    __u32 instance; /* counts the sessions of this slot: marks per-CPU state of an earlier one as stale */
    __u32 tgid;     /* the target, in the daemon's PID namespace */
    __u32 kernel;   /* 1: kernel frames as well */
    __u64 weight;   /* what one sample stands for: ns for timers, events otherwise */
    __u32 thin;     /* only one sample in so many is taken, and stands for all of them: the session costs too much. Any time */
    __u32 at_entry; /* 1: samples are taken at a function's first instruction */
    __u32 new_threads; /* 1: of tracepoint task:task_newtask new threads alone count, not new processes */
    __u32 paused;   /* probes: 1: their hits do not count, since they are being attached or detached. The attacher's, any time */
    __u64 every;    /* probes and tracepoints: one hit in so many */
    __u32 unwind;   /* enum unwind_mode */
    __u32 standing; /* 1: it goes on for as long as it is let: threads are not told apart, and a stack that finds no room is lost */
    __u64 audit_gap_ns; /* a sample in each is copied as well as walked; 0: none */
    __u64 seed[2];
    __u64 opened_ns;  /* monotonic */
    __u32 sched_kind; /* enum sched_kind */
    __u32 generation; /* SCHED_*: counts such sessions, by when programs began to look at them (sched_add). What is noted of a thread for one of
                       * its slot before is void */
    __u32 waker;      /* SCHED_OFFCPU: 1: waits have the stack of who ended them, too */
    __u32 waker_pad;
    __u64 until_ns;   /* SCHED_*: monotonic: the window's end, once the loop has closed it; else 0 */
    __u64 rate;       /* SCHED_BLOCK: waits that are shorter are sampled, so that one stands for so many ns; 0: none count */
    __u64 fraction;   /* SCHED_MUTEX: one release in so many counts, for all; 0: none */
    __u64 lock_generation; /* SCHED_BLOCK, SCHED_MUTEX: the same for those of one target; what is noted of locks for others is void */
    __u32 go_kind;    /* enum go_waits_kind */
    __u32 pad_go;
    __u64 go_reasons; /* GO_WAITS_*: a bit for each thing that goroutines wait for and that counts, by Go's own number, */
    __u64 go_sema_reasons; /* and of those that are semaphores: of them it depends on what semacquire1 said */
    __u32 heap;       /* 1: its probes are on an allocator (bpf/heap.h), and rate is in bytes */
    __u32 heap_index; /* which of a thread's places is the session's: below HEAP_MAX_SESSIONS, and no other session's of the same target */
    __u32 allocs_alone; /* heap: 1: no free is probed, so nothing is followed: what is allocated counts alone */
    __u32 slice;      /* probes: counts how often they were attached. The attacher's, any time. What was noted of a thread in one before is void */
    __u32 grows;      /* 1: of tracepoint kmem:rss_stat what is added to the target's anonymous memory counts */
    __u32 pad_grows;
    __u64 space;      /* UNWIND_SPACE(place of the target's mappings, exec epoch that they are of); 0: none. Any time */
    __u64 listed_vm;  /* exec_vm (below) before the newest list of them was read, for as long as no event has come; 0: not known */
    struct session_labels labels;

    /* written by BPF */
    __u64 closed_ns;     /* monotonic, when the target's end closed the window (SCHED_*: closes, a moment later); else 0 */
    __u64 mm;            /* the target's address space: a change is an exec */
    __u64 exec_vm;       /* its executable pages: a change is a dlopen, a dlclose or new JIT code */
    __u32 epoch;
    __u32 exec_epoch;    /* of the newest exec; 0: none. What notices tell of it may be lost, this is not */
    __u32 pending_exec;  /* of the oldest exec that the loop has not taken (it then stores 0) */
    __u32 exec_unseen;   /* 1: what is pending is no exec that was seen, but records were lost, and one may have been among them */
    __u64 samples;
    __u64 hits;          /* probes and tracepoints: events of the target in the window, */
    __u64 armed_hits;    /* and before it; */
    __u64 paused_hits;   /* probes: in the window, and they did not count */
    __u64 stepped_hits;  /* heap: of instructions that the kernel single-steps, in the window, */
    __u64 armed_stepped; /* and before it */
    __u64 late_weight;   /* ticks and overflows that the kernel refused or delayed, and that may have been the target's: not counted, but
                          * for overflows that were its own for certain, which are made up for */
    __u64 overhead_ns;   /* spent in the programs on behalf of the target's samples */
    __u64 lost_ring;     /* samples: neither table nor ring had room */
    __u64 lost_nested;   /* samples: too many programs interrupted one another on a CPU */
    __u32 costs[COST_BUCKETS]; /* samples by the time that they took */
    __u64 lost_table;    /* samples of a standing session: the table had no room for their stack */
    __u64 table_full;    /* samples that went to the ring because the table had no room (not lost) */
    __u64 audit_next_ns; /* when the next sample is copied */
    __u32 audits;        /* samples that were to be copied */
    __u32 audits_lost;   /* and for which the ring had no room */
    __u64 lost_threads;  /* SCHED_*: switches of threads that found no room in their map */
    __u64 lost_switches; /* that nobody told us of, but what came before and after does not fit without */
    __u64 lifetimes_ns;  /* SCHED_WALL: of threads that ended in the window, within it */
    __u64 deaths;
    __u64 births;        /* threads that began in the window */
    __u64 lost_locks;       /* SCHED_BLOCK, SCHED_MUTEX: waits whose lock found no room: they are in no release */
    __u64 abandoned_ns;     /* SCHED_MUTEX: waits that ended by no release, in holds that nobody else waited for */
    __u64 foreign_releases; /* releases by other processes */
    __u64 lost_live;        /* heap: objects that found no room among those that live; */
    __u64 lost_frees;       /* frees that found none in the counts; */
    __u64 replaced;         /* and live objects in whose place another one was allocated: a free that was not seen */
                            /* custom: lost_live: values that found no room; replaced: live ones that were added again */
    __u64 live_values;      /* custom: that there are; */
    __u64 cut_weights;      /* those that were above CUSTOM_MAX_WEIGHT, where nothing removes, and count as that; */
    __u64 unknown_removes;  /* removes of values that were not live; */
    __u64 failed_adds;      /* results that are no values; */
    __u64 lost_calls;       /* and calls whose weight was not known where they ended */
    __u64 began_before;     /* waits that began before the window, and are left out */
    __u64 full_ns;          /* SCHED_TRACE: monotonic: when an event or its stack first found no room: nothing is told from then on; else 0.
                             * The loop writes it, too, where its own room ends */
    struct session_growth growth;
};

/* What a timer does on one CPU since its interval began: written by the attacher, which knows. */
struct timer_phase {
    __u32 sequence; /* odd while it is being changed */
    __u32 pad;
    __u64 earliest_ns; /* the first tick is due between these: monotonic */
    __u64 latest_ns;
    __u64 interval_ns;
    __u64 last_due_ns; /* when the tick before this interval was due */
    __u64 seed;        /* where its sampling points lie: the timer's, on all CPUs the same */
    __u64 place_ns;    /* and the phase's: see bpf/tick.h */
};

/* A process that some session profiles, by tgid. */
struct target_state {
    /* Exact run time of a process that ended: what threads that had gone before the first watched exit used, plus every exit
     * since. See sampler.bpf.c. */
    __u64 reaped_runtime_ns;
    __u64 exited_runtime_ns;
    __u64 exits;
};

enum notice_type { NOTICE_EPOCH = 1, NOTICE_EXEC, NOTICE_EXIT };

/* What the loop must know at once; by the notices ring. */
struct session_notice {
    __u32 type;
    __u32 slot;
    __u32 instance;
    __u32 epoch;      /* EPOCH, EXEC: the new one */
    __u64 runtime_ns; /* EXIT: the process's CPU time in all */
    __u64 time_ns;    /* monotonic */
};

#ifndef __bpf__
_Static_assert(sizeof(struct timer_phase) == 56, "layout shared with BPF");
_Static_assert(sizeof(struct target_state) == 24, "layout shared with BPF");
_Static_assert(sizeof(struct session_notice) == 32, "layout shared with BPF");
#endif
