/* heap and allocs: what is allocated, and what of it is live. One recording, of which they show the same by another sample type first. */
#include <stdio.h>

#include "bpf/heap.h"
#include "daemon/kind.h"
#include "daemon/params.h"

#define HEAP_PARAMS \
    PARAM_DELTA_SECONDS, \
    {"rate", "integer", "[1, 68719476736]", "524288", \
     "one byte in so many is a sampling point, on average; 1: each allocation is seen", param_heap_rate, .watch = true}, \
    PARAM_DEBUG("0: a profile; else text"), PARAM_FOCUS, PARAM_FORMAT, PARAM_SYMBOLIZE, PARAM_UNWIND, PARAM_MAX_OVERHEAD, \
    PARAM_IGNORED("gc", "none")

static const struct param_spec heap_specs[] = {
    HEAP_PARAMS,
    PARAM_NO_DUTY("what is live is known only where each free is seen; allocs?seconds=N&duty=PERCENT shows what is allocated"),
};
static const struct param_table heap_params = PARAM_TABLE(heap_specs);

static const struct param_spec allocs_specs[] = {HEAP_PARAMS, PARAM_DUTY};
static const struct param_table allocs_params = PARAM_TABLE(allocs_specs);

#define HEAP_TYPES \
    .type = {"alloc_objects", "alloc_space", "inuse_objects", "inuse_space"}, .unit = {"count", "bytes", "count", "bytes"}, .n = 4, \
    .period_type = "space", .period_unit = "bytes"

static void heap_record(struct session_params *params)
{
    params->event = EVENT_HEAP;
    params->rate = 524288;
    (void)snprintf(params->event_text, sizeof(params->event_text), "allocations");
}

const struct kind kind_heap = {
    .name = "heap",
    .path = "heap?debug=1",
    .description = "What the process has allocated since it is watched, or in seconds=, and what of that is live. Of memory that is older "
                   "nothing is known.",
    .types = {HEAP_TYPES, .default_type = "inuse_space"},
    .params = &heap_params,
    .cumulative = true,
    .record = heap_record,
    .start = cumulative_start,
};

const struct kind kind_allocs = {
    .name = "allocs",
    .path = "allocs?debug=1",
    .description = "The same as heap, with all that was allocated shown first. To watch either is to watch both.",
    .types = {HEAP_TYPES, .default_type = "alloc_space"},
    .params = &allocs_params,
    .cumulative = true,
    .watched_as = &kind_heap,
    .record = heap_record,
    .start = cumulative_start,
};
