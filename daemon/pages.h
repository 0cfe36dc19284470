/* The pages for people and their JSON for programs. All that a target can name is escaped; links are relative, so that a
 * reverse proxy's prefix survives. */
#pragma once

#include <stddef.h>
#include <sys/types.h>

struct custom_declared;
struct evbuffer;
struct process_entry;
struct watches;

/* / : the processes that the asker may profile. */
void page_processes(struct evbuffer *out, const struct process_entry *entries, size_t n);
void page_processes_json(struct evbuffer *out, const struct process_entry *entries, size_t n);

/* /pid/N for a browser. */
void page_process(struct evbuffer *out, struct watches *ws, pid_t pid);

/* /pid/N/debug/pprof/ : the kinds of profiles, and those that the process declares. ws: says which are watched; NULL: none is. */
void page_index(struct evbuffer *out, struct watches *ws, pid_t pid, const struct custom_declared *declared);
void page_index_json(struct evbuffer *out, struct watches *ws, pid_t pid, const struct custom_declared *declared);

/* The Content-Security-Policy of all pages. */
const char *page_csp(void);
