/* What the files of a session share: session.c (its beginning, window and end) and session_reply.c. Private to these. */
#pragma once

#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

#include "daemon/asker.h"
#include "daemon/collector.h"
#include "daemon/debuginfod.h"
#include "daemon/image_access.h"
#include "daemon/recording.h"
#include "daemon/session.h"
#include "daemon/worker_pool.h"

struct event;
struct http_request;
struct server;
struct watch_run;

struct session {
    LIST_ENTRY(session) link;
    struct server *server;
    struct http_request *request;
    struct asker asker;
    struct session_params params;
    char kind[32];
    pid_t pid;
    struct recording *recording;        /* its own; NULL where it reads a watch's: */
    struct session_reading {
        struct watch_run *run;          /* held; NULL where the recording is its own */
        struct child *checker;          /* whether the asker may trace the target as it is now */
        unsigned n_checks;
        uint32_t exec_epoch;            /* before it was checked */
        struct collector_target target; /* once checked */
        struct image_access access;     /* what the asker may see of it */
        int table_fd;                   /* mappings that wait for the last check; -1 */
    } reading;
    struct recording_view *view;
    struct worker_job *job;
    struct debuginfod_asker debuginfod; /* for the job that renders */
    struct event *timer;                /* the window's end; how long a watch's mappings are waited for */
    uint64_t request_ns;                /* monotonic: of the request */
};

/* ---- session.c */

/* Registered, and the request's; NULL: no memory, and the request is answered. */
struct session *session_new(struct server *server, struct http_request *request, pid_t pid, const struct session_params *params, const char *kind,
                            void (*on_timer)(int fd, short what, void *arg));
const struct recording *session_recording(const struct session *s);
const struct collector_target *session_target(const struct session *s);
/* How it ended, for the audit log and the counters; then it is gone. */
void session_over(struct session *s, int status, const char *how);
void session_error(struct session *s, int status, const char *message);

/* ---- session_read.c */

/* The mappings of a watch's recording have come; fd is the callee's, -1: there are none. */
void session_read_on_table(void *userdata, int fd);
void session_reading_deinit(struct session *s);

/* ---- session_reply.c */

/* Where the session's files come from. */
extern const struct recording_view_ops session_view_ops;
/* All is there: the worker's turn. table_fd: the mappings; -1: those that the recording ended with. */
void session_render(struct session *s, int table_fd);
