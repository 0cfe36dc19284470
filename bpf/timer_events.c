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

struct timer_event {
    int fd;
    struct timer_phase *phase; /* what the BPF program knows of it */
    uint64_t start_at_ns;      /* when it is to be started: after the first of them */
    uint64_t began_ns, interval_ns, last_due_ns;
};

struct timer_events {
    struct timers timers;
    const struct sampler *sampler;
    uint32_t slot;
    struct attachment *to;
    uint64_t next_ns; /* renewal */
    uint32_t next;
    uint32_t n;
    struct timer_event events[];
};

void timer_events_free(struct timer_events *t)
{
    free(t);
}

/* Starts an event's interval, or starts it anew, and tells the program. A tick meanwhile is taken for one of the interval before,
 * as it is. */
static int timer_event_begin(struct timer_events *t, struct timer_event *e, unsigned long request, uint64_t *argument)
{
    struct timer_phase *p = e->phase;
    uint32_t sequence = p->sequence | 1;

    __atomic_store_n(&p->sequence, sequence, __ATOMIC_SEQ_CST);
    uint64_t before_ns = monotonic_ns();
    int r = ioctl(e->fd, request, argument) < 0 ? -errno : 0;
    uint64_t after_ns = monotonic_ns();
    e->began_ns = after_ns;
    p->earliest_ns = before_ns + e->interval_ns;
    p->latest_ns = after_ns + e->interval_ns;
    p->interval_ns = e->interval_ns;
    p->last_due_ns = e->last_due_ns;
    __atomic_store_n(&p->sequence, sequence + 1, __ATOMIC_SEQ_CST);
    return r;
}

/* ---- opening */

static int timer_event_open(struct timer_events *t, int cpu, uint32_t timer)
{
    const struct session_ctl *ctl = &t->sampler->ctl[t->slot];
    struct timer_event *e = &t->events[t->n];
    struct timer_draw draw;

    timers_draw(&t->timers, &draw);
    struct perf_event_attr attr = {
        .type = PERF_TYPE_SOFTWARE, .size = sizeof(attr), .config = PERF_COUNT_SW_CPU_CLOCK, .sample_period = draw.interval_ns,
        .disabled = 1,
    };
    e->fd = attach_perf_open(&attr, -1, cpu);
    if (e->fd < 0)
        return -errno;
    t->n++;
    e->phase = &t->sampler->phases[TIMER_PHASE(t->slot, t->sampler->n_cpus, (uint32_t)cpu, timer)];
    e->start_at_ns = TIMER_MAX_INTERVAL_NS - draw.age_ns;
    e->interval_ns = draw.interval_ns;
    e->last_due_ns = draw.broken_ns; /* before its beginning, which is not known yet */
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

static int timer_event_compare(const void *a, const void *b)
{
    const struct timer_event *x = a, *y = b;
    return x->start_at_ns < y->start_at_ns ? -1 : x->start_at_ns > y->start_at_ns;
}

static void sleep_until(uint64_t at_ns)
{
    struct timespec ts = {(time_t)(at_ns / NSEC_PER_SEC), (long)(at_ns % NSEC_PER_SEC)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR)
        ;
}

/* Each timer begins its interval its age before the end, so that from then on it is as if it had run for ever. What is done late
 * puts the end of all that follow off. */
static int timer_events_start(struct timer_events *t)
{
    qsort(t->events, t->n, sizeof(t->events[0]), timer_event_compare);
    uint64_t begin_ns = monotonic_ns() - t->events[0].start_at_ns, now_ns;
    for (uint32_t i = 0; i < t->n; i++) {
        struct timer_event *e = &t->events[i];
        sleep_until(begin_ns + e->start_at_ns);
        now_ns = monotonic_ns();
        begin_ns = now_ns - e->start_at_ns;
        e->last_due_ns = now_ns - e->last_due_ns;
        int r = timer_event_begin(t, e, PERF_EVENT_IOC_ENABLE, NULL);
        if (r < 0)
            return r;
    }
    sleep_until(begin_ns + TIMER_MAX_INTERVAL_NS);
    t->next_ns = monotonic_ns() + timers_next_renewal(&t->timers, t->n, &t->next);
    return 0;
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
    int r = attach_each_cpu(timer_events_open_cpu, t);
    return r < 0 ? r : timer_events_start(t);
}

/* ---- renewing */

uint64_t attach_renewal_ns(const struct attachment *a)
{
    return a->timers ? a->timers->next_ns : UINT64_MAX;
}

/* PERF_EVENT_IOC_PERIOD sets the interval, and begins it anew. */
static void timer_event_renew(struct timer_events *t, struct timer_event *e)
{
    uint64_t ticks = (monotonic_ns() - e->began_ns) / e->interval_ns;

    if (ticks > 0)
        e->last_due_ns = e->began_ns + ticks * e->interval_ns;
    e->interval_ns = timers_interval(&t->timers);
    /* Of a CPU that went offline. */
    (void)timer_event_begin(t, e, PERF_EVENT_IOC_PERIOD, &e->interval_ns);
}

void attach_renew(struct attachment *a)
{
    struct timer_events *t = a->timers;
    uint64_t now_ns = monotonic_ns();

    /* As many as are due; but no backlog of one who was held up for long. */
    for (uint32_t i = 0; t && i < t->n && t->next_ns <= now_ns; i++) {
        timer_event_renew(t, &t->events[t->next]);
        t->next_ns += timers_next_renewal(&t->timers, t->n, &t->next);
    }
    if (t && t->next_ns <= now_ns)
        t->next_ns = now_ns + timers_next_renewal(&t->timers, t->n, &t->next);
}
