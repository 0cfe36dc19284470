/* The table of kinds, and how they read their queries. */
#include <string.h>

#include "daemon/http.h"
#include "daemon/kind.h"
#include "daemon/server.h"

static const struct kind *const kinds[] = {&kind_allocs, &kind_block, &kind_cmdline, &kind_custom,  &kind_goroutine, &kind_growth,
                                           &kind_heap,   &kind_mutex, &kind_offcpu,  &kind_profile, &kind_symbol,    &kind_threadcreate,
                                           &kind_threads, &kind_trace, &kind_wall};

const struct kind *kind_at(size_t i)
{
    return i < sizeof(kinds) / sizeof(kinds[0]) ? kinds[i] : NULL;
}

const struct kind *kind_find(const char *name)
{
    for (size_t i = 0; kind_at(i); i++)
        if (strcmp(kind_at(i)->name, name) == 0)
            return kind_at(i);
    return NULL;
}

bool kind_parse_query(struct server *server, struct http_request *request, const struct kind *kind, struct session_params *params)
{
    char error[1024];

    params->types = kind->types;
    if (session_params_parse(http_request_query(request), kind->params, server->settings->max_hz, params, error, sizeof(error)) < 0) {
        http_reply_error(request, 400, "%s", error);
        return false;
    }
    if (params->max_overhead == 0)
        params->max_overhead = server->settings->max_overhead;
    return true;
}
