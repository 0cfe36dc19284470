/* Work on a target's files that need not come back: a file system that does not answer keeps whoever asks it in the kernel, where no signal
 * reaches him. So it is done by a thread that is waited for so long and no longer; a profile lacks one file, then, and not all of them. */
#pragma once

#include <stdint.h>

#include "util/clock.h"

struct patience;

/* For one piece of work, and for all that did not come back in time together: then nothing more is begun. */
#define PATIENCE_ONCE_NS (800 * NSEC_PER_MSEC)
#define PATIENCE_ALL_NS (1600 * NSEC_PER_MSEC)

/* A piece of work: embedded in the caller's own, on the heap. */
struct patient_work {
    void (*run)(struct patient_work *work);  /* in the thread */
    void (*drop)(struct patient_work *work); /* frees it, with what it has: also of one that came back too late, in the thread */
};

/* NULL: no memory. */
struct patience *patience_new(uint64_t once_ns, uint64_t all_ns);
/* A thread that is still at work is left to itself, and ends after it. NULL is fine. */
void patience_free(struct patience *p);

/* Has the work done. 0: it is done, and the caller's as before; -ETIMEDOUT: it is the thread's now, and what it uses must stay as long as
 * the process, though descriptors may be closed under it; -EAGAIN: no thread could be had, and the work is the caller's. */
int patience_run(struct patience *p, struct patient_work *work);
