/* A debuginfod client as a child of the loop (daemon/child.h): forked, then executed anew, so that it has nothing of the loop's memory,
 * and of its environment only what names proxies. */
#pragma once

#include <stdint.h>

#include "daemon/child.h"

struct debuginfod_command {
    const char *executable; /* NULL: /proc/self/exe */
    const char *urls;       /* separated by blanks */
    const char *cache;
    uint64_t timeout_seconds, file_bytes, cache_bytes;
};

/* 0 or -errno; the rest as child_spawn. */
int debuginfod_process_start(struct event_base *base, const struct debuginfod_command *command, uint64_t deadline_ns,
                             const struct child_ops *ops, void *userdata, struct child **ret);
