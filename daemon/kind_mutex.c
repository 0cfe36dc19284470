/* mutex: the same waits as block's, as far as they are for locks, charged to who holds them: to the stack that releases the lock. */
#include <stdio.h>

#include "bpf/control.h"
#include "daemon/kind.h"
#include "daemon/params.h"

static const struct param_spec specs[] = {
    PARAM_DELTA_SECONDS,
    PARAM_FRACTION("1", "one release in so many counts, on average, for all of them; 1 is all, 0 none"),
    PARAM_DEBUG("0: a profile; else text"),
    PARAMS_OF_CUMULATIVE,
};
static const struct param_table mutex_params = PARAM_TABLE(specs);

static void kind_mutex_record(struct session_params *params)
{
    params->event = EVENT_SCHED;
    params->sched_kind = SCHED_MUTEX;
    params->fraction = 1;
    (void)snprintf(params->event_text, sizeof(params->event_text), "releases");
}

const struct kind kind_mutex = {
    .name = "mutex",
    .path = "mutex?debug=1",
    .description = "Who makes others wait: the stacks that release locks, and how long others waited for them in these holds. As long as the "
                   "process is watched, or for seconds=.",
    .types = KIND_CONTENTION_TYPES,
    .params = &mutex_params,
    .cumulative = true,
    .record = kind_mutex_record,
    .start = cumulative_start,
};
