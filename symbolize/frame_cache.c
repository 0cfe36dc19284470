/* A hash table with open addressing, at most half full, that only grows: it goes with its module. */
#include "symbolize/frame_cache.h"

#include <stdlib.h>
#include <string.h>

/* Distinct offsets of one file in profiles are some thousands; 64 Ki of them are about 15 MB. */
#define FRAME_CACHE_MAX_ENTRIES 65536u

struct frame_cache_entry {
    uint64_t offset;
    const struct symbol_frame *frames; /* NULL: a free place */
    size_t n;
};

static struct frame_cache_entry *frame_cache_place(const struct frame_cache *cache, uint64_t offset)
{
    size_t i = (offset * 0x9e3779b97f4a7c15ull) >> 32;
    for (;; i++) {
        struct frame_cache_entry *entry = &cache->entries[i & (cache->room - 1)];
        if (!entry->frames || entry->offset == offset)
            return entry;
    }
}

int frame_cache_find(const struct frame_cache *cache, uint64_t offset,
                     struct symbol_frame out[SYMBOL_MAX_INLINED])
{
    if (cache->n == 0)
        return -1;
    const struct frame_cache_entry *entry = frame_cache_place(cache, offset);
    if (!entry->frames)
        return -1;
    memcpy(out, entry->frames, entry->n * sizeof(*out));
    return (int)entry->n;
}

static bool frame_cache_grow(struct frame_cache *cache)
{
    struct frame_cache grown = {.n = cache->n, .room = cache->room ? 2 * cache->room : 256};
    grown.entries = calloc(grown.room, sizeof(*grown.entries));
    if (!grown.entries)
        return false;
    for (size_t i = 0; i < cache->room; i++)
        if (cache->entries[i].frames)
            *frame_cache_place(&grown, cache->entries[i].offset) = cache->entries[i];
    free(cache->entries);
    *cache = grown;
    return true;
}

void frame_cache_add(struct frame_cache *cache, struct arena *arena, uint64_t offset,
                     const struct symbol_frame *frames, size_t n)
{
    if (cache->n >= FRAME_CACHE_MAX_ENTRIES || (2 * (cache->n + 1) > cache->room && !frame_cache_grow(cache)))
        return;
    struct symbol_frame *copy = arena_alloc(arena, (n ? n : 1) * sizeof(*copy));
    if (!copy)
        return;
    memcpy(copy, frames, n * sizeof(*copy));
    *frame_cache_place(cache, offset) = (struct frame_cache_entry){offset, copy, n};
    cache->n++;
}

size_t frame_cache_bytes(const struct frame_cache *cache)
{
    return cache->room * sizeof(*cache->entries);
}

void frame_cache_deinit(struct frame_cache *cache)
{
    free(cache->entries);
    *cache = (struct frame_cache){0};
}
