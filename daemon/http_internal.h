/* What http.c, http_conn.c and http_request.c share: the server, its connections, and the request under way on each. */
#pragma once

#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "daemon/asker.h"
#include "daemon/http.h"
#include "daemon/http_listen.h"

struct bufferevent;
struct event;
struct evconnlistener;

enum http_phase { HTTP_IDLE, HTTP_READING, HTTP_HANDLING, HTTP_WRITING };

/* A connection, from accept to close. evhttp owns its bufferevent and fd; this watches over it. */
struct http_conn {
    TAILQ_ENTRY(http_conn) next; /* the server's list: longest in its phase first */
    struct http_server *server;
    struct bufferevent *bev;
    struct evhttp_connection *evcon; /* NULL until the loop's next turn, see conn_setup */
    struct event *setup, *deadline;
    enum http_phase phase;
    struct http_request *request; /* while HTTP_HANDLING */
    size_t received;              /* bytes of the request that is being read */
    unsigned lines;               /* of it so far */
    bool line_is_empty, in_body;  /* the line that is being read; whether it lies behind the head */
    int refusal;                  /* the status with which it will be cut, where it must be */
    bool own_output;              /* what goes out now is ours, not a page of evhttp's */
    bool linger;                  /* it ends before all that the client sends has been read */
    int page_status;              /* of evhttp's own page, while it is being written */
};

struct http_request {
    struct http_conn *conn;
    struct evhttp_request *req;
    struct evkeyvalq query;
    struct evkeyvalq headers; /* of the reply */
    char *path;
    struct asker asker;
    struct event *watch; /* on a copy of the connection's fd: tells when the client leaves */
    int watch_fd;
    void (*gone)(struct http_request *r, void *userdata);
    void *gone_userdata;
};

#define HTTP_MAX_LISTENERS 64

struct http_listener {
    struct evhttp_bound_socket *bound;
    struct http_listen_path path;
};

struct http_server {
    TAILQ_ENTRY(http_server) next;
    struct event_base *base;
    const struct settings *settings;
    struct http_limits limits;
    struct evhttp *evhttp;
    http_handler handler;
    void *userdata;
    TAILQ_HEAD(http_conns, http_conn) conns;
    unsigned n_conns; /* that have an evcon */
    size_t received; /* by all of them */
    struct http_listener listener[HTTP_MAX_LISTENERS];
    size_t n_listeners;
    TAILQ_HEAD(http_lingers, http_linger) lingers;
    unsigned n_lingers;
    struct event *accept_again;   /* after accept ran out of descriptors */
    uint64_t accept_warned_ns;
};

/* For evhttp_set_bevcb (arg: struct http_server): the bufferevent of a new connection, watched over from here on. */
struct bufferevent *http_conn_new(struct event_base *base, void *arg);
struct http_conn *http_conn_find(struct http_server *server, const struct bufferevent *bev);
/* The deadline of a phase begins; n_bytes: of a reply, for HTTP_WRITING. */
void http_conn_enter(struct http_conn *conn, enum http_phase phase, size_t n_bytes);
/* Closes the connection the way a network error does: evhttp frees it, and with it *conn. */
void http_conn_drop(struct http_conn *conn);
/* Makes room by closing the connection that has been idle or reading for longest, else the one that has been writing for longest; never
 * except. False where there is none. */
bool http_conn_evict(struct http_server *server, const struct http_conn *except);
/* What is wrong, for a status of http_conn's own. */
const char *http_conn_error_text(int status);
/* For what is left once evhttp is freed. */
void http_conn_free(struct http_conn *conn);

/* For evhttp_set_gencb (arg: struct http_server). */
void http_request_received(struct evhttp_request *req, void *arg);
/* Tells the handler that client or server are gone, and frees the request. */
void http_request_gone(struct http_request *r);

/* The connection of fd is about to be closed: reads on for a moment on a copy. */
void http_linger_start(struct http_server *server, int fd);
void http_linger_stop(struct http_server *server);
