/* wall: all of the threads' time, running or not; fgprof: the same, as the Go package of that name serves it; and offcpu: the time off the
 * CPU alone. */
#include "daemon/kind_wall.h"

#include <stdio.h>

#include "bpf/control.h"
#include "daemon/http.h"
#include "daemon/kind.h"
#include "daemon/params.h"
#include "daemon/raw_profile.h"
#include "daemon/session.h"

#define WAIT_PARAMS \
    PARAM_KERNEL, PARAM_TID, PARAM_THREAD, PARAM_STATE, PARAM_FOCUS, PARAM_FORMAT, PARAM_SYMBOLIZE, PARAM_UNWIND, PARAM_MAX_OVERHEAD, \
    PARAM_IGNORED("debug", "0"), PARAM_IGNORED("gc", "none")

static const struct param_spec wall_specs[] = {
    PARAM_SECONDS("30"),
    {"hz", "number", "(0, 1000000]", "100", "samples a second of CPU time, which tell where it goes; how much it is is exact in any case", param_hz},
    WAIT_PARAMS,
};
static const struct param_table wall_params = PARAM_TABLE(wall_specs);
static const struct param_spec offcpu_specs[] = {
    PARAM_SECONDS("30"),
    {"waker", "boolean", "0|1", "0", "the stack of who ended each wait, too, above a frame [woken by]; not with kernel=1", param_waker},
    WAIT_PARAMS,
};
static const struct param_table offcpu_params = PARAM_TABLE(offcpu_specs);

static void wall_start(struct server *server, struct http_request *request, pid_t pid, const struct kind *kind)
{
    struct session_params params;

    session_params_init(&params);
    params.sched_kind = kind == &kind_offcpu ? SCHED_OFFCPU : SCHED_WALL;
    if (kind == &kind_offcpu)
        params.event = EVENT_SCHED;
    (void)snprintf(params.event_text, sizeof(params.event_text), "%s", kind->name);
    if (kind_parse_query(server, request, kind, &params))
        session_start(server, request, pid, &params, kind->name);
}

/* Not in the table of kinds: it stands elsewhere. */
static const struct kind fgprof = {
    .name = "fgprof",
    .path = "fgprof",
    .types = {.type = {"samples", "time"}, .unit = {"count", "nanoseconds"}, .n = 2, .period_type = "wallclock", .period_unit = "nanoseconds",
              .default_type = "time"},
    .params = &wall_params,
    .windowed = true,
    .start = wall_start,
};

void fgprof_start(struct server *server, struct http_request *request, pid_t pid)
{
    wall_start(server, request, pid, &fgprof);
}

const struct kind kind_wall = {
    .name = "wall",
    .path = "wall",
    .description = "All of the threads' time, running or not, by what they do: on a CPU, waiting for one, for a lock, for data, for time to pass. "
                   "It adds up to the threads' lifetimes within the window.",
    .types = {.type = {"samples", "wall"}, .unit = {"count", "nanoseconds"}, .n = 2, .period_type = "wall", .period_unit = "nanoseconds",
              .default_type = "wall"},
    .params = &wall_params,
    .windowed = true,
    .start = wall_start,
};

const struct kind kind_offcpu = {
    .name = "offcpu",
    .path = "offcpu",
    .description = "Where threads leave their CPU, for how long, and what they wait for meanwhile.",
    .types = {.type = {"switches", "offcpu"}, .unit = {"count", "nanoseconds"}, .n = 2, .period_type = "offcpu", .period_unit = "nanoseconds",
              .default_type = "offcpu"},
    .params = &offcpu_params,
    .windowed = true,
    .start = wall_start,
};
