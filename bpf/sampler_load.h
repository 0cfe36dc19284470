/* Loads the BPF object in a process of its own: libbpf and the kernel's type information take tens of megabytes for a
 * moment, of which the loop would keep a part for good. */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum sampler_fd {
    SAMPLER_TIMER_PROG,
    SAMPLER_PERF_PROG,
    SAMPLER_PROBE_PROG,
    SAMPLER_TRACEPOINT_PROG,
    SAMPLER_EXIT_PROG,
    SAMPLER_EXEC_PROG,
    SAMPLER_SESSIONS_MAP,
    SAMPLER_TARGETS_MAP,
    SAMPLER_COUNTS_MAP,
    SAMPLER_RECORDS_MAP,
    SAMPLER_NOTICES_MAP,
    SAMPLER_PHASES_MAP,
    SAMPLER_SLABS_MAP,
    SAMPLER_PROBE_MULTI_PROG, /* last: -1 where this kernel has no uprobe_multi */
    SAMPLER_FDS,
};

/* Fills fds, which become the caller's; n_cpus: possible ones. 0, or -errno with a message that says what is missing. */
int sampler_load(uint32_t n_cpus, int ret_fds[SAMPLER_FDS], char *error, size_t error_len);
