/* profile: CPU time by default, any event that the machine has; and quality, the same session's account of itself. */
#include "daemon/kind_profile.h"

#include "daemon/kind.h"
#include "daemon/raw_profile.h"
#include "daemon/session.h"
#include "daemon/session_params.h"

static void kind_profile_begin(struct server *server, struct http_request *request, pid_t pid, bool quality)
{
    struct session_params params;

    session_params_init(&params);
    if (!kind_parse_query(server, request, &kind_profile, &params))
        return;
    if (quality)
        params.format = RAW_FORMAT_QUALITY;
    session_start(server, request, pid, &params, quality ? "quality" : "profile");
}

static void kind_profile_start(struct server *server, struct http_request *request, pid_t pid, const struct kind *kind)
{
    kind_profile_begin(server, request, pid, false);
}

void quality_start(struct server *server, struct http_request *request, pid_t pid)
{
    kind_profile_begin(server, request, pid, true);
}

const struct kind kind_profile = {
    .name = "profile",
    .path = "profile",
    .description = "Where the process spends CPU time, or by event= where anything else happens, sampled for seconds=. "
                   "Look at it with go tool pprof.",
    .types = {.type = {"samples", "cpu"}, .unit = {"count", "nanoseconds"}, .n = 2, .period_type = "cpu", .period_unit = "nanoseconds",
              .default_type = "cpu"},
    .params = &profile_params,
    .windowed = true,
    .start = kind_profile_start,
};
