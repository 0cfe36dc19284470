/* Requests to watch. A PUT is done whole or not at all: what it begins runs aside until all of it runs, and takes its place then. Owns
 * such a PUT until it is answered or its client has left. */
#include "daemon/watch_request.h"

#include <event2/buffer.h>
#include <stdlib.h>
#include <sys/queue.h>

#include "daemon/http.h"
#include "daemon/kind.h"
#include "daemon/oneshot.h"
#include "daemon/server.h"
#include "daemon/watch.h"
#include "daemon/watch_query.h"
#include "daemon/watch_rules.h"
#include "util/cleanup.h"

/* ---- PUT */

struct watch_put {
    LIST_ENTRY(watch_put) link;
    struct http_request *request;
    struct watch_run *runs[WATCH_MAX_KINDS];
    size_t n, n_open;
};

static LIST_HEAD(watch_puts, watch_put) puts_under_way = LIST_HEAD_INITIALIZER(puts_under_way);

/* What it began ends, but for what failed, which ends by itself. */
static void put_free(struct watch_put *put)
{
    for (size_t i = 0; i < put->n; i++)
        if (put->runs[i])
            watch_drop(put->runs[i]);
    LIST_REMOVE(put, link);
    free(put);
}

static void put_error(struct watch_put *put, int status, const char *message)
{
    if (status == 429)
        http_reply_header(put->request, "Retry-After", "10");
    http_reply_error(put->request, status, "%s", message);
    put_free(put);
}

static void put_on_gone(struct http_request *request, void *userdata)
{
    put_free(userdata);
}

static void put_refuse_other(struct http_request *request, pid_t pid, const struct watch *w)
{
    const struct kind *kind = watch_wish(w)->kind;

    http_reply_error(request, 409, "%s of process %d is watched already, with other parameters, %s; GET /pid/%d/watch shows them. Only root and "
                                   "who began it can change or end it", kind->name, pid,
                     watch_rule(w) ? "by the daemon's configuration" : "for another user", pid);
}

/* Whether a wish can't be had beside what is watched now, by whom. */
static bool put_conflicts(struct watches *ws, pid_t pid, const struct watch_wish *wish, const struct asker *asker, const struct watch **ret_with,
                          bool *ret_same)
{
    const struct watch *w = watch_find(ws, pid, wish->kind);

    *ret_with = w;
    *ret_same = w && watch_wish_equal(watch_wish(w), wish);
    return w && !*ret_same && !watch_is_of(w, asker);
}

/* Nothing is committed before all can be. What somebody was faster with is dropped here. True; or the request was answered, and the PUT is
 * gone. */
static bool put_may_commit(struct watch_put *put)
{
    const struct watch *with;
    bool same;

    for (size_t i = 0; i < put->n; i++) {
        struct watch_run *run = put->runs[i];
        if (put_conflicts(watch_run_watches(run), watch_run_pid(run), watch_run_wish(run), http_request_asker(put->request), &with, &same)) {
            put_refuse_other(put->request, watch_run_pid(run), with);
            put_free(put);
            return false;
        }
        if (!same && !watch_can_commit(run)) {
            put_error(put, 404, "no such process: it ended as watching began");
            return false;
        }
        if (same)
            watch_drop(TAKE_PTR(put->runs[i]));
    }
    return true;
}

static void put_commit(struct watch_put *put)
{
    if (!put_may_commit(put))
        return;
    for (size_t i = 0; i < put->n; i++)
        if (put->runs[i])
            watch_commit(TAKE_PTR(put->runs[i]));
    http_reply(put->request, 204, NULL, NULL);
    put_free(put);
}

static void put_on_told(struct watch_run *run, int status, const char *message, void *userdata)
{
    struct watch_put *put = userdata;

    if (status)
        put_error(put, status, message);
    else if (++put->n_open == put->n)
        put_commit(put);
}

/* Begins what is not watched so already. 0, or the status of the answer with its message. */
static int put_begin(struct watch_put *put, struct server *server, pid_t pid, const struct watch_query *q, char *message, size_t message_len)
{
    const struct asker *asker = http_request_asker(put->request);

    for (size_t i = 0; i < q->n; i++) {
        struct watch_wish wish;
        const struct watch *with;
        bool same;
        if (watch_wish_parse(q->kinds[i], http_request_query(put->request), server->settings->max_overhead, &wish, message, message_len) < 0)
            return 400;
        if (put_conflicts(server->watches, pid, &wish, asker, &with, &same)) {
            put_refuse_other(put->request, pid, with);
            return -1;
        }
        if (same)
            continue;
        const struct watch_order order = {.asker = asker, .pid = pid, .wish = &wish};
        int status = watch_begin(server->watches, &order, put_on_told, put, &put->runs[put->n], message, message_len);
        if (status)
            return status;
        put->n++;
    }
    return 0;
}

/* For one who may trace the process. */
static void put_start(struct server *server, struct http_request *request, pid_t pid)
{
    char message[1024];
    struct watch_query q;
    struct watch_put *put = calloc(1, sizeof(*put));

    if (!put || !watch_query_parse(&q, http_request_query(request), true, server->watches)) {
        http_reply_error(request, 503, "no memory for another watch");
        free(put);
        return;
    }
    put->request = request;
    LIST_INSERT_HEAD(&puts_under_way, put, link);
    int status = put_begin(put, server, pid, &q, message, sizeof(message));
    if (status < 0) {
        put_free(put);
    } else if (status > 0) {
        put_error(put, status, message);
    } else if (put->n == 0) {
        http_reply(request, 204, NULL, NULL);
        put_free(put);
    } else {
        http_request_on_gone(request, put_on_gone, put);
    }
}

static void put_check(struct server *server, struct http_request *request, pid_t pid, const struct watch_query *q)
{
    char message[1024], known[256];
    struct watch_wish wish;

    if (q->n == 0) {
        http_reply_error(request, 400, "give \"kinds\", what is to be watched, with commas between; these can be: %s",
                         watch_query_kinds(", ", known, sizeof(known)));
        return;
    }
    for (size_t i = 0; i < q->n; i++) {
        if (watch_wish_parse(q->kinds[i], http_request_query(request), server->settings->max_overhead, &wish, message, sizeof(message)) < 0) {
            http_reply_error(request, 400, "%s", message);
            return;
        }
    }
    oneshot_check(server, request, pid, put_start);
}

/* ---- GET */

static void get_start(struct server *server, struct http_request *request, pid_t pid)
{
    struct evbuffer *body = evbuffer_new();
    struct watch_query q;

    if (!body || !watch_query_parse(&q, http_request_query(request), false, server->watches)) {
        http_reply_error(request, 503, "no memory for the answer");
    } else {
        watches_print(server->watches, pid, q.kinds, q.n, body);
        http_reply(request, 200, "application/json", body);
    }
    if (body)
        evbuffer_free(body);
}

/* ---- DELETE */

/* The watches that it is about, in no order. */
static size_t delete_find(struct server *server, pid_t pid, const struct watch_query *q, struct watch **ret)
{
    size_t n = 0;

    for (struct watch *w = watch_next(server->watches, pid, NULL); w && n < WATCH_MAX_KINDS; w = watch_next(server->watches, pid, w))
        if (q->n == 0 || watch_query_has(q, watch_wish(w)->kind))
            ret[n++] = w;
    return n;
}

/* For one who may trace the process, but not end all that he named. */
static void delete_refuse(struct server *server, struct http_request *request, pid_t pid)
{
    struct watch *found[WATCH_MAX_KINDS];
    struct watch_query q;
    size_t n;

    (void)watch_query_parse(&q, http_request_query(request), false, server->watches);
    n = delete_find(server, pid, &q, found);
    if (n == 0)
        http_reply_error(request, 409, "process %d is not being watched%s: GET /pid/%d/watch shows what is", pid, q.n ? " for that" : "", pid);
    else
        http_reply_error(request, 409, "process %d is watched for another user, or by the daemon's configuration: only root and who began it "
                                       "can end it", pid);
}

static void delete_start(struct server *server, struct http_request *request, pid_t pid, const struct watch_query *q)
{
    struct watch *found[WATCH_MAX_KINDS];
    size_t n = delete_find(server, pid, q, found);
    bool may = n > 0;

    for (size_t i = 0; i < n; i++)
        may = may && watch_is_of(found[i], http_request_asker(request));
    if (!may) {
        oneshot_check(server, request, pid, delete_refuse);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        watch_rules_keep_off(server->rules, found[i]);
        watch_end(found[i], "ended by DELETE");
    }
    http_reply(request, 204, NULL, NULL);
}

/* ---- any */

void watch_request(struct server *server, struct http_request *request, pid_t pid)
{
    enum http_method method = http_request_method(request);
    struct watch_query q;

    if (method == HTTP_POST) {
        http_reply_header(request, "Allow", "GET, HEAD, PUT, DELETE");
        http_reply_error(request, 405, "method not allowed here; GET, HEAD, PUT and DELETE are");
    } else if (evbuffer_get_length(http_request_body(request)) > 0) {
        http_reply_error(request, 400, "a body means nothing here: parameters go into the query");
    } else if (!watch_query_parse(&q, http_request_query(request), method == HTTP_PUT, server->watches)) {
        http_reply_error(request, 400, "%s", q.error);
    } else if (method == HTTP_PUT) {
        put_check(server, request, pid, &q);
    } else if (method == HTTP_DELETE) {
        delete_start(server, request, pid, &q);
    } else {
        oneshot_check(server, request, pid, get_start);
    }
}

void watch_requests_stop(void)
{
    struct watch_put *put;

    while ((put = LIST_FIRST(&puts_under_way)))
        put_error(put, 503, "the daemon is stopping");
}
