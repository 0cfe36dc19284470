/* Perf maps: the text /tmp/perf-PID.map, to which a runtime appends a line for each piece of code that it makes (the kernel's
 * tools/perf/Documentation/jit-interface.txt):
 *
 *   START SIZE name
 *
 * Numbers are hexadecimal, with or without "0x"; the name goes to the end of the line, blanks and all. A later line is about newer code.
 * The file belongs to the target, which may write anything, at any time. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct code_names;

/* Of a larger map only so many bytes at its end are read: the newest. */
#define PERF_MAP_MAX_BYTES (512ull << 20)

struct perf_map_result {
    uint64_t lines;     /* that were read; all of them unless every address found its name before */
    uint64_t malformed; /* of these: no numbers, no size, no name, beyond 64 bits, binary or too long */
    bool cut;           /* addresses were left without a name, and so were lines: too many bytes, or no time */
};

/* Names what is left, from the map's end to its beginning, until nothing is left. A last line without a newline is still being
 * written: it does not count. fd stays the caller's. deadline_ns: CLOCK_MONOTONIC. 0; -ENOSPC: names take too much room; -ENOMEM; -errno of
 * the file. */
int perf_map_read(int fd, struct code_names *names, uint64_t deadline_ns, struct perf_map_result *ret);
