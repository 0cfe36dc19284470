/* What a session does for its target's unwinding tables: learns from the collector what is mapped, gets a table for each file, and tells
 * the BPF programs which mapping has which table. Private to the session's files. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/raw_profile.h"
#include "daemon/unwind_tables.h"

struct collector_message;
struct event;
struct session;

/* The window waits for the tables of what is mapped at the beginning, for so long after the request at most. */
#define SESSION_UNWIND_WAIT_MS 250
/* What has changed is gathered for so long before it is written again. */
#define SESSION_UNWIND_PAUSE_US 5000
/* What could not be written is tried again after so long. */
#define SESSION_UNWIND_RETRY_US 100000
/* Files of a session that are asked of the collector or read by workers at a time: what a hostile target can make others wait for. */
#define SESSION_UNWIND_MAX_BEGUN 4
/* Files of a target that tables are made for: as many as its collector holds open, and the vdso. */
#define SESSION_UNWIND_MAX_USES 4097
/* Files of one target that may crash or hang a worker. */
#define SESSION_UNWIND_MAX_BROKEN 3
/* Places where something else was mapped since the list was read; further ones are taken together. */
#define SESSION_UNWIND_MAX_REPLACED 8
/* A file that the collector does not open in this time can be claimed by other sessions: a target holds up nobody but itself. */
#define SESSION_UNWIND_ANSWER_MS 2000
/* Files without a table that are named. */
#define SESSION_UNWIND_MAX_NAMED 8

#define SESSION_UNWIND_NO_USE UINT32_MAX

/* A file that is mapped. */
struct session_use {
    struct unwind_entry *entry; /* NULL where `why` says why there is none */
    enum unwind_why why;        /* what this session alone knows */
    uint32_t object;            /* in list, or COLLECTOR_OBJECT_VDSO */
    enum unwind_priority priority;
    uint32_t written_place;     /* as in the newest space */
    uint32_t written_kind;
    bool begun;                 /* by this session */
    bool noted;                 /* that there is no table */
    bool paid;                  /* its cost is in cpu_ns */
};

struct session_unwind {
    struct session *session;
    struct unwind_observer observer;
    bool observing;
    struct raw_profile list;    /* what is mapped: sections of a table */
    bool listed;
    uint32_t exec_epoch;        /* of the list */
    struct session_use *uses;   /* by priority */
    size_t n_uses;
    uint32_t *use_of;           /* by object, and the vdso's behind the last: its index in uses, or SESSION_UNWIND_NO_USE */
    uint64_t n_left_out;        /* mappings of files beyond, and those that are not in the list */
    struct {
        uint64_t start, end;
        uint32_t epoch;
    } replaced[SESSION_UNWIND_MAX_REPLACED];
    unsigned n_replaced;
    struct unwind_entry *asked[SESSION_UNWIND_MAX_BEGUN]; /* of the collector, in order; NULL: it took too long */
    unsigned n_asked, n_broken;
    uint32_t place;             /* of the newest space; 0: none */
    struct unwind_entry **held; /* the tables that it names: they stay as long as it does, whatever becomes of the list */
    size_t n_held;
    uint32_t place_epoch;
    bool due;                   /* the list has changed since */
    bool overdue;               /* there was no room for a space */
    struct event *pause, *deadline, *answer;
    bool waited;                /* the window waits no longer */

    /* what is said of it */
    uint64_t n_missing, n_late, n_cut;
    uint64_t cpu_ns;            /* of workers, for the files that this session began */
    struct {
        char path[256];
        enum unwind_why why;
    } named[SESSION_UNWIND_MAX_NAMED];
    size_t n_named;
};

struct raw_writer;

/* ---- session_unwind.c */

/* 0 or -ENOMEM. */
int session_unwind_init(struct session *s);
void session_unwind_deinit(struct session *s); /* of any state; before the recorder goes */

/* The collector's messages; fd becomes the callee's. */
void session_unwind_on_mappings(struct session *s, const struct collector_message *m, int fd);
void session_unwind_on_object(struct session *s, int error, int fd);
/* What was asked of it never comes. */
void session_unwind_on_collector_gone(struct session *s);

/* Whether the space has a program's or library's code there: not memory, in a file or not, of a JIT compiler. */
bool session_unwind_maps(const struct session *s, uint64_t start, uint64_t end);
/* Something else was mapped there, in an epoch that this began: what the space says of it is not used until the next list. */
void session_unwind_on_replaced(struct session *s, uint64_t start, uint64_t end, uint32_t epoch);

/* Whether the window need not wait (any longer). Where it must, session_unwind_ready is called when it need not. */
bool session_unwind_is_ready(const struct session *s);
/* The window opens: what is not there now is late. */
void session_unwind_on_open(struct session *s);

/* The names and numbers that a profile says of its tables. 0 or -errno. */
int session_unwind_facts(const struct session_unwind *u, struct raw_writer *w);

/* ---- session_unwind_space.c */

/* Why a file has no table; 0: it has one, or may still get one. */
enum unwind_why session_use_why(const struct session_use *use);
/* The slot's control word is there: says in it where the space is. */
void session_unwind_publish(struct session *s);
/* Writes what there is into the arena, and tells the BPF programs. 0; -ENOSPC: it is to be tried again once the arena has more room;
 * -errno: it can't be. */
int session_unwind_write(struct session *s);
/* Whether a space written now would be another than the one that is there. */
bool session_unwind_is_due(const struct session_unwind *u);
/* place: 0: none. The space that was there is given back. */
void session_unwind_set_place(struct session *s, uint32_t place);
