/* The price of a recording, as it runs: the time that its programs take in the kernel, beside the CPU time that the target uses. Above
 * the budget fewer samples are taken, each standing for more, so that weights stay right; where even that is too much the window
 * ends. Either is said. A target that mostly waits uses next to nothing, and a share of that would leave out waits to save nobody anything:
 * it is taken to use a fifth of a CPU at least, and where its waits are what is asked for, in a window, a whole one: each of its switches
 * costs something, walked or not, so that leaving out more and more stacks would not help, and the window would end. Owns nothing: the
 * recording does. */
#include <errno.h>
#include <event2/event.h>

#include "daemon/cpu_clock.h"
#include "daemon/recording_impl.h"
#include "daemon/server.h"
#include "util/clock.h"

/* How often. A comparison needs so much CPU time of the target that a single sample can't exceed the budget by chance. */
#define BUDGET_INTERVAL_US 100000
/* A program that allocates in bursts may stay within the budget at each second comparison, and be far above it on the whole. */
#define BUDGET_LONG_NS NSEC_PER_SEC
#define BUDGET_STANDING_INTERVAL_S 1 /* of a watch: it goes on for days, and costs next to nothing while its target is idle */
#define BUDGET_LEAST_CPU_NS (20 * NSEC_PER_MSEC)
/* The kernel adds up a target's CPU time thread by thread: a reading that took long is not made again before so many times as long, or this. */
#define BUDGET_READING_PART 500
#define BUDGET_READING_MAX_NS (2 * NSEC_PER_SEC)
/* What a target is taken to use at least: one part in so many of one CPU; and in a window of waits. A watch goes on for days. */
#define BUDGET_IDLE_PART 5
#define BUDGET_WAITS_IDLE_PART 1
/* What a target is taken to use itself, at least, of the time in which probes are hit. */
#define BUDGET_LEAST_PART 1000
/* With duty=: a comparison needs one part in so many of the time that probes are attached on average. */
#define BUDGET_SLICE_PART 4
/* Beyond this nothing is left that were worth the name of a profile. */
#define BUDGET_MAX_THIN 256

/* may: what hits leave of the budget. */
static void recording_spend_less(struct recording *rec, double share, double may)
{
    uint32_t thin = rec->spent.thin;

    if (rec->heap) /* whose samples are few: what costs is every call */
        thin = BUDGET_MAX_THIN + 1;
    while (share > may && thin <= BUDGET_MAX_THIN) {
        thin *= 2;
        share /= 2;
    }
    if (thin > BUDGET_MAX_THIN) {
        rec->ended = "overhead";
        recording_close(rec);
        return;
    }
    rec->spent.thin = thin;
    recorder_thin(rec->recorder, thin);
}

/* A watch outlives what was dear for a while: once less than a quarter of the budget is used, each sample stands for half as many. */
static void recording_spend_more(struct recording *rec, double share)
{
    if (!rec->watch || rec->spent.thin == 1 || share > rec->params.max_overhead / 100 / 4)
        return;
    rec->spent.thin /= 2;
    recorder_thin(rec->recorder, rec->spent.thin);
}

static uint64_t recording_idle_part(const struct recording *rec)
{
    const struct session_params *p = &rec->params;
    bool of_waits = (p->sched_kind != SCHED_NONE && p->sched_kind != SCHED_TRACE) || p->go_kind != GO_WAITS_NONE;

    return of_waits && !rec->watch ? BUDGET_WAITS_IDLE_PART : BUDGET_IDLE_PART;
}

/* What the target pays for hits alone: no sample that is not taken makes it less. */
static double recording_hits_share(uint64_t hits_ns, uint64_t used_ns)
{
    double cost_ns = (double)hits_ns, own_ns = (double)used_ns - cost_ns;
    return cost_ns / (own_ns > (double)used_ns / BUDGET_LEAST_PART ? own_ns : (double)used_ns / BUDGET_LEAST_PART);
}

struct budget_share {
    double samples, hits;
};

/* With duty=, how many times as long as between two marks probes are attached in a time of that length on average: slices come at random. 0: next to
 * none was between them. */
static double recording_usual(const struct recording *rec, const struct recording_mark *from, const struct recording_mark *to)
{
    double usual_ns = recorder_duty_part(rec->recorder) * (double)(to->at_ns - from->at_ns);
    double attached_ns = (double)(to->attached_ns - from->attached_ns);

    if (rec->params.duty == 0)
        return 1;
    return attached_ns < usual_ns / BUDGET_SLICE_PART ? 0 : usual_ns / attached_ns;
}

/* What it cost between two marks. False: too short to tell. */
static bool recording_share(const struct recording *rec, const struct recording_mark *from, const struct recording_mark *to, struct budget_share *ret)
{
    uint64_t used_ns = to->cpu_ns - from->cpu_ns, least_ns = (to->at_ns - from->at_ns) / recording_idle_part(rec);

    if (used_ns < least_ns)
        used_ns = least_ns;
    double usual = recording_usual(rec, from, to);
    if (used_ns < BUDGET_LEAST_CPU_NS || usual == 0)
        return false;
    ret->samples = usual * (double)(to->overhead_ns - from->overhead_ns) / (double)used_ns;
    ret->hits = usual * recording_hits_share(to->hits_ns - from->hits_ns, used_ns);
    return true;
}

/* Of allocations, whose budget is not kept by taking fewer samples. */
static bool recording_is_dear_at_length(struct recording *rec, const struct recording_mark *now)
{
    struct budget_share share;

    if (!rec->heap || now->at_ns - rec->spent.long_ago.at_ns < BUDGET_LONG_NS || !recording_share(rec, &rec->spent.long_ago, now, &share))
        return false;
    rec->spent.long_ago = *now;
    return share.samples + share.hits > rec->params.max_overhead / 100;
}

static void recording_compare(struct recording *rec, const struct recording_mark *now)
{
    double may = rec->params.max_overhead / 100;
    struct budget_share share;
    bool twice = rec->spent.exceeded;

    if (!recording_share(rec, &rec->spent.compared, now, &share))
        return;
    rec->spent.exceeded = share.samples + share.hits > may;
    rec->spent.compared = *now;
    if ((rec->spent.exceeded && twice) || (!rec->watch && recording_is_dear_at_length(rec, now))) {
        rec->spent.exceeded = false;
        recording_spend_less(rec, share.samples, may - share.hits);
        return;
    }
    recording_spend_more(rec, share.samples + share.hits);
}

static void recording_on_budget(evutil_socket_t fd, short what, void *arg)
{
    struct recording *rec = arg;
    struct recording_mark now = {.at_ns = monotonic_ns(), .overhead_ns = recorder_ctl(rec->recorder)->overhead_ns};

    if (rec->watch)
        recorder_tidy(rec->recorder);
    if (recorder_ctl(rec->recorder)->full_ns) {
        rec->ended = "room";
        recording_close(rec);
        return;
    }
    if (now.at_ns < rec->spent.again_ns || process_cpu_ns(rec->pid, &now.cpu_ns) < 0)
        return;
    uint64_t rest_ns = (monotonic_ns() - now.at_ns) * BUDGET_READING_PART;
    rec->spent.again_ns = now.at_ns + (rest_ns < BUDGET_READING_MAX_NS ? rest_ns : BUDGET_READING_MAX_NS);
    now.hits_ns = recorder_hits_ns(rec->recorder);
    now.attached_ns = recorder_attached_so_far_ns(rec->recorder);
    recording_compare(rec, &now);
}

int recording_budget_new(struct recording *rec)
{
    rec->spent.thin = 1;
    rec->budget = event_new(rec->server->base, -1, EV_PERSIST, recording_on_budget, rec);
    return rec->budget ? 0 : -ENOMEM;
}

void recording_budget_open(struct recording *rec)
{
    struct timeval interval = {.tv_usec = BUDGET_INTERVAL_US};

    if (rec->watch || rec->params.duty > 0) /* about a slice of its probes */
        interval = (struct timeval){.tv_sec = BUDGET_STANDING_INTERVAL_S};
    rec->spent.compared = (struct recording_mark){.at_ns = monotonic_ns(), .cpu_ns = rec->cpu_open_ns,
                                                  .attached_ns = recorder_attached_so_far_ns(rec->recorder)};
    rec->spent.long_ago = rec->spent.compared;
    (void)event_add(rec->budget, &interval); /* where that fails, no time is left to compare either */
}
