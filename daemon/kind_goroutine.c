/* goroutine, or threads: the stacks of all threads, as they are now. The name is the one that Go's tools ask for; of a Go program it shows
 * goroutines. */
#include "daemon/kind_goroutine.h"

#include <stdio.h>

#include "daemon/http.h"
#include "daemon/kind.h"
#include "daemon/params.h"
#include "daemon/raw_profile.h"
#include "daemon/server.h"
#include "daemon/session.h"
#include "daemon/session_params.h"

static const struct param_spec specs[] = {
    PARAM_DEBUG("0: a profile; 1: text, stacks by how often; 2: text, a stack for each thread"),
    PARAM_KERNEL,
    PARAM_TID,
    PARAM_THREAD,
    PARAM_STATE,
    PARAM_FOCUS,
    PARAM_FORMAT,
    PARAM_SYMBOLIZE,
    PARAM_NO_SECONDS,
    PARAM_IGNORED("gc", "none"),
};
static const struct param_table goroutine_params = PARAM_TABLE(specs);

bool dump_is_possible(const struct server *server, struct http_request *request)
{
    if (server->can_sample && server->sampler.dump.area)
        return true;
    http_reply_error(request, 503, "threads can't be dumped here: %s",
                     server->can_sample ? server->sampler.dump.error : server->sampler_error);
    return false;
}

static void dump_start(struct server *server, struct http_request *request, pid_t pid, const struct kind *kind)
{
    struct session_params params;

    session_params_init(&params);
    params.event = EVENT_DUMP;
    params.duration_ns = 0;
    (void)snprintf(params.event_text, sizeof(params.event_text), "threads");
    if (!kind_parse_query(server, request, kind, &params))
        return;
    /* What is asked of threads is answered by threads. */
    params.goroutines = kind == &kind_goroutine && params.tid == 0 && !params.thread[0] && params.states == 0 && !params.kernel;
    if (dump_is_possible(server, request))
        session_start(server, request, pid, &params, kind->name);
}

#define GOROUTINE_TYPES \
    {.type = {"goroutine"}, .unit = {"count"}, .n = 1, .period_type = "goroutine", .period_unit = "count", .default_type = "goroutine"}

const struct kind kind_goroutine = {
    .name = "goroutine",
    .path = "goroutine?debug=1",
    .description = "The stacks of all threads as they are now, and what each waits for; of a Go program those of all its goroutines. With "
                   "debug=2 a stack for each.",
    .types = GOROUTINE_TYPES,
    .params = &goroutine_params,
    .start = dump_start,
};

const struct kind kind_threads = {
    .name = "threads",
    .path = "threads?debug=1",
    .description = "The same as goroutine, but of a Go program too it shows threads.",
    .types = GOROUTINE_TYPES,
    .params = &goroutine_params,
    .start = dump_start,
};
