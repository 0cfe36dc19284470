/* Sessions of the scheduler's events without a daemon: what its child does, done at once. Included by one test. */
#pragma once

#include <check.h>
#include <string.h>
#include <sys/types.h>

#include "bpf/sampler.h"
#include "bpf/sched.h"
#include "util/clock.h"

static struct sampler sampler;
static unsigned n_looked_at;

static void fill_ctl(uint32_t slot, pid_t pid, uint32_t kind)
{
    struct session_ctl *ctl = &sampler.ctl[slot];
    uint32_t instance = ctl->instance;
    memset(ctl, 0, sizeof(*ctl));
    ctl->instance = instance + 1;
    ctl->tgid = (uint32_t)pid;
    ctl->weight = NSEC_PER_MSEC;
    ctl->thin = 1;
    ctl->sched_kind = kind;
    ctl->state = SESSION_ARMED;
}

static void look_at(uint32_t slot)
{
    if (n_looked_at++ == 0)
        ck_assert_int_eq(sched_attach(&sampler), 0);
    sched_sweep(&sampler);
    ck_assert_int_eq(sched_add(&sampler, slot), 0);
}

static void look_away(uint32_t slot)
{
    if (sched_remove(&sampler, slot))
        sched_sweep(&sampler);
    if (--n_looked_at == 0)
        sched_detach(&sampler);
}
