/* The walker under test, as the host builds it: bpf/stack.h over a tracee's registers and memory, with tables made of the files that it maps. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "bpf/stack_walk.h"
#include "tests/unwind/space.h"
#include "tests/unwind/tracee.h"

struct host_walk;

/* Both are borrowed. */
int host_walk_new(struct tracee *tracee, struct space *space, struct host_walk **ret_walk);
void host_walk_free(struct host_walk *walk);
/* The frames, innermost first, with their STACK_FRAME_* flags, borrowed until the next walk; ret_end: enum stack_end. -errno: there are no
 * tables. */
int host_walk_frames(struct host_walk *walk, const __u64 **ret_frames, size_t *ret_n, unsigned *ret_end);
/* The last walk itself, and the pages that it has read. Borrowed until the next one. */
const struct stack_walk *host_walk_last(const struct host_walk *walk);
size_t host_walk_pages(const struct host_walk *walk, const uint64_t **ret_addresses);
const char *host_walk_end_name(unsigned end);
