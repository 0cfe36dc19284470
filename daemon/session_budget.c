/* The price of a session, as it runs: the time that its programs take in the kernel, beside the CPU time that the target uses. Above
 * the budget fewer samples are taken, each standing for more, so that weights stay right; where even that is too much the window
 * ends. Either is said. Owns nothing: the session does. */
#include <errno.h>
#include <event2/event.h>

#include "daemon/cpu_clock.h"
#include "daemon/server.h"
#include "daemon/session_impl.h"

/* How often. A comparison needs so much CPU time of the target that a single sample can't exceed the budget by chance. */
#define BUDGET_INTERVAL_US 100000
#define BUDGET_LEAST_CPU_NS (20 * NSEC_PER_MSEC)
/* Beyond this nothing is left that were worth the name of a profile. */
#define BUDGET_MAX_THIN 256

static void session_spend_less(struct session *s, double share)
{
    uint32_t thin = s->spent.thin;

    while (share > s->params.max_overhead / 100 && thin <= BUDGET_MAX_THIN) {
        thin *= 2;
        share /= 2;
    }
    if (thin > BUDGET_MAX_THIN) {
        s->ended = "overhead";
        session_close(s);
        return;
    }
    s->spent.thin = thin;
    recorder_thin(s->recorder, thin);
}

static void session_on_budget(evutil_socket_t fd, short what, void *arg)
{
    struct session *s = arg;
    uint64_t cpu_ns, overhead_ns = recorder_ctl(s->recorder)->overhead_ns;

    if (process_cpu_ns(s->pid, &cpu_ns) < 0 || cpu_ns < s->spent.cpu_ns + BUDGET_LEAST_CPU_NS)
        return;
    double share = (double)(overhead_ns - s->spent.overhead_ns) / (double)(cpu_ns - s->spent.cpu_ns);
    bool twice = s->spent.exceeded;
    s->spent.exceeded = share > s->params.max_overhead / 100;
    s->spent.cpu_ns = cpu_ns;
    s->spent.overhead_ns = overhead_ns;
    if (s->spent.exceeded && twice) {
        s->spent.exceeded = false;
        session_spend_less(s, share);
    }
}

int session_budget_new(struct session *s)
{
    s->spent.thin = 1;
    s->budget = event_new(s->server->base, -1, EV_PERSIST, session_on_budget, s);
    return s->budget ? 0 : -ENOMEM;
}

void session_budget_open(struct session *s)
{
    struct timeval interval = {.tv_usec = BUDGET_INTERVAL_US};

    s->spent.cpu_ns = s->cpu_open_ns;
    (void)event_add(s->budget, &interval); /* where that fails, no time is left to compare either */
}
