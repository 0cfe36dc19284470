/* block: what threads wait for other threads to let go of, charged to who waits. */
#include <stdio.h>

#include "bpf/control.h"
#include "daemon/kind.h"
#include "daemon/params.h"

static const struct param_spec specs[] = {
    PARAM_DELTA_SECONDS,
    PARAM_OWN_RATE("rate", "1", "waits that are shorter than so many nanoseconds are sampled, and scaled up; 1 is all, 0 none"),
    PARAM_RATE("block_rate", "1", "the same, by the name that a watch takes"),
    PARAM_DEBUG("0: a profile; else text"),
    PARAM_KERNEL,
    PARAM_TID,
    PARAM_THREAD,
    PARAM_FOCUS,
    PARAM_FORMAT,
    PARAM_SYMBOLIZE,
    PARAM_UNWIND,
    PARAM_MAX_OVERHEAD,
    PARAM_IGNORED("gc", "none"),
};
static const struct param_table block_params = PARAM_TABLE(specs);

static void kind_block_record(struct session_params *params)
{
    params->event = EVENT_SCHED;
    params->sched_kind = SCHED_BLOCK;
    params->rate = 1;
    (void)snprintf(params->event_text, sizeof(params->event_text), "waits");
}

static void kind_block_start(struct server *server, struct http_request *request, pid_t pid)
{
    cumulative_start(server, request, pid, &kind_block);
}

const struct kind kind_block = {
    .name = "block",
    .path = "block?debug=1",
    .description = "Where threads wait for others: for locks, conditions, semaphores, ends of threads, locked files. As long as the process is "
                   "watched, or for seconds=.",
    .types = {.type = {"contentions", "delay"}, .unit = {"count", "nanoseconds"}, .n = 2, .period_type = "contentions",
              .period_unit = "count", .default_type = "delay"},
    .params = &block_params,
    .cumulative = true,
    .record = kind_block_record,
    .start = kind_block_start,
};
