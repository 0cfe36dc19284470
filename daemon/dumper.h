/* The dumper: the child that dumps a process's threads (bpf/dump.h) for a recorder, and describes each (daemon/child.h).
 *
 * It speaks as an attacher does (daemon/attacher.h): READY at once, DUMPED or FAILED once it was told OPEN, and it ends at END. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct dump_programs;

struct dumper_request {
    const struct dump_programs *programs;
    uint32_t slot;
    pid_t pid;
    bool kernel;
    bool starts; /* of threads but the first, without states */
};

int dumper_main(int sock, void *arg); /* arg: struct dumper_request */
