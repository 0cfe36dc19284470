/* Which mapping of a target an address was in, at an epoch (bpf/sample.h). */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "daemon/raw_profile.h"

#define ADDRESS_MAP_NONE UINT32_MAX

/* An interval tree laid over the array of mappings in the order of their starts: the middle of a range is its
 * root. */
struct address_map {
    const struct raw_mapping *mappings;
    uint32_t *order;   /* indices of mappings, by start */
    uint64_t *max_end; /* of the subtree that has this place as its root */
    size_t n;
};

/* mappings is borrowed. 0 or -ENOMEM. */
int address_map_init(struct address_map *map, const struct raw_mapping *mappings, size_t n);
void address_map_deinit(struct address_map *map);
/* The index of the mapping that covers address at epoch; else of the one nearest in epoch that covers it (the
 * snapshots that the epochs come from are never exactly as old as the sample); else ADDRESS_MAP_NONE. */
uint32_t address_map_find(const struct address_map *map, uint64_t address, uint32_t epoch);
