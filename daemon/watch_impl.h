/* What the files of watching share: watch.c (the life of watches and their runs), watch_run.c (one recording) and watch_list.c (what is
 * said of them). Private to these. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "daemon/asker.h"
#include "daemon/watch.h"

struct event;

#define WATCH_WHY_LEN 200
/* Watches that ended by themselves, for those who wonder where they are. */
#define WATCH_MAX_PAST 64
/* Lost, a run is begun anew after a second, then after twice as long, so often in a row. */
#define WATCH_AGAIN_S 1
#define WATCH_MAX_TRIES 6
/* One that has gone on for so long was no failure. */
#define WATCH_SETTLED_NS (600 * NSEC_PER_SEC)

struct watch_run {
    TAILQ_ENTRY(watch_run) link;
    struct watches *watches;
    struct watch *watch;      /* whose current one it is; NULL: not yet, or no more */
    struct asker asker;
    char *rule;               /* the configuration's; NULL */
    pid_t pid;
    struct watch_wish wish;
    struct recording *recording;
    watch_told told;          /* NULL: was told */
    void *told_userdata;
    uint64_t since_ns;        /* wall clock; 0: not open yet */
    uint64_t counted, counted_lost; /* what metrics have of it */
    char anew[WATCH_WHY_LEN]; /* why the totals began anew; "" */
    unsigned n_holds;
    bool aside;               /* who began it has it: neither committed nor dropped yet */
    struct watch *place;      /* of a watch, made before so that a commit can't fail; NULL: none is needed */
    const char *how;          /* why it was ended; NULL: by itself, if it was */
    bool over;                /* nothing more comes of the recording */
};

struct watch {
    TAILQ_ENTRY(watch) link;
    struct watches *watches;
    pid_t pid;
    const struct kind *kind;
    struct watch_run *run;    /* whose asker, rule and wish are the watch's. Not read while a new one is being begun */
    struct watch_run *next;   /* being begun, in the place of one that was lost */
    struct event *again;
    unsigned n_tries;
    uint64_t mark;
};

struct watch_past {
    pid_t pid;
    const struct kind *kind;
    uint64_t at_ns; /* wall clock */
    char why[WATCH_WHY_LEN];
};

struct watches {
    struct server *server;
    TAILQ_HEAD(watch_list, watch) all;
    TAILQ_HEAD(watch_run_list, watch_run) runs; /* retired ones, too */
    size_t n;
    struct watch_past past[WATCH_MAX_PAST];
    size_t n_past; /* in all, the newest of them in past */
};

/* ---- watch_run.c */

/* 0; or an HTTP status and a message. */
int watch_run_new(struct watches *ws, const struct watch_order *order, watch_told told, void *userdata, struct watch_run **ret,
                  char *message, size_t message_len);
/* It is nobody's any more: ends once nobody holds it. how: for the audit log, a constant. */
void watch_run_retire(struct watch_run *run, const char *how);
/* At once: the daemon stops, and nobody holds it. */
void watch_run_stop(struct watch_run *run);

/* ---- watch.c */

/* The run of a watch ended by itself: for good, or to be begun anew. */
void watch_run_ended(struct watch *w, const char *how, bool for_good);

/* ---- watch_list.c */

void watch_remember(struct watches *ws, const struct watch *w, const char *why);
void watch_forget_past(struct watches *ws, pid_t pid, const struct kind *kind);
