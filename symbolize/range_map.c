/* Nested ranges are flattened by one sweep over their sorted beginnings with a stack of those still open.
 * It takes any input, nested or not, in n log n: ranges come from files that somebody else wrote. */
#include "symbolize/range_map.h"

#include <errno.h>
#include <stdlib.h>

#include "util/cleanup.h"

static int range_compare(const void *a, const void *b)
{
    const struct range *x = a, *y = b;
    if (x->low != y->low)
        return x->low < y->low ? -1 : 1;
    if (x->depth != y->depth)
        return x->depth < y->depth ? -1 : 1;
    if (x->high != y->high)
        return x->high > y->high ? -1 : 1;
    return x->value < y->value ? -1 : x->value > y->value;
}

static void range_map_mark(struct range_map *map, uint64_t low, uint32_t value)
{
    if (map->n > 0 && map->lows[map->n - 1] == low) {
        map->values[map->n - 1] = value;
        return;
    }
    if (map->n > 0 && map->values[map->n - 1] == value)
        return;
    map->lows[map->n] = low;
    map->values[map->n++] = value;
}

/* Ends the open ranges that end at or before limit; returns how many stay open. */
static size_t range_map_close(struct range_map *map, const struct range *ranges, const uint32_t *open,
                              size_t n_open, uint64_t limit)
{
    while (n_open > 0 && ranges[open[n_open - 1]].high <= limit) {
        uint64_t end = ranges[open[n_open - 1]].high;
        while (n_open > 0 && ranges[open[n_open - 1]].high <= end)
            n_open--;
        range_map_mark(map, end, n_open > 0 ? ranges[open[n_open - 1]].value : RANGE_NONE);
    }
    return n_open;
}

static void range_map_shrink(struct range_map *map)
{
    uint64_t *lows = reallocarray(map->lows, map->n + 1, sizeof(*lows));
    uint32_t *values = reallocarray(map->values, map->n + 1, sizeof(*values));
    map->lows = lows ? lows : map->lows;
    map->values = values ? values : map->values;
}

int range_map_build(struct range *ranges, size_t n, struct range_map *ret)
{
    CLEANUP(range_map_deinit) struct range_map map = {0};
    AUTO_FREE uint32_t *open = NULL;
    size_t n_open = 0;
    if (n == 0) {
        *ret = map;
        return 0;
    }
    if (n >= UINT32_MAX)
        return -ENOMEM;
    map.lows = calloc(2 * n, sizeof(*map.lows));
    map.values = calloc(2 * n, sizeof(*map.values));
    open = calloc(n, sizeof(*open));
    if (!map.lows || !map.values || !open)
        return -ENOMEM;
    qsort(ranges, n, sizeof(*ranges), range_compare);
    for (size_t i = 0; i < n; i++) {
        if (ranges[i].low >= ranges[i].high)
            continue;
        n_open = range_map_close(&map, ranges, open, n_open, ranges[i].low);
        range_map_mark(&map, ranges[i].low, ranges[i].value);
        open[n_open++] = (uint32_t)i;
    }
    (void)range_map_close(&map, ranges, open, n_open, UINT64_MAX);
    range_map_shrink(&map);
    *ret = map;
    map = (struct range_map){0};
    return 0;
}

uint32_t range_map_find(const struct range_map *map, uint64_t address)
{
    size_t low = 0, high = map->n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (map->lows[middle] <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low > 0 ? map->values[low - 1] : RANGE_NONE;
}

size_t range_map_bytes(const struct range_map *map)
{
    return map->n * (sizeof(*map->lows) + sizeof(*map->values));
}

void range_map_deinit(struct range_map *map)
{
    free(map->lows);
    free(map->values);
    *map = (struct range_map){0};
}

int range_list_add(struct range_list *list, struct range range, size_t max)
{
    if (range.low >= range.high)
        return 0;
    if (list->n >= max)
        return -E2BIG;
    if (list->n == list->room) {
        size_t room = list->room ? 2 * list->room : 64;
        struct range *grown = reallocarray(list->ranges, room, sizeof(*grown));
        if (!grown)
            return -ENOMEM;
        list->ranges = grown;
        list->room = room;
    }
    list->ranges[list->n++] = range;
    return 0;
}

void range_list_deinit(struct range_list *list)
{
    free(list->ranges);
    *list = (struct range_list){0};
}
