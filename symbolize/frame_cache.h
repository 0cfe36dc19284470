/* What was found at an offset, so that the next profile of the same code finds it with one look. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "symbolize/arena.h"
#include "symbolize/symbolizer.h"

struct frame_cache_entry;

/* Zeroed: empty. Its frames are in the module's arena. */
struct frame_cache {
    struct frame_cache_entry *entries;
    size_t n, room; /* room: a power of two, or 0 */
};

/* Copies what is known of an offset into out. Returns how many frames, or -1: nothing was remembered. */
int frame_cache_find(const struct frame_cache *cache, uint64_t offset,
                     struct symbol_frame out[SYMBOL_MAX_INLINED]);
/* Remembers; where memory is short or the cache is full it doesn't, which costs time alone. */
void frame_cache_add(struct frame_cache *cache, struct arena *arena, uint64_t offset,
                     const struct symbol_frame *frames, size_t n);
size_t frame_cache_bytes(const struct frame_cache *cache);
void frame_cache_deinit(struct frame_cache *cache);
