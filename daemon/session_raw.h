/* Puts together the raw profile of a closed session, for a worker to render. */
#pragma once

#include <stdint.h>

#include "daemon/recorder.h"
#include "daemon/session_params.h"

/* Epochs whose samples do not count: [first, end). */
struct epoch_range {
    uint32_t first, end;
};

/* Further ranges are merged into the last one, and what lies between them is hidden as well. */
#define SESSION_MAX_HIDDEN 16

/* What a session knows of itself when its window is closed. */
struct session_facts {
    pid_t pid;
    int64_t time_ns;              /* wall clock, of the window's start */
    uint64_t window_ns;
    uint64_t cpu_actual_ns;       /* the kernel's run time of the target in the window */
    bool cpu_actual_known;
    uint64_t daemon_cpu_ns;
    const char *target;           /* "exited", "execed", or NULL */
    const char *ended;            /* why the window ended early, or NULL */
    const char *mappings;         /* why the target's mappings are not known, or NULL */
    uint32_t denied_epoch;        /* samples of this epoch and later do not count (an exec to what the asker may not trace);
                                     UINT32_MAX: none */
    const struct epoch_range *hidden; /* images that were gone before access to them could be checked */
    size_t n_hidden;
};

/* table_fd: the collector's sections, or -1. The memfd, or -errno. */
int session_raw(const struct recorder *recorder, const struct session_params *params, const struct session_facts *facts,
                int table_fd);
