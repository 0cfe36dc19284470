/* The sandbox of a worker: what a process that parses hostile files may still do. */
#pragma once

#include <stdint.h>
#include <sys/types.h>

struct sandbox {
    pid_t parent;          /* whose death is ours; -ESRCH where it is gone already */
    int last_fd;           /* 3: all descriptors above are closed, stdio leads to /dev/null */
    uint64_t memory_bytes; /* address space */
    uint64_t file_bytes;   /* the longest file that it may write */
};

/* Gives up, for good, all but computing on open descriptors: capabilities, new descriptors except by message,
 * paths, processes, signals, the network. What is refused fails with EPERM (other architectures' system calls
 * kill), so that a library that merely probes does not die. 0 or -errno: the process must end then, for it
 * may be halfway in. */
int sandbox_enter(const struct sandbox *s);
