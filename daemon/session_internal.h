/* A session as its own files see it: session.c has its states, session_probe.c finds where a probe goes. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/asker.h"
#include "daemon/collector.h"
#include "daemon/session.h"
#include "daemon/session_params.h"
#include "daemon/session_raw.h"
#include "util/clock.h"

struct child;
struct event;
struct probe_place;
struct worker_job;

/* How long a target may hold up the collector: before the window, and after it. */
#define SESSION_CHECK_DEADLINE_NS (3 * NSEC_PER_SEC)
#define SESSION_FINISH_DEADLINE_NS (2 * NSEC_PER_SEC)

#define NO_EPOCH UINT32_MAX

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
    bool drained, tabled;           /* CLOSING is over when both are */
    int table_fd, probe_fd;
    struct worker_job *job;
    struct event *timer;            /* the window's end */

    uint64_t time_ns, cpu_open_ns, cpu_actual_ns, window_ns, daemon_cpu_ns;
    bool cpu_known;
    uint64_t runtime_ns;            /* of a target that ended: all its CPU time; else 0 */
    bool execed, exited;
    uint32_t exec_epoch;            /* of the newest exec */
    uint32_t unapproved_epoch;      /* the first epoch of an exec whose access is not granted (yet): it and all later ones don't count */
    struct epoch_range hidden[SESSION_MAX_HIDDEN]; /* images that were gone before access could be checked */
    size_t n_hidden;
    const char *ended;              /* why the window ended early */
    const char *mappings;           /* why there are none, or not all */
    char cut[160];                  /* what `mappings` points to, where some found no room */
};

/* Replies with an error, and frees the session. */
void session_error(struct session *s, int status, const char *message);
/* The next step once all is known of what is to be attached: places are a probe's, and needed for the
 * call alone. */
void session_attach(struct session *s, const struct probe_place *places, size_t n_places);

/* Asks the collector for the file that a uprobe or a USDT probe goes into. */
void session_ask_probe_file(struct session *s);
/* It has come (fd becomes the session's), or an error: a worker looks for the places in it, then session_attach. */
void session_find_places(struct session *s, int error, int fd);
