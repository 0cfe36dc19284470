/* The HTTP server: owns evhttp and the listeners. Connections are watched over in http_conn.c, requests and their replies are in
 * http_request.c, checks in http_checks.c, listening sockets in http_listen.c. */
#include "daemon/http.h"

#include <errno.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/listener.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/http_internal.h"
#include "daemon/log.h"
#include "util/cleanup.h"
#include "util/clock.h"

#define ACCEPT_RETRY_MS 100
#define ACCEPT_WARN_NS (60 * NSEC_PER_SEC)

const struct http_limits http_default_limits = {
    .connections = 256, .root_reserve = 16, .pending = 96, .input_bytes = 32 * 1024 * 1024,
    .idle_ms = 60000, .read_ms = 20000, .write_ms = 30000, .write_rate = 64 * 1024,
};

/* libevent hands its own object to the error callback of a listener: the server is looked up by it. */
static TAILQ_HEAD(, http_server) servers = TAILQ_HEAD_INITIALIZER(servers);

static void accept_again(evutil_socket_t fd, short what, void *arg)
{
    struct http_server *server = arg;
    for (size_t i = 0; i < server->n_listeners; i++)
        (void)evconnlistener_enable(evhttp_bound_socket_get_listener(server->listener[i].bound));
}

/* Out of descriptors, most likely: the listener would stay ready, and the loop would spin on it. */
static void accept_failed(struct evconnlistener *listener, void *arg)
{
    struct http_server *server;
    const struct timeval tv = {.tv_usec = ACCEPT_RETRY_MS * 1000};
    int error = errno;
    TAILQ_FOREACH(server, &servers, next)
        if (server->evhttp == arg)
            break;
    if (!server)
        return;
    if (server->accept_warned_ns == 0 || monotonic_ns() - server->accept_warned_ns > ACCEPT_WARN_NS) {
        log_warning("can't accept connections: %s; idle ones are closed to make room", strerror(error));
        server->accept_warned_ns = monotonic_ns();
    }
    (void)http_conn_evict(server, NULL);
    (void)evconnlistener_disable(listener);
    (void)evtimer_add(server->accept_again, &tv);
}

int http_server_new(struct event_base *base, const struct settings *settings, http_handler handler, void *userdata,
                    struct http_server **ret)
{
    struct http_server *server = calloc(1, sizeof(*server));
    if (!server)
        return -ENOMEM;
    *server = (struct http_server){
        .base = base, .settings = settings, .limits = http_default_limits, .handler = handler, .userdata = userdata,
    };
    TAILQ_INIT(&server->conns);
    TAILQ_INIT(&server->lingers);
    TAILQ_INSERT_TAIL(&servers, server, next);
    server->accept_again = evtimer_new(base, accept_again, server);
    server->evhttp = evhttp_new(base);
    if (!server->evhttp || !server->accept_again) {
        http_server_free(server);
        return -ENOMEM;
    }
    (void)signal(SIGPIPE, SIG_IGN); /* libevent writes to clients that have left */
    evhttp_set_bevcb(server->evhttp, http_conn_new, server);
    evhttp_set_gencb(server->evhttp, http_request_received, server);
    evhttp_set_default_content_type(server->evhttp, NULL);
    evhttp_set_max_headers_size(server->evhttp, HTTP_MAX_HEADER_BYTES);
    evhttp_set_max_body_size(server->evhttp, HTTP_MAX_BODY_BYTES);
    /* All that evhttp knows: what is not for us is refused here, with 405 and Allow. */
    evhttp_set_allowed_methods(server->evhttp, EVHTTP_REQ_GET | EVHTTP_REQ_POST | EVHTTP_REQ_HEAD | EVHTTP_REQ_PUT |
                               EVHTTP_REQ_DELETE | EVHTTP_REQ_OPTIONS | EVHTTP_REQ_TRACE | EVHTTP_REQ_CONNECT |
                               EVHTTP_REQ_PATCH);
    *ret = server;
    return 0;
}

void http_server_set_limits(struct http_server *server, const struct http_limits *limits)
{
    server->limits = *limits;
}

void http_server_set_settings(struct http_server *server, const struct settings *settings)
{
    server->settings = settings;
}

unsigned http_server_connections(const struct http_server *server)
{
    return server->n_conns;
}

/* fd becomes the server's, on failure too. */
static int server_listen(struct http_server *server, int fd, const struct http_listen_path *path)
{
    AUTO_CLOSE int owned = fd;
    int r = http_listen_check(fd);
    if (r < 0)
        return r;
    if (server->n_listeners == HTTP_MAX_LISTENERS)
        return -E2BIG;
    struct evhttp_bound_socket *bound = evhttp_accept_socket_with_handle(server->evhttp, fd);
    if (!bound)
        return -ENOMEM;
    (void)TAKE_FD(owned);
    evconnlistener_set_error_cb(evhttp_bound_socket_get_listener(bound), accept_failed);
    server->listener[server->n_listeners++] = (struct http_listener){.bound = bound, .path = *path};
    return 0;
}

int http_server_listen(struct http_server *server, const char *address, char *message, size_t message_len)
{
    struct http_listen_path path;
    char name[HTTP_LISTEN_NAME_LEN];
    int fd = http_listen_open(address, &path, message, message_len);
    if (fd < 0)
        return fd;
    http_listen_name(fd, address, name);
    int r = server_listen(server, fd, &path);
    if (r < 0) {
        http_listen_unlink(&path);
        (void)snprintf(message, message_len, "%s: %s", address, strerror(-r));
    } else {
        (void)snprintf(message, message_len, "listening on %s", name);
    }
    return r;
}

int http_server_adopt(struct http_server *server, int fd)
{
    return server_listen(server, fd, &(struct http_listen_path){0});
}

void http_server_stop_listening(struct http_server *server)
{
    for (size_t i = 0; i < server->n_listeners; i++) {
        evhttp_del_accept_socket(server->evhttp, server->listener[i].bound);
        http_listen_unlink(&server->listener[i].path);
    }
    server->n_listeners = 0;
    (void)evtimer_del(server->accept_again);
}

void http_server_free(struct http_server *server)
{
    struct http_conn *conn;
    if (!server)
        return;
    if (server->evhttp) {
        http_server_stop_listening(server);
        TAILQ_FOREACH(conn, &server->conns, next)
            if (conn->request)
                http_request_gone(conn->request);
        evhttp_free(server->evhttp); /* closes the connections, and frees their requests */
    }
    while ((conn = TAILQ_FIRST(&server->conns)))
        http_conn_free(conn);
    http_linger_stop(server);
    if (server->accept_again)
        event_free(server->accept_again);
    TAILQ_REMOVE(&servers, server, next);
    free(server);
}
