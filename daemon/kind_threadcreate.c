/* threadcreate: the stacks that made threads. Of threads that were there before anybody watched, what they began with. */
#include "daemon/http.h"
#include "daemon/kind.h"
#include "daemon/kind_goroutine.h"
#include "daemon/params.h"
#include "daemon/session.h"
#include "daemon/session_params.h"

#include <stdio.h>

static const struct param_spec specs[] = {
    PARAM_DELTA_SECONDS,
    PARAM_DEBUG("0: a profile; 1: text, stacks by how often"),
    PARAMS_OF_CUMULATIVE,
};
static const struct param_table threadcreate_params = PARAM_TABLE(specs);

static void threadcreate_record(struct session_params *params)
{
    params->event = EVENT_NEW_THREAD;
    params->period = 1;
    (void)snprintf(params->event_text, sizeof(params->event_text), "new threads");
}

/* Nobody watches: a dump of what is there, so that there is an answer for any process. */
static void threadcreate_unwatched(struct server *server, struct http_request *request, pid_t pid, const struct session_params *params)
{
    struct session_params dump = *params;

    dump.event = EVENT_DUMP;
    dump.starts = true;
    (void)snprintf(dump.event_text, sizeof(dump.event_text), "threads");
    if (dump_is_possible(server, request))
        session_start(server, request, pid, &dump, "threadcreate");
}

const struct kind kind_threadcreate = {
    .name = "threadcreate",
    .path = "threadcreate?debug=1",
    .description = "The stacks that made threads, since the process is watched; of threads that are older, the function that they began with.",
    .types = {.type = {"threadcreate"}, .unit = {"count"}, .n = 1, .period_type = "threadcreate", .period_unit = "count",
              .default_type = "threadcreate"},
    .params = &threadcreate_params,
    .cumulative = true,
    .record = threadcreate_record,
    .unwatched = threadcreate_unwatched,
    .start = cumulative_start,
};
