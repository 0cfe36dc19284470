/* Looks at what runs on each CPU, many times a second for some milliseconds: which thread of a process, and is it in its own code or in the kernel?
 * A probe's cost is time in the kernel, all of it, so that what a thread does by itself is told apart from that without knowing a hit's price. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct mode_ticks;

struct mode_tick {
    uint32_t tid;     /* in the daemon's PID namespace */
    bool user;        /* in its own code, at: */
    uint64_t address;
};

typedef void (*mode_tick_fn)(const struct mode_tick *tick, void *userdata);

/* How far apart they are on a CPU. One takes some 20 us on a virtual machine. */
#define MODE_TICK_NS 200000

/* Of a process, on all CPUs; stopped. 0 or -errno. */
int mode_ticks_new(pid_t pid, struct mode_ticks **ret);
void mode_ticks_free(struct mode_ticks *t); /* NULL is fine */
void mode_ticks_start(struct mode_ticks *t);
/* Calls fn for all since it was started, but for those that found no room. */
void mode_ticks_stop(struct mode_ticks *t, mode_tick_fn fn, void *userdata);
