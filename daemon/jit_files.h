/* Where a target's runtime says what code it made: /tmp/perf-PID.map and jit-PID.dump, PID as the target knows itself. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "daemon/target.h"
#include "daemon/target_status.h"

/* Opens the perf map of a target whose root directory is root_fd. fd, or -errno: -ENOENT: there is none; -ELOOP: it is a link; -EINVAL: it
 * is no regular file; -EPERM: it is neither the target's nor root's, or others may write it; -ESTALE: it was written before the process
 * began; -EACCES. */
int jit_files_open_perf_map(const struct target *t, const struct target_status *s, int root_fd);

/* Is that the path of the target's own jitdump? Not of the process that forked it. */
bool jit_files_is_jitdump(const struct target_status *s, const char *path);
