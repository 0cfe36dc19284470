/* Lookup of addresses among up to 100,000 mappings, which overlap where they are of different epochs. */
#include "daemon/address_map.h"

#include <errno.h>
#include <stdlib.h>

static int address_map_compare(const void *a, const void *b, void *arg)
{
    const struct raw_mapping *mappings = arg;
    uint32_t i = *(const uint32_t *)a, j = *(const uint32_t *)b;

    if (mappings[i].start != mappings[j].start)
        return mappings[i].start < mappings[j].start ? -1 : 1;
    return i < j ? -1 : i > j;
}

static uint64_t address_map_fill(struct address_map *map, size_t low, size_t high)
{
    if (low >= high)
        return 0;
    size_t middle = low + (high - low) / 2;
    uint64_t left = address_map_fill(map, low, middle), right = address_map_fill(map, middle + 1, high);
    uint64_t end = map->mappings[map->order[middle]].end;
    end = left > end ? left : end;
    end = right > end ? right : end;
    return map->max_end[middle] = end;
}

int address_map_init(struct address_map *map, const struct raw_mapping *mappings, size_t n)
{
    *map = (struct address_map){.mappings = mappings, .n = n};
    if (n == 0)
        return 0;
    map->order = malloc(n * sizeof(*map->order));
    map->max_end = malloc(n * sizeof(*map->max_end));
    if (!map->order || !map->max_end) {
        address_map_deinit(map);
        return -ENOMEM;
    }
    for (size_t i = 0; i < n; i++)
        map->order[i] = (uint32_t)i;
    qsort_r(map->order, n, sizeof(*map->order), address_map_compare, (void *)mappings);
    (void)address_map_fill(map, 0, n);
    return 0;
}

void address_map_deinit(struct address_map *map)
{
    free(map->order);
    free(map->max_end);
    *map = (struct address_map){0};
}

/* How many epochs a mapping is away. */
static uint32_t address_map_distance(const struct raw_mapping *m, uint32_t epoch)
{
    if (epoch < m->first_epoch)
        return m->first_epoch - epoch;
    return epoch > m->last_epoch ? epoch - m->last_epoch : 0;
}

struct address_search {
    uint64_t address;
    uint32_t epoch;
    uint32_t found, distance; /* the best so far */
};

static void address_map_search(const struct address_map *map, size_t low, size_t high,
                               struct address_search *s)
{
    if (low >= high || (s->found != ADDRESS_MAP_NONE && s->distance == 0))
        return;
    size_t middle = low + (high - low) / 2;
    if (map->max_end[middle] <= s->address)
        return;
    address_map_search(map, low, middle, s);
    const struct raw_mapping *m = &map->mappings[map->order[middle]];
    if (m->start > s->address)
        return;
    uint32_t distance = address_map_distance(m, s->epoch);
    if (s->address < m->end && (s->found == ADDRESS_MAP_NONE || distance < s->distance)) {
        s->found = map->order[middle];
        s->distance = distance;
    }
    address_map_search(map, middle + 1, high, s);
}

uint32_t address_map_find(const struct address_map *map, uint64_t address, uint32_t epoch)
{
    struct address_search search = {.address = address, .epoch = epoch, .found = ADDRESS_MAP_NONE};

    address_map_search(map, 0, map->n, &search);
    return search.found;
}
