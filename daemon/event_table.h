/* The events that a profile can count, and the grammar of event=. */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum event_kind { EVENT_CPU_CLOCK, EVENT_PERF /* hardware, software, raw */, EVENT_UPROBE, EVENT_USDT, EVENT_TRACEPOINT,
                  EVENT_NEW_THREAD /* in its maker's place */, EVENT_GROWTH /* of anonymous memory */,
                  EVENT_DUMP /* none: what all threads do now */,
                  EVENT_CUSTOM /* values that are added and removed: struct custom_spec */,
                  EVENT_GO /* waits of goroutines, go_kind */,
                  EVENT_HEAP /* allocations, by probes on the allocator */,
                  EVENT_SCHED /* none of its own: what the scheduler does with the threads, sched_kind */ };

struct session_params;

/* Parses text into ret's event, event_text, event_name, perf_*, object and symbol*. 0, or -EINVAL with a message; an event that
 * this machine lacks is refused, naming those it has. */
int event_parse(const char *text, struct session_params *ret, char *error, size_t error_len);

/* Periods are ns for cpu-clock, events otherwise. By the rules of golang/go#42502 and #53286: a hardware event that
 * overflows too often would stop the machine, so a shorter period is raised to the least. */
struct event_periods {
    uint64_t fallback, least;
};
void event_periods(const struct session_params *params, struct event_periods *ret);

/* Takes "+0xOFF" off the end of a symbol, if it is there. 0, or -EINVAL with what is wrong with it. */
int event_cut_offset(char *symbol, uint64_t *ret_offset, const char **ret_why);

/* The events that this machine has (probed by trying, once), joined by ", ": for errors and the JSON index. */
const char *events_available(void);
