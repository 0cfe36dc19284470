/* The unwinding tables of all sessions' targets, each file's once: made by a worker, kept in the arena while a session uses it and for
 * some time after, within a budget.
 *
 * A file is known by what a trusted process saw of it (struct file_identity), never by anything that it says of itself. Who wants a
 * table gets its entry; where that has no file yet, one of those who want it claims it and gives the file. What becomes of an entry is
 * told to all observers, who look at their entries then. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include <uthash.h>

#include "symbolize/label_place.h"
#include "symbolize/symbolizer.h"
#include "util/clock.h"

struct event_base;
struct unwind_arena;
struct unwind_load;
struct unwind_tables;
struct worker_job;
struct worker_pool;

/* Files known at one time. Beyond that no table is made for a further one. */
#define UNWIND_TABLES_MAX 16384
/* How long a table is kept that no session uses: scrapers come every few seconds or minutes. */
#define UNWIND_TABLES_KEEP_NS (300 * NSEC_PER_SEC)
/* Of a worker, for one table: ten times what the largest known binary takes. */
#define UNWIND_TABLES_JOB_TIMEOUT_NS (10 * NSEC_PER_SEC)
/* Files that wait for a worker, of all sessions: each holds a descriptor. Who has more waits with claiming. */
#define UNWIND_TABLES_MAX_QUEUE 16

/* Of the budget: what one table may take, and what the tables of one session may take before no further file is read for it. A target
 * that maps files made to be large must leave room for others. */
#define UNWIND_TABLES_TABLE_SHARE 8
#define UNWIND_TABLES_SESSION_SHARE 4

enum unwind_state {
    UNWIND_WANTED,   /* nobody has claimed it */
    UNWIND_CLAIMED,  /* its file is on its way */
    UNWIND_QUEUED,
    UNWIND_BUILDING, /* a worker reads it */
    UNWIND_LOADING,  /* it is copied into the arena */
    UNWIND_READY,
    UNWIND_NONE,
};

/* Why there is no table. To add one: its text in unwind_tables.c. */
enum unwind_why {
    UNWIND_WHY_NOT_ELF = 1, /* no program's file: memory of a JIT compiler */
    UNWIND_WHY_NO_CFI,
    UNWIND_WHY_MALFORMED,
    UNWIND_WHY_TOO_LARGE,
    UNWIND_WHY_UNREADABLE,  /* the file could not be opened: said by those who claim */
    UNWIND_WHY_OTHER,       /* the file that was found is not what is mapped: said by those who claim */
    UNWIND_WHY_CRASH,
    UNWIND_WHY_HANG,
    UNWIND_WHY_MEMORY,
    UNWIND_WHY_NO_ROOM,     /* the budget is used up by tables in use */
    UNWIND_WHY_TOO_MANY,
    UNWIND_WHY_BROKEN,      /* so many files of the target broke workers that no more are read: said by those who claim */
    UNWIND_WHY_LATE,        /* it was not made in time: said by those who claim */
    UNWIND_WHY_FAILED,      /* no worker, no memory: it may be otherwise the next time */
    UNWIND_WHYS,
};
/* For people: "the file is no ELF file". */
const char *unwind_why_text(enum unwind_why why);
/* Whether the file broke a worker. */
bool unwind_why_blames_file(enum unwind_why why);

enum unwind_priority { UNWIND_MAIN_BINARY, UNWIND_C_LIBRARY, UNWIND_OTHERS, UNWIND_PRIORITIES };

/* A file. Read-only for all but unwind_tables.c. */
struct unwind_entry {
    struct file_identity id;
    enum unwind_state state;
    enum unwind_why why;   /* NONE */
    uint32_t place;        /* READY: of its index in the arena */
    uint64_t bytes;        /* READY: what it takes; NONE for lack of room: what it would take */
    unsigned refs;
    enum unwind_priority priority;
    int fd;                /* QUEUED */
    unsigned tries;        /* rounds that it waited for room */
    struct worker_job *job;
    struct unwind_load *load;
    struct unwind_tables *tables;
    uint64_t cpu_ns;       /* of the worker that read it */
    bool has_labels;       /* READY, NONE: the file has a variable for threads' labels, there: */
    struct label_place labels;
    uint64_t settled_ns;   /* when it became READY or NONE */
    uint64_t idle_since_ns;
    TAILQ_ENTRY(unwind_entry) link; /* in a queue (QUEUED, LOADING), or among the idle */
    UT_hash_handle hh;
};

struct unwind_observer {
    void (*changed)(void *userdata); /* some entry has another state, or the arena has more room. Drops nothing but its own */
    void *userdata;
    TAILQ_ENTRY(unwind_observer) link;
};

struct unwind_tables_limits {
    uint64_t max_bytes; /* of the arena */
    unsigned workers;   /* tables that are made at a time */
    uint64_t keep_ns;   /* UNWIND_TABLES_KEEP_NS */
};

/* slabs_map: of the sampler, borrowed; -1: for tests. 0 or -errno. */
int unwind_tables_new(struct event_base *base, struct worker_pool *pool, int slabs_map, const struct unwind_tables_limits *limits,
                      struct unwind_tables **ret);
void unwind_tables_free(struct unwind_tables *t); /* before the pool and the children; nobody uses an entry. NULL is fine */
void unwind_tables_set_limits(struct unwind_tables *t, const struct unwind_tables_limits *limits);

void unwind_tables_observe(struct unwind_tables *t, struct unwind_observer *observer);
void unwind_tables_unobserve(struct unwind_tables *t, struct unwind_observer *observer);

/* The entry of a file, used by the caller until unwind_tables_drop. again: what failed by chance, or for lack of room, is WANTED anew, and
 * what broke a worker as long ago as tables are kept (it may have been the machine that was short of memory); for those who come newly,
 * since others may use it all the time. NULL: too many files, or no memory. */
struct unwind_entry *unwind_tables_use(struct unwind_tables *t, const struct file_identity *id, bool again);
void unwind_tables_drop(struct unwind_tables *t, struct unwind_entry *entry);

/* Whether another file may be claimed now. */
bool unwind_tables_may_claim(const struct unwind_tables *t);
/* What the tables of one session may take (UNWIND_TABLES_SESSION_SHARE). */
uint64_t unwind_tables_share_bytes(const struct unwind_tables *t);
/* The caller will give the file of a WANTED entry, or unclaim it. */
void unwind_tables_claim(struct unwind_tables *t, struct unwind_entry *entry, enum unwind_priority priority);
void unwind_tables_unclaim(struct unwind_tables *t, struct unwind_entry *entry);
/* The file of a claimed entry; fd becomes the callee's. */
void unwind_tables_give(struct unwind_tables *t, struct unwind_entry *entry, int fd);

/* For spaces (daemon/unwind_space.h). Observers are told when there is more room. 0: there will be; -ENOSPC, -errno. */
struct unwind_arena *unwind_tables_arena(struct unwind_tables *t);
int unwind_tables_make_room(struct unwind_tables *t, uint64_t bytes);
/* A space was put back. */
void unwind_tables_tidy(struct unwind_tables *t);

/* For /metrics: memory that tables take. */
uint64_t unwind_tables_bytes(const struct unwind_tables *t);
