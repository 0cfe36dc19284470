/* Where a probe goes: the sites of a function or of a USDT probe in an ELF file. Runs in a worker. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "daemon/worker_proto.h"

#define PROBE_MAX_SITES 4096

/* Writes struct usdt_site[] to out_fd (a function: one site, without a semaphore). elf_fd becomes the
 * callee's. 0 with the bytes written, or -errno with a message for the user: -ENOENT, -ENOTUNIQ, -ERANGE,
 * -ENOEXEC, -E2BIG (more than PROBE_MAX_SITES). */
int probe_find(int elf_fd, const struct worker_probe *probe, int out_fd, uint64_t *ret_len, char *message,
               size_t message_len);
