/* A tracee's executable mappings and their tables in an arena, as the daemon lays them out for the walker. */
#pragma once

#include <stdint.h>

#include "bpf/unwind_arena.h"
#include "tests/unwind/tracee.h"

struct space;

/* slabs_map: where BPF programs find it too; -1: the host alone. Borrowed. */
int space_new(struct tracee *tracee, int slabs_map, struct space **ret_space);
void space_free(struct space *space);
/* The place of the tracee's mappings, made anew where they have changed: 0 or -errno. */
int space_refresh(struct space *space, uint32_t *ret_place);
/* What is at a place; NULL: nothing. */
const uint8_t *space_chunk(const struct space *space, uint32_t place);
