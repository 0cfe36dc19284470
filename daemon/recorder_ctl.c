/* The control words of a session, as its programs begin with them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "bpf/sampler.h"
#include "daemon/recorder_impl.h"

static void recorder_fill_sched(const struct recorder *r, struct session_ctl *ctl)
{
    struct sampler_sched *sched = &r->sampler->sched;

    ctl->sched_kind = r->params.sched_kind;
    memcpy(ctl->seed, sched->seed, sizeof(ctl->seed));
    ctl->rate = r->params.rate;
    ctl->fraction = r->params.fraction;
    ctl->waker = r->params.waker;
}

static void recorder_fill_go(const struct recorder *r, struct session_ctl *ctl)
{
    ctl->go_kind = r->params.go_kind;
    ctl->go_reasons = r->params.go_reasons;
    ctl->go_sema_reasons = r->params.go_sema_reasons;
    ctl->rate = r->params.rate;
    ctl->fraction = r->params.fraction;
}

int recorder_fill_ctl(struct recorder *r)
{
    const struct session_params *p = &r->params;
    struct session_ctl *ctl = &r->sampler->ctl[r->slot];
    uint32_t instance = ctl->instance;

    memset(ctl, 0, sizeof(*ctl));
    ctl->instance = instance + 1;
    if (p->unwind != SESSION_UNWIND_COPY) /* else no program is to take note of it */
        ctl->tgid = (uint32_t)r->pid;
    ctl->unwind = p->unwind == SESSION_UNWIND_FP ? UNWIND_BY_FRAME_POINTERS : UNWIND_BY_TABLES;
    ctl->standing = r->standing;
    ctl->kernel = p->kernel;
    ctl->weight = p->period;
    ctl->every = p->period;
    if (getrandom(ctl->seed, sizeof(ctl->seed), 0) != sizeof(ctl->seed))
        return -EIO;
    ctl->thin = 1;
    ctl->audit_gap_ns = p->audit ? p->duration_ns / AUDIT_MAX_SAMPLES + 1 : 0;
    ctl->at_entry = r->at_entry || p->event == EVENT_GO;
    ctl->new_threads = p->event == EVENT_NEW_THREAD;
    ctl->grows = p->event == EVENT_GROWTH;
    ctl->growth.anon = ctl->growth.swap = GROWTH_UNKNOWN;
    if (p->sched_kind != SCHED_NONE)
        recorder_fill_sched(r, ctl);
    if (p->event == EVENT_GO)
        recorder_fill_go(r, ctl);
    if (p->event == EVENT_CUSTOM)
        recorder_custom_fill(ctl);
    if (p->event == EVENT_HEAP)
        recorder_heap_fill(r, ctl);
    __atomic_store_n(&ctl->state, SESSION_ARMED, __ATOMIC_RELEASE);
    return 0;
}
