/* What a recording does for its target's unwinding tables: learns from the collector what is mapped, gets a table for each file, and tells
 * the BPF programs which mapping has which table. Private to the recording's files. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bpf/control.h"
#include "daemon/raw_profile.h"
#include "daemon/unwind_tables.h"

struct collector_message;
struct event;
struct recording;

/* The window waits for the tables of what is mapped at the beginning, for so long after the request at most. */
#define RECORDING_UNWIND_WAIT_MS 250
/* What is cut for want of a table in a dump, which is over as soon as it begins, stays so; and in the stack of an object or a value, which is
 * walked once. Once the mappings are known these wait longer. */
#define RECORDING_UNWIND_LONG_WAIT_MS 5000
/* What has changed is gathered for so long before it is written again. */
#define RECORDING_UNWIND_PAUSE_US 5000
/* What could not be written is tried again after so long. */
#define RECORDING_UNWIND_RETRY_US 100000
/* Files of a recording that are asked of the collector or read by workers at a time: what a hostile target can make others wait for. */
#define RECORDING_UNWIND_MAX_BEGUN 4
/* Files of a target that tables are made for: as many as its collector holds open, and the vdso. */
#define RECORDING_UNWIND_MAX_USES 4097
/* Files of one target that may crash or hang a worker. */
#define RECORDING_UNWIND_MAX_BROKEN 3
/* Places where something else was mapped since the list was read; further ones are taken together. */
#define RECORDING_UNWIND_MAX_REPLACED 8
/* A file that the collector does not open in this time can be claimed by other recordings: a target holds up nobody but itself. */
#define RECORDING_UNWIND_ANSWER_MS 2000
/* Files without a table that are named. */
#define RECORDING_UNWIND_MAX_NAMED 8

#define RECORDING_UNWIND_NO_USE UINT32_MAX

/* A file that is mapped. */
struct recording_use {
    struct unwind_entry *entry; /* NULL where `why` says why there is none */
    enum unwind_why why;        /* what this recording alone knows */
    uint32_t object;            /* in list, or COLLECTOR_OBJECT_VDSO */
    enum unwind_priority priority;
    uint32_t written_place;     /* as in the newest space */
    uint32_t written_kind;
    bool begun;                 /* by this recording */
    bool noted;                 /* that there is no table */
    bool paid;                  /* its cost is in cpu_ns */
};

struct recording_unwind {
    struct recording *recording;
    struct unwind_observer observer;
    bool observing;
    struct raw_profile list;    /* what is mapped: sections of a table */
    bool listed;
    uint32_t exec_epoch, epoch; /* of the list; and the newest that it is known to hold for */
    struct recording_use *uses;   /* by priority */
    size_t n_uses;
    uint32_t *use_of;           /* by object, and the vdso's behind the last: its index in uses, or RECORDING_UNWIND_NO_USE */
    uint64_t n_left_out;        /* mappings of files beyond, and those that are not in the list */
    struct {
        uint64_t start, end;
        uint32_t epoch;
    } replaced[RECORDING_UNWIND_MAX_REPLACED];
    unsigned n_replaced;
    struct unwind_entry *asked[RECORDING_UNWIND_MAX_BEGUN]; /* of the collector, in order; NULL: it took too long */
    unsigned n_asked, n_broken;
    uint32_t place;             /* of the newest space; 0: none */
    struct unwind_entry **held; /* the tables that it names: they stay as long as it does, whatever becomes of the list */
    size_t n_held;
    uint32_t place_epoch;
    uint64_t labels[LABELS_PLACES]; /* as struct session_labels has them, of the newest space */
    unsigned n_labels, n_labels_most;
    uint32_t known_epoch;       /* 1 + the newest in which all of them are known; 0: they are not now */
    bool labels_known;          /* they were, once */
    uint64_t listed_vm;         /* struct session_ctl's */
    uint64_t listed_ns;         /* CLOCK_MONOTONIC: what was mapped before is in the list; 0: there is none */
    bool due;                   /* the list has changed since */
    bool overdue;               /* there was no room for a space */
    struct event *pause, *deadline, *answer;
    bool waited;                /* the window waits no longer */
    bool opened;                /* it began */
    bool labels_alone;          /* the files are read for these, and stacks are walked without tables */
    bool prolonged;             /* the deadline has been put off */

    /* what is said of it */
    uint64_t n_missing, n_late, n_cut, n_labels_late, n_labels_left_out;
    uint64_t cpu_ns;            /* of workers, for the files that this recording began */
    struct {
        char path[256];
        enum unwind_why why;
    } named[RECORDING_UNWIND_MAX_NAMED];
    size_t n_named;
};

struct raw_writer;

/* ---- recording_unwind.c */

/* 0 or -ENOMEM. */
int recording_unwind_init(struct recording *rec);
void recording_unwind_deinit(struct recording *rec); /* of any state; before the recorder goes */

/* The collector's messages; fd becomes the callee's. */
void recording_unwind_on_mappings(struct recording *rec, const struct collector_message *m, int fd);
void recording_unwind_on_object(struct recording *rec, int error, int fd);
/* What was asked of it never comes. */
void recording_unwind_on_collector_gone(struct recording *rec);

/* Whether the space has a program's or library's code there: not memory, in a file or not, of a JIT compiler. */
bool recording_unwind_maps(const struct recording *rec, uint64_t start, uint64_t end);
/* Something else was mapped there, in an epoch that this began: what the space says of it is not used until the next list. */
void recording_unwind_on_replaced(struct recording *rec, uint64_t start, uint64_t end, uint32_t epoch);

/* Whether the window need not wait (any longer). Where it must, recording_unwind_ready is called when it need not. */
bool recording_unwind_is_ready(const struct recording *rec);
/* The window opens: what is not there now is late. */
void recording_unwind_on_open(struct recording *rec);

/* The names and numbers that a profile says of its tables. 0 or -errno. */
int recording_unwind_facts(const struct recording_unwind *u, struct raw_writer *w);

/* ---- recording_unwind_space.c */

/* Why a file has no table; 0: it has one, or may still get one. */
enum unwind_why recording_use_why(const struct recording_use *use);
/* The slot's control word is there: says in it where the space is. */
void recording_unwind_publish(struct recording *rec);
/* Writes what there is into the arena, and tells the BPF programs. 0; -ENOSPC: it is to be tried again once the arena has more room;
 * -errno: it can't be. */
int recording_unwind_write(struct recording *rec);
/* Whether a space written now would be another than the one that is there. */
bool recording_unwind_is_due(const struct recording_unwind *u);
/* place: 0: none. The space that was there is given back. */
void recording_unwind_set_place(struct recording *rec, uint32_t place);

/* ---- recording_labels.c */

/* Finds where threads of the target have labels, by the list and the tables' files. */
void recording_labels_find(struct recording_unwind *u);
/* There are other mappings now, in which there may be further ones. */
void recording_labels_withdraw(struct recording *rec);
/* What a profile says of where they are. 0 or -errno. */
int recording_labels_facts(const struct recording_unwind *u, struct raw_writer *w);
/* Says so to the BPF programs: of the image that began in that epoch. */
void recording_labels_publish(const struct recording_unwind *u, struct session_ctl *ctl);
