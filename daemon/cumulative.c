/* How kinds that accrue are asked for: with seconds, what accrues in that time, watched or not; without, all since the process is
 * watched. Owns nothing. */
#include <event2/http.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/http.h"
#include "daemon/kind.h"
#include "daemon/oneshot.h"
#include "daemon/server.h"
#include "daemon/session.h"
#include "daemon/watch.h"

/* A watch counts by stack alone: what threads and the kernel did is not in it. NULL, or what is wrong. */
static const char *cumulative_refuse(const struct session_params *p)
{
    if (p->tid || p->thread[0])
        return "\"tid\" and \"thread\" go with \"seconds\": a watch does not tell threads apart";
    if (p->kernel)
        return "\"kernel=1\" goes with \"seconds\": a watch records no kernel frames";
    if (p->unwind != SESSION_UNWIND_AUTO)
        return "\"unwind\" goes with \"seconds\": a watch was begun with its own way";
    return NULL;
}

static bool has(const struct evkeyvalq *query, const char *name)
{
    return evhttp_find_header(query, name) != NULL;
}

static bool same_function(const struct custom_function *a, const struct custom_function *b)
{
    return strcmp(a->object, b->object) == 0 && strcmp(a->symbol, b->symbol) == 0 && a->offset == b->offset && a->from == b->from;
}

static bool same_custom(const struct evkeyvalq *query, const struct custom_spec *a, const struct custom_spec *b)
{
    return (!has(query, "add") || (same_function(&a->add, &b->add) && same_function(&a->remove, &b->remove))) &&
           (!has(query, "weight") || a->weight == b->weight) && (!has(query, "skip") || a->skip == b->skip) &&
           (!has(query, "key") || a->key == b->key) &&
           (!has(query, "unit") || strcmp(a->unit, b->unit) == 0);
}

/* What is asked for by name must be what is watched. */
static bool cumulative_is_as_watched(const struct evkeyvalq *query, const struct session_params *p, const struct session_params *watched)
{
    return (!(has(query, "rate") || has(query, "block_rate")) || p->rate == watched->rate) &&
           same_custom(query, &p->custom, &watched->custom) && (!has(query, "fraction") || p->fraction == watched->fraction) &&
           (!has(query, "max_overhead") || p->max_overhead == watched->max_overhead);
}

/* For one who may trace the process. */
static void cumulative_answer_none(struct server *server, struct http_request *request, pid_t pid)
{
    const char *slash = strrchr(http_request_path(request), '/');
    char message[1024];

    watch_explain_none(server->watches, pid, kind_find(slash + 1), message, sizeof(message));
    http_reply_error(request, 409, "%s", message);
}

static void cumulative_answer_anew(struct server *server, struct http_request *request, pid_t pid)
{
    http_reply_header(request, "Retry-After", "1");
    http_reply_error(request, 503, "watching this process is being begun anew: ask again");
}

static void cumulative_answer_otherwise(struct server *server, struct http_request *request, pid_t pid)
{
    http_reply_error(request, 409, "process %d is watched with other parameters: /pid/%d/watch shows them; leave them out here, or ask "
                                   "with seconds=", pid, pid);
}

static void cumulative_read(struct server *server, struct http_request *request, pid_t pid, const struct kind *kind,
                            const struct session_params *params)
{
    const struct watch *w = watch_find(server->watches, pid, kind);
    struct watch_run *run = w ? watch_current(w) : NULL;
    const char *wrong = cumulative_refuse(params);

    if (wrong) {
        http_reply_error(request, 400, "%s", wrong);
    } else if (!w && kind->unwatched) {
        kind->unwatched(server, request, pid, params);
    } else if (!w) {
        oneshot_check(server, request, pid, cumulative_answer_none);
    } else if (!run) {
        oneshot_check(server, request, pid, cumulative_answer_anew);
    } else if (!cumulative_is_as_watched(http_request_query(request), params, &watch_wish(w)->params)) {
        oneshot_check(server, request, pid, cumulative_answer_otherwise);
    } else {
        session_read(server, request, pid, params, kind_metric(kind), run);
    }
}

/* A name that the process's watch was given for functions stands for these, where a query names none. */
static void cumulative_take_functions(struct server *server, struct http_request *request, pid_t pid, const struct kind *kind,
                                      struct session_params *params)
{
    const struct evkeyvalq *query = http_request_query(request);
    const struct watch *w = kind->declared && !has(query, "add") && !has(query, "remove") ? watch_find(server->watches, pid, kind) : NULL;

    if (w)
        params->custom = watch_wish(w)->params.custom;
}

void cumulative_start(struct server *server, struct http_request *request, pid_t pid, const struct kind *kind)
{
    struct session_params params;

    session_params_init(&params);
    params.duration_ns = 0;
    kind_record(kind, &params);
    cumulative_take_functions(server, request, pid, kind, &params);
    if (!kind_parse_query(server, request, kind, &params))
        return;
    if (params.duration_ns == 0) {
        cumulative_read(server, request, pid, kind, &params);
        return;
    }
    char wrong[256];
    if (params.event == EVENT_CUSTOM && custom_spec_check(&params.custom, wrong, sizeof(wrong)) < 0) {
        http_reply_error(request, 400, "%s", wrong);
        return;
    }
    const char *debug = evhttp_find_header(http_request_query(request), "debug");
    if (debug && atoi(debug) != 0) {
        http_reply_error(request, 400, "seconds and debug params are incompatible");
        return;
    }
    params.delta = true;
    session_start(server, request, pid, &params, kind_metric(kind));
}
