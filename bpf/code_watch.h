/* Tells of executable mappings as they are made, on the whole host: perf's own side-band records of a dummy event on each CPU.
 * Programs that load libraries of equal size at one address can't be told apart by anything a sample could look at. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct code_watch;

struct new_code {
    pid_t pid;           /* in the daemon's PID namespace; 0: any process, some records were lost: the rest is not known */
    uint64_t start, end;
    uint64_t time_ns;    /* CLOCK_MONOTONIC, when it was there. Records are read late: who read the mappings since knows of it */
    bool is_file;        /* else memory, or what the kernel made */
};

/* Something was mapped executable. */
typedef void (*code_watch_fn)(const struct new_code *code, void *userdata);

/* Begins to watch. 0 or -errno (-EACCES, -EPERM: CAP_PERFMON is missing; -EMFILE). */
int code_watch_new(code_watch_fn fn, void *userdata, struct code_watch **ret);
void code_watch_free(struct code_watch *w); /* NULL is fine */
/* The i-th descriptor to poll for reading; -1 past the last. */
int code_watch_fd(const struct code_watch *w, size_t i);
/* Calls fn for all that was mapped since the last time. Bounded by the rings' sizes. */
void code_watch_read(struct code_watch *w);
