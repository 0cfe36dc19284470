/* Probes are attached for a moment in which nothing counts but their hits, against the CPU time that the target uses meanwhile. Few hits tell
 * enough where the price is high, so a target that can't bear them is rid of them within milliseconds. Runs in the attacher. */
#include "daemon/attacher_price.h"

#include <errno.h>
#include <time.h>

#include "bpf/sampler.h"
#include "bpf/uprobe_price.h"
#include "daemon/attacher.h"
#include "daemon/cpu_clock.h"
#include "util/clock.h"

/* How long hits are counted at most, and how many. */
#define PRICE_TIME_NS (100 * NSEC_PER_MSEC)
#define PRICE_HITS 2000
/* How far apart, of the target's CPU time, two things may be read that belong together, and how often that is tried. */
#define PRICE_LOOK_MOST_NS 20000
#define PRICE_LOOKS 8
/* What a target is taken to use at least: one part in so many of one CPU. As in the window. */
#define PRICE_IDLE_PART 5

/* Of the CPU time that it uses under probes, what is taken to be its own at least: nearer than that a hit's price is not known. */
#define PRICE_LEAST_PART 50
/* How much of what hits are taken to cost they do cost for certain; and the part of its CPU time below which what is the target's own depends on
 * that. */
#define PRICE_SURE 0.75
#define PRICE_UNSURE_PART 4

static double at_least(double value, double least)
{
    return value > least ? value : least;
}

void attacher_price_learn(const struct attacher_request *q)
{
    struct uprobe_price *price = q->sampler->price, measured = {0};

    if (__atomic_load_n(&price->known, __ATOMIC_ACQUIRE) || uprobe_price_measure(q->sampler, q->slot, &measured) < 0)
        return;
    price->emulated_ns = measured.emulated_ns;
    price->stepped_ns = measured.stepped_ns;
    __atomic_store_n(&price->known, 1, __ATOMIC_RELEASE);
}

/* Between the two this process may lose its CPU, and the target goes on. */
int attacher_look(const struct attacher_request *q, const uint64_t *hits, struct attacher_look *ret)
{
    int r = 0;

    for (int i = 0; i < PRICE_LOOKS; i++) {
        r = process_cpu_ns(q->pid, &ret->before_ns);
        ret->hits = __atomic_load_n(hits, __ATOMIC_RELAXED);
        ret->stepped = __atomic_load_n(&q->sampler->ctl[q->slot].armed_stepped, __ATOMIC_RELAXED);
        r = r < 0 ? r : process_cpu_ns(q->pid, &ret->after_ns);
        if (r < 0 || ret->after_ns - ret->before_ns < PRICE_LOOK_MOST_NS)
            break;
    }
    return r;
}

int attacher_price_check(const struct attacher_request *q, struct attacher_price *ret)
{
    const struct timespec pause = {.tv_nsec = NSEC_PER_MSEC};
    uint64_t began_ns = monotonic_ns();
    const uint64_t *armed_hits = (const uint64_t *)&q->sampler->ctl[q->slot].armed_hits;
    struct attacher_look first, now;

    *ret = (struct attacher_price){.hit_ns = q->stepped ? q->sampler->price->stepped_ns : q->sampler->price->emulated_ns};
    if (ret->hit_ns == 0)
        return 0;
    int r = attacher_look(q, armed_hits, &first);
    now = first;
    while (r == 0 && monotonic_ns() - began_ns < PRICE_TIME_NS && now.hits - first.hits < PRICE_HITS) {
        (void)nanosleep(&pause, NULL);
        r = attacher_look(q, armed_hits, &now);
    }
    if (r < 0 || now.hits == first.hits)
        return 0; /* the end of a target is told by others */
    double hits = (double)(now.hits - first.hits), used_ns = (double)(now.after_ns - first.before_ns);
    double cost_ns = hits * (double)ret->hit_ns + (double)((now.stepped - first.stepped) * uprobe_price_of_step_ns(q->sampler->price));
    double own_ns = at_least(used_ns - cost_ns, at_least(used_ns, NSEC_PER_MSEC) / PRICE_LEAST_PART); /* without probes */
    double idle_ns = (double)(monotonic_ns() - began_ns) / PRICE_IDLE_PART - cost_ns;
    ret->more = own_ns < used_ns / PRICE_UNSURE_PART;
    ret->mostly_waits = idle_ns > own_ns;
    ret->per_second = hits / (ret->more ? at_least(used_ns - PRICE_SURE * cost_ns, own_ns) : own_ns) * NSEC_PER_SEC;
    ret->percent = (q->params->duty > 0 ? q->params->duty : 100) * cost_ns / at_least(idle_ns, own_ns);
    if (ret->percent <= q->params->max_overhead)
        return 0;
    ret->hit_ns = (uint64_t)(cost_ns / hits);
    return -EDQUOT;
}
