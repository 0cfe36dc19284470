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
#define PRICE_LOOK_NS (100 * NSEC_PER_MSEC)
#define PRICE_LOOK_HITS 2000
/* What a target is taken to use at least: one part in so many of one CPU. As in the window. */
#define PRICE_IDLE_PART 5

/* Next to nothing, where probes take all the time. */
#define PRICE_LEAST_PART 1000

static double at_least(double value, double least)
{
    return value > least ? value : least;
}

int attacher_price_learn(const struct attacher_request *q)
{
    struct uprobe_price measured = {0};

    if (__atomic_load_n(&q->sampler->price->known, __ATOMIC_ACQUIRE))
        return 0;
    int r = uprobe_price_measure(q->sampler, q->slot, &measured);
    if (r < 0)
        return r;
    q->sampler->price->emulated_ns = measured.emulated_ns;
    q->sampler->price->stepped_ns = measured.stepped_ns;
    __atomic_store_n(&q->sampler->price->known, 1, __ATOMIC_RELEASE);
    return 0;
}

int attacher_price_check(const struct attacher_request *q, struct attacher_price *ret)
{
    const struct session_ctl *ctl = &q->sampler->ctl[q->slot];
    const struct timespec pause = {.tv_nsec = NSEC_PER_MSEC};
    uint64_t cpu_ns, first_ns, began_ns = monotonic_ns(), before = __atomic_load_n(&ctl->armed_hits, __ATOMIC_RELAXED), hits = 0;

    *ret = (struct attacher_price){.hit_ns = q->stepped ? q->sampler->price->stepped_ns : q->sampler->price->emulated_ns};
    if (process_cpu_ns(q->pid, &first_ns) < 0)
        return 0; /* its end is told by others */
    while (monotonic_ns() - began_ns < PRICE_LOOK_NS && hits < PRICE_LOOK_HITS) {
        (void)nanosleep(&pause, NULL);
        hits = __atomic_load_n(&ctl->armed_hits, __ATOMIC_RELAXED) - before;
    }
    if (hits == 0 || process_cpu_ns(q->pid, &cpu_ns) < 0)
        return 0;
    double took_ns = (double)(monotonic_ns() - began_ns), cost_ns = (double)(hits * ret->hit_ns), used_ns = (double)(cpu_ns - first_ns);
    double own_ns = at_least(used_ns - cost_ns, took_ns / PRICE_LEAST_PART); /* what it would have used without probes */
    ret->per_second = (double)hits / own_ns * NSEC_PER_SEC;
    ret->percent = (q->params->duty > 0 ? q->params->duty : 100) * cost_ns / at_least(took_ns / PRICE_IDLE_PART - cost_ns, own_ns);
    return ret->percent > q->params->max_overhead ? -EDQUOT : 0;
}
