/* What the attaching of timers and of other events have in common. */
#pragma once

#include <linux/perf_event.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "bpf/attach.h"

/* A perf event's descriptor, or -1 with errno set. */
int attach_perf_open(const struct perf_event_attr *attr, pid_t pid, int cpu);
/* Links a program to a perf event under the session's cookie, and keeps both: event_fd is taken whatever happens. 0 or -errno. */
int attach_link(int prog, int event_fd, uint64_t cookie, struct attachment *ret);
/* Calls open_one for each CPU that is online; -ENODEV of one that goes offline meanwhile is passed over. 0 or -errno. */
int attach_each_cpu(int (*open_one)(int cpu, void *arg), void *arg);

void timer_events_free(struct timer_events *t); /* closes nothing: descriptors are the attachment's */

/* ---- probes */

/* Newer than the headers that we build against (Linux 6.6, 6.13). */
#define ATTACH_TRACE_UPROBE_MULTI 48
#define ATTACH_TRACE_UPROBE_SESSION 57
#define ATTACH_UPROBE_MULTI_RETURN 1

/* Probes of one program on places of a file, for one process. */
struct probe_set {
    int prog, multi_prog; /* for perf uprobes; for links of many; -1: none */
    uint32_t multi_type;  /* ATTACH_TRACE_* of the latter */
    bool at_return;
    const struct probe_place *places;
    const uint64_t *cookies;
    size_t n;
};

/* By one link, or where the kernel has none by a perf uprobe each. 0 or -errno. */
int attach_probe_set(const struct probe_set *set, int file_fd, uint32_t pid, struct attachment *ret);
/* Puts the set's programs on those of a file's places whose role goes that way; the set's places are filled in here. None: it does nothing.
 * 0 or -errno. */
int attach_roles(const struct sampler *s, uint32_t slot, uint32_t pid, const struct role_file *file, uint32_t (*way_of)(uint32_t role), uint32_t way,
                 const struct probe_set *set, struct attachment *ret);
/* A map of a session's own, put in the slot of the outer one, which holds it. 0 or -errno. */
int attach_own_map(int outer, uint32_t slot, const char *name, uint32_t value_bytes, uint32_t entries);
