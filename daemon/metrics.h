/* The daemon's counters, as /metrics shows them (Prometheus text format). One registry, for the loop's process alone. */
#pragma once

#include <stdint.h>

struct evbuffer;

/* Counters only grow; gauges are set. An unknown label value takes a place of its own; the number of places is capped, and
 * what finds none is counted under "other". */
void metrics_add_request(int code);
void metrics_add_samples(const char *kind, uint64_t n);
void metrics_add_lost(const char *kind, const char *reason, uint64_t n);

/* What others know: asked for at each scrape. */
struct metrics_sources {
    uint64_t sessions, open_sessions, watches;
    uint64_t cpu_debuginfod_ns;
    uint64_t debuginfod_found, debuginfod_absent, debuginfod_failed, debuginfod_late;
    uint64_t worker_restarts;
    uint64_t table_bytes;
    uint64_t cache_bytes;
    uint64_t cpu_loop_ns, cpu_collector_ns, cpu_worker_ns;
};
/* Appends the page. Content type: text/plain; version=0.0.4; charset=utf-8. */
void metrics_print(struct evbuffer *out, const struct metrics_sources *sources);
/* For tests. */
void metrics_reset(void);
