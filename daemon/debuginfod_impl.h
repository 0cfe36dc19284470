/* What the loop's side of debuginfod shares: debuginfod.c (questions, and who waits), debuginfod_servers.c (whom to ask) and
 * debuginfod_slots.c (client processes). Private to these. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "config/settings.h"
#include "daemon/debuginfod.h"
#include "daemon/debuginfod_process.h"
#include "daemon/debuginfod_proto.h"

struct child;
struct event;

/* UNKNOWN -> LOOKING (the client of the cache has the question) -> QUEUED -> LOADING (a client downloads) -> QUEUED (the next server)... */
enum fetch_stage { FETCH_UNKNOWN, FETCH_LOOKING, FETCH_QUEUED, FETCH_LOADING };

struct fetch {
    TAILQ_ENTRY(fetch) link;
    char build_id[DEBUGINFOD_ID_ROOM];
    enum fetch_stage stage;
    uint32_t absent, tried; /* bits of servers: that have none; that were asked, or can't be */
    int error;              /* why it may be there all the same: 0, or -errno as debuginfod_done has it */
    TAILQ_HEAD(, debuginfod_wait) waits;
};

struct debuginfod_wait {
    TAILQ_ENTRY(debuginfod_wait) link;
    struct debuginfod *d;
    struct fetch *fetch;
    struct event *timer;
    uint64_t wait_ns;
    debuginfod_done done;
    void *userdata;
};

struct debug_server {
    char *url;
    unsigned failures;    /* in a row */
    uint64_t retry_ns;    /* monotonic: not asked before; 0: may be asked */
    uint64_t skipped;     /* questions that were not put to it since it failed first */
};

/* A place for a client process. The first one's client looks into the cache, the others download. */
struct debuginfod_slot {
    struct debuginfod *d;
    struct child *child; /* NULL: none */
    bool ready;
    struct fetch *fetch; /* NULL: idle */
    uint32_t server;
    uint64_t since_ns;   /* monotonic: it has that question, or starts */
};

#define DEBUGINFOD_SLOTS (1 + DEBUGINFOD_MAX_DOWNLOADS)

struct debuginfod {
    struct event_base *base;
    struct event *pump;
    struct debuginfod_command command; /* its strings are ours */
    uint64_t wait_ns;
    struct debug_server servers[DEBUGINFOD_MAX_SERVERS];
    size_t n_servers;
    struct debuginfod_slot slots[DEBUGINFOD_SLOTS];
    bool unusable, told; /* no client can run here; what is less safe than it should be was said */
    TAILQ_HEAD(, fetch) fetches; /* in the order in which they were asked for */
    size_t n_fetches;
    struct debuginfod_stats stats;
    uint64_t dead_cpu_ns;
};

/* ---- debuginfod.c */

/* Lets it look for work, from the loop. */
void debuginfod_wake(struct debuginfod *d);
/* Tells who waits (fd stays the caller's), and forgets the question. */
void fetch_finish(struct debuginfod *d, struct fetch *f, int error, int fd);
/* The cache does not have it: who has no time is told. */
void fetch_queue(struct debuginfod *d, struct fetch *f);
void debuginfod_finish_all(struct debuginfod *d, int error);

/* ---- debuginfod_servers.c */

/* 0 or -ENOMEM. */
int servers_init(struct debuginfod *d, const struct settings_list *urls);
void servers_deinit(struct debuginfod *d);
/* Is there one that may be asked now? */
bool servers_left(const struct debuginfod *d, const struct fetch *f);
/* The next server for a file; -1: there is none left, and the answer is fetch_error. */
int servers_choose(struct debuginfod *d, struct fetch *f);
int fetch_error(const struct fetch *f);
void server_failed(struct debug_server *s, const char *why);
void server_answered(struct debug_server *s);

/* ---- debuginfod_slots.c */

/* Starts the client of the cache, which says whether any can run. */
void slots_begin(struct debuginfod *d);
/* Gives work to whoever is free. */
void slots_pump(struct debuginfod *d);
void slots_kill(struct debuginfod *d);
/* True where all downloads have been under way for so long that a new one will not be done soon; where the cache does not answer. */
bool slots_are_stuck(const struct debuginfod *d);
bool slots_cache_is_stuck(const struct debuginfod *d);
