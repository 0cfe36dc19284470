/* Parses a query by its kind's table. A parameter that is unknown, repeated or malformed is refused, and the answer
 * says what is right: a typo must not cost half a minute of the wrong profile. */
#include "daemon/session_params.h"

#include <errno.h>
#include <event2/keyvalq_struct.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <string.h>
#include <sys/queue.h>

#include "bpf/control.h"
#include "bpf/custom.h"
#include "daemon/params.h"
#include "daemon/quote.h"
#include "daemon/raw_profile.h"
#include "util/clock.h"

static const struct param_spec specs[] = {
    PARAM_SECONDS("30"),
    {"event", "event", "an event of this machine", "cpu-clock", "what to count", param_event},
    {"hz", "number", "(0, 1000000]", "100", "samples a second of CPU time; for cpu-clock alone, and not with period", param_hz},
    {"period", "integer", "[1, 1000000000000000]", "10000000 ns for cpu-clock, 1000000 for hardware and raw events, 1 for others",
     "one sample in so many nanoseconds of CPU time (cpu-clock) or events; the least are 100000, 10000 (hardware and raw) and 1, "
     "and a shorter one is raised", param_period},
    PARAM_KERNEL,
    PARAM_TID,
    PARAM_THREAD,
    PARAM_FOCUS,
    PARAM_FORMAT,
    PARAM_SYMBOLIZE,
    PARAM_UNWIND,
    {"audit", "boolean", "0|1", "0", "unwind some samples a second time, by other means, and say how many agreed", param_audit},
    PARAM_MAX_OVERHEAD,
    PARAM_DUTY,
    PARAM_IGNORED("debug", "0"),
    PARAM_IGNORED("gc", "none"),
};
const struct param_table profile_params = PARAM_TABLE(specs);

static int refuse_unknown(struct param_parse *p, const struct param_table *table, const char *name)
{
    char quoted[QUOTE_LEN], known[512];
    size_t n = 0;
    for (size_t i = 0; i < table->n && n < sizeof(known); i++)
        n += (size_t)snprintf(known + n, sizeof(known) - n, "%s%s", i ? ", " : "", table->specs[i].name);
    return param_refuse(p, "unknown parameter %s; known: %s", quote(name, quoted), known);
}

/* hz and period are two names of one thing, and what they mean hangs on the event, which may come after them. */
static int settle_period(struct param_parse *p, uint32_t max_hz)
{
    struct session_params *params = &p->params;
    struct event_periods periods;
    event_periods(params, &periods);
    if (p->hz > 0 && p->period > 0)
        return param_refuse(p, "\"hz\" and \"period\" say the same thing: give one of them");
    if (p->hz > 0 && params->event != EVENT_CPU_CLOCK)
        return param_refuse(p, "\"hz\" goes with event=cpu-clock alone; for other events give \"period\", one sample in so many events");
    params->period = p->period ? p->period : periods.fallback;
    if (p->hz > 0)
        params->period = (uint64_t)(NSEC_PER_SEC / p->hz + 0.5);
    uint64_t least = periods.least;
    if (params->event == EVENT_CPU_CLOCK && max_hz > 0 && NSEC_PER_SEC > (uint64_t)max_hz * least)
        least = (NSEC_PER_SEC + max_hz - 1) / max_hz;
    if (params->period < least) {
        params->period = least;
        params->period_raised = true;
    }
    return 0;
}

/* An event's samples are named by it, CPU time's by the kind. */
static void settle_types(struct session_params *params)
{
    struct raw_types *t = &params->types;

    if (params->event == EVENT_CPU_CLOCK || params->event == EVENT_NEW_THREAD || params->event == EVENT_DUMP || params->event == EVENT_SCHED ||
        params->event == EVENT_HEAP || params->event == EVENT_GROWTH || params->event == EVENT_CUSTOM)
        return;
    *t = (struct raw_types){.n = 2, .unit = {"count", "count"}, .period_unit = "count"};
    (void)snprintf(t->type[0], sizeof(t->type[0]), "%.50s_sample", params->event_name);
    (void)snprintf(t->type[1], sizeof(t->type[1]), "%.50s_event", params->event_name);
    (void)snprintf(t->period_type, sizeof(t->period_type), "%.60s", params->event_name);
    (void)snprintf(t->default_type, sizeof(t->default_type), "%.63s", t->type[1]);
}

/* What is seen in slices says nothing of what is live: which of what was allocated in them was freed between them is not seen. */
static int settle_duty(struct param_parse *p)
{
    struct session_params *params = &p->params;

    if (params->duty == 0)
        return 0;
    if (params->event != EVENT_UPROBE && params->event != EVENT_USDT && params->event != EVENT_HEAP)
        return param_refuse(p, "\"duty\" goes with probes (uprobe, usdt) alone");
    if (params->duration_ns < DUTY_LEAST_NS)
        return param_refuse(p, "\"duty\" goes with \"seconds\", of %g at least: probes are attached about once a second, and what is seen then "
                            "stands for all of a window", (double)DUTY_LEAST_NS / NSEC_PER_SEC);
    if (params->event == EVENT_HEAP)
        params->types.n = 2;
    return 0;
}

static int settle(struct param_parse *p, uint32_t max_hz)
{
    const struct session_params *params = &p->params;
    bool copy = params->unwind == SESSION_UNWIND_COPY;

    int r = settle_period(p, max_hz);
    if (r < 0)
        return r;
    settle_types(&p->params);
    if (!params->custom.add.symbol[0] && params->custom.remove.symbol[0])
        return param_refuse(p, "\"remove\" goes with \"add\", a function whose calls add values");
    if (params->custom.unit[0] && params->custom.weight == CUSTOM_NOWHERE)
        return param_refuse(p, "\"unit\" goes with \"weight\": of values that are counted alone there is none");
    if (copy && ((params->event != EVENT_CPU_CLOCK && params->event != EVENT_PERF) || params->sched_kind != SCHED_NONE))
        return param_refuse(p, "\"unwind=copy\" goes with cpu-clock, hardware, software and raw events: probes, tracepoints and waits need BPF");
    r = settle_duty(p);
    if (r < 0)
        return r;
    if (params->waker && params->kernel)
        return param_refuse(p, "\"waker=1\" shows the user stacks of who waits and who wakes: not with \"kernel=1\"");
    if (copy && params->audit)
        return param_refuse(p, "\"audit=1\" checks stacks that were walked in the kernel: with \"unwind=copy\" none are");
    return 0;
}

void session_params_init(struct session_params *ret)
{
    *ret = (struct session_params){
        .duration_ns = 30 * NSEC_PER_SEC, .event = EVENT_CPU_CLOCK, .event_text = "cpu-clock", .event_name = "cpu-clock",
        .perf_type = PERF_TYPE_SOFTWARE, .perf_config = PERF_COUNT_SW_CPU_CLOCK,
        .format = RAW_FORMAT_PPROF, .symbolize = RAW_SYMBOLIZE_FULL,
    };
}

int session_params_parse(const struct evkeyvalq *query, const struct param_table *table, uint32_t max_hz, struct session_params *params,
                         char *error, size_t error_len)
{
    struct param_parse p = {.params = *params, .error = error, .error_len = error_len};
    uint64_t seen = 0;
    const struct evkeyval *kv;

    TAILQ_FOREACH(kv, query, next) {
        size_t i = 0;
        while (i < table->n && strcmp(table->specs[i].name, kv->key) != 0)
            i++;
        if (i == table->n)
            return refuse_unknown(&p, table, kv->key);
        if (seen & 1ull << i)
            return param_refuse(&p, "parameter \"%s\" is given twice", kv->key);
        seen |= 1ull << i;
        int r = table->specs[i].parse(&p, &table->specs[i], kv->value);
        if (r < 0)
            return r;
    }
    int r = settle(&p, max_hz);
    if (r == 0)
        *params = p.params;
    return r;
}
