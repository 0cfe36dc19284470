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
    PARAMS_OF_CUMULATIVE,
};
static const struct param_table block_params = PARAM_TABLE(specs);

static void kind_block_record(struct session_params *params)
{
    params->event = EVENT_SCHED;
    params->sched_kind = SCHED_BLOCK;
    params->rate = 1;
    (void)snprintf(params->event_text, sizeof(params->event_text), "waits");
}

const struct kind kind_block = {
    .name = "block",
    .path = "block?debug=1",
    .description = "Where threads wait for others: for locks, conditions, semaphores, ends of threads, locked files. As long as the process is "
                   "watched, or for seconds=.",
    .types = KIND_CONTENTION_TYPES,
    .params = &block_params,
    .cumulative = true,
    .record = kind_block_record,
    .start = cumulative_start,
};
