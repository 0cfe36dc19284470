/* Dumps of a process's threads (bpf/threads.h), from user space: what is loaded for them, and taking one. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "bpf/threads.h"

struct dump_programs {
    int thread_prog, cpu_prog, clock_prog; /* -1: there are none, and error says why */
    int lock_fd;                           /* who has its lock uses area */
    struct dump_area *area;                /* shared with BPF; NULL: none */
    uint32_t n_cpus;                       /* possible ones */
    struct dump_memory memory;
    char error[512];
};

/* What the loader hands over; the descriptors become the callee's in all cases. */
struct dump_loaded {
    int thread_prog, cpu_prog, clock_prog, calibrate_prog, map;
    const char *error; /* why they could not be loaded; else "" */
};

/* Always fills ret: with what a dump needs, or with the reason why there is none. */
void dump_programs_open(const struct dump_loaded *loaded, uint32_t n_cpus, struct dump_programs *ret);
void dump_programs_close(struct dump_programs *d); /* may run twice */

struct dump_request {
    pid_t pid;
    uint32_t slot;  /* of the session: what of its control words a walk needs is read there */
    bool kernel;    /* frames of threads that run; those that wait have theirs in any case */
};

/* Threads one after another, each a struct thread_record with its frames behind it. */
struct dump_threads {
    uint8_t *data;
    size_t len;
    size_t n;
    size_t n_unseen; /* of those, threads that ran all the while, but on no CPU where they were looked for */
};

/* Bytes of one dump. */
#define DUMP_MAX_BYTES (256u << 20)

/* Takes one, and waits for its turn: in a child. 0; -ESRCH: there is no such process; -EFBIG: more than DUMP_MAX_BYTES; -errno. */
int dump_take(const struct dump_programs *programs, const struct dump_request *request, struct dump_threads *ret);
void dump_threads_deinit(struct dump_threads *t); /* zeroed memory is fine */

/* The record at *pos (0: the first), and *pos moved to the next; NULL at the end. */
const struct thread_record *dump_threads_next(const struct dump_threads *t, size_t *pos);
