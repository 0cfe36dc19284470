/* The HTTP server over libevent's evhttp: listeners, the checks that every request passes (method, Host, Origin,
 * Sec-Fetch-Site, forwarding headers), who asks, headers that every answer carries, evhttp's own error pages included,
 * and clients that go away. It knows no path: requests go to one handler. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/asker.h"

struct event_base;
struct evbuffer;
struct evkeyvalq;
struct settings;
struct http_server;
struct http_request;

typedef void (*http_handler)(struct http_request *request, void *userdata);

/* What one client may take. Deadlines are from the start of each phase, so that a client that drips bytes gains nothing. */
struct http_limits {
    unsigned connections;  /* at once; beyond it the longest idle one is closed, or the new one answered 503 */
    unsigned root_reserve; /* so many more for root, whom others must not lock out */
    unsigned pending;      /* requests of one asker under way, root's excepted; beyond it 429 */
    size_t input_bytes;    /* of all requests that are being read; beyond it the largest is cut */
    unsigned idle_ms;      /* without a request */
    unsigned read_ms;      /* from a request's first byte to its last */
    unsigned write_ms;     /* to read the reply, */
    unsigned write_rate;   /* and a second more for each so many bytes of it */
};
extern const struct http_limits http_default_limits;
#define HTTP_MAX_HEADER_BYTES (64 * 1024)
#define HTTP_MAX_HEADER_LINES 256
#define HTTP_MAX_LINES 2048 /* with those of the body and its trailer */
#define HTTP_MAX_BODY_BYTES (1024 * 1024)
#define HTTP_MAX_QUERY_PARAMS 64

/* settings is borrowed and may be replaced (reload). 0 or -errno. */
int http_server_new(struct event_base *base, const struct settings *settings, http_handler handler, void *userdata,
                    struct http_server **ret);
void http_server_set_limits(struct http_server *server, const struct http_limits *limits);
void http_server_set_settings(struct http_server *server, const struct settings *settings);
/* address: "127.0.0.1:6060", "[::1]:6060", "unix:/run/cprofd.sock". 0 with a message that says where, or -errno with one that says why. */
int http_server_listen(struct http_server *server, const char *address, char *message, size_t message_len);
/* A listening socket from the service manager; becomes the server's, on failure too. */
int http_server_adopt(struct http_server *server, int fd);
/* Stops listening; requests under way go on. */
void http_server_stop_listening(struct http_server *server);
/* Connections are closed; requests under way are gone (http_request_on_gone). NULL is fine. */
void http_server_free(struct http_server *server);
unsigned http_server_connections(const struct http_server *server);

/* ---- a request; valid until it was replied to or its client left */

const char *http_request_path(const struct http_request *r);   /* decoded; never has a NUL */
const char *http_request_raw_query(const struct http_request *r); /* "" where none */
/* Names and values decoded, in order; a name without "=" has the value "". */
const struct evkeyvalq *http_request_query(const struct http_request *r);
enum http_method { HTTP_GET, HTTP_POST, HTTP_PUT, HTTP_DELETE }; /* HEAD is a GET */
enum http_method http_request_method(const struct http_request *r);
struct evbuffer *http_request_body(const struct http_request *r);
const char *http_request_header(const struct http_request *r, const char *name); /* NULL where none */
const struct asker *http_request_asker(const struct http_request *r);

/* Calls gone when the client leaves before the reply (close and half-close) or the server is freed; the request is freed right
 * after. A handler that does not reply at once must call this. gone must not reply. */
void http_request_on_gone(struct http_request *r, void (*gone)(struct http_request *r, void *userdata), void *userdata);

/* Headers of the reply, before it is sent. */
void http_reply_header(struct http_request *r, const char *name, const char *value);
/* Sends the reply (body is drained; NULL is an empty one) and frees the request. content_type may be NULL without a body. A HEAD
 * request gets the headers that go with the body. Safe where the client has just left. */
void http_reply(struct http_request *r, int status, const char *content_type, struct evbuffer *body);
/* The same, with len bytes of fd from offset on as body (read here; fd stays the caller's). */
void http_reply_fd(struct http_request *r, int status, const char *content_type, int fd, uint64_t offset, uint64_t len);
/* text/plain with X-Go-Pprof: 1, message and a newline. */
void http_reply_error(struct http_request *r, int status, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
