/* What was seen while probes were attached (duty=), in slices, stands for how much? A program that waits for a clock does as much in a slice as
 * beside it. A thread that never waits does less, since its probes take its time: what it does goes with the CPU time that is its own. Both are
 * right by own time: hits in slices / own time in slices = hits outside / own time outside. The arithmetic alone. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Beyond these they are counted together, as the last one. */
#define DUTY_MAX_THREADS 256

/* Ticks (bpf/mode_ticks.h) of a thread, in parts of the time: those in its own code differ from part to part by chance, and by what the scheduler
 * gives to whom. */
struct duty_ticks {
    uint32_t all, own, part;      /* part: of own, those of the part that is being counted */
    double squares, times_all;    /* own squared, and times the ticks of all threads, each of one part: sums */
};

struct duty_thread {
    uint32_t tid; /* 0: of all that there was no room for */
    struct duty_ticks bare, probed; /* without probes and with them */
};

/* Of all threads: parts, and their ticks squared. */
struct duty_parts {
    uint32_t n, part;
    double squares;
};

/* What was measured: by the attacher. All is of parts of slices that lay in the window as a whole. */
struct duty_work {
    uint64_t cpu_ns;        /* the target's CPU time while probes were attached and no ticks ran, */
    uint64_t hits;          /* their hits meanwhile, */
    uint64_t overhead_ns;   /* and what samples took beside them */
    struct {                /* the same parts, one of each slice: how much hits differ from one to the other */
        uint32_t n;
        double ns, hits_squares, ns_squares, hits_times_ns, cpu_squares, hits_times_cpu; /* sums */
    } slices;
    struct duty_parts bare, probed;
    uint32_t n_threads;
    struct duty_thread threads[DUTY_MAX_THREADS];
};

struct duty_window {
    uint64_t window_ns, attached_ns; /* the latter above 0 */
    uint64_t cpu_ns;                 /* the target's; 0: not known */
    uint64_t hits, unseen_hits;      /* in all slices; and beside them, while probes were being attached and detached */
    uint64_t uncounted_hits;         /* that may be missing of hits at most: each CPU counts them by many at a time */
    uint64_t hit_ns;                 /* a hit's price, as it was measured elsewhere; 0: not known */
};

enum duty_way {
    DUTY_BY_TIME,  /* window over slices: probes cost next to nothing, or nothing else is known */
    DUTY_BY_PRICE, /* own time is CPU time less hits times their price */
    DUTY_BY_TICKS, /* or by where ticks found threads */
};

struct duty_scale {
    enum duty_way way;
    double factor; /* what was seen, times that; at least 1 */
    double error;  /* what may be wrong with it, one standard deviation, as a part of it. INFINITY: anything */
};

/* Such a part of a slice: so long, with so many hits in so much CPU time. */
void duty_count(struct duty_work *work, uint64_t ns, uint64_t hits, uint64_t cpu_ns, uint64_t overhead_ns);
/* A tick of one of the threads, in a part that goes on; and its end. */
void duty_tick(struct duty_work *work, uint32_t tid, bool probed, bool own);
void duty_part_end(struct duty_work *work, bool probed);

void duty_scale_find(const struct duty_window *window, const struct duty_work *work, struct duty_scale *ret);
