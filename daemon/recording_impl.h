/* What the files of a recording share: recording.c (its beginning and end), recording_attach.c (probe places, recorder),
 * recording_collector.c (the talk with the collector), recording_unwind*.c (unwinding tables), recording_go.c (goroutines),
 * recording_heap.c (allocators), recording_custom.c (custom profiles),
 * recording_places.c (what these two probe), recording_late.c (what is mapped later),
 * recording_budget.c (its price) and recording_view.c (what sessions read of it). Private to these. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

#include "bpf/attach.h"
#include "daemon/asker.h"
#include "daemon/child.h"
#include "daemon/collector.h"
#include "daemon/image_access.h"
#include "daemon/recorder.h"
#include "daemon/recording.h"
#include "daemon/recording_go.h"
#include "daemon/recording_custom.h"
#include "daemon/recording_growth.h"
#include "daemon/recording_heap.h"
#include "daemon/recording_late.h"
#include "daemon/recording_places.h"
#include "daemon/recording_probe.h"
#include "daemon/recording_unwind.h"
#include "daemon/worker_pool.h"
#include "util/clock.h"

struct event;
struct server;

/* How long a target may hold up the collector: before the window, after it, and for each answer. One that watches is not ended for
 * being late: its views wait no longer than that. */
#define RECORDING_CHECK_DEADLINE_NS (3 * NSEC_PER_SEC)
#define RECORDING_FINISH_DEADLINE_NS (2 * NSEC_PER_SEC)
#define RECORDING_ANSWER_DEADLINE_NS (3 * NSEC_PER_SEC)
/* What the collector is told of new code and images is gathered for this long. */
#define RECORDING_TELL_PAUSE_US 5000

enum recording_phase {
    PHASE_CHECKING,   /* the collector looks at the target */
    PHASE_PLACING,    /* a probe's file is opened, its places are found */
    PHASE_ATTACHING,
    PHASE_PREPARING,  /* the recorder does what must come right before the window */
    PHASE_RECHECKING,
    PHASE_READY,
    PHASE_OPEN,
    PHASE_CLOSING,    /* detaching; the collector reads the mappings for the last time */
    PHASE_DONE,
};

struct recording_view {
    TAILQ_ENTRY(recording_view) link;
    struct recording *recording;
    struct recording_view_ops ops;
    void *userdata;
};

/* A question to the collector, which answers in order. */
struct recording_question {
    struct recording_view *view; /* NULL: it is gone; the answer is dropped, */
    bool late;                   /* unless it is recording_late's */
};
/* A view has one question at a time, its worker another; what is dropped may still be under way. */
#define RECORDING_MAX_QUESTIONS (4 * RECORDING_MAX_VIEWS)

struct recording_questions {
    struct recording_question asked[RECORDING_MAX_QUESTIONS];
    unsigned n;
};

/* The scheduler's events (daemon/scheduler.h), which it needs. */
enum recording_sched {
    RECORDING_SCHED_NONE,
    RECORDING_SCHED_DUE,   /* the scheduler's child is to be asked for them */
    RECORDING_SCHED_ASKED,
    RECORDING_SCHED_THERE,
};

struct recording {
    struct server *server;
    struct recording_ops ops;
    void *userdata;
    struct asker asker;
    struct session_params params;
    pid_t pid;
    uint32_t slot;
    bool watch;
    enum recording_phase phase;

    struct collector_request collect;
    struct collector_target target; /* once ready */
    struct child *collector;
    bool noticed;                   /* sampler_watch and sampler_target_add are done */
    struct recorder *recorder;
    bool attached;                  /* the recorder is ready */
    enum recording_sched sched;     /* the scheduler's to change */
    struct recording_unwind unwind;
    bool drained, tabled;           /* CLOSING is over when both are */
    int table_fd, probe_fd;
    struct worker_job *placing;     /* looks for the places of a probe */
    struct recording_probe probe;
    struct recording_go go;
    struct recording_places places; /* of these two: */
    struct recording_late late;
    struct recording_custom *custom; /* of a custom profile; else NULL */
    struct recording_heap *heap;    /* of allocations; else NULL */
    struct event *budget;           /* compares what sampling costs with what it may, again and again */
    struct event *tell;             /* runs while what is due to the collector is gathered */
    bool epoch_due, exec_due;       /* the collector has not been told of the newest epoch, exec */
    TAILQ_HEAD(recording_views, recording_view) views;
    unsigned n_views;
    struct recording_questions tables, files;

    uint64_t end_ns;                /* monotonic: when it was closed */
    struct target_clock clock;
    uint64_t time_ns, cpu_open_ns, cpu_actual_ns, window_ns, daemon_cpu_ns;
    bool cpu_known;
    struct recording_budget {
        struct recording_mark {       /* the target's CPU time, and what it had cost by then */
            uint64_t at_ns, cpu_ns, overhead_ns, hits_ns, attached_ns;
        } compared, long_ago;         /* when it was compared last; and the same of a second and more */
        uint64_t again_ns;            /* not before */
        uint32_t thin;                /* one sample in so many is taken */
        bool exceeded;                /* the last comparison: one may be chance (a stolen CPU) */
    } spent;
    uint64_t runtime_ns;            /* of a target that ended: all its CPU time; else 0 */
    struct recording_growth growth; /* of growth */
    bool execed, exited, lost;
    struct image_access access;     /* whose samples count */
    const char *ended;              /* why it was closed early */
    const char *mappings;           /* why there are none, or not all */
    char cut[128];                  /* its text, where the table was cut */
};

/* ---- recording_budget.c: what sampling costs the target, kept below what it may. */

/* 0 or -ENOMEM. The event is the recording's. */
int recording_budget_new(struct recording *rec);
/* It was opened. */
void recording_budget_open(struct recording *rec);

/* ---- recording.c */

/* Tells the owner, who frees it. */
void recording_fail(struct recording *rec, int status, const char *message);
/* It may be opened now. */
void recording_ready(struct recording *rec);
/* Once it is drained and tabled it is done. */
void recording_check_done(struct recording *rec);
struct session_ctl *recording_ctl(const struct recording *rec);

/* ---- recording_probe.c */

void recording_ask_probe_file(struct recording *rec);
/* The probed file has come from the collector, or an error. fd becomes the recording's. */
void recording_find_places(struct recording *rec, int error, int fd);

/* ---- recording_attach.c */

void recording_attach(struct recording *rec, const struct probe_place *places, size_t n_places);
/* The scheduler's events come from now on. May end the recording. */
void recording_sched_ready(struct recording *rec);
/* The window need not wait for unwinding tables any more. May end the recording. */
void recording_unwind_ready(struct recording *rec);

/* ---- recording_collector.c */

extern const struct child_ops recording_collector_ops;
void recording_on_tell(int fd, short what, void *arg);
/* What is due goes to the collector, now or with what follows soon. */
void recording_tell(struct recording *rec);
/* Takes note of execs, by the control word: a notice may be late or lost. */
void recording_take_execs(struct recording *rec);
void recording_finish_collector(struct recording *rec);

/* ---- recording_view.c */

/* Asks it for a file, once it is open. 0 or -errno. */
int recording_ask_late(struct recording *rec, const struct collector_message *m);
/* An answer from the collector to the oldest question of its kind; fd becomes the view's. */
void recording_answer_table(struct recording *rec, int fd);
void recording_answer_file(struct recording *rec, int error, int fd);
/* No further answer comes. */
void recording_answer_all(struct recording *rec);
