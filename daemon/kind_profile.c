/* profile: CPU time by default, any event that the machine has; and quality, the same session's account of itself. */
#include "daemon/kind_profile.h"

#include <stdio.h>

#include "daemon/http.h"
#include "daemon/kind.h"
#include "daemon/raw_profile.h"
#include "daemon/server.h"
#include "daemon/session.h"
#include "daemon/session_params.h"

static void kind_profile_begin(struct server *server, struct http_request *request, pid_t pid, bool quality)
{
    struct session_params params;
    char error[1024];

    if (session_params_parse(http_request_query(request), server->settings->max_hz, &params, error, sizeof(error)) < 0) {
        http_reply_error(request, 400, "%s", error);
        return;
    }
    if (params.max_overhead == 0)
        params.max_overhead = server->settings->max_overhead;
    if (quality)
        params.format = RAW_FORMAT_QUALITY;
    session_start(server, request, pid, &params, quality ? "quality" : "profile");
}

static void kind_profile_start(struct server *server, struct http_request *request, pid_t pid)
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
    .sample_types = "samples/count, cpu/nanoseconds",
    .period_type = "cpu/nanoseconds",
    .params = profile_params,
    .n_params = &n_profile_params,
    .windowed = true,
    .start = kind_profile_start,
};
