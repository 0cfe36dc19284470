/* Debug files from debuginfod servers, as the loop sees them: who waits for which build id, which servers answer, which client
 * processes there are. Without a setting debuginfod-urls nothing is asked.
 *
 * One client process looks into the cache; others, as many as are needed, download. They are started on demand, and end when they are not
 * used. A file that is asked for is fetched to its end, whether anybody still waits for it or not: the next one has it. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "daemon/worker_proto.h"

struct event_base;
struct settings;
struct debuginfod;
struct debuginfod_wait;
struct worker_job;

#define DEBUGINFOD_MAX_FETCHES 256  /* build ids at one time; one more is -EAGAIN */
#define DEBUGINFOD_MAX_DOWNLOADS 3  /* at one time */

/* error 0 with an fd, which becomes the callee's; -ENOENT: no server has it; -EAGAIN: not yet; -EHOSTUNREACH: no server, or not all of
 * them, could be asked; -EBADMSG: one sent something else; -EFBIG: too large to be fetched; -ELIBACC: no client runs here. */
typedef void (*debuginfod_done)(int error, int fd, void *userdata);

/* executable: as worker_limits has it. 0 or -errno. settings are copied. */
int debuginfod_new(struct event_base *base, const struct settings *settings, const char *executable, struct debuginfod **ret);
void debuginfod_free(struct debuginfod *d); /* kills the clients; nobody may wait any more. NULL is fine */
/* The daemon ends: no client is left, and none is started any more. NULL is fine. */
void debuginfod_stop(struct debuginfod *d);
/* New settings: who waits is told -EAGAIN, clients start anew. 0 or -errno, and then nothing is asked any more. */
int debuginfod_set(struct debuginfod *d, const struct settings *settings);

/* Asks for the debug file of a build id, lower-case hex. What is in the cache is told at once; else done comes after wait_ns at
 * the latest. 0: done comes exactly once, never before this returns, unless the wait is cancelled; -errno as above, then it never
 * does; -ENOSYS: switched off; -EINVAL: no build id. */
int debuginfod_ask(struct debuginfod *d, const char *build_id, uint64_t wait_ns, debuginfod_done done, void *userdata,
                   struct debuginfod_wait **ret);
void debuginfod_set_user(struct debuginfod_wait *w, void *userdata);
void debuginfod_cancel(struct debuginfod_wait *w); /* NULL is fine */

/* How long one reply may wait in all. */
uint64_t debuginfod_wait_ns(const struct debuginfod *d);
/* CPU time of all clients so far. */
uint64_t debuginfod_cpu_ns(const struct debuginfod *d);
/* Questions so far, by how they were answered. */
struct debuginfod_stats {
    uint64_t found, absent, failed, late;
};
void debuginfod_stats(const struct debuginfod *d, struct debuginfod_stats *ret);

/* ---- debuginfod_asker.c: the answers to the needs of one worker's job. */

struct debuginfod_asker {
    struct debuginfod *d;
    struct worker_job *job;
    struct debuginfod_wait *wait;
    uint64_t left_ns, since_ns;
};

void debuginfod_asker_init(struct debuginfod_asker *a, struct debuginfod *d);
/* from's question becomes to's, which need not be initialised. */
void debuginfod_asker_move(struct debuginfod_asker *from, struct debuginfod_asker *to);
/* The job is over, or nobody wants it. Safe to call twice, and on zeroed memory. */
void debuginfod_asker_deinit(struct debuginfod_asker *a);
/* A worker's need. True where it is for a server's file: it is, or will be, answered. */
bool debuginfod_asker_need(struct debuginfod_asker *a, struct worker_job *job, const struct worker_message *need);
