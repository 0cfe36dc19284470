/* The cache of tables. Owns the entries, the files that wait for a worker, the jobs, and the room of what is loaded.
 *
 * An entry goes wanted -> claimed -> queued -> building -> loading -> ready; from each of these to none. What nobody uses is kept where
 * it is ready, or where its file would fail the same way again. Loading is one at a time: two that each hold half of the last room would
 * wait for one another. */
#include "daemon/unwind_tables.h"

#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "bpf/unwind_arena.h"
#include "daemon/unwind_load.h"
#include "daemon/unwind_room.h"
#include "daemon/worker_pool.h"
#include "util/cleanup.h"
#include "util/clock.h"

/* Rounds that one table may wait for room: others take and give it meanwhile. */
#define TABLES_MAX_TRIES 16
/* Images that wait to be loaded hold memory of their own: no further one is made meanwhile. */
#define TABLES_MAX_LOADING 2
/* Of the budget, for mappings (daemon/unwind_space.h). */
#define TABLES_SPACE_SHARE 16

TAILQ_HEAD(entry_list, unwind_entry);

struct unwind_tables {
    struct event_base *base;
    struct worker_pool *pool;
    struct unwind_room *room;
    struct unwind_tables_limits limits;
    unsigned n_building, n_queued, n_loading, n_entries;
    bool waiting; /* the first of loading waits for room */
    struct unwind_entry *entries;
    struct entry_list queues[UNWIND_PRIORITIES], loading;
    struct entry_list idle; /* not used by anybody; the one that was dropped first comes first */
    TAILQ_HEAD(, unwind_observer) observers;
    struct event *notify, *load, *expire;
};

const char *unwind_why_text(enum unwind_why why)
{
    static const char *const texts[UNWIND_WHYS] = {
        [UNWIND_WHY_NOT_ELF] = "the file is no ELF file",
        [UNWIND_WHY_NO_CFI] = "the file has no unwind information",
        [UNWIND_WHY_MALFORMED] = "the file's unwind information is malformed",
        [UNWIND_WHY_TOO_LARGE] = "the file's unwind information is too large",
        [UNWIND_WHY_UNREADABLE] = "the file could not be opened",
        [UNWIND_WHY_OTHER] = "what is found there now has other contents than what is mapped",
        [UNWIND_WHY_CRASH] = "reading the file crashed a worker",
        [UNWIND_WHY_HANG] = "reading the file took too long",
        [UNWIND_WHY_MEMORY] = "reading the file took too much memory",
        [UNWIND_WHY_NO_ROOM] = "table-memory is used up",
        [UNWIND_WHY_TOO_MANY] = "too many files",
        [UNWIND_WHY_BROKEN] = "too many files of the process broke a worker",
        [UNWIND_WHY_LATE] = "it was not made in time",
        [UNWIND_WHY_FAILED] = "no worker could be had",
    };
    return texts[why];
}

bool unwind_why_blames_file(enum unwind_why why)
{
    return why == UNWIND_WHY_CRASH || why == UNWIND_WHY_HANG || why == UNWIND_WHY_MEMORY;
}

/* ---- states */

static void tables_changed(struct unwind_tables *t)
{
    event_active(t->notify, EV_TIMEOUT, 0);
}

/* Whether to keep what nobody uses: what would come out the same way again. */
static bool entry_is_lasting(const struct unwind_entry *e)
{
    static const bool lasting[UNWIND_WHYS] = {
        [UNWIND_WHY_NOT_ELF] = true, [UNWIND_WHY_NO_CFI] = true, [UNWIND_WHY_MALFORMED] = true, [UNWIND_WHY_TOO_LARGE] = true,
        [UNWIND_WHY_CRASH] = true,   [UNWIND_WHY_HANG] = true,   [UNWIND_WHY_MEMORY] = true,
    };
    return e->state == UNWIND_READY || (e->state == UNWIND_NONE && lasting[e->why]);
}

static void entry_free(struct unwind_entry *e)
{
    struct unwind_tables *t = e->tables;

    HASH_DEL(t->entries, e);
    t->n_entries--;
    if (e->state == UNWIND_READY) {
        unwind_load_put(unwind_room_arena(t->room), e->place);
        unwind_room_tidy(t->room);
    }
    worker_job_cancel(e->job);
    unwind_load_free(e->load);
    close_fd(&e->fd);
    free(e);
}

static void tables_expire_in(struct unwind_tables *t, uint64_t ns)
{
    /* A little later, so that several go at once. */
    struct timeval tv = {.tv_sec = (time_t)(ns / NSEC_PER_SEC), .tv_usec = (suseconds_t)(ns % NSEC_PER_SEC / 1000) + 1};

    (void)event_add(t->expire, &tv);
}

/* Nobody uses it, and it is at no work: kept for a while, or freed. */
static void entry_rest(struct unwind_entry *e)
{
    struct unwind_tables *t = e->tables;

    if (!entry_is_lasting(e)) {
        entry_free(e);
        return;
    }
    e->idle_since_ns = monotonic_ns();
    TAILQ_INSERT_TAIL(&t->idle, e, link);
    if (!event_pending(t->expire, EV_TIMEOUT, NULL))
        tables_expire_in(t, t->limits.keep_ns);
}

static void entry_settle(struct unwind_entry *e, enum unwind_state state, enum unwind_why why)
{
    e->state = state;
    e->why = why;
    e->settled_ns = monotonic_ns();
    tables_changed(e->tables);
    if (e->refs == 0)
        entry_rest(e);
}

static void idle_remove(struct unwind_tables *t, struct unwind_entry *e)
{
    TAILQ_REMOVE(&t->idle, e, link);
}

/* Whether so many bytes more could be had: all that is not in use, but for what mappings need. */
static bool tables_can_fit(struct unwind_tables *t, uint64_t bytes)
{
    struct unwind_arena_stats stats;
    uint64_t idle = 0, space = t->limits.max_bytes / TABLES_SPACE_SHARE;
    const struct unwind_entry *i;

    unwind_arena_stats(unwind_room_arena(t->room), &stats);
    TAILQ_FOREACH(i, &t->idle, link)
        idle += i->state == UNWIND_READY ? i->bytes : 0;
    return stats.used_bytes - (idle < stats.used_bytes ? idle : stats.used_bytes) + bytes + space <= stats.max_bytes;
}

/* Gives the room of the table back that was not used for the longest time. False where none is left. */
static bool tables_evict(struct unwind_tables *t)
{
    struct unwind_entry *e;

    TAILQ_FOREACH(e, &t->idle, link) {
        if (e->state != UNWIND_READY)
            continue;
        idle_remove(t, e);
        entry_free(e);
        return true;
    }
    return false;
}

/* The same until so many bytes wait to be freed, or nothing is left to give. */
static void tables_evict_for(struct unwind_tables *t, uint64_t bytes)
{
    struct unwind_arena_stats stats;

    do {
        unwind_arena_stats(unwind_room_arena(t->room), &stats);
    } while (stats.waiting_bytes < bytes && tables_evict(t));
}

static void tables_on_expire(evutil_socket_t fd, short what, void *arg)
{
    struct unwind_tables *t = arg;
    struct unwind_entry *e;
    uint64_t now_ns = monotonic_ns(), keep_ns = t->limits.keep_ns;

    while ((e = TAILQ_FIRST(&t->idle)) && e->idle_since_ns + keep_ns <= now_ns) {
        idle_remove(t, e);
        entry_free(e);
    }
    if (e)
        tables_expire_in(t, e->idle_since_ns + keep_ns - now_ns);
}

/* ---- loading */

static void tables_build_next(struct unwind_tables *t);

static void load_end(struct unwind_entry *e, enum unwind_why why)
{
    struct unwind_tables *t = e->tables;

    TAILQ_REMOVE(&t->loading, e, link);
    t->n_loading--;
    t->waiting = false;
    unwind_load_free(TAKE_PTR(e->load));
    entry_settle(e, why ? UNWIND_NONE : UNWIND_READY, why);
    tables_build_next(t);
}

/* The first of loading found no room. */
static void load_wait(struct unwind_entry *e)
{
    struct unwind_tables *t = e->tables;
    int r = -ENOSPC;

    if (e->tries++ < TABLES_MAX_TRIES && tables_can_fit(t, unwind_load_left_bytes(e->load)))
        r = unwind_tables_make_room(t, unwind_load_left_bytes(e->load));
    t->waiting = r == 0;
    if (r < 0)
        load_end(e, r == -ENOSPC ? UNWIND_WHY_NO_ROOM : UNWIND_WHY_FAILED);
}

static void tables_on_load(evutil_socket_t fd, short what, void *arg)
{
    struct unwind_tables *t = arg;
    struct unwind_entry *e = TAILQ_FIRST(&t->loading);

    if (!e || t->waiting)
        return;
    int r = unwind_load_step(e->load, &e->place);
    if (r == -ENOSPC) {
        load_wait(e);
    } else if (r == 0) {
        load_end(e, 0);
    }
    if (!TAILQ_EMPTY(&t->loading) && !t->waiting)
        event_active(t->load, EV_TIMEOUT, 0);
}

static void tables_on_room(int error, void *userdata)
{
    struct unwind_tables *t = userdata;
    struct unwind_entry *e = TAILQ_FIRST(&t->loading);

    if (t->waiting && error < 0)
        load_end(e, UNWIND_WHY_FAILED);
    t->waiting = false;
    event_active(t->load, EV_TIMEOUT, 0);
    tables_changed(t);
}

static void load_begin(struct unwind_entry *e, const struct worker_result *result)
{
    struct unwind_tables *t = e->tables;
    enum unwind_why why = UNWIND_WHY_TOO_LARGE;

    if (result->body.len <= t->limits.max_bytes / UNWIND_TABLES_TABLE_SHARE) {
        int r = unwind_load_new(unwind_room_arena(t->room), result->body_fd, result->body.len, &e->load);
        why = r == -EBADMSG ? UNWIND_WHY_MALFORMED : UNWIND_WHY_FAILED;
    }
    e->bytes = e->load ? unwind_load_total_bytes(e->load) : 0;
    if (e->load && !tables_can_fit(t, e->bytes)) {
        unwind_load_free(TAKE_PTR(e->load));
        why = UNWIND_WHY_NO_ROOM;
    }
    if (!e->load) {
        entry_settle(e, UNWIND_NONE, why);
        return;
    }
    e->state = UNWIND_LOADING;
    TAILQ_INSERT_TAIL(&t->loading, e, link);
    t->n_loading++;
    event_active(t->load, EV_TIMEOUT, 0);
}

/* ---- building */

static enum unwind_why why_of_result(const struct worker_result *result)
{
    switch (result->blame) {
    case WORKER_BLAME_CRASH:
        return UNWIND_WHY_CRASH;
    case WORKER_BLAME_HANG:
        return UNWIND_WHY_HANG;
    case WORKER_BLAME_MEMORY:
        return UNWIND_WHY_MEMORY;
    case WORKER_BLAME_NOTHING:
        break;
    }
    switch (result->error) {
    case -ENOEXEC:
        return UNWIND_WHY_NOT_ELF;
    case -ENODATA:
        return UNWIND_WHY_NO_CFI;
    case -EFBIG:
        return UNWIND_WHY_TOO_LARGE;
    case -EBADMSG:
        return UNWIND_WHY_MALFORMED;
    default:
        return UNWIND_WHY_FAILED;
    }
}

static void tables_on_done(struct worker_job *job, const struct worker_result *result, void *userdata)
{
    struct unwind_entry *e = userdata;
    struct unwind_tables *t = e->tables;

    e->job = NULL;
    e->cpu_ns = result->cpu_ns;
    e->has_labels = result->has_labels;
    e->labels = result->labels;
    t->n_building--;
    if (result->error == 0)
        load_begin(e, result);
    else
        entry_settle(e, UNWIND_NONE, why_of_result(result));
    tables_build_next(t);
}

static struct unwind_entry *tables_next_queued(struct unwind_tables *t)
{
    struct unwind_entry *e;

    for (size_t i = 0; i < UNWIND_PRIORITIES; i++)
        if ((e = TAILQ_FIRST(&t->queues[i])))
            return e;
    return NULL;
}

static void queue_remove(struct unwind_entry *e)
{
    TAILQ_REMOVE(&e->tables->queues[e->priority], e, link);
    e->tables->n_queued--;
}

static void tables_build_next(struct unwind_tables *t)
{
    static const struct worker_job_ops ops = {.done = tables_on_done};
    struct unwind_entry *e;

    while (t->n_building < t->limits.workers && t->n_loading < TABLES_MAX_LOADING && (e = tables_next_queued(t))) {
        queue_remove(e);
        e->state = UNWIND_BUILDING;
        e->job = worker_pool_table(t->pool, TAKE_FD(e->fd), UNWIND_TABLES_JOB_TIMEOUT_NS, &ops, e);
        if (e->job)
            t->n_building++;
        else
            entry_settle(e, UNWIND_NONE, UNWIND_WHY_FAILED);
        tables_changed(t); /* there is room in the queue */
    }
}

/* ---- entries */

/* Whether it may go well now. */
static bool entry_may_try_again(const struct unwind_entry *e)
{
    if (e->state != UNWIND_NONE)
        return false;
    if (unwind_why_blames_file(e->why))
        return monotonic_ns() - e->settled_ns >= e->tables->limits.keep_ns;
    if (entry_is_lasting(e))
        return false;
    return e->why != UNWIND_WHY_NO_ROOM || tables_can_fit(e->tables, e->bytes);
}

struct unwind_entry *unwind_tables_use(struct unwind_tables *t, const struct file_identity *id, bool again)
{
    struct unwind_entry *e;

    HASH_FIND(hh, t->entries, id, sizeof(*id), e);
    if (e) {
        if (e->refs++ == 0 && entry_is_lasting(e))
            idle_remove(t, e);
        if (again && entry_may_try_again(e)) {
            e->state = UNWIND_WANTED;
            e->tries = 0;
            tables_changed(t);
        }
        return e;
    }
    if (t->n_entries >= UNWIND_TABLES_MAX && (e = TAILQ_FIRST(&t->idle))) {
        idle_remove(t, e);
        entry_free(e);
    }
    e = t->n_entries < UNWIND_TABLES_MAX ? calloc(1, sizeof(*e)) : NULL;
    if (!e)
        return NULL;
    *e = (struct unwind_entry){.id = *id, .tables = t, .fd = -1, .refs = 1, .state = UNWIND_WANTED};
    HASH_ADD(hh, t->entries, id, sizeof(e->id), e);
    t->n_entries++;
    return e;
}

void unwind_tables_drop(struct unwind_tables *t, struct unwind_entry *e)
{
    assert(e->refs > 0);
    if (--e->refs > 0 || e->state == UNWIND_BUILDING || e->state == UNWIND_LOADING)
        return; /* what is begun is finished: the next session will want it */
    if (e->state == UNWIND_QUEUED) {
        queue_remove(e);
        tables_changed(t);
    }
    entry_rest(e);
}

bool unwind_tables_may_claim(const struct unwind_tables *t)
{
    return t->n_queued < UNWIND_TABLES_MAX_QUEUE;
}

uint64_t unwind_tables_share_bytes(const struct unwind_tables *t)
{
    return t->limits.max_bytes / UNWIND_TABLES_SESSION_SHARE;
}

void unwind_tables_claim(struct unwind_tables *t, struct unwind_entry *e, enum unwind_priority priority)
{
    assert(e->state == UNWIND_WANTED && e->refs > 0);
    e->state = UNWIND_CLAIMED;
    e->priority = priority;
}

void unwind_tables_unclaim(struct unwind_tables *t, struct unwind_entry *e)
{
    assert(e->state == UNWIND_CLAIMED);
    e->state = UNWIND_WANTED;
    tables_changed(t);
}

void unwind_tables_give(struct unwind_tables *t, struct unwind_entry *e, int fd)
{
    assert(e->state == UNWIND_CLAIMED && fd >= 0);
    e->fd = fd;
    e->state = UNWIND_QUEUED;
    TAILQ_INSERT_TAIL(&t->queues[e->priority], e, link);
    t->n_queued++;
    tables_build_next(t);
}

/* ---- observers */

void unwind_tables_observe(struct unwind_tables *t, struct unwind_observer *observer)
{
    TAILQ_INSERT_TAIL(&t->observers, observer, link);
}

void unwind_tables_unobserve(struct unwind_tables *t, struct unwind_observer *observer)
{
    TAILQ_REMOVE(&t->observers, observer, link);
}

/* The first that was told is told last the next time: it claims what it can. */
static void tables_on_notify(evutil_socket_t fd, short what, void *arg)
{
    struct unwind_tables *t = arg;
    struct unwind_observer *observer, *next, *first = TAILQ_FIRST(&t->observers);

    if (!first)
        return;
    TAILQ_REMOVE(&t->observers, first, link);
    TAILQ_INSERT_TAIL(&t->observers, first, link);
    for (observer = TAILQ_FIRST(&t->observers); observer; observer = next) {
        next = TAILQ_NEXT(observer, link);
        observer->changed(observer->userdata);
    }
}

/* ---- life */

int unwind_tables_new(struct event_base *base, struct worker_pool *pool, int slabs_map, const struct unwind_tables_limits *limits,
                      struct unwind_tables **ret)
{
    static const struct unwind_room_ops ops = {.changed = tables_on_room};
    struct unwind_tables *t = calloc(1, sizeof(*t));

    if (!t)
        return -ENOMEM;
    t->base = base;
    t->pool = pool;
    TAILQ_INIT(&t->loading);
    TAILQ_INIT(&t->idle);
    TAILQ_INIT(&t->observers);
    for (size_t i = 0; i < UNWIND_PRIORITIES; i++)
        TAILQ_INIT(&t->queues[i]);
    t->notify = event_new(base, -1, 0, tables_on_notify, t);
    t->load = event_new(base, -1, 0, tables_on_load, t);
    t->expire = evtimer_new(base, tables_on_expire, t);
    int r = t->notify && t->load && t->expire ? unwind_room_new(base, slabs_map, limits->max_bytes, &ops, t, &t->room) : -ENOMEM;
    if (r < 0) {
        unwind_tables_free(t);
        return r;
    }
    unwind_tables_set_limits(t, limits);
    *ret = t;
    return 0;
}

void unwind_tables_free(struct unwind_tables *t)
{
    struct unwind_entry *e, *next;

    if (!t)
        return;
    assert(TAILQ_EMPTY(&t->observers));
    HASH_ITER(hh, t->entries, e, next) {
        assert(e->refs == 0);
        entry_free(e);
    }
    unwind_room_free(t->room);
    if (t->notify)
        event_free(t->notify);
    if (t->load)
        event_free(t->load);
    if (t->expire)
        event_free(t->expire);
    free(t);
}

void unwind_tables_set_limits(struct unwind_tables *t, const struct unwind_tables_limits *limits)
{
    struct unwind_arena_stats stats;

    t->limits = *limits;
    unwind_arena_set_max(unwind_room_arena(t->room), limits->max_bytes);
    do {
        unwind_arena_stats(unwind_room_arena(t->room), &stats);
    } while (stats.used_bytes > stats.max_bytes && tables_evict(t));
}

struct unwind_arena *unwind_tables_arena(struct unwind_tables *t)
{
    return unwind_room_arena(t->room);
}

int unwind_tables_make_room(struct unwind_tables *t, uint64_t bytes)
{
    int r = unwind_room_make(t->room, bytes);
    if (r != -ENOSPC)
        return r;
    tables_evict_for(t, bytes);
    return unwind_room_make(t->room, bytes);
}

void unwind_tables_tidy(struct unwind_tables *t)
{
    unwind_room_tidy(t->room);
}

uint64_t unwind_tables_bytes(const struct unwind_tables *t)
{
    struct unwind_arena_stats stats;

    unwind_arena_stats(unwind_room_arena(t->room), &stats);
    return stats.slab_bytes;
}
