/* The arena in the daemon: lets its rounds (bpf/unwind_arena.h) run in children, so that nobody waits who need not. */
#pragma once

#include <stdint.h>

struct event_base;
struct unwind_arena;
struct unwind_room;

/* How long what was put back may wait for a round where nobody needs the room. */
#define UNWIND_ROOM_TIDY_SECONDS 1
/* A grace period takes milliseconds, on a busy host with stalled CPUs seconds. */
#define UNWIND_ROOM_DEADLINE_SECONDS 20

/* The host has no memory just now: sessions ask again and again, and each answer costs a process. */
#define UNWIND_ROOM_PAUSE_NS 1000000000ull

struct unwind_room_ops {
    /* A round has ended: what found no room may try again. error: 0, or -errno: nothing has changed. */
    void (*changed)(int error, void *userdata);
};

/* slabs_map: borrowed; -1: for tests, see bpf/unwind_arena.h. 0 or -errno. */
int unwind_room_new(struct event_base *base, int slabs_map, uint64_t max_bytes, const struct unwind_room_ops *ops, void *userdata,
                    struct unwind_room **ret);
void unwind_room_free(struct unwind_room *room); /* NULL is fine */

struct unwind_arena *unwind_room_arena(struct unwind_room *room);

/* So many bytes are needed. 0: changed will be called; -ENOSPC: the budget is used up, and nothing waits to be freed; -errno: the newest
 * round failed so a short while ago (UNWIND_ROOM_PAUSE_NS), or no round can be begun. */
int unwind_room_make(struct unwind_room *room, uint64_t bytes);
/* Something was put back. */
void unwind_room_tidy(struct unwind_room *room);
