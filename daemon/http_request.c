/* Requests, from evhttp's callback to the reply: the checks, what a handler reads of them, and the answers.
 *
 * evhttp stops reading a connection while a reply is pending, and so never learns that the client left. Each request
 * therefore watches a copy of the connection's fd. A copy, since libevent refuses edge and level triggers on one fd;
 * edges, since a reset (EPOLLERR) wakes no EV_CLOSED event of libevent's and would make a level-triggered one spin. */
#include <assert.h>
#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/http_struct.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/http_checks.h"
#include "daemon/http_internal.h"
#include "daemon/http_query.h"
#include "daemon/metrics.h"
#include "util/cleanup.h"

static void request_free(struct http_request *r)
{
    if (r->conn)
        r->conn->request = NULL;
    if (r->watch)
        event_free(r->watch);
    close_fd(&r->watch_fd);
    evhttp_clear_headers(&r->query);
    evhttp_clear_headers(&r->headers);
    free(r->path);
    free(r);
}

/* The handler's end of a request whose client or server is gone. */
void http_request_gone(struct http_request *r)
{
    if (r->gone)
        r->gone(r, r->gone_userdata);
    request_free(r);
}

static void request_watch(evutil_socket_t fd, short what, void *arg)
{
    struct http_request *r = arg;
    struct pollfd p = {.fd = fd, .events = POLLRDHUP};
    /* Data of a next request wakes this too. */
    if (poll(&p, 1, 0) <= 0 || !(p.revents & (POLLRDHUP | POLLHUP | POLLERR | POLLNVAL)))
        return;
    struct http_conn *conn = r->conn;
    struct evhttp_request *req = r->req;
    http_request_gone(r);
    http_conn_drop(conn);     /* evhttp lets go of a request that is not its own at that moment, */
    evhttp_request_free(req); /* so it is ours to free */
}

static int request_start_watch(struct http_request *r, struct event_base *base, int fd)
{
    r->watch_fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (r->watch_fd < 0)
        return -errno;
    r->watch = event_new(base, r->watch_fd, EV_READ | EV_CLOSED | EV_ET | EV_PERSIST, request_watch, r);
    return r->watch && event_add(r->watch, NULL) == 0 ? 0 : -ENOMEM;
}

static int request_decode(struct http_request *r)
{
    const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(r->req);
    const char *path = uri ? evhttp_uri_get_path(uri) : NULL;
    if (!path || !*path)
        path = "/";
    r->path = http_query_decode(path, strlen(path), false);
    return r->path ? http_query_parse(http_request_raw_query(r), HTTP_MAX_QUERY_PARAMS, &r->query) : -EINVAL;
}

/* Strangers count as one: nothing tells them apart that they could not change. */
static bool same_asker(const struct asker *a, const struct asker *b)
{
    return a->known == b->known && (!a->known || a->uid == b->uid);
}

/* One user's requests must not take all connections: most wait for a process to be looked at, or for a window to end. */
static bool request_is_one_too_many(const struct http_request *r)
{
    const struct http_server *server = r->conn->server;
    const struct http_conn *conn;
    unsigned n = 0;
    if (r->asker.known && r->asker.uid == 0)
        return false;
    TAILQ_FOREACH(conn, &server->conns, next)
        n += conn->request && same_asker(&conn->request->asker, &r->asker);
    return n > server->limits.pending;
}

/* Where the request ends is not known, or the rest of it not wanted. */
static void refuse_and_close(struct http_request *r, int status, const char *message)
{
    r->conn->linger = true;
    http_reply_header(r, "Connection", "close");
    http_reply_error(r, status, "%s", message);
}

/* The checks that come before any path. True where the request was answered here. */
static bool request_refused(struct http_request *r)
{
    const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(r->req);
    enum evhttp_cmd_type method = evhttp_request_get_command(r->req);
    const struct http_check_input in = {
        .headers = evhttp_request_get_input_headers(r->req),
        .uri_scheme = uri ? evhttp_uri_get_scheme(uri) : NULL,
        .uri_host = uri ? evhttp_uri_get_host(uri) : NULL,
        .major = r->req->major, .minor = r->req->minor,
        .asker = &r->asker, .settings = r->conn->server->settings,
    };
    struct http_refusal refusal;
    if (r->conn->refusal) { /* it came whole before it could be cut */
        refuse_and_close(r, r->conn->refusal, http_conn_error_text(r->conn->refusal));
        return true;
    }
    if (http_check_framing(&in, method == EVHTTP_REQ_HEAD || method == EVHTTP_REQ_TRACE, &refusal) < 0) {
        r->req->major = r->req->minor = 1;
        refuse_and_close(r, refusal.status, refusal.message);
        return true;
    }
    if (method != EVHTTP_REQ_GET && method != EVHTTP_REQ_HEAD && method != EVHTTP_REQ_POST && method != EVHTTP_REQ_PUT &&
        method != EVHTTP_REQ_DELETE) {
        http_reply_header(r, "Allow", "GET, HEAD, POST, PUT, DELETE");
        refuse_and_close(r, 405, "method not allowed here; GET and HEAD are, POST for symbol, PUT and DELETE for watch");
        return true;
    }
    if (http_check_source(&in, &refusal) < 0) {
        http_reply_error(r, refusal.status, "%s", refusal.message);
        return true;
    }
    if (request_is_one_too_many(r)) {
        http_reply_header(r, "Retry-After", "1");
        http_reply_error(r, 429, "too many requests of yours are under way: the limit is %u",
                         r->conn->server->limits.pending);
        return true;
    }
    return false;
}

void http_request_received(struct evhttp_request *req, void *arg)
{
    struct http_server *server = arg;
    struct bufferevent *bev = evhttp_connection_get_bufferevent(evhttp_request_get_connection(req));
    struct http_conn *conn = http_conn_find(server, bev);
    struct http_request *r = conn ? calloc(1, sizeof(*r)) : NULL;
    if (!r) {
        evhttp_send_error(req, 503, NULL);
        return;
    }
    assert(!conn->request);
    *r = (struct http_request){.conn = conn, .req = req, .watch_fd = -1};
    TAILQ_INIT(&r->query);
    TAILQ_INIT(&r->headers);
    conn->request = r;
    http_conn_enter(conn, HTTP_HANDLING, 0);
    asker_identify(bufferevent_getfd(bev), server->settings, &r->asker);
    if (request_refused(r))
        return;
    if (request_decode(r) < 0)
        http_reply_error(r, 400, "the path or query has a zero byte or more than %d parameters", HTTP_MAX_QUERY_PARAMS);
    else if (request_start_watch(r, server->base, bufferevent_getfd(bev)) < 0)
        http_reply_error(r, 503, "out of file descriptors or memory; try again in a moment");
    else
        server->handler(r, server->userdata);
}

const char *http_request_path(const struct http_request *r)
{
    return r->path;
}

const char *http_request_raw_query(const struct http_request *r)
{
    const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(r->req);
    const char *query = uri ? evhttp_uri_get_query(uri) : NULL;
    return query ? query : "";
}

const struct evkeyvalq *http_request_query(const struct http_request *r)
{
    return &r->query;
}

enum http_method http_request_method(const struct http_request *r)
{
    switch (evhttp_request_get_command(r->req)) {
    case EVHTTP_REQ_POST:
        return HTTP_POST;
    case EVHTTP_REQ_PUT:
        return HTTP_PUT;
    case EVHTTP_REQ_DELETE:
        return HTTP_DELETE;
    default:
        return HTTP_GET;
    }
}

struct evbuffer *http_request_body(const struct http_request *r)
{
    return evhttp_request_get_input_buffer(r->req);
}

const char *http_request_header(const struct http_request *r, const char *name)
{
    return evhttp_find_header(evhttp_request_get_input_headers(r->req), name);
}

const struct asker *http_request_asker(const struct http_request *r)
{
    return &r->asker;
}

void http_request_on_gone(struct http_request *r, void (*gone)(struct http_request *r, void *userdata), void *userdata)
{
    r->gone = gone;
    r->gone_userdata = userdata;
}

/* ---- replies */

static const char *phrase(int status)
{
    /* What evhttp has no phrase for; NULL lets it choose. */
    return status == 429 ? "Too Many Requests" : status == 408 ? "Request Timeout" : NULL;
}

void http_reply_header(struct http_request *r, const char *name, const char *value)
{
    (void)evhttp_remove_header(&r->headers, name);
    (void)evhttp_add_header(&r->headers, name, value);
}

static void reply_sent(struct evhttp_request *req, void *arg)
{
    struct http_conn *conn = arg;
    /* A next request may be there in part. */
    bool more = evbuffer_get_length(bufferevent_get_input(conn->bev)) > 0;
    http_conn_enter(conn, more ? HTTP_READING : HTTP_IDLE, 0);
}

static void copy_headers(struct http_request *r, struct evkeyvalq *output)
{
    struct evkeyval *h;
    TAILQ_FOREACH(h, &r->headers, next)
        (void)evhttp_add_header(output, h->key, h->value);
}

void http_reply(struct http_request *r, int status, const char *content_type, struct evbuffer *body)
{
    struct http_conn *conn = r->conn;
    struct evhttp_request *req = r->req;
    size_t len = body ? evbuffer_get_length(body) : 0;
    char text[24];
    http_reply_header(r, "X-Content-Type-Options", "nosniff");
    if (status >= 400)
        http_reply_header(r, "X-Go-Pprof", "1");
    if (content_type)
        http_reply_header(r, "Content-Type", content_type);
    if (status != 204) {
        (void)snprintf(text, sizeof(text), "%zu", len);
        http_reply_header(r, "Content-Length", text);
    }
    copy_headers(r, evhttp_request_get_output_headers(req));
    if (body && evhttp_request_get_command(req) == EVHTTP_REQ_HEAD)
        (void)evbuffer_drain(body, len); /* evhttp would send it */
    request_free(r);

    metrics_add_request(status);
    evhttp_request_set_on_complete_cb(req, reply_sent, conn);
    conn->own_output = true;
    evhttp_send_reply(req, status, phrase(status), body);
    conn->own_output = false;
    http_conn_enter(conn, HTTP_WRITING, len);
    /* evhttp would read on, without a bound, and would take a half-closed connection for a lost one. */
    (void)bufferevent_disable(conn->bev, EV_READ);
}

static int read_whole(int fd, struct evbuffer *body, uint64_t offset, uint64_t len)
{
    struct evbuffer_iovec room;
    if (len > SSIZE_MAX || evbuffer_reserve_space(body, (ev_ssize_t)len, &room, 1) != 1)
        return -ENOMEM;
    for (uint64_t done = 0; done < len;) {
        ssize_t n = pread(fd, (char *)room.iov_base + done, len - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -ENODATA;
        done += (uint64_t)n;
    }
    room.iov_len = len;
    return evbuffer_commit_space(body, &room, 1) < 0 ? -ENOMEM : 0;
}

void http_reply_fd(struct http_request *r, int status, const char *content_type, int fd, uint64_t offset, uint64_t len)
{
    struct evbuffer *body = evbuffer_new();
    int error = !body ? -ENOMEM : len > 0 ? read_whole(fd, body, offset, len) : 0;
    if (error < 0)
        http_reply_error(r, 500, "the finished body can't be read: %s", strerror(-error));
    else
        http_reply(r, status, content_type, body);
    if (body)
        evbuffer_free(body);
}

void http_reply_error(struct http_request *r, int status, const char *fmt, ...)
{
    struct evbuffer *body = evbuffer_new();
    va_list args;
    if (body) {
        va_start(args, fmt);
        (void)evbuffer_add_vprintf(body, fmt, args);
        va_end(args);
        (void)evbuffer_add(body, "\n", 1);
    }
    http_reply(r, status, "text/plain; charset=utf-8", body);
    if (body)
        evbuffer_free(body);
}
