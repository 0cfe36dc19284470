/* A bump allocator over blocks of one size; what is larger gets a block of its own. */
#include "symbolize/arena.h"

#include <stdalign.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define ARENA_BLOCK_BYTES 16384u

struct arena_block {
    struct arena_block *next;
    size_t size;
    alignas(max_align_t) unsigned char data[];
};

static struct arena_block *arena_grow(struct arena *a, size_t size)
{
    struct arena_block *block = calloc(1, sizeof(*block) + size);
    if (!block)
        return NULL;
    block->size = size;
    block->next = a->blocks;
    a->blocks = block;
    a->used = 0;
    a->bytes += sizeof(*block) + size;
    return block;
}

void *arena_alloc(struct arena *a, size_t size)
{
    struct arena_block *block = a->blocks;
    if (size > SIZE_MAX / 2)
        return NULL;
    size = (size + alignof(max_align_t) - 1) & ~(alignof(max_align_t) - 1);
    if (!block || size > block->size - a->used)
        block = arena_grow(a, size > ARENA_BLOCK_BYTES ? size : ARENA_BLOCK_BYTES);
    if (!block)
        return NULL;
    void *p = block->data + a->used;
    a->used += size;
    return p;
}

char *arena_strndup(struct arena *a, const char *s, size_t max)
{
    size_t len = strnlen(s, max);
    char *copy = arena_alloc(a, len + 1);
    if (copy)
        memcpy(copy, s, len);
    return copy;
}

void arena_deinit(struct arena *a)
{
    while (a->blocks) {
        struct arena_block *block = a->blocks;
        a->blocks = block->next;
        free(block);
    }
    *a = (struct arena){0};
}
