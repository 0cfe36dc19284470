/* A session: one profile of one target, from the query to the reply. It is a view of a recording: of its own, which lives for the
 * window, or of one that watches the target.
 *
 *   windowed: recorded (recording.h) from the window's beginning to its end -> rendered (worker) -> replied
 *   of a watch: mappings so far (collector) and counts so far -> rendered (worker) -> replied
 *
 * Nothing reaches back. The client's leaving frees it at any point, and what it holds with it. */
#pragma once

#include <sys/types.h>

#include "daemon/session_params.h"

struct http_request;
struct server;
struct session;
struct watch_run;

/* Begins one with a window; every outcome, errors too, is a reply to request. kind: for metrics, the audit log and the file's name. */
void session_start(struct server *server, struct http_request *request, pid_t pid, const struct session_params *params,
                   const char *kind);
/* Begins one that reads what a watch has so far; params->duration_ns is 0. */
void session_read(struct server *server, struct http_request *request, pid_t pid, const struct session_params *params, const char *kind,
                  struct watch_run *run);
/* Ends all sessions with an error: the daemon stops. */
void session_stop_all(void);
