/* Where a probe goes: the sites of a function or of a USDT probe in an ELF file. Runs in a worker. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/worker_proto.h"
#include "symbolize/probe_place.h"

#define PROBE_MAX_SITES 4096
/* What is wrong, with what may have been meant. */
#define PROBE_WHY_BYTES 900

/* A worker's answer: this, and behind it n sites. */
struct probe_found {
    uint32_t n;
    uint32_t tail_calls, ways_in; /* struct probe_points */
    uint32_t pad;
};
struct probe_site {
    struct probe_point point;
    uint64_t semaphore; /* file offset; 0: none */
};

/* Writes struct probe_found and its sites to out_fd. elf_fd becomes the callee's. 0 with the bytes written, or -errno with a message
 * for the user: -ENOENT, -ENOTUNIQ, -ERANGE, -ENOEXEC, -EILSEQ, -ENODATA, -E2BIG (more than PROBE_MAX_SITES). */
int probe_find(int elf_fd, const struct worker_probe *probe, int out_fd, uint64_t *ret_len, char *message,
               size_t message_len);
/* Whether a function of that name can be probed there, be it one or several. elf_fd becomes the callee's. */
bool probe_has_function(int elf_fd, const char *symbol);
/* The same for callers in the worker: *ret_sites is the caller's to free; why: what is wrong, for the user. */
int probe_find_sites(int elf_fd, const struct worker_probe *probe, struct probe_found *ret, struct probe_site **ret_sites, char *why,
                     size_t why_len);
