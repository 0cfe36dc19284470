/* What the attaching of timers and of other events have in common. */
#pragma once

#include <linux/perf_event.h>
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
