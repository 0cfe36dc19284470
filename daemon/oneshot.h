/* A request that one child answers whole (daemon/collector.h, "one-shot children"): it checks access, reads, and hands a body
 * over. */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "daemon/child.h"

struct http_request;
struct server;

/* Called with the body's memfd (borrowed) and its length; replies to the request. */
typedef void (*oneshot_body)(struct server *server, struct http_request *request, int fd, uint64_t len);
/* Starts fn on pid (0: none); every outcome is a reply. */
void oneshot_start(struct server *server, struct http_request *request, pid_t pid, child_fn fn, oneshot_body body);

/* Called once access is granted; replies to the request. */
typedef void (*oneshot_allowed)(struct server *server, struct http_request *request, pid_t pid);
/* Only checks that the process is there and that the asker may profile it; every outcome is a reply. */
void oneshot_check(struct server *server, struct http_request *request, pid_t pid, oneshot_allowed allowed);
