/* A kind of profile: what stands under /pid/N/debug/pprof/NAME. The index page, its JSON, the parameter errors and the router
 * work from the table in kinds.c.
 *
 * To add one: write kind_NAME.c with its `const struct kind`, and add it to the table. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/types.h>

#include "daemon/session_params.h"

struct http_request;
struct server;

struct kind {
    const char *name;          /* also the path under debug/pprof/, and its title on the index page */
    const char *path;          /* the link from the index page: the name, perhaps with a query */
    const char *description;   /* a sentence or two for the index page */
    struct raw_types types;    /* n 0: it is no profile */
    const struct param_table *params; /* NULL: none */
    bool takes_post;           /* GET and HEAD are taken in any case */
    bool windowed;             /* samples for `seconds`; else what has accrued, or is */
    bool asks;                 /* cannot be watched without parameters of its own */
    bool declared;             /* its name is the target's, or a query's (daemon/kind_custom.h) */
    bool cumulative;           /* accrues while the process is watched (daemon/watch.h); with `seconds`, in a window */
    const struct kind *watched_as; /* the kind whose watch this one is read of; NULL: its own */
    /* Of cumulative kinds: what is recorded, on top of session_params_init: event, rate, fraction where a query says nothing, ... */
    void (*record)(struct session_params *params);
    /* Of cumulative kinds: the answer without a window where the process is not watched; NULL: 409. */
    void (*unwatched)(struct server *server, struct http_request *request, pid_t pid, const struct session_params *params);
    /* Answers the request, now or later. kind: this one. */
    void (*start)(struct server *server, struct http_request *request, pid_t pid, const struct kind *kind);
};

/* Where stacks are charged with waits, as Go has it. */
#define KIND_CONTENTION_TYPES \
    {.type = {"contentions", "delay"}, .unit = {"count", "nanoseconds"}, .n = 2, .period_type = "contentions", .period_unit = "count", \
     .default_type = "delay"}

/* All kinds, sorted by name; NULL past the last. */
const struct kind *kind_at(size_t i);
/* NULL: unknown. */
const struct kind *kind_find(const char *name);

/* Parses the query by the kind's table, on top of params (session_params_init, and what the kind wants otherwise). false: it was refused,
 * and the request is answered. */
bool kind_parse_query(struct server *server, struct http_request *request, const struct kind *kind, struct session_params *params);

/* The start of cumulative kinds: a window of its own, or what a watch has so far. */
void cumulative_start(struct server *server, struct http_request *request, pid_t pid, const struct kind *kind);

/* What a cumulative kind records, on top of session_params_init. */
static inline void kind_record(const struct kind *kind, struct session_params *params)
{
    kind->record(params);
    if (kind->declared)
        (void)snprintf(params->custom.name, sizeof(params->custom.name), "%s", kind->name);
}

/* What metrics and the audit log know a kind by: names that targets choose are many. */
static inline const char *kind_metric(const struct kind *kind)
{
    return kind->declared ? "custom" : kind->name;
}

/* The kind that is watched for it. */
static inline const struct kind *kind_watched(const struct kind *kind)
{
    return kind->watched_as ? kind->watched_as : kind;
}

extern const struct kind kind_allocs, kind_block, kind_cmdline, kind_custom, kind_goroutine, kind_growth, kind_heap, kind_mutex,
    kind_offcpu, kind_profile, kind_symbol, kind_threadcreate, kind_threads, kind_trace, kind_wall;
