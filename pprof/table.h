/* An index from hashes to ids: open addressing, linear probing. It knows neither keys nor items: whoever owns
 * the items compares them. Zeroed is empty. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TABLE_NONE UINT32_MAX
#define TABLE_MAX_IDS (1u << 30)

struct table_slot {
    uint32_t hash;
    uint32_t id_plus_1; /* 0: free */
};

struct table {
    struct table_slot *slots;
    size_t n_slots; /* a power of two, or 0 */
    size_t n_ids;
};

/* Whether the item of that id is the one that key describes. */
typedef bool (*table_equal)(const void *owner, uint32_t id, const void *key);

/* The id, or TABLE_NONE. */
uint32_t table_find(const struct table *t, uint64_t hash, table_equal equal, const void *owner,
                    const void *key);
/* Makes room for one more id. 0 or -ENOMEM. */
int table_reserve(struct table *t);
/* Adds an id that is not there yet, where room was made. */
void table_insert(struct table *t, uint64_t hash, uint32_t id);
void table_deinit(struct table *t); /* safe to call twice */
