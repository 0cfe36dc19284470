/* Watches what the configuration wants. Owns the child that looks for processes, and what is being begun for them. */
#include "daemon/watch_rules.h"

#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

#include "config/value.h"
#include "daemon/child.h"
#include "daemon/collector.h"
#include "daemon/kind.h"
#include "daemon/log.h"
#include "daemon/recording.h"
#include "daemon/server.h"
#include "daemon/watch.h"
#include "daemon/watch_query.h"
#include "daemon/watch_scan.h"
#include "util/cleanup.h"
#include "util/clock.h"

/* Of all places for sessions, those that rules may take; and how many are begun at a time. */
#define RULES_MAX_WATCHES 32
#define RULES_MAX_STARTING 4
/* What can't be watched is tried again after so long. */
#define RULES_AGAIN_NS (60 * NSEC_PER_SEC)
#define RULES_MAX_REFUSED 256
/* A scan that takes longer hangs; and how soon another child is started for one that was lost. */
#define RULES_SCAN_DEADLINE_NS (60 * NSEC_PER_SEC)
#define RULES_RESTART_S 10

/* A watch that is being begun. */
struct rules_start {
    LIST_ENTRY(rules_start) link;
    struct watch_rules *rules;
    pid_t pid;
    uint64_t start_ticks;
    const struct kind *kind;
    struct watch_run *run;
};

struct rules_refused {
    pid_t pid;
    uint64_t start_ticks;
    char kind[CUSTOM_NAME_LEN]; /* its name: there are kinds that become others when no watch needs them */
    uint64_t until_ns; /* monotonic */
};

struct watch_rules {
    struct server *server;
    struct watch_scan_request request;
    char texts[SETTINGS_MAX_LIST][WATCH_RULE_MAX_TEXT];
    struct child *scanner;
    struct event *restart;
    LIST_HEAD(rules_starts, rules_start) starting;
    unsigned n_starting;
    struct rules_refused refused[RULES_MAX_REFUSED];
    size_t n_refused; /* in all, the newest of them are kept */
    uint64_t n_scans;
    bool said_full;
};

static const struct asker rules_asker = {.known = true, .uid = 0, .gid = 0, .has_gid = true, .address = "configuration"};

/* ---- what can't be watched */

static void rules_note_refused(struct watch_rules *r, pid_t pid, uint64_t start_ticks, const struct kind *kind, uint64_t until_ns)
{
    struct rules_refused *f = &r->refused[r->n_refused++ % RULES_MAX_REFUSED];

    *f = (struct rules_refused){.pid = pid, .start_ticks = start_ticks, .until_ns = until_ns};
    (void)snprintf(f->kind, sizeof(f->kind), "%s", kind->name);
}

static void rules_refuse(struct watch_rules *r, const struct rules_start *start, const char *message)
{
    log_warning("%s of process %d can't be watched, as the configuration wants: %s", start->kind->name, start->pid, message);
    rules_note_refused(r, start->pid, start->start_ticks, start->kind, monotonic_ns() + RULES_AGAIN_NS);
}

void watch_rules_keep_off(struct watch_rules *r, const struct watch *w)
{
    uint64_t start_ticks = recording_target(watch_recording(w))->start_ticks;

    if (watch_rule(w))
        rules_note_refused(r, watch_pid(w), start_ticks, watch_wish(w)->kind, UINT64_MAX);
}

static bool rules_has_refused(const struct watch_rules *r, const struct watch_match *m, const struct kind *kind)
{
    for (size_t i = 0; i < RULES_MAX_REFUSED; i++) {
        const struct rules_refused *f = &r->refused[i];
        if (f->pid == m->pid && f->start_ticks == m->start_ticks && strcmp(f->kind, kind->name) == 0 && f->until_ns > monotonic_ns())
            return true;
    }
    return false;
}

/* ---- beginning */

static void start_free(struct rules_start *start)
{
    LIST_REMOVE(start, link);
    start->rules->n_starting--;
    free(start);
}

/* The number was given to another process since it was looked at: what that one is the next scan tells. */
static bool start_is_another(const struct rules_start *start, const struct watch_run *run)
{
    return recording_target(watch_run_recording(run))->start_ticks != start->start_ticks;
}

static void rules_on_told(struct watch_run *run, int status, const char *message, void *userdata)
{
    struct rules_start *start = userdata;
    struct watch_rules *r = start->rules;

    if (status && status != 404) /* it ended: nobody wonders */
        rules_refuse(r, start, message);
    /* Somebody may have begun to watch it meanwhile: that stays. */
    if (status || watch_find(r->server->watches, start->pid, start->kind) || !watch_can_commit(run) || start_is_another(start, run))
        watch_drop(run);
    else
        watch_commit(run);
    start_free(start);
}

static bool rules_are_starting(const struct watch_rules *r, const struct watch_match *m, const struct kind *kind)
{
    const struct rules_start *start;

    LIST_FOREACH(start, &r->starting, link)
        if (start->pid == m->pid && start->kind == kind)
            return true;
    return false;
}

static size_t rules_count(struct watch_rules *r)
{
    size_t n = r->n_starting;

    for (const struct watch *w = watch_next(r->server->watches, 0, NULL); w; w = watch_next(r->server->watches, 0, w))
        n += watch_rule(w) != NULL;
    return n;
}

static bool rules_have_room(struct watch_rules *r, const struct watch_match *m, const struct kind *kind)
{
    if (r->n_starting == RULES_MAX_STARTING)
        return false; /* the next scan finds it again */
    if (rules_count(r) < RULES_MAX_WATCHES)
        return true;
    if (!r->said_full)
        log_warning("rules watch %d kinds of processes already: %s of process %d and others are left out", RULES_MAX_WATCHES, kind->name, m->pid);
    r->said_full = true;
    return false;
}

static void rules_begin(struct watch_rules *r, const struct watch_match *m, const struct kind *kind, const struct evkeyvalq *query)
{
    struct watch_wish wish;
    char message[1024];
    struct rules_start *start;

    if (rules_are_starting(r, m, kind) || rules_has_refused(r, m, kind) || !rules_have_room(r, m, kind) ||
        watch_wish_parse(kind, query, r->server->settings->max_overhead, &wish, message, sizeof(message)) < 0 ||
        !(start = calloc(1, sizeof(*start))))
        return;
    *start = (struct rules_start){.rules = r, .pid = m->pid, .start_ticks = m->start_ticks, .kind = kind};
    const struct watch_order order = {.asker = &rules_asker, .rule = r->texts[m->rule], .pid = m->pid, .wish = &wish};
    if (watch_begin(r->server->watches, &order, rules_on_told, start, &start->run, message, sizeof(message))) {
        rules_refuse(r, start, message);
        free(start);
        return;
    }
    LIST_INSERT_HEAD(&r->starting, start, link);
    r->n_starting++;
}

/* ---- a scan */

static void rules_want(struct watch_rules *r, const struct watch_match *m, const struct kind *kind, const struct evkeyvalq *query)
{
    struct watch *w = watch_find(r->server->watches, m->pid, kind);

    if (w && (!watch_rule(w) || watch_mark(w) == r->n_scans))
        return; /* another's wish, or that of a rule before this one */
    if (w && strcmp(watch_rule(w), r->texts[m->rule]) == 0) {
        watch_set_mark(w, r->n_scans);
        return;
    }
    if (w)
        watch_end(w, "another rule of the configuration watches it");
    rules_begin(r, m, kind, query);
}

static void rules_take_match(struct watch_rules *r, const struct watch_match *m)
{
    struct watch_query q;
    struct evkeyvalq query;

    if (m->rule >= r->request.n)
        return;
    TAILQ_INIT(&query);
    if (watch_query_of_rule(&r->request.rules[m->rule], &query) == 0 && watch_query_parse(&q, &query, true, r->server->watches))
        for (size_t i = 0; i < q.n; i++)
            rules_want(r, m, q.kinds[i], &query);
    evhttp_clear_headers(&query);
}

/* Those of the configuration that bear no mark of this scan. */
static void rules_end_others(struct watch_rules *r)
{
    struct watch *w = watch_next(r->server->watches, 0, NULL);

    while (w) {
        struct watch *next = watch_next(r->server->watches, 0, w);
        if (watch_rule(w) && watch_mark(w) != r->n_scans)
            watch_end(w, "the configuration has no rule for it any longer");
        w = next;
    }
}

static void rules_on_message(struct child *c, const void *data, size_t len, int *fds, size_t n_fds, void *userdata)
{
    struct watch_rules *r = userdata;
    const struct watch_scan_message *m = data;
    AUTO_CLOSE int fd = n_fds > 0 ? fds[0] : -1;
    size_t n = len == sizeof(*m) && m->n <= WATCH_SCAN_MAX ? m->n : 0;
    AUTO_FREE struct watch_match *matches = calloc(n + 1, sizeof(*matches));

    child_set_deadline(c, RULES_SCAN_DEADLINE_NS);
    if (!matches || fd < 0 || pread(fd, matches, n * sizeof(*matches), 0) != (ssize_t)(n * sizeof(*matches)))
        return;
    r->n_scans++;
    for (size_t i = 0; i < n; i++)
        rules_take_match(r, &matches[i]);
    rules_end_others(r);
}

/* ---- the child */

static void rules_spawn(struct watch_rules *r);

static void rules_on_ended(struct child *c, bool timed_out, uint64_t cpu_ns, void *userdata)
{
    struct watch_rules *r = userdata;
    struct timeval pause = {.tv_sec = RULES_RESTART_S};

    r->scanner = NULL;
    log_warning("the process that looks for processes to watch %s: another one is started", timed_out ? "hung" : "died");
    (void)event_add(r->restart, &pause);
}

static void rules_on_restart(evutil_socket_t fd, short what, void *arg)
{
    rules_spawn(arg);
}

static void rules_spawn(struct watch_rules *r)
{
    static const struct child_ops ops = {.message = rules_on_message, .ended = rules_on_ended};
    struct timeval pause = {.tv_sec = RULES_RESTART_S};

    if (child_spawn(r->server->base, watch_scan_main, &r->request, NULL, 0, RULES_SCAN_DEADLINE_NS, &ops, r, &r->scanner) == 0)
        return;
    log_warning("no process could be started that looks for processes to watch");
    (void)event_add(r->restart, &pause);
}

/* What is being begun is not begun. */
static void rules_drop_starts(struct watch_rules *r)
{
    struct rules_start *start;

    while ((start = LIST_FIRST(&r->starting))) {
        struct watch_run *run = start->run;
        start_free(start);
        watch_drop(run);
    }
}

void watch_rules_set(struct watch_rules *r)
{
    const struct settings_list *list = &r->server->settings->watch;
    struct value_error error;

    (void)event_del(r->restart);
    child_kill(TAKE_PTR(r->scanner));
    rules_drop_starts(r); /* their rule may be gone, and where none is left nobody looks again */
    r->request.n = 0;
    r->said_full = false;
    memset(r->refused, 0, sizeof(r->refused));
    for (size_t i = 0; i < list->n; i++) {
        if (watch_rule_parse(list->item[i], &r->request.rules[r->request.n], &error) < 0)
            continue; /* it was read before */
        (void)strcpy(r->texts[r->request.n++], list->item[i]);
    }
    r->n_scans++;
    if (r->request.n > 0 && r->server->can_sample)
        rules_spawn(r);
    else
        rules_end_others(r);
}

/* ---- life */

int watch_rules_new(struct server *server, struct watch_rules **ret)
{
    struct watch_rules *r = calloc(1, sizeof(*r));

    if (!r)
        return -ENOMEM;
    r->server = server;
    LIST_INIT(&r->starting);
    r->restart = evtimer_new(server->base, rules_on_restart, r);
    if (!r->restart) {
        free(r);
        return -ENOMEM;
    }
    *ret = r;
    return 0;
}

void watch_rules_free(struct watch_rules *r)
{
    if (!r)
        return;
    child_kill(r->scanner);
    rules_drop_starts(r);
    event_free(r->restart);
    free(r);
}
