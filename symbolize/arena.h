/* Small objects that live and die together: what a module learns of its functions is freed with the
 * module. */
#pragma once

#include <stddef.h>

struct arena_block;

struct arena {
    struct arena_block *blocks; /* newest first */
    size_t used;                /* of the newest */
    size_t bytes;               /* of all */
};

/* Zeroed and aligned for any type; NULL when memory is short. */
void *arena_alloc(struct arena *a, size_t size);
/* A copy of s, of at most max bytes of it. */
char *arena_strndup(struct arena *a, const char *s, size_t max);
void arena_deinit(struct arena *a);
