/* What a timer's tick samples. Compiled into the BPF programs, and for the host too, so that a unit test runs the very code that
 * the kernel runs, on a clock of its own.
 *
 * Each timer has a sampling point in every gap_ns of time, at a random place in it, and a tick samples for the points since the tick
 * before it: mostly one, sometimes none or two, since the intervals of a timer vary about the gap and begin anew at random moments
 * (bpf/timers.h). So what is sampled covers time exactly, whatever the timers do, and a tick at any moment stands on average for the
 * time since the one before it. Points are the same on all CPUs, and a timer ticks on all of them at once: a thread that moves is on
 * exactly one CPU then, so its total is as exact as that of one that stays.
 *
 * The kernel's timers come late, too: see TICK_LATE_NS. */
#pragma once

#include "bpf/control.h"

/* A timer's state on its CPU. */
struct tick {
    __u64 due_ns;      /* when its last tick was due: ticks are due on a grid */
    __u64 came_ns;     /* when it came */
    __u64 interval_ns;
    __u64 block_ns;    /* where the gap begins in which the next sampling point lies */
    __u64 next_ns;     /* that point */
    __u64 seed;        /* of the phase that it follows, as is */
    __u64 place_ns;    /* where points lie in their gaps */
    __u32 instance;
    __u32 sequence;    /* of the phase that it follows */
};

struct tick_result {
    __u64 samples; /* for this tick */
    __u64 missed;  /* for ticks before it that never came */
    __u64 late_ns; /* how late it came; 0: in time */
};

/* A tick that comes later than this was due when something else may have run: the kernel holds timers back while a CPU is idle (some
 * virtual machines) or stolen, and then they all come as soon as it runs again, which would charge the target with time
 * that was nobody's. */
#define TICK_LATE_NS 50000
/* The grid moves when other events are opened on the CPU, or the kernel stops the timer for a moment. A little is followed slowly, and
 * two ticks that are whole intervals apart, this closely, make a new grid: looser, and wakings at even distances would be taken for
 * one. */
#define TICK_MOVED_NS 10000

/* A number's bits, thoroughly mixed: what is random here must be the same on all CPUs. */
static inline __attribute__((always_inline)) __u64 tick_mix(__u64 x)
{
    x = (x ^ (x >> 32)) * 0xd6e8feb86659fd93ull;
    x = (x ^ (x >> 32)) * 0xd6e8feb86659fd93ull;
    return x ^ (x >> 32);
}

/* Where the point lies in the gap that begins at block_ns. Several ticks a gap: one of them at random. Else all at one place until the
 * timer's phase changes: points that come as evenly as ticks make few ticks sample twice or not at all. */
static inline __attribute__((always_inline)) __u64 tick_place(const struct tick *t, __u64 gap_ns)
{
    return t->interval_ns <= gap_ns / 2 ? tick_mix(t->seed ^ t->block_ns) % gap_ns : t->place_ns;
}

/* Counts the sampling points up to and at due_ns that were not counted yet. */
static inline __attribute__((always_inline)) __u64 tick_points(struct tick *t, __u64 gap_ns, __u64 due_ns)
{
    __u64 n = 1, blocks;

    if (due_ns < t->next_ns)
        return 0;
    t->block_ns += gap_ns;
    if (due_ns >= t->block_ns + gap_ns) {
        blocks = (due_ns - t->block_ns) / gap_ns;
        t->block_ns += blocks * gap_ns;
        n += blocks;
    }
    t->next_ns = t->block_ns + tick_place(t, gap_ns);
    if (due_ns >= t->next_ns) {
        t->block_ns += gap_ns;
        t->next_ns = t->block_ns + tick_place(t, gap_ns);
        n++;
    }
    return n;
}

/* The first sampling point after due_ns. Gaps begin at a random time, which is the timer's. */
static inline __attribute__((always_inline)) void tick_begin(struct tick *t, __u64 gap_ns)
{
    t->block_ns = t->due_ns + 1 - (t->due_ns + 1 + t->seed % gap_ns) % gap_ns;
    t->next_ns = t->block_ns + tick_place(t, gap_ns);
    if ((__s64)(t->next_ns - t->due_ns) <= 0) { /* of a gap that is longer than the machine runs, below zero */
        t->block_ns += gap_ns;
        t->next_ns = t->block_ns + tick_place(t, gap_ns);
    }
}

/* Takes the timer's present phase over where it is a new one that this tick belongs to. Returns how many sampling points were missed
 * before it. */
static inline __attribute__((always_inline)) __u64 tick_follow(struct tick *t, struct timer_phase *phase, __u32 instance, __u64 gap_ns,
                                                               __u64 now_ns)
{
    struct timer_phase p;
    __u64 missed = 0;
    __u32 sequence;

    if (*(volatile __u32 *)&phase->sequence == t->sequence && t->instance == instance)
        return 0;
    sequence = __sync_fetch_and_add(&phase->sequence, 0); /* a barrier, too */
    p = *phase;
    /* What is changing now, or comes before the new interval can have ended, is a tick of the interval before. */
    if ((sequence & 1) || __sync_fetch_and_add(&phase->sequence, 0) != sequence || p.interval_ns == 0)
        return 0;
    if (t->instance != instance) {
        t->instance = instance;
        t->interval_ns = 0;
        t->due_ns = p.last_due_ns;
        t->seed = p.seed;
        t->place_ns = p.place_ns % gap_ns;
        tick_begin(t, gap_ns);
    }
    if (now_ns + TICK_LATE_NS < p.earliest_ns)
        return 0;
    if (p.last_due_ns > t->due_ns + t->interval_ns / 2)
        missed = tick_points(t, gap_ns, p.last_due_ns);
    t->sequence = sequence;
    t->interval_ns = p.interval_ns;
    t->place_ns = p.place_ns % gap_ns;
    t->due_ns = (now_ns < p.latest_ns ? now_ns : p.latest_ns) - p.interval_ns;
    t->came_ns = t->due_ns;
    return missed;
}

static inline __attribute__((always_inline)) void tick_take(struct tick *t, struct timer_phase *phase, __u32 instance, __u64 gap_ns,
                                                            __u64 now_ns, struct tick_result *ret)
{
    __u64 n, late_ns, since_ns;

    ret->samples = ret->late_ns = 0;
    ret->missed = tick_follow(t, phase, instance, gap_ns, now_ns);
    if (t->instance != instance || t->interval_ns == 0)
        return;
    since_ns = now_ns - t->came_ns;
    t->came_ns = now_ns;
    n = (now_ns + TICK_LATE_NS - t->due_ns) / t->interval_ns;
    if (n > 1)
        ret->missed += tick_points(t, gap_ns, t->due_ns + (n - 1) * t->interval_ns);
    t->due_ns += n * t->interval_ns;
    late_ns = now_ns > t->due_ns ? now_ns - t->due_ns : 0;
    if (late_ns == 0)
        t->due_ns = now_ns; /* the earliest is the grid */
    else if (late_ns <= TICK_LATE_NS)
        t->due_ns += late_ns / 8;
    else if (since_ns >= t->interval_ns / 2 && (since_ns + TICK_MOVED_NS) % t->interval_ns <= 2 * TICK_MOVED_NS)
        t->due_ns = now_ns; /* whole intervals after the last one: the grid has moved, and this one is in time */
    else
        ret->late_ns = late_ns;
    ret->samples = tick_points(t, gap_ns, t->due_ns);
}
