/* What the files of a session share: session.c (its beginning, window and end), session_attach.c (probe places, recorder),
 * session_collector.c (the talk with the collector), session_unwind*.c (unwinding tables) and session_reply.c. Private to these. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "bpf/attach.h"
#include "daemon/asker.h"
#include "daemon/child.h"
#include "daemon/collector.h"
#include "daemon/debuginfod.h"
#include "daemon/image_access.h"
#include "daemon/recorder.h"
#include "daemon/session.h"
#include "daemon/session_unwind.h"
#include "daemon/worker_pool.h"
#include "util/clock.h"

struct event;
struct http_request;
struct server;

/* How long a target may hold up the collector: before the window, after it, and for each answer. */
#define SESSION_CHECK_DEADLINE_NS (3 * NSEC_PER_SEC)
#define SESSION_FINISH_DEADLINE_NS (2 * NSEC_PER_SEC)

#define SESSION_ANSWER_DEADLINE_NS (3 * NSEC_PER_SEC)
/* What the collector is told of new code and images is gathered for this long. */
#define SESSION_TELL_PAUSE_US 5000

enum session_phase {
    PHASE_CHECKING,   /* the collector looks at the target */
    PHASE_PLACING,    /* a probe's file is opened, its places are found */
    PHASE_ATTACHING,
    PHASE_RECHECKING,
    PHASE_OPEN,
    PHASE_CLOSING,    /* detaching; the collector reads the mappings for the last time */
    PHASE_RENDERING,
};

struct session {
    struct server *server;
    struct http_request *request;
    struct asker asker;
    struct session_params params;
    char kind[32];
    pid_t pid;
    uint32_t slot;
    enum session_phase phase;

    struct collector_request collect;
    struct collector_target target; /* once ready */
    struct child *collector;
    bool watching;                  /* sampler_watch and sampler_target_add are done */
    struct recorder *recorder;
    bool attached;                  /* the recorder is ready */
    struct session_unwind unwind;
    bool drained, tabled;           /* CLOSING is over when both are */
    int table_fd, probe_fd;
    struct worker_job *job;
    struct debuginfod_asker debuginfod; /* for the job that renders */
    struct event *timer;            /* the window's end */
    struct event *budget;           /* compares what sampling costs with what it may, again and again */
    struct event *tell;             /* runs while what is due to the collector is gathered */
    bool epoch_due, exec_due;       /* the collector has not been told of the newest epoch, exec */

    uint64_t request_ns, end_ns;    /* monotonic: of the request, of the window */
    uint64_t time_ns, cpu_open_ns, cpu_actual_ns, window_ns, daemon_cpu_ns;
    bool cpu_known;
    struct session_budget {
        uint64_t cpu_ns, overhead_ns; /* when it was compared last */
        uint32_t thin;                /* one sample in so many is taken */
        bool exceeded;                /* the last comparison: one may be chance (a stolen CPU) */
    } spent;
    uint64_t runtime_ns;            /* of a target that ended: all its CPU time; else 0 */
    bool execed, exited;
    struct image_access access;     /* whose samples count */
    const char *ended;              /* why the window ended early */
    const char *mappings;           /* why there are none, or not all */
    char cut[128];                  /* its text, where the table was cut */
};

/* ---- session_budget.c: what sampling costs the target, kept below what it may. */

/* 0 or -ENOMEM. The event is the session's. */
int session_budget_new(struct session *s);
/* The window has opened. */
void session_budget_open(struct session *s);

/* ---- session.c */

/* How it ended, for the audit log and the counters; then it is gone. */
void session_over(struct session *s, int status, const char *how);
void session_error(struct session *s, int status, const char *message);
/* The window begins; ends. */
void session_open(struct session *s);
void session_close(struct session *s);
struct session_ctl *session_ctl(const struct session *s);

/* ---- session_attach.c */

void session_ask_probe_file(struct session *s);
/* The probed file has come from the collector, or an error. fd becomes the session's. */
void session_find_places(struct session *s, int error, int fd);
void session_attach(struct session *s, const struct probe_place *places, size_t n_places);
/* The window need not wait for unwinding tables any more. May end the session. */
void session_unwind_ready(struct session *s);

/* ---- session_collector.c */

extern const struct child_ops session_collector_ops;
void session_on_tell(int fd, short what, void *arg);
/* What is due goes to the collector, now or with what follows soon. */
void session_tell(struct session *s);
/* Takes note of execs, by the control word: a notice may be late or lost. */
void session_take_execs(struct session *s);
void session_finish_collector(struct session *s);

/* ---- session_reply.c */

/* All is there: the worker's turn. */
void session_render(struct session *s);
