/* A recording: a source of samples on one target, with all that makes profiles of its counts: who may see them, the target's mappings
 * by epoch, unwinding tables. Sessions are views of it.
 *
 *   checked (collector) -> [place found (worker)] -> attached (recorder) -> checked again -> ready
 *     -> opened ... closed -> drained (recorder) and mappings (collector) -> done
 *
 * One that was begun for a session's window ends with it. One that watches goes on, and is read as it runs, by any number of views:
 * what has accrued so far. Its memory is bounded: once there is no more room, new stacks are counted as lost, and known ones count on. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/asker.h"
#include "daemon/session_params.h"

struct child;
struct collector_target;
struct image_access;
struct new_code;
struct recorder;
struct recording;
struct server;
struct session_notice;
struct worker_message;

struct recording_config {
    const struct asker *asker;
    pid_t pid;
    const struct session_params *params; /* copied; AUTO unwinding is settled in the copy */
    bool watch;
};

struct recording_ops {
    /* It may be opened. */
    void (*ready)(struct recording *rec, void *userdata);
    /* It is to be freed: an HTTP status and a message. Once it is open this is a failure to detach or to read the counts. */
    void (*failed)(struct recording *rec, int status, const char *message, void *userdata);
    /* It was closed, by recording_close or because it ended by itself (recording_ended). It must not be freed in it. */
    void (*closed)(struct recording *rec, void *userdata);
    /* After that: all is there. */
    void (*done)(struct recording *rec, void *userdata);
};

/* Begins. 0; or an HTTP status and a message, and *ret is untouched. No callback comes before it returns. */
int recording_new(struct server *server, const struct recording_config *config, const struct recording_ops *ops, void *userdata,
                  struct recording **ret, char *message, size_t message_len);
/* In any state; NULL is fine. No callback comes any more. */
void recording_free(struct recording *rec);

/* Once ready. 0; -ESRCH: the target ended before. */
int recording_open(struct recording *rec);
/* Where it is open; else nothing. */
void recording_close(struct recording *rec);

/* From the notices ring: the target exec'd, ended, or mapped new code. */
void recording_notice(struct recording *rec, const struct session_notice *notice);
/* Something was mapped executable in the target. */
void recording_new_code(struct recording *rec, const struct new_code *code);

/* ---- what a view needs */

struct recording_view;

struct recording_view_ops {
    /* The mappings so far; fd is the callee's; -1: there are none. */
    void (*table)(void *userdata, int fd);
    /* An answer to recording_view_file; fd is the callee's. */
    void (*file)(void *userdata, int error, int fd);
};

/* Views of a recording at one time: what they may make its collector do. */
#define RECORDING_MAX_VIEWS 32

/* NULL: too many, or no memory. Ends with recording_view_free, which must come before recording_free. */
struct recording_view *recording_view_new(struct recording *rec, const struct recording_view_ops *ops, void *userdata);
void recording_view_free(struct recording_view *v); /* NULL is fine */
/* Asks for the mappings as they are now, beside those before. 0 or -errno: it can't be asked. */
int recording_view_ask_table(struct recording_view *v);
/* Asks for a file that a worker needs. 0 or -errno: it can't be asked. */
int recording_view_ask_file(struct recording_view *v, const struct worker_message *need);
struct recording_reading {
    const struct image_access *access; /* whose samples count, of those that the recording's asker may see; NULL: all of these */
    uint64_t since_ns;                 /* wall clock: when a watch began; 0: it is no watch's */
    const char *anew;                  /* why it began then; NULL */
    int table_fd;                      /* the mappings, as they came; -1: those that the recording ended with */
};

/* The raw profile, for a worker: memfd or -errno. */
int recording_view_raw(struct recording_view *v, const struct session_params *params, const struct recording_reading *reading);
/* The epochs that its asker may see. */
const struct image_access *recording_access(const struct recording *rec);
/* For what goes on behind the reply: the collector, which is the caller's from now on. NULL where it goes on with the recording, or has
 * ended. */
struct child *recording_view_take_collector(struct recording_view *v);

/* ---- for owners, limits and metrics */

pid_t recording_pid(const struct recording *rec);
const struct asker *recording_asker(const struct recording *rec);
const struct session_params *recording_params(const struct recording *rec);
const struct collector_target *recording_target(const struct recording *rec); /* uid AUDIT_NO_UID until it was looked at */
const struct recorder *recording_recorder(const struct recording *rec);       /* once ready */
double recording_rate_hz(const struct recording *rec);                        /* what quotas count it as */
bool recording_is_open(const struct recording *rec);
uint64_t recording_end_ns(const struct recording *rec);    /* monotonic, of a closed one */
const char *recording_ended(const struct recording *rec);  /* why it was closed early, or NULL */
bool recording_target_exited(const struct recording *rec);
/* It was closed since a process that it needs was lost: another one may go on. */
bool recording_is_lost(const struct recording *rec);
uint32_t recording_exec_epoch(const struct recording *rec); /* of the target's newest exec; 0: none */
