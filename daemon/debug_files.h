/* Separate debug files for a target's files: where they may be, and nowhere else. Names come from files that
 * anybody may have written. */
#pragma once

#include <stdbool.h>

#include "daemon/target_files.h"
#include "daemon/worker_proto.h"

/* The root directories that are searched, O_PATH; -1: none. */
struct debug_roots {
    int target, host;
};

/* A build id in lower-case hex, as names of files and URLs may have it. */
bool debug_file_is_build_id(const char *text);

/* Answers a NEED of WORKER_FILE_DEBUG for the object at path (as the target sees it), which is open as
 * object_fd or -1. Looked for in the target's root, then under /usr/lib/debug of the host's. fd; -EINVAL: a
 * name that no such file can have; -ENOSYS: a server's file, which is nowhere here; -ENOENT. */
int debug_file_open(const struct debug_roots *roots, const char *object_path, int object_fd,
                    const struct worker_message *need);
