/* The arena of bpf/unwind.h: memory that BPF programs read and the loop writes, in slabs of 1 MiB that come when they are needed and go
 * when they are empty.
 *
 * To bring a slab or to take one away is an update of a map of maps, for which the kernel waits until no program that is running
 * can see the old state: an RCU grace period, 8 ms or many more. What was put back is reused after such a grace period, too: no time on
 * a clock proves that a preempted program, or a virtual CPU that was stopped, does not read it any more. All of it is done in rounds,
 * each run by a process that may wait (unwind_arena_run_round), so that the loop never does:
 *
 *   unwind_arena_begin_round   what was put back, and the slabs that come and go, are the round's
 *   unwind_arena_run_round     in a child: waits
 *   unwind_arena_end_round     slabs have come, room is free, slabs are gone; or after an error, all is left to the next round
 *
 * One round at a time; what changes meanwhile is the next one's. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bpf/unwind.h"

#define UNWIND_SLAB_BYTES (1ull << UNWIND_SLAB_SHIFT)
#define UNWIND_ARENA_MAX_BYTES (UNWIND_MAX_SLABS * UNWIND_SLAB_BYTES)

struct unwind_arena;

/* What the process that waits is told. The descriptors are the arena's until the round ends. */
struct unwind_round {
    int slabs_map;              /* -1: nothing reads the arena */
    uint32_t staying;           /* the slot of a slab that is there and stays */
    int staying_fd;             /* -1: there is none */
    size_t n_coming, n_going;
    uint32_t *coming, *going;   /* slots */
    int *coming_fds;
};

/* slabs_map: sampler.slabs_map, borrowed; -1: ordinary memory, for tests of what is written to it. max_bytes: at most so many slabs.
 * 0 or -errno. */
int unwind_arena_new(int slabs_map, uint64_t max_bytes, struct unwind_arena **ret);
void unwind_arena_free(struct unwind_arena *a); /* whatever it holds; NULL is fine */
void unwind_arena_set_max(struct unwind_arena *a, uint64_t max_bytes); /* slabs beyond go as they empty */

/* A run of bytes in one chunk, 8-aligned. 0; -ENOSPC: there is no room now (unwind_arena_reserve); -E2BIG: more than a chunk. */
int unwind_arena_take(struct unwind_arena *a, size_t bytes, uint32_t *ret_place);
/* Gives back what was taken, by the same number of bytes. Programs that found it may go on reading. */
void unwind_arena_put(struct unwind_arena *a, uint32_t place, size_t bytes);
/* The same for what no program could ever find: free at once. */
void unwind_arena_put_unseen(struct unwind_arena *a, uint32_t place, size_t bytes);
/* A taken run's memory. */
void *unwind_arena_at(struct unwind_arena *a, uint32_t place);

/* Makes slabs for so many bytes more than have room now, which the next round brings. 0 where that (or a round under way) will make
 * room; -ENOSPC: max_bytes are reached; -ENOMEM, -errno. */
int unwind_arena_reserve(struct unwind_arena *a, uint64_t bytes);

/* Whether a round would do anything. */
bool unwind_arena_wants_round(const struct unwind_arena *a);
/* give_back: empty slabs may go; not while somebody is about to use what has just come. 0; -ENOMEM. No round is under way. */
int unwind_arena_begin_round(struct unwind_arena *a, bool give_back, struct unwind_round *ret);
/* Blocks. 0 or -errno. */
int unwind_arena_run_round(const struct unwind_round *round);
void unwind_arena_end_round(struct unwind_arena *a, struct unwind_round *round, int error);

struct unwind_arena_stats {
    uint64_t slab_bytes;    /* memory that is held */
    uint64_t max_bytes;
    uint64_t used_bytes;    /* taken and not put back */
    uint64_t waiting_bytes; /* put back, for a round to free */
    uint64_t free_bytes;    /* room, in slabs that are there or coming */
};
void unwind_arena_stats(const struct unwind_arena *a, struct unwind_arena_stats *ret);
