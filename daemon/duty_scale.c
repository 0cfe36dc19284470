/* Time alone is right where nobody who is probed would have used the CPU that probes take: then the target uses as much more in slices. One that does
 * not has lost what probes took.
 *
 * A hit's price was measured on other code, with warm caches and no other thread at it. Where probes take most of a thread's time it tells nothing:
 * of 640 ns beside 100 ns of its own. Ticks tell without it, the better the more there are. Threads are told apart: one that allocates and one that
 * computes are slowed by no common factor. What ticks say of a thread's share of the hits is its time in the kernel that it would not spend there
 * without probes. */
#include "daemon/duty_scale.h"

#include <math.h>

#define DUTY_PRICE_ERROR 0.3
/* In cold code a hit costs up to so many times as much. */
#define DUTY_PRICE_MOST 2
/* A target that waits shows so much of what probes take as CPU time that it uses beside its own, at least. */
#define DUTY_SHOWN_LEAST 0.5
/* What probes take, below which nothing else can be better than time. */
#define DUTY_COSTS_NOTHING 0.01
/* With fewer hits than these nothing is made of them, and with fewer than so many times those that are not counted yet. */
#define DUTY_LEAST_HITS 1000
#define DUTY_OF_UNCOUNTED 10
/* Behind a probe own code runs slower for a moment, since the kernel has used the caches: by so much or so of a hit, which is taken to be its own. */
#define DUTY_BEHIND_NS 10
/* Threads with fewer ticks are taken together, as if they were alike: what part they had in the cost counts as an error. */
#define DUTY_LEAST_TICKS 10
/* One thread that has as much of the CPU time, and of what probes cost, is all there is: a price knows of no threads. */
#define DUTY_ALONE 0.95
/* Of threads that were never seen in their own code nothing can be said: those that had at most such a part in it are left out, and it counts as an
 * error. */
#define DUTY_UNKNOWN_MOST 0.25

/* ---- what is counted */

void duty_count(struct duty_work *work, uint64_t ns, uint64_t hits, uint64_t cpu_ns, uint64_t overhead_ns)
{
    work->cpu_ns += cpu_ns;
    work->hits += hits;
    work->overhead_ns += overhead_ns;
    work->slices.n++;
    work->slices.ns += (double)ns;
    work->slices.hits_squares += (double)hits * (double)hits;
    work->slices.ns_squares += (double)ns * (double)ns;
    work->slices.hits_times_ns += (double)hits * (double)ns;
    work->slices.cpu_squares += (double)cpu_ns * (double)cpu_ns;
    work->slices.hits_times_cpu += (double)hits * (double)cpu_ns;
}

static struct duty_thread *thread_of(struct duty_work *work, uint32_t tid)
{
    for (uint32_t i = 0; i < work->n_threads; i++)
        if (work->threads[i].tid == tid)
            return &work->threads[i];
    if (work->n_threads == DUTY_MAX_THREADS)
        return &work->threads[DUTY_MAX_THREADS - 1];
    struct duty_thread *thread = &work->threads[work->n_threads++];
    thread->tid = work->n_threads == DUTY_MAX_THREADS ? 0 : tid;
    return thread;
}

void duty_tick(struct duty_work *work, uint32_t tid, bool probed, bool own)
{
    struct duty_thread *thread = thread_of(work, tid);
    struct duty_ticks *ticks = probed ? &thread->probed : &thread->bare;

    ticks->all++;
    ticks->own += own;
    ticks->part += own;
    (probed ? &work->probed : &work->bare)->part++;
}

void duty_part_end(struct duty_work *work, bool probed)
{
    struct duty_parts *parts = probed ? &work->probed : &work->bare;
    double all = parts->part;

    for (uint32_t i = 0; i < work->n_threads; i++) {
        struct duty_ticks *ticks = probed ? &work->threads[i].probed : &work->threads[i].bare;
        ticks->squares += (double)ticks->part * ticks->part;
        ticks->times_all += (double)ticks->part * all;
        ticks->part = 0;
    }
    parts->squares += all * all;
    parts->n += all > 0;
    parts->part = 0;
}

/* Of one thread or several: sums. */
struct ticks {
    struct {
        double all, own, squares, times_all;
    } bare, probed;
    unsigned n; /* threads */
};

static void ticks_add(struct ticks *t, const struct duty_thread *thread)
{
    t->bare.all += thread->bare.all;
    t->bare.own += thread->bare.own;
    t->bare.squares += thread->bare.squares;
    t->bare.times_all += thread->bare.times_all;
    t->probed.all += thread->probed.all;
    t->probed.own += thread->probed.own;
    t->probed.squares += thread->probed.squares;
    t->probed.times_all += thread->probed.times_all;
    t->n += thread->tid ? 1 : 2; /* at least */
}

/* What probes took of the thread's ticks: time that is not its own comes with its own as it does without them. */
static double ticks_cost(const struct ticks *t)
{
    double usual = t->bare.own > 0 ? (t->bare.all - t->bare.own) * t->probed.own / t->bare.own : 0;
    double cost = t->probed.all - t->probed.own - usual;
    return cost > 0 ? cost : 0;
}

/* Of own / all, over its square: by chance, and as far as parts differ by more than that, twice: hits are counted in other parts. */
static double ratio_variance(double own, double all, double squares, double times_all, const struct duty_parts *parts)
{
    double share = own / all, by_chance = (1 - share) / own;
    double differ = squares - 2 * share * times_all + share * share * parts->squares;
    double by_parts = parts->n > 1 ? differ / (own * own) * parts->n / (parts->n - 1) : 1;
    return by_parts > by_chance ? 2 * by_parts - by_chance : by_chance;
}

/* ---- threads */

struct slowing {
    double cost, weighted, variance; /* sums over threads; weighted: cost times how much more they do by themselves without probes */
    double unknown;                  /* cost of those of which that is not known, and is not in these; */
    double alike;                    /* and of those that are taken to be alike */
    double alone;                    /* of a thread that has all but some of the CPU time */
};

static void slowing_add(struct slowing *s, const struct ticks *t, const struct ticks *all, const struct duty_work *work)
{
    double cost = ticks_cost(t);

    if (cost == 0)
        return;
    if (t->bare.own == 0 || t->probed.own == 0) {
        s->unknown += cost;
        return;
    }
    double ratio = t->bare.own / all->bare.all * all->probed.all / t->probed.own;
    double variance = ratio_variance(t->probed.own, all->probed.all, t->probed.squares, t->probed.times_all, &work->probed)
                      + ratio_variance(t->bare.own, all->bare.all, t->bare.squares, t->bare.times_all, &work->bare);
    s->cost += cost;
    s->weighted += cost * ratio;
    s->variance += cost * ratio * cost * ratio * variance;
    s->alike += t->n > 1 ? cost : 0;
    if (t->n == 1 && t->probed.all >= DUTY_ALONE * all->probed.all)
        s->alone = cost;
}

static void slowing_find(const struct duty_work *work, struct slowing *ret)
{
    struct ticks rest = {0}, all = {0};

    *ret = (struct slowing){0};
    for (uint32_t i = 0; i < work->n_threads; i++)
        ticks_add(&all, &work->threads[i]);
    for (uint32_t i = 0; i < work->n_threads; i++) {
        struct ticks one = {0};
        ticks_add(&one, &work->threads[i]);
        if (one.n > 1 || one.probed.all < DUTY_LEAST_TICKS)
            ticks_add(&rest, &work->threads[i]);
        else
            slowing_add(ret, &one, &all, work);
    }
    slowing_add(ret, &rest, &all, work);
}

/* ---- ways */

/* How far hits in a time may be off, or in a CPU time, since slices differ: as a part. */
static double slices_error(const struct duty_work *work, double ns, double squares, double times)
{
    double n = work->slices.n, hits = (double)work->hits, rate = hits / ns;
    double differ = work->slices.hits_squares - 2 * rate * times + rate * rate * squares;

    return n > 1 && differ > 0 ? sqrt(differ * n / (n - 1)) / hits : 0;
}

static double time_cost_ns(const struct duty_window *window, const struct duty_work *work)
{
    double samples_ns = work->hits > 0 ? (double)work->overhead_ns / (double)work->hits : 0;
    return (double)window->hits * ((double)window->hit_ns + samples_ns);
}

/* Whether what probes take is added to the CPU time that the target uses otherwise. */
static bool time_is_added(const struct duty_window *window, const struct duty_work *work, double cost_ns)
{
    double in_ns = work->hits > 0 ? (double)window->hits * (double)work->cpu_ns / (double)work->hits : 0;
    double out_ns = (double)window->cpu_ns - in_ns, rest_ns = (double)window->window_ns - (double)window->attached_ns;

    return rest_ns > 0 && in_ns - out_ns * (double)window->attached_ns / rest_ns > DUTY_SHOWN_LEAST * cost_ns;
}

/* A target that waits has lost what probes took of one CPU at most, another one what they took of its own CPU time. INFINITY: more than there is. */
static double time_error(const struct duty_window *window, const struct duty_work *work)
{
    double cost_ns = time_cost_ns(window, work), of_one = cost_ns / (double)window->attached_ns;
    double of_own = work->cpu_ns > 0 && work->hits > 0 ? cost_ns / (double)window->hits * (double)work->hits / (double)work->cpu_ns : of_one;
    double part = DUTY_PRICE_MOST * (of_own > of_one && !time_is_added(window, work, cost_ns) ? of_own : of_one);
    double differ = work->hits > 0 ? slices_error(work, work->slices.ns, work->slices.ns_squares, work->slices.hits_times_ns) : 0;

    return window->hit_ns > 0 && part < 1 ? hypot(part / (1 - part), differ) : INFINITY;
}

/* Without probes each hit takes own_ns of CPU time. */
static void scale_by_own(const struct duty_window *window, const struct duty_work *work, double own_ns, struct duty_scale *ret)
{
    double seen = (double)window->hits, known = seen + (double)window->unseen_hits;
    double bare_ns = (double)window->cpu_ns - known * (double)work->cpu_ns / (double)work->hits, bare = bare_ns > 0 ? bare_ns / own_ns : 0;

    ret->factor = (known + bare) / seen;
    double differ = slices_error(work, (double)work->cpu_ns, work->slices.cpu_squares, work->slices.hits_times_cpu);
    double taken_off = known * (double)work->cpu_ns / (double)work->hits / own_ns; /* which is as far off as slices differ, and the same way */
    ret->error = (hypot(ret->error, differ) * bare + differ * taken_off) / (known + bare);
}

static bool scale_by_price(const struct duty_window *window, const struct duty_work *work, const struct slowing *slowing, struct duty_scale *ret)
{
    double price_ns = (double)window->hit_ns + (double)work->overhead_ns / (double)work->hits;
    double own_ns = (double)work->cpu_ns / (double)work->hits - price_ns;

    if (window->hit_ns == 0 || own_ns <= 0 || slowing->alone < DUTY_ALONE * (slowing->cost + slowing->unknown))
        return false;
    *ret = (struct duty_scale){.way = DUTY_BY_PRICE, .error = DUTY_PRICE_ERROR * price_ns / own_ns};
    if (work->n_threads == 0) /* nobody looked: they may be of all sorts */
        ret->error = hypot(ret->error, 1);
    scale_by_own(window, work, own_ns, ret);
    return true;
}

static bool scale_by_ticks(const struct duty_window *window, const struct duty_work *work, const struct slowing *slowing, struct duty_scale *ret)
{
    double ratio = slowing->weighted / slowing->cost, all = slowing->cost + slowing->unknown;
    double unsure = (slowing->unknown + slowing->alike) / all;

    if (slowing->cost == 0 || slowing->unknown > DUTY_UNKNOWN_MOST * all)
        return false;
    double own_ns = (double)work->cpu_ns / (double)work->hits / ratio;
    double by_chance = sqrt(slowing->variance) / slowing->weighted;
    *ret = (struct duty_scale){.way = DUTY_BY_TICKS, .error = hypot(hypot(by_chance, DUTY_BEHIND_NS / own_ns), unsure)};
    scale_by_own(window, work, own_ns, ret);
    return true;
}

void duty_scale_find(const struct duty_window *window, const struct duty_work *work, struct duty_scale *ret)
{
    struct duty_scale other;
    struct slowing slowing;

    *ret = (struct duty_scale){.way = DUTY_BY_TIME, .factor = (double)window->window_ns / (double)window->attached_ns};
    if (ret->factor < 1)
        ret->factor = 1;
    if (window->hits == 0)
        return; /* of nothing, it is nothing */
    ret->error = time_error(window, work);
    if (window->cpu_ns == 0 || work->cpu_ns == 0 || ret->error < DUTY_COSTS_NOTHING ||
        work->hits < DUTY_LEAST_HITS + DUTY_OF_UNCOUNTED * window->uncounted_hits)
        return;
    slowing_find(work, &slowing);
    if (scale_by_price(window, work, &slowing, &other) && other.error < ret->error)
        *ret = other;
    if (scale_by_ticks(window, work, &slowing, &other) && other.error < ret->error)
        *ret = other;
}
