/* Watches over evhttp's connections: deadlines for clients that drip or don't read, a cap on their number and on what each may
 * buffer, and the headers that evhttp's own error pages lack (2.1.12 has no hook for any of these).
 *
 * evhttp asks for a bufferevent before it makes a connection, and says nothing when it fails. So a reference is
 * held until the loop's next turn; by then the connection is there, as the argument of the bufferevent's callbacks, and its
 * close callback, which evhttp calls whatever the end is, frees ours. */
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "daemon/http_internal.h"
#include "daemon/metrics.h"

/* A whole request is buffered before evhttp looks at its body. Beyond this something never ends, such as a chunk's size line. */
#define MAX_INPUT_BYTES (HTTP_MAX_HEADER_BYTES + HTTP_MAX_BODY_BYTES + 16 * 1024)

#define ERROR_HEADERS "X-Content-Type-Options: nosniff\r\nX-Go-Pprof: 1\r\n"

const char *http_conn_error_text(int status)
{
    switch (status) {
    case 400:
        return "malformed request, or more than 64 KiB or 256 lines of headers";
    case 408:
        return "the request did not come to its end in time";
    case 413:
        return "the request's body is malformed, or longer than 1 MiB";
    case 417:
        return "the only expectation known here is 100-continue";
    case 501:
        return "method not known here; GET and HEAD are, and POST for symbol";
    case 503:
        return "too much to do; try again in a moment";
    default:
        return "the request failed";
    }
}

static const char *error_phrase(int status)
{
    switch (status) {
    case 400:
        return "Bad Request";
    case 408:
        return "Request Timeout";
    case 413:
        return "Content Too Large";
    case 417:
        return "Expectation Failed";
    case 501:
        return "Not Implemented";
    default:
        return "Service Unavailable";
    }
}

static int print_error(char *out, size_t size, int status)
{
    const char *text = http_conn_error_text(status);
    return snprintf(out, size, "HTTP/1.1 %d %s\r\n" ERROR_HEADERS "%sContent-Type: text/plain; charset=utf-8\r\n"
                    "Content-Length: %zu\r\nConnection: close\r\n\r\n%s\n",
                    status, error_phrase(status), status == 503 ? "Retry-After: 1\r\n" : "", strlen(text) + 1, text);
}

void http_conn_free(struct http_conn *conn)
{
    if (!conn)
        return;
    TAILQ_REMOVE(&conn->server->conns, conn, next);
    conn->server->n_conns -= conn->evcon != NULL;
    conn->server->received -= conn->received;
    if (!conn->evcon && conn->bev)
        (void)bufferevent_decref(conn->bev);
    if (conn->setup)
        event_free(conn->setup);
    if (conn->deadline)
        event_free(conn->deadline);
    free(conn);
}

static void conn_closed(struct evhttp_connection *evcon, void *arg)
{
    struct http_conn *conn = arg;
    if (conn->linger)
        http_linger_start(conn->server, bufferevent_getfd(conn->bev));
    http_conn_free(conn);
}

void http_conn_drop(struct http_conn *conn)
{
    bufferevent_trigger_event(conn->bev, BEV_EVENT_READING | BEV_EVENT_TIMEOUT, 0);
}

/* The last word to a client that evhttp has no reply for; what does not fit into the socket's buffer is lost. */
static void conn_refuse(struct http_conn *conn, int status)
{
    char reply[512];
    int fd = bufferevent_getfd(conn->bev);
    int len = print_error(reply, sizeof(reply), status);
    metrics_add_request(status);
    (void)send(fd, reply, (size_t)len, MSG_DONTWAIT | MSG_NOSIGNAL);
    conn->linger = true;
    http_conn_drop(conn);
}

bool http_conn_evict(struct http_server *server, const struct http_conn *except)
{
    struct http_conn *conn, *writing = NULL;
    TAILQ_FOREACH(conn, &server->conns, next) {
        if (conn != except && conn->evcon && (conn->phase == HTTP_IDLE || conn->phase == HTTP_READING)) {
            http_conn_drop(conn);
            return true;
        }
        if (conn->phase == HTTP_WRITING && !writing)
            writing = conn;
    }
    if (writing)
        http_conn_drop(writing);
    return writing != NULL;
}

static void conn_deadline(evutil_socket_t fd, short what, void *arg)
{
    struct http_conn *conn = arg;
    if (conn->phase == HTTP_READING)
        conn_refuse(conn, conn->refusal ? conn->refusal : 408);
    else
        http_conn_drop(conn);
}

/* Whether a connection beyond the cap may stay. */
static bool conn_has_room(struct http_conn *conn)
{
    const struct http_limits *limits = &conn->server->limits;
    struct asker asker;
    if (conn->server->n_conns <= limits->connections || http_conn_evict(conn->server, conn))
        return true;
    asker_identify(bufferevent_getfd(conn->bev), conn->server->settings, &asker);
    return asker.known && asker.uid == 0 && conn->server->n_conns <= limits->connections + limits->root_reserve;
}

static void conn_setup(evutil_socket_t fd, short what, void *arg)
{
    struct http_conn *conn = arg;
    bufferevent_event_cb event_cb = NULL;
    void *evcon = NULL;
    bufferevent_getcb(conn->bev, NULL, NULL, &event_cb, &evcon);
    if (!event_cb) { /* evhttp gave it up already */
        http_conn_free(conn);
        return;
    }
    conn->evcon = evcon;
    conn->server->n_conns++;
    evhttp_connection_set_closecb(evcon, conn_closed, conn);
    (void)bufferevent_decref(conn->bev);
    if (!conn_has_room(conn))
        conn_refuse(conn, 503);
}

/* Ends a request that is being read; not at once, since evhttp may be at work on it. */
static void conn_cut(struct http_conn *conn, int status)
{
    conn->refusal = status;
    event_active(conn->deadline, EV_TIMEOUT, 0);
}

/* Each header line costs evhttp some hundred bytes, however short it is. */
static void conn_count_lines(struct http_conn *conn, const char *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (bytes[i] == '\n') {
            conn->in_body |= conn->line_is_empty;
            conn->line_is_empty = true;
            conn->lines++;
        } else if (bytes[i] != '\r') {
            conn->line_is_empty = false;
        }
        if (conn->lines > (conn->in_body ? HTTP_MAX_LINES : HTTP_MAX_HEADER_LINES))
            conn_cut(conn, conn->in_body ? 413 : 400);
    }
}

/* Accounts for what lies in the input beyond the first start bytes. */
static void conn_account(struct http_conn *conn, struct evbuffer *input, size_t start)
{
    size_t len = evbuffer_get_length(input);
    struct evbuffer_ptr at;
    struct evbuffer_iovec piece;
    conn->received += len - start;
    conn->server->received += len - start;
    while (start < len && evbuffer_ptr_set(input, &at, start, EVBUFFER_PTR_SET) == 0 &&
           evbuffer_peek(input, 1, &at, &piece, 1) >= 1) {
        conn_count_lines(conn, piece.iov_base, piece.iov_len);
        start += piece.iov_len;
    }
}

/* What is there already of a next request came with the last one. */
static void conn_begin_request(struct http_conn *conn)
{
    conn->server->received -= conn->received;
    conn->received = 0;
    conn->lines = 0;
    conn->line_is_empty = conn->in_body = false;
    conn->refusal = 0;
    conn_account(conn, bufferevent_get_input(conn->bev), 0);
}

void http_conn_enter(struct http_conn *conn, enum http_phase phase, size_t n_bytes)
{
    const struct http_limits *limits = &conn->server->limits;
    unsigned ms = phase == HTTP_IDLE ? limits->idle_ms : phase == HTTP_READING ? limits->read_ms : limits->write_ms;
    struct timeval tv = {.tv_sec = ms / 1000 + n_bytes / limits->write_rate, .tv_usec = ms % 1000 * 1000};
    if (conn->phase == HTTP_WRITING && phase != HTTP_WRITING)
        conn_begin_request(conn);
    conn->phase = phase;
    TAILQ_REMOVE(&conn->server->conns, conn, next);
    TAILQ_INSERT_TAIL(&conn->server->conns, conn, next);
    if (phase == HTTP_HANDLING)
        (void)event_del(conn->deadline);
    else
        (void)event_add(conn->deadline, &tv);
}

static void conn_cut_largest(struct http_server *server)
{
    struct http_conn *conn, *largest = NULL;
    TAILQ_FOREACH(conn, &server->conns, next)
        if (conn->phase == HTTP_READING && (!largest || conn->received > largest->received))
            largest = conn;
    if (largest)
        conn_cut(largest, 503);
}

static void conn_input(struct evbuffer *input, const struct evbuffer_cb_info *info, void *arg)
{
    struct http_conn *conn = arg;
    size_t len = evbuffer_get_length(input);
    if (info->n_added == 0)
        return;
    if (conn->phase == HTTP_IDLE)
        http_conn_enter(conn, HTTP_READING, 0);
    conn_account(conn, input, len - info->n_added);
    if (len >= MAX_INPUT_BYTES)
        conn_cut(conn, 413);
    if (conn->server->received > conn->server->limits.input_bytes)
        conn_cut_largest(conn->server);
}

/* Puts our page in place of evhttp's, none of which has been sent. */
static void replace_page(struct http_conn *conn, struct evbuffer *output)
{
    char page[512];
    int len = print_error(page, sizeof(page), conn->page_status);
    (void)evbuffer_unfreeze(output, 1);
    (void)evbuffer_drain(output, evbuffer_get_length(output));
    (void)evbuffer_freeze(output, 1);
    (void)evbuffer_add(output, page, (size_t)len);
}

/* evhttp writes its own error pages (a malformed request line, too long a header, an unknown method) in pieces: the
 * status line, each header, an HTML body. The first piece gets the headers that all our errors carry; the body is
 * the last one, and then the whole page becomes text, as our errors are. Were evhttp to change its page, the headers would stay. */
static void conn_output(struct evbuffer *output, const struct evbuffer_cb_info *info, void *arg)
{
    struct http_conn *conn = arg;
    struct evbuffer_ptr start;
    struct evbuffer_iovec piece;
    size_t len = evbuffer_get_length(output);
    if (conn->own_output || info->n_added == 0 ||
        evbuffer_ptr_set(output, &start, len - info->n_added, EVBUFFER_PTR_SET) < 0 ||
        evbuffer_peek(output, 16, &start, &piece, 1) < 1)
        return;
    conn->own_output = true;
    if (piece.iov_len >= 12 && memcmp(piece.iov_base, "HTTP/", 5) == 0) {
        const char *code = memchr(piece.iov_base, ' ', piece.iov_len - 3);
        int status = code ? atoi((char[4]){code[1], code[2], code[3]}) : 0;
        if (status >= 200) {
            metrics_add_request(status);
            http_conn_enter(conn, HTTP_WRITING, 0);
            conn->linger = true;
            conn->page_status = len == info->n_added ? status : 0;
            (void)evbuffer_add(output, ERROR_HEADERS, strlen(ERROR_HEADERS));
        }
    } else if (conn->page_status && piece.iov_len >= 6 && memcmp(piece.iov_base, "<HTML>", 6) == 0) {
        replace_page(conn, output);
        conn->page_status = 0;
    }
    conn->own_output = false;
}

struct bufferevent *http_conn_new(struct event_base *base, void *arg)
{
    struct http_server *server = arg;
    struct http_conn *conn = calloc(1, sizeof(*conn));
    if (!conn)
        return NULL;
    conn->server = server;
    TAILQ_INSERT_TAIL(&server->conns, conn, next);
    conn->bev = bufferevent_socket_new(base, -1, 0);
    conn->setup = event_new(base, -1, 0, conn_setup, conn);
    conn->deadline = event_new(base, -1, 0, conn_deadline, conn);
    if (!conn->bev || !conn->setup || !conn->deadline ||
        !evbuffer_add_cb(bufferevent_get_input(conn->bev), conn_input, conn) ||
        !evbuffer_add_cb(bufferevent_get_output(conn->bev), conn_output, conn)) {
        http_conn_free(conn);
        return NULL;
    }
    bufferevent_setwatermark(conn->bev, EV_READ, 0, MAX_INPUT_BYTES);
    bufferevent_incref(conn->bev);
    http_conn_enter(conn, HTTP_IDLE, 0);
    event_active(conn->setup, EV_TIMEOUT, 0);
    return conn->bev;
}

struct http_conn *http_conn_find(struct http_server *server, const struct bufferevent *bev)
{
    struct http_conn *conn;
    TAILQ_FOREACH(conn, &server->conns, next)
        if (conn->bev == bev)
            return conn;
    return NULL;
}
