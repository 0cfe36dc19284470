/* The memory locks that probes take. */
#pragma once

#include <stdint.h>

struct attacher_progress;

/* To attach a uprobe takes the memory lock of each process that maps the file, and while one does not give it, forks wait on the
 * whole host. So each process's lock is tried first, by reading a byte through it: a process that
 * does not answer hangs this child, which the loop then ends, naming the process. */
int attacher_try_locks(struct attacher_progress *progress); /* 0, or -errno: they could not be tried */
/* The same, where the caller holds what is not to end with it: 0; -EBUSY: one does not answer for so long, and progress names it; -EINTR: the
 * process that tried them died; -errno. */
int attacher_try_locks_within(struct attacher_progress *progress, uint64_t ns);
