/* growth: where the process's memory grows, by the stacks that first touch it. */
#include <stdio.h>

#include "daemon/kind.h"
#include "daemon/params.h"
#include "daemon/session.h"
#include "daemon/session_params.h"

static const struct param_spec specs[] = {
    PARAM_SECONDS("30"),
    {"period", "integer", "[1, 1000000000000000]", "1", "one event in so many, which stands for all of them", param_period},
    PARAM_KERNEL,
    PARAM_TID,
    PARAM_THREAD,
    PARAM_FOCUS,
    PARAM_FORMAT,
    PARAM_SYMBOLIZE,
    PARAM_UNWIND,
    PARAM_MAX_OVERHEAD,
    PARAM_IGNORED("debug", "0"),
    PARAM_IGNORED("gc", "none"),
};
static const struct param_table growth_params = PARAM_TABLE(specs);

static void growth_start(struct server *server, struct http_request *request, pid_t pid, const struct kind *kind)
{
    struct session_params params;

    session_params_init(&params);
    params.event = EVENT_GROWTH;
    (void)snprintf(params.event_text, sizeof(params.event_text), "%s", kind->name);
    if (kind_parse_query(server, request, kind, &params))
        session_start(server, request, pid, &params, kind->name);
}

const struct kind kind_growth = {
    .name = "growth",
    .path = "growth",
    .description = "Where the process's memory grows: the stacks that touch pages for the first time, for seconds=. What is given back meanwhile is "
                   "not taken off; the profile says how much that is.",
    .types = {.type = {"faults", "growth"}, .unit = {"count", "bytes"}, .n = 2, .period_type = "faults", .period_unit = "count",
              .default_type = "growth"},
    .params = &growth_params,
    .windowed = true,
    .start = growth_start,
};
