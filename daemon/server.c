/* Owns all that lives as long as the daemon. */
#include "daemon/server.h"

#include <errno.h>
#include <event2/event.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "bpf/copy_events.h"
#include "daemon/afterwork.h"
#include "daemon/child.h"
#include "daemon/debuginfod.h"
#include "daemon/router.h"
#include "daemon/http.h"
#include "daemon/log.h"
#include "daemon/notices.h"
#include "daemon/options.h"
#include "daemon/scheduler.h"
#include "daemon/service.h"
#include "daemon/session.h"
#include "daemon/unwind_tables.h"
#include "daemon/watch.h"
#include "daemon/watch_request.h"
#include "daemon/watch_rules.h"
#include "daemon/worker_pool.h"
#include "util/cleanup.h"
#include "util/clock.h"

#define SERVER_STOP_PATIENCE_SECONDS 3
#define SERVER_FEW_FILES 1024

static struct worker_limits server_worker_limits(const struct settings *s)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    return (struct worker_limits){
        .workers = s->workers ? s->workers : cores > 0 ? (unsigned)cores : 1,
        .memory_bytes = s->worker_memory_bytes, .cache_bytes = s->worker_cache_bytes,
        .job_timeout_ns = (uint64_t)(s->worker_timeout_seconds * (double)NSEC_PER_SEC),
    };
}

/* For the service manager. */
static const char *server_status(const struct server *server)
{
    if (server->can_sample)
        return "running";
    return server->can_copy ? "running without BPF: stacks are copied" : "running, but no profiles can be taken: see the log";
}

/* ---- signals */

static void server_log_lines(char *text)
{
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
        log_error("%s", line);
}

static bool server_same_list(const struct settings_list *a, const struct settings_list *b)
{
    if (a->n != b->n)
        return false;
    for (size_t i = 0; i < a->n; i++)
        if (strcmp(a->item[i], b->item[i]) != 0)
            return false;
    return true;
}

/* The settings are read anew as a whole; where anything is wrong with them the old ones stay. Sessions go on. */
static void server_reload(struct server *server)
{
    AUTO_FREE char *text = NULL;
    size_t len = 0;
    struct settings *settings = calloc(1, sizeof(*settings));
    FILE *errors = open_memstream(&text, &len);

    if (!settings || !errors) {
        log_error("no memory to reload the settings");
        free(settings);
        if (errors)
            (void)fclose(errors);
        return;
    }
    service_reloading(server->service);
    int r = options_settings(server->options, settings, errors);
    (void)fclose(errors);
    if (r < 0) {
        server_log_lines(text);
        log_error("the settings are wrong, the old ones stay");
        free(settings);
        service_ready(server->service, "running (the last reload failed: see the log)");
        return;
    }
    if (!server_same_list(&settings->listen, &server->settings->listen))
        log_warning("new listening addresses are taken at the next start only");
    struct worker_limits limits = server_worker_limits(settings);
    worker_pool_set_limits(server->pool, &limits);
    if (debuginfod_set(server->debuginfod, settings) < 0)
        log_error("no memory for the debuginfod servers: none is asked");
    if (server->tables)
        unwind_tables_set_limits(server->tables, &(struct unwind_tables_limits){settings->table_memory_bytes, limits.workers,
                                                                                UNWIND_TABLES_KEEP_NS});
    http_server_set_settings(server->http, settings);
    settings_deinit(server->settings);
    free(server->settings);
    server->settings = settings;
    watch_rules_set(server->rules);
    log_set_level(settings->log_level);
    log_info("settings reloaded");
    service_ready(server->service, server_status(server));
}

static void server_on_signal(evutil_socket_t signal_number, short what, void *arg)
{
    struct server *server = arg;

    if (signal_number == SIGHUP) {
        server_reload(server);
        return;
    }
    log_info("stopping");
    service_stopping(server->service);
    (void)event_base_loopbreak(server->base);
}

static int server_catch_signals(struct server *server)
{
    static const int caught[] = {SIGHUP, SIGINT, SIGTERM};

    (void)signal(SIGPIPE, SIG_IGN);
    for (size_t i = 0; i < sizeof(caught) / sizeof(caught[0]); i++) {
        server->signals[i] = evsignal_new(server->base, caught[i], server_on_signal, server);
        if (!server->signals[i] || event_add(server->signals[i], NULL) < 0)
            return -ENOMEM;
    }
    return 0;
}

/* ---- start */

/* Without BPF stacks are copied, and walked later: perf events are all that it takes. Without these the daemon still answers, and says
 * on each profile what is missing. */
static int server_start_sampler(struct server *server)
{
    server->can_copy = copy_events_probe() == 0;
    if (sampler_open(&server->sampler, server->sampler_error, sizeof(server->sampler_error)) < 0) {
        log_warning("%s: %s", server->can_copy ? "without BPF stacks are copied, which costs more and shows less" : "no profiles can be taken",
                    server->sampler_error);
        return sampler_open_bare(&server->sampler);
    }
    server->can_sample = true;
    int r = scheduler_new(server, &server->scheduler);
    return r < 0 ? r : notices_new(server, &server->notices);
}

static int server_start_tables(struct server *server, const struct worker_limits *limits)
{
    struct unwind_tables_limits tables = {server->settings->table_memory_bytes, limits->workers, UNWIND_TABLES_KEEP_NS};

    if (!server->can_sample)
        return 0;
    return unwind_tables_new(server->base, server->pool, server->sampler.slabs_map, &tables, &server->tables);
}

static int server_listen(struct server *server)
{
    char message[256];
    int sockets[SERVICE_MAX_SOCKETS];
    size_t n;

    int r = service_sockets(sockets, &n);
    for (size_t i = 0; r == 0 && i < n; i++)
        r = http_server_adopt(server->http, sockets[i]);
    if (r < 0) {
        log_error("the sockets passed by the service manager can't be used: %s", strerror(-r));
        return r;
    }
    if (n > 0) {
        log_info("listening on %zu sockets of the service manager", n);
        return 0;
    }
    for (size_t i = 0; i < server->settings->listen.n; i++) {
        r = http_server_listen(server->http, server->settings->listen.item[i], message, sizeof(message));
        if (r < 0) {
            log_error("%s: %s", server->settings->listen.item[i], message);
            return r;
        }
        log_info("%s", message);
    }
    return 0;
}

/* As many descriptors as we may have: a session on a machine with many CPUs needs hundreds. */
static void server_raise_limits(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
        if (limit.rlim_max < SERVER_FEW_FILES)
            log_warning("at most %llu files may be open, too few for many profiles at a time and for names from many files: raise LimitNOFILE",
                        (unsigned long long)limit.rlim_max);
    }
}

static int server_start(struct server *server)
{
    struct worker_limits limits = server_worker_limits(server->settings);

    server_raise_limits();
    server->base = event_base_new();
    if (!server->base)
        return -ENOMEM;
    int r = service_new(server->base, &server->service);
    r = r ? r : server_catch_signals(server);
    r = r ? r : server_start_sampler(server);
    r = r ? r : worker_pool_new(server->base, &limits, &server->pool);
    r = r ? r : debuginfod_new(server->base, server->settings, NULL, &server->debuginfod);
    r = r ? r : server_start_tables(server, &limits);
    r = r ? r : watches_new(server, &server->watches);
    r = r ? r : watch_rules_new(server, &server->rules);
    r = r ? r : http_server_new(server->base, server->settings, router_handle, server, &server->http);
    return r ? r : server_listen(server);
}

static void server_on_patience_end(evutil_socket_t fd, short what, void *arg)
{
}

/* Sessions that were stopped detach in their attachers: they get a moment for it. */
static void server_wait_for_children(struct server *server)
{
    struct timeval patience = {.tv_sec = SERVER_STOP_PATIENCE_SECONDS};
    struct event *end = evtimer_new(server->base, server_on_patience_end, server);

    if (!end || event_add(end, &patience) < 0)
        return;
    (void)event_base_loop(server->base, EVLOOP_NONBLOCK); /* the errors just replied are on their way */
    while (child_count() > 0 && event_pending(end, EV_TIMEOUT, NULL))
        (void)event_base_loop(server->base, EVLOOP_ONCE);
    event_free(end);
}

static void server_stop(struct server *server)
{
    server->stopping = true;
    if (server->http)
        http_server_stop_listening(server->http);
    session_stop_all();
    afterwork_end_all(); /* nobody waits for what it finds, and its collectors are not to be waited for either */
    watch_requests_stop();
    watch_rules_free(server->rules);
    watches_free(server->watches);
    server->watches = NULL;
    debuginfod_stop(server->debuginfod);
    if (server->base)
        server_wait_for_children(server);
    http_server_free(server->http);
    afterwork_end_all();
    unwind_tables_free(server->tables);
    worker_pool_free(server->pool);
    debuginfod_free(server->debuginfod);
    child_kill_all();
    scheduler_free(server->scheduler);
    notices_free(server->notices);
    if (server->sampler.ctl)
        sampler_close(&server->sampler);
    for (size_t i = 0; i < sizeof(server->signals) / sizeof(server->signals[0]); i++)
        if (server->signals[i])
            event_free(server->signals[i]);
    service_free(server->service);
    if (server->base)
        event_base_free(server->base);
    settings_deinit(server->settings);
    free(server->settings);
}

int server_run(const struct options *options, struct settings *settings)
{
    struct server server = {.options = options, .settings = settings};

    log_set_level(settings->log_level);
    int r = server_start(&server);
    if (r < 0) {
        log_error("the daemon can't start: %s", strerror(-r));
    } else {
        service_ready(server.service, server_status(&server));
        watch_rules_set(server.rules);
        r = event_base_dispatch(server.base);
    }
    server_stop(&server);
    return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
