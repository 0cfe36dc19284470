/* The paths, and the small answers that need nobody else. Owns nothing. */
#include "daemon/router.h"

#include <ctype.h>
#include <errno.h>
#include <event2/buffer.h>
#include <event2/http.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "daemon/child.h"
#include "daemon/collector.h"
#include "daemon/custom_list.h"
#include "daemon/debuginfod.h"
#include "daemon/http.h"
#include "daemon/kind.h"
#include "daemon/kind_custom.h"
#include "daemon/kind_profile.h"
#include "daemon/kind_wall.h"
#include "daemon/metrics.h"
#include "daemon/oneshot.h"
#include "daemon/pages.h"
#include "daemon/recording.h"
#include "daemon/server.h"
#include "daemon/unwind_tables.h"
#include "daemon/watch.h"
#include "daemon/watch_request.h"
#include "daemon/worker_pool.h"
#include "util/clock.h"

/* The kernel's own limit (PID_MAX_LIMIT). */
#define ROUTER_MAX_PID 4194304

static bool router_accepts(const struct http_request *request, const char *type)
{
    const char *accept = http_request_header(request, "Accept");
    return accept && strstr(accept, type);
}

/* GET or HEAD; anything else is answered here. */
static bool router_is_get(struct http_request *request)
{
    if (http_request_method(request) == HTTP_GET)
        return true;
    http_reply_header(request, "Allow", "GET, HEAD");
    http_reply_error(request, 405, "method not allowed here; GET and HEAD are");
    return false;
}

static bool router_kind_takes(struct http_request *request, const struct kind *kind)
{
    enum http_method method = http_request_method(request);

    if (!kind->takes_post)
        return router_is_get(request);
    if (method == HTTP_GET || method == HTTP_POST)
        return true;
    http_reply_header(request, "Allow", "GET, HEAD, POST");
    http_reply_error(request, 405, "method not allowed here; GET, HEAD and POST are");
    return false;
}

/* Sends a body, and frees it. */
static void router_send(struct http_request *request, const char *type, struct evbuffer *body)
{
    if (strncmp(type, "text/html", 9) == 0)
        http_reply_header(request, "Content-Security-Policy", page_csp());
    http_reply(request, 200, type, body);
    evbuffer_free(body);
}

/* Fills a body and sends it. */
static void router_reply(struct server *server, struct http_request *request, const char *type,
                         void (*fill)(struct evbuffer *out, struct watches *ws, pid_t pid), pid_t pid)
{
    struct evbuffer *body = evbuffer_new();

    if (!body) {
        http_reply_error(request, 503, "no memory for the answer");
        return;
    }
    fill(body, server->watches, pid);
    router_send(request, type, body);
}

/* ---- /, /healthz, /metrics */

static void router_processes_body(struct server *server, struct http_request *request, int fd, uint64_t len)
{
    struct evbuffer *body = evbuffer_new();
    bool json = router_accepts(request, "application/json");
    struct process_entry *entries = len ? mmap(NULL, len, PROT_READ, MAP_PRIVATE, fd, 0) : NULL;

    if (!body || entries == MAP_FAILED) {
        http_reply_error(request, 503, "no memory for the answer");
    } else {
        size_t n = len / sizeof(*entries);
        if (json)
            page_processes_json(body, entries, n);
        else
            page_processes(body, entries, n);
        if (!json)
            http_reply_header(request, "Content-Security-Policy", page_csp());
        http_reply(request, 200, json ? "application/json" : "text/html; charset=utf-8", body);
    }
    if (entries && entries != MAP_FAILED)
        (void)munmap(entries, len);
    if (body)
        evbuffer_free(body);
}

static void router_processes(struct server *server, struct http_request *request)
{
    oneshot_start(server, request, 0, processes_main, router_processes_body);
}

static void router_healthz(struct server *server, struct http_request *request)
{
    struct evbuffer *body = evbuffer_new();

    if (!server->can_sample && !server->can_copy) {
        http_reply_error(request, 503, "%s", server->sampler_error);
    } else if (!body || evbuffer_add_printf(body, "ok\n") < 0) {
        http_reply_error(request, 503, "no memory for the answer");
    } else {
        http_reply(request, 200, "text/plain; charset=utf-8", body);
    }
    if (body)
        evbuffer_free(body);
}

static void router_metrics(struct server *server, struct http_request *request)
{
    struct worker_pool_stats pool;
    struct debuginfod_stats debuginfod;
    struct metrics_sources sources = {.cpu_loop_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID), .cpu_collector_ns = child_total_cpu_ns()};
    struct evbuffer *body = evbuffer_new();

    worker_pool_stats(server->pool, &pool);
    sources.worker_restarts = pool.restarts;
    sources.cache_bytes = pool.cache_bytes;
    sources.cpu_worker_ns = pool.cpu_ns;
    debuginfod_stats(server->debuginfod, &debuginfod);
    sources.cpu_debuginfod_ns = debuginfod_cpu_ns(server->debuginfod);
    sources.debuginfod_found = debuginfod.found;
    sources.debuginfod_absent = debuginfod.absent;
    sources.debuginfod_failed = debuginfod.failed;
    sources.debuginfod_late = debuginfod.late;
    for (size_t i = 0; i < CPROFD_MAX_SESSIONS; i++) {
        const struct recording *rec = server->recordings[i];
        sources.sessions += rec != NULL;
        sources.open_sessions += rec && recording_is_open(rec);
    }
    sources.watches = watches_count(server->watches);
    if (server->tables)
        sources.table_bytes = unwind_tables_bytes(server->tables);
    if (!body) {
        http_reply_error(request, 503, "no memory for the answer");
        return;
    }
    metrics_print(body, &sources);
    http_reply(request, 200, "text/plain; version=0.0.4; charset=utf-8", body);
    evbuffer_free(body);
}

/* ---- /pid/N... */

static void router_process_page(struct server *server, struct http_request *request, pid_t pid)
{
    router_reply(server, request, "text/html; charset=utf-8", page_process, pid);
}

static void router_index_page(struct server *server, struct http_request *request, pid_t pid, const struct custom_declared *declared)
{
    const char *format = evhttp_find_header(http_request_query(request), "format");
    bool json = format && strcmp(format, "json") == 0;
    struct evbuffer *body = evbuffer_new();

    if (!body) {
        http_reply_error(request, 503, "no memory for the answer");
        return;
    }
    if (json)
        page_index_json(body, server->watches, pid, declared);
    else
        page_index(body, server->watches, pid, declared);
    router_send(request, json ? "application/json" : "text/html; charset=utf-8", body);
}

static void router_redirect(struct http_request *request, const char *to)
{
    struct evbuffer *body = evbuffer_new();

    http_reply_header(request, "Location", to);
    http_reply(request, 301, "text/plain; charset=utf-8", body);
    if (body)
        evbuffer_free(body);
}

/* A browser gets a page; a tool that was given no more than the process wants its CPU profile. */
static void router_process(struct server *server, struct http_request *request, pid_t pid)
{
    if (router_accepts(request, "text/html"))
        oneshot_check(server, request, pid, router_process_page);
    else
        kind_profile.start(server, request, pid, &kind_profile);
}

static void router_kind(struct server *server, struct http_request *request, pid_t pid, const char *name)
{
    const struct kind *kind = kind_find(name);

    if (!kind && http_request_method(request) == HTTP_GET) /* perhaps the target declares it */
        kind = custom_kind(server->watches, name);
    if (!kind) {
        http_reply_error(request, 404, "Unknown profile: /pid/%d/debug/pprof/ lists those there are", pid);
        return;
    }
    if (router_kind_takes(request, kind))
        kind->start(server, request, pid, kind);
}

/* rest: what follows the number. */
static void router_pid(struct server *server, struct http_request *request, pid_t pid, const char *rest)
{
    static const char pprof[] = "/debug/pprof/";

    if (strncmp(rest, pprof, sizeof(pprof) - 1) == 0 && rest[sizeof(pprof) - 1])
        router_kind(server, request, pid, rest + sizeof(pprof) - 1);
    else if (strcmp(rest, "/watch") == 0)
        watch_request(server, request, pid);
    else if (!router_is_get(request))
        return;
    else if (strcmp(rest, "") == 0)
        router_process(server, request, pid);
    else if (strcmp(rest, "/debug/pprof") == 0)
        router_redirect(request, "pprof/");
    else if (strcmp(rest, pprof) == 0)
        custom_list(server, request, pid, router_index_page);
    else if (strcmp(rest, "/debug/quality") == 0)
        quality_start(server, request, pid);
    else if (strcmp(rest, "/debug/fgprof") == 0)
        fgprof_start(server, request, pid);
    else
        http_reply_error(request, 404, "no such path: /pid/%d/debug/pprof/ has the profiles of process %d", pid, pid);
}

/* A PID as the kernel writes it: digits without a sign or a leading zero. 0: it is none. */
static pid_t router_parse_pid(const char *text, const char **ret_rest)
{
    char *end;

    if (*text < '1' || *text > '9')
        return 0;
    errno = 0;
    unsigned long pid = strtoul(text, &end, 10);
    if (errno || pid > ROUTER_MAX_PID || (*end != '\0' && *end != '/'))
        return 0;
    *ret_rest = end;
    return (pid_t)pid;
}

void router_handle(struct http_request *request, void *userdata)
{
    static const struct {
        const char *path;
        void (*answer)(struct server *server, struct http_request *request);
    } fixed[] = {{"/", router_processes}, {"/healthz", router_healthz}, {"/metrics", router_metrics}};
    struct server *server = userdata;
    const char *path = http_request_path(request), *rest;

    if (server->stopping) {
        http_reply_error(request, 503, "the daemon is stopping");
        return;
    }
    for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++) {
        if (strcmp(path, fixed[i].path) == 0) {
            if (router_is_get(request))
                fixed[i].answer(server, request);
            return;
        }
    }
    if (strncmp(path, "/pid/", 5) != 0) {
        http_reply_error(request, 404, "no such path: / lists the processes, /pid/N/debug/pprof/ the profiles of process N");
        return;
    }
    pid_t pid = router_parse_pid(path + 5, &rest);
    if (!pid) {
        http_reply_error(request, 404, "no such process: a PID is a number from 1 to %d", ROUTER_MAX_PID);
        return;
    }
    router_pid(server, request, pid, rest);
}
