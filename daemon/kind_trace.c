/* trace: each switch, wake and beginning of the process's threads in the window, in the formats of viewers. */
#include <stdio.h>

#include "bpf/control.h"
#include "daemon/http.h"
#include "daemon/kind.h"
#include "daemon/params.h"
#include "daemon/raw_profile.h"
#include "daemon/server.h"
#include "daemon/session.h"
#include "daemon/session_params.h"
#include "util/clock.h"

/* A window of a second that is asked for by hand may cost more than what runs for half a minute, or all day: the events alone, without their
 * stacks, take a good part of the time of a process that switches 100,000 times a second. */
#define TRACE_OVERHEADS 10

static const struct param_spec specs[] = {
    PARAM_SECONDS("1"),
    PARAM_KERNEL,
    {"format", "enum", "go|perfetto|chrome", "go", "an execution trace for go tool trace, Perfetto's protobuf, or Chromium's JSON",
     param_trace_format},
    PARAM_SYMBOLIZE,
    PARAM_UNWIND,
    {"max_overhead", "number", "(0, 1000000]", "10 times the setting max-overhead",
     "per cent of the process's CPU time that tracing may take: above it, fewer stacks are taken, or the window ends", param_max_overhead},
    PARAM_IGNORED("debug", "0"),
    PARAM_IGNORED("gc", "none"),
};
static const struct param_table trace_params = PARAM_TABLE(specs);

static void kind_trace_start(struct server *server, struct http_request *request, pid_t pid, const struct kind *kind)
{
    struct session_params params;

    session_params_init(&params);
    params.event = EVENT_SCHED;
    params.sched_kind = SCHED_TRACE;
    params.duration_ns = NSEC_PER_SEC;
    params.format = RAW_FORMAT_TRACE_GO;
    params.max_overhead = TRACE_OVERHEADS * server->settings->max_overhead;
    (void)snprintf(params.event_text, sizeof(params.event_text), "sched");
    if (!kind_parse_query(server, request, kind, &params))
        return;
    session_start(server, request, pid, &params, kind->name);
}

const struct kind kind_trace = {
    .name = "trace",
    .path = "trace?seconds=1",
    .description = "What each thread did when: an execution trace, of threads as goroutines and CPUs as Ps. Look at it with go tool trace.",
    .params = &trace_params,
    .windowed = true,
    .start = kind_trace_start,
};
