/* The sandboxes: what a worker, which parses hostile files, may still do, and what the debuginfod client, which speaks with servers. */
#pragma once

#include <stdbool.h>
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

struct sandbox_network {
    pid_t parent;
    uint64_t memory_bytes, file_bytes; /* as above */
    const char *folder;                /* the only one that it may write to */
};

/* Gives up capabilities, other programs, signals, and what is not needed to fetch files from servers into one folder. Where the kernel has
 * Landlock, no file can be read but the system's own libraries and configuration, and none written outside of the folder; else
 * *ret_confined is false, and what the user may is all that stands in the way. Threads can be started. 0 or -errno, as above. */
int sandbox_enter_network(const struct sandbox_network *s, bool *ret_confined);
