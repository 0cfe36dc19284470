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
    bool starts; /* of threads but the first the outermost frames alone, marked STACK_END_EARLIER, without states */
    bool anonymous;     /* starts: without names and numbers of threads */
    uint64_t before_ns; /* starts: monotonic: only threads that were there then; 0: all */
};

int dumper_main(int sock, void *arg); /* arg: struct dumper_request */
