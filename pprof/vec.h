/* Arrays that grow by doubling: VEC(struct line) lines; items[0 .. n). Zeroed is empty. */
#pragma once

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

#define VEC(type)       \
    struct {            \
        type *items;    \
        size_t n, cap;  \
    }

/* items, or where they moved to, with room for more beyond n; NULL: no memory, and items are still there. */
static inline void *vec_grow(void *items, size_t *cap, size_t n, size_t more, size_t item_bytes)
{
    size_t need, doubled = *cap < 8 ? 16 : *cap * 2;
    if (__builtin_add_overflow(n, more, &need))
        return NULL;
    if (items && need <= *cap)
        return items;
    if (need < doubled)
        need = doubled;
    void *grown = reallocarray(items, need, item_bytes);
    if (grown)
        *cap = need;
    return grown;
}

/* Makes room for so many more items. 0 or -ENOMEM. */
#define vec_reserve(v, more)                                                                        \
    ({                                                                                              \
        void *_grown = vec_grow((v)->items, &(v)->cap, (v)->n, (more), sizeof(*(v)->items));        \
        if (_grown)                                                                                 \
            (v)->items = _grown;                                                                    \
        _grown ? 0 : -ENOMEM;                                                                       \
    })

/* Adds an item where room was made. */
#define vec_push(v, item) ((void)((v)->items[(v)->n++] = (item)))

#define vec_free(v)            \
    do {                       \
        free((v)->items);      \
        (v)->items = NULL;     \
        (v)->n = (v)->cap = 0; \
    } while (0)
