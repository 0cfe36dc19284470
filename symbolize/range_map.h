/* Which of many address ranges holds an address, the innermost one where they nest: functions in a unit,
 * inlined calls in a function, symbols in a table. Built once, flat, then searched by bisection. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define RANGE_NONE UINT32_MAX

struct range {
    uint64_t low, high; /* [low, high); empty ones are ignored */
    uint32_t value;     /* anything but RANGE_NONE */
    uint32_t depth;     /* of two that begin together, the deeper is inside; at the same depth the shorter */
};

struct range_map {
    uint64_t *lows;   /* ascending; where values[i] begins, up to lows[i + 1] */
    uint32_t *values; /* or RANGE_NONE */
    size_t n;
};

/* Sorts ranges, and makes *ret from them. Ranges need not nest: the one that begins later covers the
 * other. 0 or -ENOMEM. */
int range_map_build(struct range *ranges, size_t n, struct range_map *ret);
uint32_t range_map_find(const struct range_map *map, uint64_t address);
size_t range_map_bytes(const struct range_map *map);
void range_map_deinit(struct range_map *map);

/* Ranges while they are collected. */
struct range_list {
    struct range *ranges;
    size_t n, room;
};

/* 0, -ENOMEM, or -E2BIG beyond max. Empty ranges are not added. */
int range_list_add(struct range_list *list, struct range range, size_t max);
void range_list_deinit(struct range_list *list);
