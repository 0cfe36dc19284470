/* A raw HTTP client and a server in one process and one loop, for tests of what clients can do. */
#pragma once

#include <event2/event.h>
#include <stdbool.h>
#include <stddef.h>

#include "config/settings.h"
#include "daemon/http.h"

struct http_fixture {
    struct event_base *base;
    struct http_server *server;
    struct settings settings;
    unsigned short port;
    /* What fixture_handler saw, and the request that it left pending. */
    int n_requests, n_gone;
    struct http_request *pending;
    char seen[512];
};

/* A server on an ephemeral port of 127.0.0.1. */
void fixture_start(struct http_fixture *f, http_handler handler, void *userdata);
/* A handler (userdata: the fixture): /wait is left pending, /big is 64 MiB, /error is 429, the rest is "hello". */
void fixture_handler(struct http_request *r, void *userdata);
void fixture_reply_big(struct http_request *r, size_t len);
void fixture_stop(struct http_fixture *f);
/* Turns the loop until nothing happens any more. */
void fixture_turn(struct http_fixture *f);

/* A non-blocking connection to the server. */
int client_connect(struct http_fixture *f);
/* Sends all of it, turning the loop as needed. False where the server closed. */
bool client_send(struct http_fixture *f, int fd, const char *data, size_t len);
bool client_puts(struct http_fixture *f, int fd, const char *text);

struct http_answer {
    char text[65536]; /* headers and body */
    size_t len;
    bool closed;      /* the server closed the connection */
    int status;
    const char *body;
};
/* One reply: its headers, and the body that Content-Length tells (head: none), or all up to the end of file. */
void client_read(struct http_fixture *f, int fd, bool head, struct http_answer *ret);
/* All up to the server's end of file. */
void client_read_all(struct http_fixture *f, int fd, struct http_answer *ret);
/* Connects, sends, reads one reply, and closes. */
void client_ask(struct http_fixture *f, const char *request, struct http_answer *ret);
/* A connection on which a request for /wait is pending. */
int client_ask_pending(struct http_fixture *f);
/* A line of the headers, such as "X-Go-Pprof: 1". */
bool answer_has(const struct http_answer *a, const char *header);
/* An error of that status, with all that errors carry. */
void assert_error(const struct http_answer *a, int status);
