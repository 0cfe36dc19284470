/* The list first: its length, then its address, as the runtime itself reads it, since it only grows. Then one goroutine after another:
 * its struct g, what hangs on that, and its struct g again. */
#include "daemon/goroutines.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "daemon/byte_sets.h"
#include "daemon/goroutine_labels.h"
#include "daemon/goroutine_walk.h"
#include "daemon/raw_profile.h"
#include "pprof/vec.h"
#include "util/cleanup.h"
#include "util/clock.h"

#define STATUS_SCAN 0x1000u /* Go's garbage collector holds it */
#define MAX_STACK_BYTES (1ull << 32)
#define DEADLINE_EVERY 64u

struct goroutine_reader {
    const struct goroutine_source *source;
    uint64_t now_ns;
    uint32_t epoch;
    size_t g_bytes; /* of a struct g, as far as it is read */
    uint64_t seed;
    struct byte_sets stacks, labels;
    VEC(struct raw_goroutine) list;
    struct goroutine_counts *counts;
    struct goroutine_walk *walk;
    struct goroutine_labels label_set;
};

static bool read_all(const struct goroutine_source *s, uint64_t address, void *to, size_t len)
{
    return s->read(s->userdata, address, to, len) == (ssize_t)len;
}

static uint64_t word(const uint8_t *g, uint16_t at)
{
    uint64_t value;

    memcpy(&value, g + at, sizeof(value));
    return value;
}

/* ---- the list */

struct goroutine_array {
    uint64_t len, address;
};

static bool read_array(const struct goroutine_source *s, uint64_t len_at, uint64_t address_at, struct goroutine_array *ret)
{
    return read_all(s, len_at + s->bias, &ret->len, sizeof(ret->len)) && read_all(s, address_at + s->bias, &ret->address, sizeof(ret->address))
           && ret->address != 0 && ret->address % GO_WORD_BYTES == 0 && ret->len > 0 && ret->len <= UINT32_MAX;
}

/* Where there are no symbols: a slice (address, length, capacity), and two other words that are its length and address. */
static bool fits_slice(const struct goroutine_source *s, uint64_t slice_at, struct goroutine_array *ret)
{
    const struct go_runtime *r = s->runtime;
    uint64_t slice[3], len_at = 0, address_at = 0, value;

    if (!read_all(s, slice_at + s->bias, slice, sizeof(slice)) || slice[0] == 0 || slice[1] == 0 || slice[1] > slice[2])
        return false;
    for (uint32_t i = 0; i < r->n_candidates; i++) {
        uint64_t at = r->candidates[i];
        if (at - slice_at < sizeof(slice) || !read_all(s, at + s->bias, &value, sizeof(value)))
            continue;
        if (value == slice[1])
            len_at = at;
        else if (value == slice[0])
            address_at = at;
    }
    return len_at && address_at && read_array(s, len_at, address_at, ret);
}

static bool find_array(const struct goroutine_source *s, struct goroutine_array *ret)
{
    const struct go_runtime *r = s->runtime;

    if (r->allglen && r->allgptr)
        return read_array(s, r->allglen, r->allgptr, ret);
    for (unsigned n = 0; n < GOROUTINES_TRIES; n++) /* it may be growing */
        for (uint32_t i = 0; i < r->n_candidates; i++)
            if (fits_slice(s, r->candidates[i], ret))
                return true;
    return false;
}

/* ---- one goroutine */

static uint32_t status_of(const struct goroutine_reader *r, const uint8_t *g)
{
    uint32_t status;

    memcpy(&status, g + r->source->runtime->layout.g_status, sizeof(status));
    return status;
}

static bool is_dead(uint32_t status)
{
    status &= ~STATUS_SCAN;
    return status == GO_IDLE || status == GO_DEAD || status == GO_DEAD_EXTRA;
}

/* What it waits in: where it was parked, or where it entered a system call. False: it runs, or its stack is being moved. */
static bool walk_stack(struct goroutine_reader *r, const uint8_t *g, uint64_t start)
{
    const struct go_layout *l = &r->source->runtime->layout;
    struct goroutine_walk *w = r->walk;
    uint64_t syscall_sp = word(g, l->g_syscallsp);
    uint32_t status = status_of(r, g) & ~STATUS_SCAN;

    if (status == GO_COPYING_STACK || (status == GO_RUNNING && !syscall_sp))
        return false;
    w->source = r->source;
    w->low = word(g, l->g_stack);
    w->high = word(g, l->g_stack + GO_WORD_BYTES);
    w->pc = word(g, syscall_sp ? l->g_syscallpc : l->g_sched_pc);
    w->sp = syscall_sp ? syscall_sp : word(g, l->g_sched_sp);
    w->bp = syscall_sp && l->g_syscallbp ? word(g, l->g_syscallbp) : word(g, l->g_sched_bp);
    w->is_exact = w->pc == start;
    if (w->low >= w->high || w->high - w->low > MAX_STACK_BYTES || w->high % GO_WORD_BYTES)
        return false;
    goroutine_walk(w);
    return true;
}

/* The thread that runs it. */
static uint32_t thread_of(const struct goroutine_reader *r, const uint8_t *g)
{
    uint64_t m = word(g, r->source->runtime->layout.g_m), procid;

    if (m == 0 || !read_all(r->source, m + r->source->runtime->layout.m_procid, &procid, sizeof(procid)))
        return 0;
    return procid <= INT32_MAX ? (uint32_t)procid : 0;
}

static struct raw_goroutine describe(const struct goroutine_reader *r, const uint8_t *g)
{
    const struct go_layout *l = &r->source->runtime->layout;
    struct raw_goroutine ret = {.id = word(g, l->g_goid), .created_at = word(g, l->g_gopc), .start = word(g, l->g_startpc),
                                .labels = RAW_NO_LABELS, .epoch = r->epoch, .status = status_of(r, g) & ~STATUS_SCAN,
                                .reasons = r->source->runtime->reasons, .reason = g[l->g_waitreason]};
    uint64_t since_ns = word(g, l->g_waitsince);
    bool waits = ret.status == GO_WAITING || ret.status == GO_IN_SYSCALL;

    ret.parent = l->g_parent ? word(g, l->g_parent) : 0;
    ret.waited_ns = waits && since_ns && since_ns < r->now_ns ? r->now_ns - since_ns : 0;
    ret.flags = word(g, l->g_lockedm) ? RAW_GOROUTINE_LOCKED : 0;
    return ret;
}

enum reading { READ_STABLE, READ_CHANGED, READ_DEAD, READ_NOTHING };

/* Between two readings of the same struct g. */
static enum reading read_once(struct goroutine_reader *r, uint64_t address, struct raw_goroutine *ret, bool *ret_has_labels)
{
    const struct go_layout *l = &r->source->runtime->layout;
    uint8_t before[GO_G_MAX_BYTES], after[GO_G_MAX_BYTES];

    if (!read_all(r->source, address, before, r->g_bytes))
        return READ_NOTHING;
    if (is_dead(status_of(r, before)))
        return READ_DEAD;
    *ret = describe(r, before);
    bool has_stack = walk_stack(r, before, ret->start);
    uint64_t labels = l->g_labels ? word(before, l->g_labels) : 0;
    *ret_has_labels = labels && goroutine_labels_read(r->source, labels, &r->label_set);
    ret->flags |= (has_stack ? RAW_GOROUTINE_STACK : 0) | (labels && !*ret_has_labels ? RAW_GOROUTINE_UNLABELED : 0);
    ret->tid = ret->status == GO_RUNNING ? thread_of(r, before) : 0;
    if (!read_all(r->source, address, after, r->g_bytes))
        return READ_NOTHING;
    if (ret->status == GO_RUNNING && !has_stack)
        return (status_of(r, after) & ~STATUS_SCAN) == GO_RUNNING && word(after, l->g_goid) == ret->id ? READ_STABLE : READ_CHANGED;
    return has_stack && memcmp(before, after, r->g_bytes) == 0 ? READ_STABLE : READ_CHANGED;
}

/* Its stack is not known: it ran meanwhile. */
static void lose_stack(struct goroutine_reader *r)
{
    r->walk->record = (struct stack_record){.type = RECORD_STACK, .end = STACK_END_RUNNING};
}

static int keep(struct goroutine_reader *r, struct raw_goroutine *g, bool has_labels)
{
    uint64_t offset;
    int e = vec_reserve(&r->list, 1);

    if (e == 0 && (g->flags & RAW_GOROUTINE_STACK)) {
        r->walk->record.stack_hash[0] = r->seed;
        e = byte_sets_add(&r->stacks, &r->walk->record, goroutine_walk_bytes(r->walk), &offset);
        g->stack_hash[0] = r->seed;
        g->stack_hash[1] = offset;
    }
    if (e == 0 && has_labels)
        e = byte_sets_add(&r->labels, r->label_set.data, r->label_set.bytes, &g->labels);
    if (e < 0)
        return e;
    r->counts->read++;
    r->counts->unlabeled += !!(g->flags & RAW_GOROUTINE_UNLABELED);
    vec_push(&r->list, *g);
    return 0;
}

static int read_goroutine(struct goroutine_reader *r, uint64_t address)
{
    struct raw_goroutine g = {0};
    bool has_labels = false;
    enum reading reading = READ_CHANGED;

    for (unsigned n = 0; reading == READ_CHANGED && n < GOROUTINES_TRIES; n++) {
        if (n > 0)
            (void)sched_yield();
        reading = read_once(r, address, &g, &has_labels);
    }
    if (reading == READ_DEAD || reading == READ_NOTHING) {
        *(reading == READ_DEAD ? &r->counts->dead : &r->counts->unread) += 1;
        return 0;
    }
    if (reading == READ_CHANGED) { /* there it is, but how it was is not known of any one moment */
        lose_stack(r);
        g.flags |= RAW_GOROUTINE_STACK | (has_labels ? RAW_GOROUTINE_UNLABELED : 0);
        has_labels = false;
        r->counts->torn++;
    } else if (!(g.flags & RAW_GOROUTINE_STACK)) {
        r->counts->running++;
    }
    return keep(r, &g, has_labels);
}

/* ---- all */

static int read_list(struct goroutine_reader *r, const struct goroutine_array *array)
{
    uint64_t addresses[512], until_ns = monotonic_ns() + GOROUTINES_MAX_READ_NS, most = array->len < GOROUTINES_MAX ? array->len : GOROUTINES_MAX;
    int e = 0;

    r->counts->listed = array->len;
    for (uint64_t at = 0; at < most && e == 0; at += sizeof(addresses) / sizeof(addresses[0])) {
        uint64_t n = most - at < sizeof(addresses) / sizeof(addresses[0]) ? most - at : sizeof(addresses) / sizeof(addresses[0]);
        if (monotonic_ns() > until_ns || !read_all(r->source, array->address + at * GO_WORD_BYTES, addresses, n * GO_WORD_BYTES))
            break;
        for (uint64_t i = 0; i < n && e == 0; i++) {
            if (i % DEADLINE_EVERY == 0 && monotonic_ns() > until_ns)
                break;
            e = read_goroutine(r, addresses[i]);
        }
    }
    r->counts->unread = array->len - r->counts->dead - r->counts->read;
    return e;
}

/* Each stack is known by where it stands. */
static int write_stacks(const struct goroutine_reader *r, struct raw_writer *w)
{
    AUTO_FREE uint8_t *all = byte_sets_join(&r->stacks);
    struct stack_record record;

    if (!all)
        return -ENOMEM;
    for (uint64_t at = 0; at < r->stacks.bytes; at += sizeof(record) + record.n_user * sizeof(record.frames[0])) {
        memcpy(&record, all + at, sizeof(record));
        record.stack_hash[1] = at;
        memcpy(all + at, &record, sizeof(record));
    }
    return raw_writer_section(w, RAW_RECORDS, all, r->stacks.bytes);
}

static int write_labels(const struct goroutine_reader *r, struct raw_writer *w)
{
    AUTO_FREE uint8_t *all = byte_sets_join(&r->labels);

    return all ? raw_writer_section(w, RAW_LABELS, all, r->labels.bytes) : -ENOMEM;
}

static size_t bytes_read_of_g(const struct go_layout *l)
{
    const uint16_t members[] = {l->g_stack + GO_WORD_BYTES, l->g_m, l->g_sched_sp, l->g_sched_pc, l->g_sched_bp, l->g_syscallsp, l->g_syscallpc,
                                l->g_syscallbp, l->g_status, l->g_goid, l->g_waitsince, l->g_waitreason, l->g_lockedm, l->g_parent, l->g_gopc,
                                l->g_startpc, l->g_labels};
    size_t most = 0;

    for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++)
        most = members[i] > most ? members[i] : most;
    return most + GO_WORD_BYTES;
}

int goroutines_read(const struct goroutine_source *source, uint64_t now_ns, uint32_t epoch, struct raw_writer *w, struct goroutine_counts *ret)
{
    struct goroutine_reader r = {.source = source, .now_ns = now_ns, .epoch = epoch, .counts = ret,
                                 .g_bytes = bytes_read_of_g(&source->runtime->layout)};
    AUTO_FREE struct goroutine_walk *walk = malloc(sizeof(*walk));
    struct goroutine_array array;
    int e;

    *ret = (struct goroutine_counts){0};
    if (!walk)
        return -ENOMEM;
    if (!find_array(source, &array))
        return -ENODATA;
    if (getrandom(&r.seed, sizeof(r.seed), GRND_NONBLOCK) < 0)
        r.seed = (uintptr_t)walk ^ now_ns; /* at boot, the layout's randomness is all there is */
    r.walk = walk;
    r.stacks.seed = r.labels.seed = r.seed;
    e = read_list(&r, &array);
    e = e ? e : write_stacks(&r, w);
    e = e ? e : write_labels(&r, w);
    e = e ? e : raw_writer_section(w, RAW_GOROUTINES, r.list.items, r.list.n * sizeof(r.list.items[0]));
    byte_sets_deinit(&r.stacks);
    byte_sets_deinit(&r.labels);
    vec_free(&r.list);
    return e;
}
