/* The scheduler's events of targets (bpf/sched.bpf.c): attached on the whole host while a session needs them, by the loop, which owns them.
 * The map of threads is there as long. */
#pragma once

#include <stdint.h>

#include "bpf/sampler.h"
#include "bpf/sched_state.h"

/* filter: its map, or -1; stays the caller's. Where it can't be used, sampler_sched says why. */
void sched_init(struct sampler *s, int filter);
void sched_deinit(struct sampler *s); /* may run twice */

/* The session in a slot, whose ctl is filled in, gets its target's events from now on; those of sched_kind SCHED_NONE need none. 0;
 * -EOPNOTSUPP: s->sched_error says why not; or -errno. */
int sched_add(struct sampler *s, uint32_t slot);
/* Where it was added; else nothing. */
void sched_remove(struct sampler *s, uint32_t slot);
