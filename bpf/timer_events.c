/* Opens timer events, starts them as if they had always run, and renews their intervals while the session lasts. Owns the list of
 * them; their descriptors are the attachment's. */
#include <errno.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <time.h>

#include "bpf/attach.h"
#include "bpf/attach_impl.h"
#include "bpf/timers.h"
#include "util/clock.h"

/* A timer on one CPU. */
struct timer_event {
    int fd;
    uint32_t timer;
    struct timer_phase *phase; /* what the BPF program knows of it */
    uint64_t began_ns, last_due_ns;
};

/* What is the same of a timer on all CPUs. */
struct timer_plan {
    uint64_t start_at_ns; /* when it is to be started */
    uint64_t interval_ns, broken_ns, seed, place_ns;
};

struct timer_events {
    struct timers timers;
    const struct sampler *sampler;
    uint32_t slot;
    struct attachment *to;
    uint64_t next_ns; /* renewal */
    uint32_t next;    /* timer */
    struct timer_plan plans[CPROFD_TIMERS_PER_CPU];
    uint32_t n;
    struct timer_event events[];
};

void timer_events_free(struct timer_events *t)
{
    free(t);
}

/* Starts an event's interval, or starts it anew, and tells the program. A tick meanwhile is taken for one of the interval before,
 * as it is. */
static int timer_event_begin(struct timer_events *t, struct timer_event *e, unsigned long request)
{
    struct timer_plan *plan = &t->plans[e->timer];
    struct timer_phase *p = e->phase;
    uint32_t sequence = p->sequence | 1;

    __atomic_store_n(&p->sequence, sequence, __ATOMIC_SEQ_CST);
    uint64_t before_ns = monotonic_ns();
    int r = ioctl(e->fd, request, request == PERF_EVENT_IOC_PERIOD ? &plan->interval_ns : NULL) < 0 ? -errno : 0;
    uint64_t after_ns = monotonic_ns();
    e->began_ns = after_ns;
    p->earliest_ns = before_ns + plan->interval_ns;
    p->latest_ns = after_ns + plan->interval_ns;
    p->interval_ns = plan->interval_ns;
    p->last_due_ns = e->last_due_ns;
    p->seed = plan->seed;
    p->place_ns = plan->place_ns;
    __atomic_store_n(&p->sequence, sequence + 1, __ATOMIC_SEQ_CST);
    return r;
}

/* ---- opening */

static int timer_event_open(struct timer_events *t, int cpu, uint32_t timer)
{
    const struct session_ctl *ctl = &t->sampler->ctl[t->slot];
    struct timer_event *e = &t->events[t->n];
    struct perf_event_attr attr = {
        .type = PERF_TYPE_SOFTWARE, .size = sizeof(attr), .config = PERF_COUNT_SW_CPU_CLOCK,
        .sample_period = t->plans[timer].interval_ns, .disabled = 1,
    };

    e->fd = attach_perf_open(&attr, -1, cpu);
    if (e->fd < 0)
        return -errno;
    t->n++;
    e->timer = timer;
    e->phase = &t->sampler->phases[TIMER_PHASE(t->slot, t->sampler->n_cpus, (uint32_t)cpu, timer)];
    return attach_link(t->sampler->timer_prog, e->fd, COOKIE(t->slot, timer, ctl->instance), t->to);
}

static int timer_events_open_cpu(int cpu, void *arg)
{
    for (uint32_t i = 0; i < CPROFD_TIMERS_PER_CPU; i++) {
        int r = timer_event_open(arg, cpu, i);
        if (r < 0)
            return r;
    }
    return 0;
}

/* ---- starting */

static int timer_start(struct timer_events *t, uint32_t timer, uint64_t now_ns)
{
    for (uint32_t i = 0; i < t->n; i++) {
        struct timer_event *e = &t->events[i];
        if (e->timer != timer)
            continue;
        e->last_due_ns = now_ns - t->plans[timer].broken_ns;
        int r = timer_event_begin(t, e, PERF_EVENT_IOC_ENABLE);
        if (r < 0)
            return r;
    }
    return 0;
}

/* The timer that is to be started next, of those that are not in started. */
static uint32_t timer_first(const struct timer_events *t, uint32_t started)
{
    uint32_t first = CPROFD_TIMERS_PER_CPU;

    for (uint32_t i = 0; i < CPROFD_TIMERS_PER_CPU; i++)
        if (!(started & 1u << i) && (first == CPROFD_TIMERS_PER_CPU || t->plans[i].start_at_ns < t->plans[first].start_at_ns))
            first = i;
    return first;
}

/* Each timer begins its interval its age before the end, so that from then on it is as if it had run for ever. What is done late
 * puts the end of all that follow off. */
static int timer_events_start(struct timer_events *t)
{
    uint64_t begin_ns = monotonic_ns() - t->plans[timer_first(t, 0)].start_at_ns;
    uint32_t timer;

    for (uint32_t started = 0; (timer = timer_first(t, started)) < CPROFD_TIMERS_PER_CPU; started |= 1u << timer) {
        monotonic_sleep_until(begin_ns + t->plans[timer].start_at_ns);
        uint64_t now_ns = monotonic_ns();
        begin_ns = now_ns - t->plans[timer].start_at_ns;
        int r = timer_start(t, timer, now_ns);
        if (r < 0)
            return r;
    }
    monotonic_sleep_until(begin_ns + TIMER_MAX_INTERVAL_NS);
    t->next_ns = monotonic_ns() + timers_next_renewal(&t->timers, CPROFD_TIMERS_PER_CPU, &t->next);
    return 0;
}

static void timer_events_plan(struct timer_events *t)
{
    for (uint32_t i = 0; i < CPROFD_TIMERS_PER_CPU; i++) {
        struct timer_draw draw;
        timers_draw(&t->timers, &draw);
        t->plans[i] = (struct timer_plan){
            .start_at_ns = TIMER_MAX_INTERVAL_NS - draw.age_ns, .interval_ns = draw.interval_ns, .broken_ns = draw.broken_ns,
            .seed = timers_bits(&t->timers), .place_ns = timers_bits(&t->timers),
        };
    }
}

int attach_timers(const struct sampler *s, uint32_t slot, struct attachment *ret)
{
    uint64_t seed;

    if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
        return -EIO;
    struct timer_events *t = calloc(1, sizeof(*t) + (size_t)s->n_cpus * CPROFD_TIMERS_PER_CPU * sizeof(t->events[0]));
    if (!t)
        return -ENOMEM;
    ret->timers = t;
    t->sampler = s;
    t->slot = slot;
    t->to = ret;
    timers_init(&t->timers, s->ctl[slot].weight, s->n_cpus, seed);
    timer_events_plan(t);
    int r = attach_each_cpu(timer_events_open_cpu, t);
    return r < 0 ? r : timer_events_start(t);
}

/* ---- renewing */

uint64_t attach_renewal_ns(const struct attachment *a)
{
    return a->timers ? a->timers->next_ns : UINT64_MAX;
}

/* PERF_EVENT_IOC_PERIOD sets the interval, and begins it anew. ticked_ns: the interval that it had so far. */
static void timer_event_renew(struct timer_events *t, struct timer_event *e, uint64_t ticked_ns)
{
    uint64_t ticks = (monotonic_ns() - e->began_ns) / ticked_ns;

    if (ticks > 0)
        e->last_due_ns = e->began_ns + ticks * ticked_ns;
    /* Of a CPU that went offline. */
    (void)timer_event_begin(t, e, PERF_EVENT_IOC_PERIOD);
}

static void timer_renew(struct timer_events *t, uint32_t timer)
{
    struct timer_plan *plan = &t->plans[timer];
    uint64_t ticked_ns = plan->interval_ns;

    plan->interval_ns = timers_interval(&t->timers);
    plan->place_ns = timers_bits(&t->timers);
    for (uint32_t i = 0; i < t->n; i++)
        if (t->events[i].timer == timer)
            timer_event_renew(t, &t->events[i], ticked_ns);
}

void attach_renew(struct attachment *a)
{
    struct timer_events *t = a->timers;
    uint64_t now_ns = monotonic_ns();

    /* As many as are due; but no backlog of one who was held up for long. */
    for (uint32_t i = 0; t && i < CPROFD_TIMERS_PER_CPU && t->next_ns <= now_ns; i++) {
        timer_renew(t, t->next);
        t->next_ns += timers_next_renewal(&t->timers, CPROFD_TIMERS_PER_CPU, &t->next);
    }
    if (t && t->next_ns <= now_ns)
        t->next_ns = now_ns + timers_next_renewal(&t->timers, CPROFD_TIMERS_PER_CPU, &t->next);
}
