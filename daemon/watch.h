/* Watching: recordings of cumulative kinds that go on without a request, until they are ended, by whoever began them or by the target's
 * end, and that any number of sessions read meanwhile. One for each kind of each process. In memory alone: a restart of the daemon ends
 * all of them.
 *
 * A watch is what somebody wants; a run of it is one recording. Other parameters, and the loss of a helping process, begin a new run: the
 * totals start anew then, and say since when. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/asker.h"
#include "daemon/session_params.h"

struct evbuffer;
struct evkeyvalq;
struct kind;
struct recording;
struct server;
struct watch;
struct watch_run;
struct watches;

/* What one kind can be given. */
#define WATCH_MAX_VALUES 8

/* A parameter's name, and what was asked, or what holds where nothing was. */
struct watch_value {
    const char *name;
    char text[1200]; /* a function of a custom profile is the longest */
};

/* What a kind is to be watched with. */
struct watch_wish {
    const struct kind *kind;
    struct session_params params;
    struct watch_value values[WATCH_MAX_VALUES];
    size_t n_values;
};

/* Reads a kind's parameters out of a query, in which those of others may stand too. max_overhead: the setting. 0, or -EINVAL with a
 * message. */
int watch_wish_parse(const struct kind *kind, const struct evkeyvalq *query, double max_overhead, struct watch_wish *ret, char *error,
                     size_t error_len);
/* The kind takes a parameter of that name. */
bool watch_kind_takes(const struct kind *kind, const char *name);
bool watch_wish_equal(const struct watch_wish *a, const struct watch_wish *b);

int watches_new(struct server *server, struct watches **ret);
/* Ends all; NULL is fine. */
void watches_free(struct watches *ws);

/* ---- one who wants */

struct watch_order {
    const struct asker *asker;
    const char *rule; /* of the configuration that wants it; NULL: the asker's own wish */
    pid_t pid;
    const struct watch_wish *wish;
};

/* Told once of what was ordered: 0 as it runs, or an HTTP status and a message, and it is gone. */
typedef void (*watch_told)(struct watch_run *run, int status, const char *message, void *userdata);

/* Begins a run for it. It stays, whatever becomes of its recording, until watch_commit makes it that of the watch, or watch_drop ends it:
 * one of these is due. 0; or an HTTP status and a message. Nothing is told before it returns. */
int watch_begin(struct watches *ws, const struct watch_order *order, watch_told told, void *userdata, struct watch_run **ret, char *message,
                size_t message_len);
/* False: it does not run, or has ended meanwhile. */
bool watch_can_commit(const struct watch_run *run);
/* In place of any there is. Only where it can. */
void watch_commit(struct watch_run *run);
void watch_drop(struct watch_run *run);

/* NULL: it is not watched. */
struct watch *watch_find(struct watches *ws, pid_t pid, const struct kind *kind);
/* Whether the asker may change or end it: root, and who began it. */
bool watch_is_of(const struct watch *w, const struct asker *asker);
/* The configuration's, and its rule. */
const char *watch_rule(const struct watch *w);
const struct watch_wish *watch_wish(const struct watch *w);
pid_t watch_pid(const struct watch *w);
/* All of a process (0: all), one after another; NULL past the last. */
struct watch *watch_next(struct watches *ws, pid_t pid, const struct watch *after);
const struct recording *watch_recording(const struct watch *w);
/* A number of the configuration's, 0 at first. */
uint64_t watch_mark(const struct watch *w);
void watch_set_mark(struct watch *w, uint64_t mark);
/* how: for the audit log, a constant. */
void watch_end(struct watch *w, const char *how);

/* ---- readers */

/* What can be read now; NULL: nothing, as it is being begun anew. */
struct watch_run *watch_current(const struct watch *w);
/* A run that is held stays, though it may have ended. */
void watch_run_hold(struct watch_run *run);
void watch_run_let_go(struct watch_run *run);
struct watches *watch_run_watches(const struct watch_run *run);
pid_t watch_run_pid(const struct watch_run *run);
const struct watch_wish *watch_run_wish(const struct watch_run *run);
struct recording *watch_run_recording(const struct watch_run *run);
uint64_t watch_run_since_ns(const struct watch_run *run); /* wall clock */
/* Why the totals began anew then; NULL: they did not. */
const char *watch_run_anew(const struct watch_run *run);
/* Its samples are the metrics' from now on. */
void watch_run_account(struct watch_run *run);

/* ---- what is said of them */

/* Why there is no watch (any more), with both ways to get a profile: the text of a 409. */
void watch_explain_none(struct watches *ws, pid_t pid, const struct kind *kind, char *message, size_t message_len);
/* What is watched of a process, of these kinds (n 0: all), as JSON. */
void watches_print(struct watches *ws, pid_t pid, const struct kind *const *kinds, size_t n, struct evbuffer *out);
/* Whether any watch, or one that ended and is remembered, is of that kind. */
bool watches_use(const struct watches *ws, const struct kind *kind);
/* For metrics. */
size_t watches_count(const struct watches *ws);
