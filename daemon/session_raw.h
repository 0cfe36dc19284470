/* Puts together the raw profile of a closed session, for a worker to render. */
#pragma once

#include <stdint.h>

#include "daemon/image_access.h"
#include "daemon/recorder.h"
#include "daemon/session_params.h"
#include "daemon/target.h"

struct recording;
struct recording_go;
struct recording_growth;
struct recording_unwind;

/* What a session knows of itself when its window is closed. */
struct session_facts {
    pid_t pid;
    int64_t time_ns;              /* wall clock, of the window's start */
    uint64_t window_ns;
    uint64_t end_ns;              /* CLOCK_MONOTONIC, of the window's end */
    struct target_clock clock;
    uint64_t cpu_actual_ns;       /* the kernel's run time of the target in the window */
    bool cpu_actual_known;
    uint64_t daemon_cpu_ns;
    uint32_t thin;                /* by the end of the window one sample in so many was taken */
    const char *target;           /* "exited", "execed", or NULL */
    const char *ended;            /* why the window ended early, or NULL */
    bool cut;                     /* what was lost or withheld came after its end: see session_raw_cut */
    const char *mappings;         /* why the target's mappings are not known, or NULL */
    const struct recording_unwind *unwind;
    const struct recording_go *go;
    const struct recording_probe *probe;
    const struct recording *custom; /* of a custom profile; else NULL */
    const struct recording *heap; /* of allocations; else NULL */
    const struct recording_growth *growth; /* of growth; else NULL */
    uint64_t since_ns;            /* wall clock: when the watch began that this is read of; 0: none is */
    const char *anew;             /* why it began then, or NULL */
    const struct image_access *access; /* samples of other images than these do not count */
};

/* table_fd: the collector's sections, or -1. The memfd, or -errno. */
int session_raw(const struct recorder *recorder, const struct session_params *params, const struct session_facts *facts,
                int table_fd);
