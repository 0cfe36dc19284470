/* Joins pairs of stacks. Owns the index of stacks while it does. */
#include "daemon/stack_pairs.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "bpf/sched_state.h"
#include "daemon/recorder_impl.h"

/* Where a stack is among the records, which may move. */
struct known_stack {
    uint64_t hash[2];
    size_t at;
    UT_hash_handle hh;
};

static struct stack_record *record_at(const struct recorder *r, size_t at)
{
    return (struct stack_record *)(void *)(r->records + at);
}

static int known_add(struct known_stack **known, const struct stack_record *record, size_t at)
{
    struct known_stack *k = calloc(1, sizeof(*k));

    if (!k)
        return -ENOMEM;
    memcpy(k->hash, record->stack_hash, sizeof(k->hash));
    k->at = at;
    HASH_ADD(hh, *known, hash, sizeof(k->hash), k);
    if (k->hh.tbl)
        return 0;
    free(k);
    return -ENOMEM;
}

static const struct stack_record *known_find(const struct recorder *r, struct known_stack *known, const uint64_t hash[2])
{
    struct known_stack *k;

    HASH_FIND(hh, known, hash, sizeof(k->hash), k);
    return k ? record_at(r, k->at) : NULL;
}

/* A frame by itself: of a return address the call before it. */
static uint64_t own_frame(const struct stack_record *stack, size_t i)
{
    uint64_t frame = stack->frames[i], flags = frame & (STACK_FRAME_GUESSED | STACK_FRAME_FP), address = STACK_FRAME_ADDRESS(frame);
    bool exact = i == stack->n_kernel || (frame & STACK_FRAME_EXACT) || address == 0;

    return STACK_FRAME(exact ? address : address - 1, flags | STACK_FRAME_EXACT);
}

static size_t join_frames(const struct stack_record *waiter, const struct stack_record *waker, uint64_t *ret_frames)
{
    size_t n = 0;

    for (size_t i = waker ? waker->n_user : 0; i > 0; i--)
        ret_frames[n++] = own_frame(waker, waker->n_kernel + i - 1);
    ret_frames[n++] = waker ? STACK_FRAME_WOKEN : STACK_FRAME_WOKEN_FROM_OUTSIDE;
    for (size_t i = 0; i < waiter->n_user; i++)
        ret_frames[n++] = own_frame(waiter, waiter->n_kernel + i);
    return n;
}

/* The pair's hash becomes its whole stack's. */
static int join_pair(struct recorder *r, struct known_stack *known, size_t at)
{
    struct stack_record *pair = record_at(r, at), whole = *pair;
    uint64_t hashes[4], frames[2 * SCHED_MAX_FRAMES + 3 + LABELS_MAX_WORDS];

    memcpy(hashes, pair->frames, sizeof(hashes));
    memset(pair->stack_hash, 0, sizeof(pair->stack_hash));
    const struct stack_record *waiter = known_find(r, known, hashes), *waker = known_find(r, known, hashes + 2);
    if (!waiter || waiter->n_user > SCHED_MAX_FRAMES + 1 || waiter->label_words > LABELS_MAX_WORDS || (waker && waker->n_user > SCHED_MAX_FRAMES + 1))
        return 0;
    size_t n = join_frames(waiter, waker, frames);
    whole.n_user = (uint16_t)n;
    whole.label_words = waiter->label_words;
    whole.label_state = waiter->label_state;
    whole.end = waiter->end;
    memcpy(frames + n, waiter->frames + waiter->n_kernel + waiter->n_user, waiter->label_words * sizeof(uint64_t));
    n += waiter->label_words;
    uint8_t *room = recorder_reserve(r, sizeof(whole) + n * sizeof(uint64_t));
    if (!room)
        return 0;
    memcpy(room, &whole, sizeof(whole));
    memcpy(room + sizeof(whole), frames, n * sizeof(uint64_t));
    return 0;
}

static bool is_pair(const struct stack_record *record)
{
    return record->type == RECORD_STACK && record->end == STACK_END_PAIR && record->n_user == 4 && record->n_kernel == 0;
}

int stack_pairs_join(struct recorder *r)
{
    struct known_stack *known = NULL, *k, *next;
    size_t end = r->records_len, bytes = 1;
    int e = 0;

    for (size_t at = 0; e == 0 && at < end && bytes > 0; at += bytes) {
        const struct stack_record *record = record_at(r, at);
        bytes = recorder_record_bytes(record);
        if (record->type == RECORD_STACK && !is_pair(record))
            e = known_add(&known, record, at);
    }
    bytes = 1;
    for (size_t at = 0; e == 0 && at < end && bytes > 0; at += bytes) {
        bytes = recorder_record_bytes(record_at(r, at));
        if (is_pair(record_at(r, at)))
            e = join_pair(r, known, at);
    }
    HASH_ITER(hh, known, k, next) {
        HASH_DEL(known, k);
        free(k);
    }
    return e;
}
