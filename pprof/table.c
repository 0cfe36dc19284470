/* The hash index. Owns its slots alone; they hold 32 bits of each hash, so that most unequal items are never
 * compared and growing needs no item. */
#include "pprof/table.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#define TABLE_MIN_SLOTS 64

/* The slots count on the low bits, so the high ones are folded in. */
static uint32_t table_fold(uint64_t hash)
{
    return (uint32_t)(hash ^ (hash >> 32));
}

static void table_place(struct table_slot *slots, size_t n_slots, struct table_slot slot)
{
    size_t i = slot.hash & (n_slots - 1);
    while (slots[i].id_plus_1)
        i = (i + 1) & (n_slots - 1);
    slots[i] = slot;
}

uint32_t table_find(const struct table *t, uint64_t hash, table_equal equal, const void *owner,
                    const void *key)
{
    uint32_t folded = table_fold(hash);
    if (t->n_slots == 0)
        return TABLE_NONE;
    for (size_t i = folded & (t->n_slots - 1); t->slots[i].id_plus_1; i = (i + 1) & (t->n_slots - 1)) {
        uint32_t id = t->slots[i].id_plus_1 - 1;
        if (t->slots[i].hash == folded && equal(owner, id, key))
            return id;
    }
    return TABLE_NONE;
}

int table_reserve(struct table *t)
{
    if ((t->n_ids + 1) * 2 <= t->n_slots)
        return 0;
    if (t->n_ids >= TABLE_MAX_IDS)
        return -ENOMEM;
    size_t n_slots = t->n_slots ? t->n_slots * 2 : TABLE_MIN_SLOTS;
    struct table_slot *slots = calloc(n_slots, sizeof(*slots));
    if (!slots)
        return -ENOMEM;
    for (size_t i = 0; i < t->n_slots; i++)
        if (t->slots[i].id_plus_1)
            table_place(slots, n_slots, t->slots[i]);
    free(t->slots);
    t->slots = slots;
    t->n_slots = n_slots;
    return 0;
}

void table_insert(struct table *t, uint64_t hash, uint32_t id)
{
    assert(t->n_ids < t->n_slots && id < TABLE_NONE - 1);
    table_place(t->slots, t->n_slots, (struct table_slot){.hash = table_fold(hash), .id_plus_1 = id + 1});
    t->n_ids++;
}

void table_deinit(struct table *t)
{
    free(t->slots);
    *t = (struct table){0};
}
