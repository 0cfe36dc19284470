/* A target's executable mappings as BPF programs search them (struct unwind_space in bpf/unwind.h). */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct unwind_arena;
struct unwind_mapping;

#define UNWIND_SPACE_MAX_MAPPINGS (64 * 1024) /* UNWIND_SPACE_PARTS full parts: those with the highest addresses are left out */

/* Writes a new space for sorted mappings. 0 with its place, and how many were left out; -ENOSPC: the arena has no room now. */
int unwind_space_write(struct unwind_arena *arena, const struct unwind_mapping *mappings, size_t n, uint32_t *ret_place,
                       size_t *ret_cut);
/* Gives it back: programs may be reading it. 0 is fine. */
void unwind_space_put(struct unwind_arena *arena, uint32_t place);
