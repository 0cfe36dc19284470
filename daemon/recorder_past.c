/* Counts of epochs that have ended, moved out of the kernel's table of a standing recorder: next to nothing adds to them any more, and each
 * change of what is mapped would else take new places for the same stacks, until none is left. What is still added takes a place anew, and is
 * moved with the next epoch's. Owns nothing: the recorder does. */
#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>

#include "bpf/heap.h"
#include "daemon/recorder_impl.h"
#include "util/cleanup.h"

/* Of one recorder, and of all: what finds no room stays in the table. */
#define RECORDER_MAX_PAST 262144u
#define RECORDERS_MAX_PAST (4 * RECORDER_MAX_PAST)
/* To go through the table takes some milliseconds: every so many looks, or where something was lost. */
#define RECORDER_TIDY_LOOKS 10

static size_t recorders_past;

static int past_make_room(struct recorder *r, size_t more)
{
    size_t need = r->n_past + more;

    if (need > RECORDER_MAX_PAST || recorders_past + more > RECORDERS_MAX_PAST)
        return -ENOBUFS;
    struct raw_count *past = reallocarray(r->past, need, sizeof(*past));
    if (!past)
        return -ENOMEM;
    r->past = past;
    return 0;
}

/* What was allocated in an epoch is freed in any later one. */
static bool past_goes_on(const struct recorder *r, const struct sample_key *key)
{
    return r->params.event == EVENT_HEAP && key->state == HEAP_COUNT_FREE;
}

/* Out of the n that were read at *keys: those that have ended come first then, and their number is returned. */
static size_t past_select(const struct recorder *r, struct sample_key *keys, struct sample_value *values, size_t n, uint32_t epoch)
{
    size_t n_ended = 0;

    for (size_t i = 0; i < n; i++) {
        if (keys[i].tgid == 0 || keys[i].epoch >= epoch || past_goes_on(r, &keys[i]))
            continue;
        keys[n_ended] = keys[i];
        values[n_ended++] = values[i];
    }
    return n_ended;
}

/* All keys of epochs before this one. Their number, or -errno. */
static ssize_t past_find(const struct recorder *r, uint32_t epoch, struct sample_key *keys, struct sample_value *values)
{
    uint32_t position = 0, n;
    size_t n_found = 0;
    bool first = true;
    int result;

    do {
        n = r->max_keys - (uint32_t)n_found;
        result = bpf_map_lookup_batch(r->counts_fd, first ? NULL : &position, &position, keys + n_found, values + n_found, &n, NULL);
        if (result < 0 && result != -ENOENT)
            return result == -ENOSPC ? (ssize_t)n_found : result; /* no room for what a bucket holds: the next time */
        n_found += past_select(r, keys + n_found, values + n_found, n, epoch);
        first = false;
    } while (result == 0 && n > 0);
    return (ssize_t)n_found;
}

static int past_move(struct recorder *r, uint32_t epoch)
{
    AUTO_FREE struct sample_key *keys = calloc(r->max_keys, sizeof(*keys));
    AUTO_FREE struct sample_value *values = calloc(r->max_keys, sizeof(*values));
    ssize_t n = keys && values ? past_find(r, epoch, keys, values) : -ENOMEM;
    int result = n > 0 ? past_make_room(r, (size_t)n) : 0;

    if (n <= 0 || result < 0)
        return n < 0 ? (int)n : result;
    for (ssize_t i = 0; i < n; i++) {
        struct raw_count *past = &r->past[r->n_past];
        /* As it is now: the wait of a goroutine that began in that epoch may have ended since it was read. */
        if (bpf_map_lookup_and_delete_elem(r->counts_fd, &keys[i], &past->value) < 0)
            continue;
        past->key = keys[i];
        r->n_past++;
        recorders_past++;
    }
    return 0;
}

/* An epoch has ended for certain once a look has seen a later one: a program that began a sample in it is done by the next look. */
void recorder_tidy(struct recorder *r)
{
    const struct session_ctl *ctl = recorder_ctl(r);
    uint32_t ended = r->seen_epoch;
    uint64_t lost = ctl->lost_table;

    r->seen_epoch = __atomic_load_n(&ctl->epoch, __ATOMIC_ACQUIRE);
    r->n_looks++;
    if (ended <= r->tidy_epoch || (lost == r->tidy_lost && r->n_looks < RECORDER_TIDY_LOOKS))
        return;
    r->n_looks = 0;
    r->tidy_lost = lost;
    if (past_move(r, ended) == 0)
        r->tidy_epoch = ended;
}

void recorder_past_free(struct recorder *r)
{
    recorders_past -= r->n_past;
    free(r->past);
}
