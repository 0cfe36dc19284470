/* A worker's image of a table (util/unwind_table.h) on its way into the arena: checked, then copied a part at a time, so that a large
 * one does not hold up the loop. */
#pragma once

#include <stdint.h>

struct unwind_arena;
struct unwind_load;

/* How much of an image one step copies. */
#define UNWIND_LOAD_STEP_BYTES (512u << 10)

/* Maps and checks len bytes of a sealed file; fd stays the caller's. 0; -EBADMSG: it is no table; -errno. */
int unwind_load_new(struct unwind_arena *arena, int fd, uint64_t len, struct unwind_load **ret);
/* Whatever it has copied, unless it was finished, is given back. NULL is fine. */
void unwind_load_free(struct unwind_load *load);

/* Copies on. 1: there is more to do; 0: done, *ret_place is the table's index (struct unwind_table); -ENOSPC: the arena has no room, try
 * again when it has. */
int unwind_load_step(struct unwind_load *load, uint32_t *ret_place);
/* What has no room yet. */
uint64_t unwind_load_left_bytes(const struct unwind_load *load);
/* What it takes in all. */
uint64_t unwind_load_total_bytes(const struct unwind_load *load);

/* Gives a loaded table back: programs may be reading it. */
void unwind_load_put(struct unwind_arena *arena, uint32_t place);
