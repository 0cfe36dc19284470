/* Opening what a worker asks for by a name that a target, or a file of its, chose: with the target's rights alone, and for so long. And the
 * target's perf map, by rules of its own (daemon/jit_files.h). */
#pragma once

#include "daemon/target.h"
#include "daemon/worker_proto.h"

struct patience;

/* Who asks for what. */
struct named_file {
    const struct target *target;
    const struct target_status *status; /* whose rights count */
    pid_t parent;                       /* of this process */
    int root_fd;                        /* the target's root directory; -1: unknown */
    const char *object_path;            /* of the object whose debug file is asked for, as the target sees it */
    int object_fd;                      /* the object, or -1 */
    const struct worker_message *need;  /* WORKER_FILE_DEBUG, WORKER_FILE_PATH, WORKER_FILE_PERF_MAP */
};

/* fd; -EINVAL: a name that no such file can have; -EPERM: the rights could not be taken; -ETIMEDOUT: its file system does not answer;
 * -errno. */
int named_file_open(struct patience *patience, const struct named_file *file);
