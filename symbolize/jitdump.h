/* Jitdumps: jit-PID.dump, to which a runtime appends a record for each piece of code that it makes or moves, with the code itself and,
 * if it likes, its files and lines (the kernel's tools/perf/Documentation/jitdump-specification.txt). The file belongs to the target,
 * which may write anything, at any time. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct code_names;

/* Records beyond are not read: then nothing is named, since what is newest is not known. */
#define JITDUMP_MAX_BYTES (4ull << 30)

struct jitdump_options {
    uint32_t pid;         /* that the dump must be of: as the target knows itself */
    uint64_t end_ns;      /* CLOCK_MONOTONIC of who wrote it: what was made or moved later does not count; 0: all does */
    uint64_t deadline_ns; /* CLOCK_MONOTONIC */
    bool lines;           /* files and lines are wanted too */
};

struct jitdump_result {
    uint64_t records;   /* that were read */
    uint64_t later;     /* of these: code that was made or moved after end_ns */
    bool other_clock;   /* its times are not CLOCK_MONOTONIC: whatever the file says last is taken for the newest */
    bool malformed;     /* a record makes no sense: what follows it was not read */
};

/* Names the addresses that have no name by what was at their place last. A record that goes beyond the file's end is still being
 * written. fd stays the caller's. 0; -ENOEXEC: it is no jitdump; -ENOTSUP: of another version or byte order; -ESRCH: of another process;
 * -EFBIG: too large; -ETIMEDOUT; -ENODATA: it became shorter; -ENOSPC: names take too much room; -ENOMEM; -errno of the file. */
int jitdump_read(int fd, struct code_names *names, const struct jitdump_options *options, struct jitdump_result *ret);
