/* The settings: one table (settings_table.c) holds each one's name, type, bounds, default and manual text; the
 * file, the switches, --help, the man pages and the example configuration all come from it. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#define SETTINGS_MAX_LIST 32
#define SETTINGS_MAX_PATH 200 /* a line of the file has no room for more */

struct settings_list {
    char *item[SETTINGS_MAX_LIST];
    size_t n;
};

/* A rule of access: WHO may profile processes of WHOM. */
struct settings_grant {
    enum { GRANT_TO_EVERYONE, GRANT_TO_UID, GRANT_TO_GID } to;
    uint32_t to_id;
    enum { GRANT_ANY_TARGET, GRANT_TARGET_UID } target;
    uint32_t target_uid;
    bool kernel; /* kernel frames and kernel-only events as well */
};

struct settings {
    struct settings_list listen; /* "127.0.0.1:6060" */
    struct settings_list hosts;  /* further Host names that are accepted */
    struct settings_grant grant[SETTINGS_MAX_LIST];
    size_t n_grants;
    struct settings_list proxy_uids; /* users whose connections are a reverse proxy's: decimal uids */
    uint32_t max_hz;                 /* of one session; shorter periods are raised */
    uint32_t max_sessions, max_sessions_target, max_sessions_asker; /* 64, 16, 16 */
    uint32_t max_rate_hz, max_rate_asker_hz; /* 20000, 10000: all sampling rates together */
    double max_overhead;                     /* per cent of a target's CPU time */
    uint32_t log_level;                      /* 0 error, 1 warning, 2 info, 3 debug */
    uint32_t workers;                        /* 0: one per core */
    uint64_t worker_memory_bytes, worker_cache_bytes;
    uint64_t table_memory_bytes;             /* unwinding tables of all sessions */
    double worker_timeout_seconds;
    struct settings_list watch;              /* rules: config/watch_rule.h */
    struct settings_list debuginfod_urls;    /* none: off */
    char debuginfod_cache[SETTINGS_MAX_PATH];
    double debuginfod_wait_seconds, debuginfod_timeout_seconds;
    uint64_t debuginfod_file_bytes, debuginfod_cache_bytes;
    uint64_t by_switch; /* a bit for each setting of the table that a switch gave: settings_set's own */
};

/* The defaults. *s need not be initialised. 0 or -ENOMEM. */
int settings_init(struct settings *s);
void settings_deinit(struct settings *s); /* safe to call twice */

/* Reads a file over *s, whole: *s is untouched where anything is wrong, and every fault is written to errors
 * as "FILE:LINE: what, and what would be right" (what has no line as "FILE: ..."). 0, -EINVAL (faults), or
 * -errno (unreadable). May wait for the user database: names of users and groups are resolved here. */
int settings_read(struct settings *s, const char *path, FILE *errors);

/* A switch of the command line, "--NAME" (name comes without the dashes) and its value; the same table and
 * errors. A list is replaced by its first switch, later ones append, so switches come after the file. 0,
 * -EINVAL or -ENOMEM; *s is untouched on failure. */
int settings_set(struct settings *s, const char *name, const char *value, FILE *errors);

/* Whether the settings fit together, after file and switches; faults go to errors. 0 or -EINVAL. */
int settings_check(const struct settings *s, FILE *errors);

/* True where connections of that user are a reverse proxy's. */
bool settings_is_proxy(const struct settings *s, uid_t uid);

/* For main's getopt_long: the i-th setting's name; NULL past the last. Every setting takes a value. */
const char *settings_name(size_t i);
void settings_print_help(FILE *out); /* for --help: a line or two a setting */
