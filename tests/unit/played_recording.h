/* A recording of a played target, on a server of its own with workers that do as the "files" say (fault_worker.c): what the BPF programs find
 * in the end is read by their own search. For one test program each: all of it is static. */
#pragma once

#include <check.h>
#include <event2/event.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "bpf/unwind_arena.h"
#include "daemon/log.h"
#include "daemon/recording_impl.h"
#include "daemon/server.h"

#define LONG_NS (600 * NSEC_PER_SEC)

static const char *fault_worker;
static struct server server;

static const __u8 *stack_chunk(__u32 place)
{
    return place ? (const __u8 *)unwind_arena_at(unwind_tables_arena(server.tables), place) - UNWIND_PLACE_OFFSET(place) : NULL;
}

static struct stack_cached *stack_cache(__u32 index)
{
    return NULL;
}
#include "bpf/stack_tables.h"
#include "tests/unit/played_target.h"

/* ---- the recording */

static void on_message(struct child *c, const void *data, size_t len, int *fds, size_t n_fds, void *userdata)
{
    const struct collector_message *m = data;
    recording_unwind_on_object(userdata, m->u.object.error, n_fds ? fds[0] : -1);
}

static void on_ended(struct child *c, bool timed_out, uint64_t cpu_ns, void *userdata)
{
    struct recording *rec = userdata;
    rec->collector = NULL;
    recording_unwind_on_collector_gone(rec);
}

static struct recording *recording_begin(uint32_t slot)
{
    struct recording *rec = calloc(1, sizeof(*rec));

    rec->server = &server;
    rec->slot = slot;
    rec->recorder = (struct recorder *)rec; /* is there: nothing looks into it */
    rec->tell = evtimer_new(server.base, recording_on_tell, rec);
    ck_assert_ptr_nonnull(rec->tell);
    ck_assert_int_eq(recording_unwind_init(rec), 0);
    return rec;
}

static void recording_end(struct recording *rec)
{
    child_kill(rec->collector);
    event_free(rec->tell);
    recording_unwind_deinit(rec);
    ck_assert_uint_eq(server.sampler.ctl[rec->slot].space, 0);
    free(rec);
}

static void once(void)
{
    ck_assert_int_eq(event_base_loop(server.base, EVLOOP_ONCE), 0);
}

static void wait_ready(struct recording *rec)
{
    while (!recording_unwind_is_ready(rec))
        once();
}

/* Until each file has its table, or will have none, and the programs know it: however long that takes. */
static void wait_settled(struct recording *rec)
{
    const struct recording_unwind *u = &rec->unwind;
    bool settled = false;

    while (!settled) {
        settled = u->listed && !recording_unwind_is_due(u);
        for (size_t i = 0; i < u->n_uses; i++)
            settled = settled && (recording_use_why(&u->uses[i]) || u->uses[i].entry->state == UNWIND_READY);
        if (!settled)
            once();
    }
    ck_assert(recording_unwind_is_ready(rec));
}

/* The collector knows the scripts that there are at the first list. */
static void tell(struct recording *rec, uint32_t exec_epoch, const struct mapped *mapped, size_t n)
{
    static const struct child_ops ops = {.message = on_message, .ended = on_ended};

    if (!rec->collector)
        ck_assert_int_eq(child_spawn(server.base, play_collector, NULL, NULL, 0, 0, &ops, rec, &rec->collector), 0);
    struct collector_message m = {.u.mappings = {.epoch = exec_epoch, .exec_epoch = exec_epoch}};
    recording_unwind_on_mappings(rec, &m, list_fd(mapped, n));
}

static void setup(void)
{
    struct worker_limits worker_limits = {
        .workers = 2, .memory_bytes = 256 << 20, .cache_bytes = 1 << 20, .job_timeout_ns = LONG_NS, .executable = fault_worker,
    };
    struct unwind_tables_limits limits = {.max_bytes = 16 << 20, .workers = 2, .keep_ns = LONG_NS};

    log_set_level(LOG_LEVEL_ERROR);
    memset(scripts, 0, sizeof(scripts));
    server = (struct server){.base = event_base_new()};
    server.sampler.ctl = calloc(CPROFD_MAX_SESSIONS, sizeof(struct session_ctl));
    ck_assert_int_eq(worker_pool_new(server.base, &worker_limits, &server.pool), 0);
    ck_assert_int_eq(unwind_tables_new(server.base, server.pool, -1, &limits, &server.tables), 0);
}

static void teardown(void)
{
    unwind_tables_free(server.tables);
    worker_pool_free(server.pool);
    child_kill_all();
    event_base_free(server.base);
    free(server.sampler.ctl);
    libevent_global_shutdown();
}

/* What a walker of the recording finds at an address: enum unwind_mapping_kind; 0: no mapping. */
static uint32_t kind_at(const struct recording *rec, uint64_t address)
{
    struct stack_walk *walk = calloc(1, sizeof(*walk));
    uint64_t space = server.sampler.ctl[rec->slot].space;

    ck_assert_uint_ne(space, 0);
    walk->space = (uint32_t)space;
    uint32_t kind = stack_find_mapping(walk, address) ? walk->mapping.kind : 0;
    if (kind == UNWIND_MAPPING_TABLE) { /* the table is one */
        walk->mapping.offset = 0;
        (void)stack_find_rule(walk, walk->mapping.start);
        ck_assert_uint_ne(walk->rule, 0);
    }
    free(walk);
    return kind;
}

static void wait_kind(const struct recording *rec, uint64_t address, uint32_t kind)
{
    while (!server.sampler.ctl[rec->slot].space || kind_at(rec, address) != kind)
        once();
}

#define TELL(rec, epoch, ...) \
    tell(rec, epoch, (struct mapped[]){__VA_ARGS__}, sizeof((struct mapped[]){__VA_ARGS__}) / sizeof(struct mapped))
