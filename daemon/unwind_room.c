/* When rounds begin. Owns the arena, the child that runs a round, and the timer for what is not urgent. */
#include "daemon/unwind_room.h"

#include <errno.h>
#include <event2/event.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bpf/unwind_arena.h"
#include "daemon/child.h"
#include "daemon/log.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/fdmsg.h"

struct unwind_room {
    struct event_base *base;
    const struct unwind_room_ops *ops;
    void *userdata;
    struct unwind_arena *arena;
    struct unwind_round round;
    struct child *child;   /* runs a round */
    bool answered, wanted; /* the round's child has spoken; another round is to follow at once */
    int error;
    int failed;            /* the newest round: -errno */
    uint64_t failed_ns;
    struct event *tidy;
};

/* ---- in the child */

static int round_main(int sock, void *arg)
{
    int error = unwind_arena_run_round(arg);
    return fdmsg_send(sock, &error, sizeof(error), NULL, 0) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* ---- in the loop */

static int room_begin(struct unwind_room *room, bool give_back);

static void room_schedule_tidy(struct unwind_room *room)
{
    struct timeval tv = {.tv_sec = UNWIND_ROOM_TIDY_SECONDS};

    if (!event_pending(room->tidy, EV_TIMEOUT, NULL) && unwind_arena_wants_round(room->arena))
        (void)event_add(room->tidy, &tv);
}

static void room_end(struct unwind_room *room, int error)
{
    bool wanted = room->wanted;

    room->wanted = false;
    unwind_arena_end_round(room->arena, &room->round, error);
    room->failed = error;
    room->failed_ns = monotonic_ns();
    if (error < 0)
        log_warning("memory for unwinding tables can't be had: %s", strerror(-error));
    if (wanted && error == 0)
        (void)room_begin(room, false); /* where it can't begin, those who need it ask again */
    room->ops->changed(error, room->userdata);
    room_schedule_tidy(room);
}

static void room_on_message(struct child *c, const void *data, size_t len, int *fds, size_t n_fds, void *userdata)
{
    struct unwind_room *room = userdata;

    for (size_t i = 0; i < n_fds; i++)
        (void)close(fds[i]);
    if (len != sizeof(room->error))
        return;
    memcpy(&room->error, data, sizeof(room->error));
    room->answered = true;
}

static void room_on_ended(struct child *c, bool timed_out, uint64_t cpu_ns, void *userdata)
{
    struct unwind_room *room = userdata;

    room->child = NULL;
    room_end(room, room->answered ? room->error : timed_out ? -ETIMEDOUT : -ECHILD);
}

static int room_spawn(struct unwind_room *room)
{
    static const struct child_ops ops = {.message = room_on_message, .ended = room_on_ended};
    const struct unwind_round *round = &room->round;
    AUTO_FREE int *keep = malloc((round->n_coming + 2) * sizeof(*keep));
    size_t n = 0;

    if (!keep)
        return -ENOMEM;
    for (size_t i = 0; i < round->n_coming; i++)
        if (round->coming_fds[i] >= 0)
            keep[n++] = round->coming_fds[i];
    if (round->staying_fd >= 0)
        keep[n++] = round->staying_fd;
    if (round->slabs_map >= 0)
        keep[n++] = round->slabs_map;
    room->answered = false;
    return child_spawn(room->base, round_main, &room->round, keep, n, UNWIND_ROOM_DEADLINE_SECONDS * NSEC_PER_SEC, &ops, room,
                       &room->child);
}

static int room_begin(struct unwind_room *room, bool give_back)
{
    if (room->child) {
        room->wanted = true;
        return 0;
    }
    int r = unwind_arena_begin_round(room->arena, give_back, &room->round);
    if (r < 0)
        return r;
    (void)event_del(room->tidy);
    r = room_spawn(room);
    if (r < 0)
        unwind_arena_end_round(room->arena, &room->round, r);
    return r;
}

static void room_on_tidy(evutil_socket_t fd, short what, void *arg)
{
    struct unwind_room *room = arg;

    if (!room->child && unwind_arena_wants_round(room->arena) && room_begin(room, true) < 0)
        room_schedule_tidy(room);
}

int unwind_room_new(struct event_base *base, int slabs_map, uint64_t max_bytes, const struct unwind_room_ops *ops, void *userdata,
                    struct unwind_room **ret)
{
    struct unwind_room *room = calloc(1, sizeof(*room));
    if (!room)
        return -ENOMEM;
    *room = (struct unwind_room){.base = base, .ops = ops, .userdata = userdata};
    room->tidy = evtimer_new(base, room_on_tidy, room);
    int r = room->tidy ? unwind_arena_new(slabs_map, max_bytes, &room->arena) : -ENOMEM;
    if (r < 0) {
        unwind_room_free(room);
        return r;
    }
    *ret = room;
    return 0;
}

void unwind_room_free(struct unwind_room *room)
{
    if (!room)
        return;
    if (room->child) {
        child_kill(room->child);
        unwind_arena_end_round(room->arena, &room->round, -ECANCELED);
    }
    if (room->tidy)
        event_free(room->tidy);
    unwind_arena_free(room->arena);
    free(room);
}

struct unwind_arena *unwind_room_arena(struct unwind_room *room)
{
    return room->arena;
}

int unwind_room_make(struct unwind_room *room, uint64_t bytes)
{
    struct unwind_arena_stats stats;

    if (room->failed < 0 && monotonic_ns() - room->failed_ns < UNWIND_ROOM_PAUSE_NS)
        return room->failed;
    int r = unwind_arena_reserve(room->arena, bytes);

    unwind_arena_stats(room->arena, &stats);
    if (r == -ENOSPC && stats.waiting_bytes > 0)
        r = 0;
    if (r < 0)
        return r;
    return room_begin(room, false);
}

void unwind_room_tidy(struct unwind_room *room)
{
    room_schedule_tidy(room);
}
