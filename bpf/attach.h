/* Attaches one session's events: run in the session's attacher, a child that holds the descriptors of perf events,
 * links and the session's maps, so that their end is the session's whatever happens, and nothing here can block the
 * loop. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "bpf/sampler.h"

struct timer_events;

/* Everything that a session has attached. */
struct attachment {
    int counts_fd, records_fd; /* the session's own maps */
    int *fds;                  /* perf events and links */
    size_t n_fds, cap_fds;
    struct timer_events *timers; /* where it has some */
    int live_fd;               /* a custom profile's values; else -1 */
};

#define ATTACHMENT_INIT {-1, -1, NULL, 0, 0, NULL, -1}

/* Adds a descriptor, which becomes the attachment's. 0; -errno where fd is negative (as a system call left it); -ENOMEM. */
int attach_keep(struct attachment *a, int fd);

/* The session's table (room for max_samples different keys) and ring (bytes: a power of two, pages), put in the slot. 0 or -errno. */
int attach_maps(const struct sampler *s, uint32_t slot, uint32_t max_samples, uint32_t ring_bytes, struct attachment *ret);

/* Timers on each CPU that sample every ctl->weight ns of CPU time; returns once their phases are random (at most
 * TIMER_MAX_INTERVAL_NS later). 0 or -errno. */
int attach_timers(const struct sampler *s, uint32_t slot, struct attachment *ret);
/* From then on attach_renew wants to be called, at that moment: monotonic; UINT64_MAX: never. Its being late biases nothing. */
uint64_t attach_renewal_ns(const struct attachment *a);
void attach_renew(struct attachment *a);

/* A hardware, software or raw event on each CPU. kernel: count in the kernel as well (software events always do). 0, or -errno: -ENOENT and
 * -EOPNOTSUPP where this machine has no such event. */
int attach_perf(const struct sampler *s, uint32_t slot, uint32_t type, uint64_t config, uint64_t period, bool kernel,
                struct attachment *ret);

/* A place in a file that is probed; semaphore: the file offset of a USDT semaphore, or 0. */
struct probe_place {
    uint64_t offset, semaphore;
};

/* Uprobes on places of the file behind file_fd, for one process: by one uprobe_multi link, or where the kernel has none by a perf
 * uprobe each (which needs CAP_SYS_ADMIN: -EACCES). 0 or -errno. */
int attach_probes(const struct sampler *s, uint32_t slot, int file_fd, uint32_t pid, const struct probe_place *places,
                  size_t n, struct attachment *ret);

/* The same in the runtime of a Go program, by the programs of bpf/go_waits.h: one place for each enum go_place, from the first on; and the maps that
 * these need. 0; -EOPNOTSUPP: they are not loaded; -errno. */
int attach_go(const struct sampler *s, uint32_t slot, int file_fd, uint32_t pid, const struct probe_place *places, struct attachment *ret);

/* A place that is probed for what is done there: its role, which is COOKIE's timer. */
struct role_place {
    uint64_t offset, semaphore; /* in its file; 0: it has none */
    uint32_t role;              /* of an allocator: enum heap_call_kind (bpf/heap.h); of a custom profile: CUSTOM_ROLE (bpf/custom.h) */
};

/* Those of one file. */
struct role_file {
    int fd;
    const struct role_place *places;
    size_t n;
};

/* What is kept of a session's live objects. 0 or -errno. */
int attach_heap_maps(const struct sampler *s, uint32_t slot);
/* Where files with an allocator are mapped: in the loop, as often as that changes. 0 or -errno. */
struct heap_code;
int attach_heap_code(const struct sampler *s, uint32_t slot, const struct heap_code *code);
/* The functions of one file, by the programs of bpf/heap.h, for a session that has these maps. 0; -EOPNOTSUPP: they are not loaded; -errno. */
int attach_heap(const struct sampler *s, uint32_t slot, uint32_t pid, const struct role_file *file, struct attachment *ret);

/* What is kept of a custom profile's values. 0; -EOPNOTSUPP: the programs are not loaded; -errno. */
int attach_custom_maps(const struct sampler *s, uint32_t slot, struct attachment *ret);
/* The places of one file where such values are added or removed, for a session that has these maps. 0 or -errno. */
int attach_custom(const struct sampler *s, uint32_t slot, uint32_t pid, const struct role_file *file, struct attachment *ret);

/* tracepoint CATEGORY:NAME. 0, -ENOENT (none of that name), -EACCES (tracefs is not readable), or -errno. */
int attach_tracepoint(const struct sampler *s, uint32_t slot, const char *category, const char *name,
                      struct attachment *ret);
/* What is added to the target's memory. As attach_tracepoint. */
int attach_growth(const struct sampler *s, uint32_t slot, struct attachment *ret);

/* Detaches what was attached last, all but so many descriptors. */
void attach_drop(struct attachment *a, size_t n_kept);

/* Detaches all for a while; what was counted stays. */
void attach_pause(struct attachment *a);

/* Detaches all; on return no program runs for the slot any more, so its maps may be read out. The maps' fds stay open. */
void attach_end(const struct sampler *s, uint32_t slot, struct attachment *a);

/* perf_event_attr for an event of attach_perf: apart, since not every machine can open them all. */
struct perf_event_attr;
void attach_perf_attr(uint32_t type, uint64_t config, uint64_t period, bool kernel, struct perf_event_attr *ret);
