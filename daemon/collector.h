/* The collector: a child (daemon/child.h) that stands for one request on one target. It checks access, keeps the
 * target's mappings by epoch, and opens files, all of which the target can make block.
 *
 *   child -> loop  READY    access granted; who the target is
 *   child -> loop  DENIED   an HTTP status and a message; the child then ends
 *   child -> loop  MAPPINGS + memfd: what is mapped executable now (the sections of TABLE). After READY, before RECHECK's ACCESS
 *                           and after EPOCH; without the memfd where it has not changed
 *   loop -> child  OBJECT   a file of those, for its unwinding table; answers come in the order of the questions
 *   child -> loop  OBJECT   + fd or an error
 *   loop -> child  RECHECK  events are attached: is it still that process, and access granted? Answered by
 *                           ACCESS, once the mappings were read again: what changed before is told by nobody
 *   loop -> child  EPOCH    mappings changed (or exec): read them again
 *   child -> loop  ACCESS   after an exec: whether the asker may trace the new image (execs that were told
 *                           together are answered once, for the last)
 *   loop -> child  PROGRAM  the program's own file, to see whether it is a Go program
 *   child -> loop  PROGRAM  + fd or an error
 *   loop -> child  GO       + fd: what is to be known of it (daemon/go_job.h), if it is: its goroutines are part of TABLE then
 *   loop -> child  SNAPSHOT the mappings so far, while it goes on
 *   child -> loop  SNAPSHOT + memfd: as TABLE
 *   loop -> child  FINISH   the window is closed
 *   child -> loop  TABLE    + memfd: RAW_OBJECTS, RAW_MAPPINGS, RAW_STRINGS sections (daemon/raw_profile.h);
 *                           the child lives on for
 *   loop -> child  FILE     a worker's need (struct worker_message, NEED)
 *   child -> loop  FILE     + fd or an error
 *
 * The loop ends it by closing its socket. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/asker.h"
#include "daemon/goroutines.h"
#include "daemon/target.h"
#include "daemon/worker_proto.h"

struct settings;

enum collector_message_type {
    COLLECTOR_READY = 1, COLLECTOR_DENIED, COLLECTOR_RECHECK, COLLECTOR_EPOCH, COLLECTOR_ACCESS, COLLECTOR_FINISH,
    COLLECTOR_TABLE, COLLECTOR_FILE, COLLECTOR_MAPPINGS, COLLECTOR_OBJECT, COLLECTOR_SNAPSHOT,
    COLLECTOR_PROGRAM, COLLECTOR_GO,
};

#define COLLECTOR_OBJECT_VDSO UINT32_MAX

struct collector_target {
    pid_t pid;
    uid_t uid;                /* real uid, for the audit log and limits */
    uint64_t start_ticks;     /* /proc/PID/stat field 22, in clock ticks since boot: with the pid, who it is */
    char comm[16];
    char exe[4096];           /* /proc/PID/exe */
};

struct collector_message {
    uint32_t type;
    union {
        struct collector_target ready;
        struct {
            int32_t status; /* HTTP */
            char message[1024];
        } denied;
        struct {
            uint32_t epoch;
            uint32_t exec; /* 1: a new image since this epoch */
        } epoch;
        struct {
            uint32_t epoch;
            uint32_t unseen; /* epochs from this one on and before `epoch` are of images that were gone before
                                anybody could look at them: nobody knows whether the asker might trace them */
            int32_t status;  /* 0: granted; else an HTTP status */
            char message[1024];
        } access;
        struct {
            uint64_t mappings_cut; /* that found no room in the table: addresses in them have no name */
            uint64_t files_cut;    /* that were not held open for lack of room: no symbols */
            struct target_clock clock;
            int32_t go_error;      /* 0, or why there are no goroutines, though there were to be: -ESTALE: it is another program now */
            struct goroutine_counts goroutines;
        } table; /* of a SNAPSHOT too */
        struct {
            int32_t error; /* 0 with an fd, or -errno */
        } program;
        struct {
            uint32_t epoch;      /* they were read after all epochs up to this one had begun */
            uint32_t exec_epoch; /* of the newest exec that was told before they were read; 0: none */
            uint64_t cut;        /* mappings that are there and found no room in the list */
            uint32_t same;       /* 1, and no memfd: they are what was told before */
            uint64_t code_bytes; /* that were mapped executable before they were read; 0: not known */
            uint64_t read_ns;    /* CLOCK_MONOTONIC, before they were read */
        } mappings;
        struct {
            uint32_t index; /* one way: of RAW_OBJECTS, or COLLECTOR_OBJECT_VDSO */
            int32_t error;  /* the other: 0 with an fd, or -errno */
        } object;
        struct worker_message file; /* NEED one way, FILE the other */
    } u;
};

/* What a collector is asked; filled by the loop before the fork. */
struct collector_request {
    const struct settings *settings;
    struct asker asker;
    pid_t pid;
    pid_t tid;           /* 0, or a thread that must be the target's: else 404 */
    bool kernel;         /* kernel frames or kernel-only events are wanted: may the asker see them? */
    bool mappings;       /* a session: keep mappings, open files. Otherwise READY is all */
};

/* The child's function (arg: struct collector_request). */
int collector_main(int sock, void *arg);

/* Further one-shot children. Each sends READY or DENIED as above, then one message of type COLLECTOR_TABLE with a memfd that
 * holds the body. */

/* arg: struct collector_request. Body: argv joined by NUL, no NUL at the end. */
int cmdline_main(int sock, void *arg);
/* arg: struct collector_request (pid 0). Body: struct process_entry[] of those that the asker may profile. */
int processes_main(int sock, void *arg);

struct process_entry {
    pid_t pid;
    uid_t uid;
    char comm[16];
    char exe[1024];  /* as in interfaces: path */
};
