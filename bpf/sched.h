/* The scheduler's events of targets (bpf/sched.bpf.c): attached on the whole host while a session needs them, by a child of the loop
 * (daemon/scheduler.h), which owns them. The map of threads is there as long. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "bpf/sampler.h"
#include "bpf/sched_state.h"

/* filter: its map, or -1; stays the caller's. Where it can't be used, sampler_sched says why. */
void sched_init(struct sampler *s, int filter);
void sched_deinit(struct sampler *s); /* may run twice */

/* Both wait for grace periods. 0, or -errno with nothing attached. */
int sched_attach(struct sampler *s);
void sched_detach(struct sampler *s); /* may run twice */
/* Forgets threads that have died, and threads of processes that are no targets any more: their ends were not seen, so that others may have
 * their places in memory; and what was known of those that are still there is no longer true. Meanwhile no target is added. */
void sched_sweep(struct sampler *s);

/* The session in a slot, whose ctl is filled in, gets its target's events from now on; those of sched_kind SCHED_NONE need none. Before,
 * where others were targets, threads are swept. 0; -EOPNOTSUPP: s->sched_error says why not. */
int sched_add(struct sampler *s, uint32_t slot);
/* Where it was added; else nothing. Whether dead threads are now to be swept. */
bool sched_remove(struct sampler *s, uint32_t slot);
