/* A session: one profile of one target, from the query to the reply.
 *
 *   checked (collector) -> [place found (worker)] -> attached (recorder) -> checked again -> open ... closed
 *     -> drained (recorder) and mappings (collector) -> rendered (worker) -> replied
 *
 * Nothing reaches back. The client's leaving frees it at any point, and what it holds with it. */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "daemon/asker.h"
#include "daemon/session_params.h"

struct http_request;
struct new_code;
struct server;
struct session;
struct session_notice;

/* Begins; every outcome, errors too, is a reply to request. kind: for metrics, the audit log and the file's name. */
void session_start(struct server *server, struct http_request *request, pid_t pid, const struct session_params *params,
                   const char *kind);
/* From the notices ring: the target exec'd, ended, or mapped new code. */
void session_notice(struct session *s, const struct session_notice *notice);
/* Something was mapped executable in the target. */
void session_new_code(struct session *s, const struct new_code *code);
/* Ends all sessions with an error: the daemon stops. */
void session_stop_all(struct server *server);

/* For limits and metrics. */
pid_t session_pid(const struct session *s);
const struct asker *session_asker(const struct session *s);
double session_rate_hz(const struct session *s); /* what quotas count it as */
