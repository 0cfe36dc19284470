/* What the files of a session share: session.c (its beginning, window and end) and session_reply.c. Private to these. */
#pragma once

#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

#include "daemon/debuginfod.h"
#include "daemon/recording.h"
#include "daemon/session.h"
#include "daemon/worker_pool.h"

struct event;
struct http_request;
struct server;

struct session {
    LIST_ENTRY(session) link;
    struct server *server;
    struct http_request *request;
    struct session_params params;
    char kind[32];
    pid_t pid;
    struct recording *recording;        /* its own */
    struct recording_view *view;
    struct worker_job *job;
    struct debuginfod_asker debuginfod; /* for the job that renders */
    struct event *timer;                /* the window's end */
    uint64_t request_ns;                /* monotonic: of the request */
};

/* ---- session.c */

/* How it ended, for the audit log and the counters; then it is gone. */
void session_over(struct session *s, int status, const char *how);
void session_error(struct session *s, int status, const char *message);

/* ---- session_reply.c */

/* Where the session's files come from. */
extern const struct recording_view_ops session_view_ops;
/* All is there: the worker's turn. table_fd: the mappings; -1: those that the recording ended with. */
void session_render(struct session *s, int table_fd);
