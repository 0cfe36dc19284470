/* The table is an array of pointers and, beside it, what was sampled of each. A pointer's place is one of a window of WINDOW slots from where
 * its hash points to, any that is free; it stays there, so that neither removal nor a search needs to know of others. Where a window is full, the
 * next level of the table is used as well, 16 times as large: what has few live pointers touches few pages. */
#include "shim/heap_live.h"

#include <sys/mman.h>

#define WINDOW 64u
#define FIRST_SLOTS 1024u
#define GROWTH_BITS 4
#define MAX_LEVELS 12u
#define NO_SLOT SIZE_MAX

uint8_t heap_filter[HEAP_FILTER_COUNTERS] __attribute__((aligned(64)));

static void **slots;
static struct heap_sampled *infos;
static struct {
    size_t first, mask; /* mask + 1 slots, and WINDOW more behind them */
} levels[MAX_LEVELS];
static size_t n_levels, n_used;

bool heap_live_init(size_t pointers)
{
    size_t wanted = FIRST_SLOTS, room = 0, n = 0;
    while (wanted < 2 * pointers && wanted < SIZE_MAX / 1024)
        wanted *= 2;
    for (size_t size = FIRST_SLOTS; n < MAX_LEVELS; size <<= GROWTH_BITS) {
        size = size < wanted ? size : wanted;
        levels[n].first = room;
        levels[n++].mask = size - 1;
        room += size + WINDOW;
        if (size == wanted)
            break;
    }
    void *map = mmap(NULL, room * (sizeof(*slots) + sizeof(*infos)), PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED)
        return false;
    infos = map;
    slots = (void **)(infos + room);
    n_levels = n;
    n_used = 1;
    return true;
}

static void filter_add(const void *pointer)
{
    uint8_t *counter = &heap_filter[heap_filter_index(pointer)], old = __atomic_load_n(counter, __ATOMIC_RELAXED);
    while (old != HEAP_FILTER_STUCK
           && !__atomic_compare_exchange_n(counter, &old, old + 1, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        ;
}

static void filter_remove(const void *pointer)
{
    uint8_t *counter = &heap_filter[heap_filter_index(pointer)], old = __atomic_load_n(counter, __ATOMIC_RELAXED);
    while (old != HEAP_FILTER_STUCK && old != 0
           && !__atomic_compare_exchange_n(counter, &old, old - 1, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        ;
}

static size_t window_of(const void *pointer, size_t level)
{
    uint64_t hash = ((uint64_t)(uintptr_t)pointer >> 4) * 0x9e3779b97f4a7c15ull;
    return levels[level].first + ((size_t)(hash >> 20) & levels[level].mask);
}

/* The slot in these levels that has the pointer, or NO_SLOT. *ret_free: the first that had none, likewise. */
static size_t find(const void *pointer, size_t from_level, size_t to_level, size_t *ret_free)
{
    *ret_free = NO_SLOT;
    for (size_t level = from_level; level < to_level; level++) {
        size_t first = window_of(pointer, level);
        for (size_t i = first; i < first + WINDOW; i++) {
            const void *there = __atomic_load_n(&slots[i], __ATOMIC_RELAXED);
            if (there == pointer)
                return i;
            if (!there && *ret_free == NO_SLOT)
                *ret_free = i;
        }
    }
    return NO_SLOT;
}

/* One level more than these, unless another thread has begun it by now. False: there is none. */
static bool use_next(size_t used)
{
    if (used == n_levels)
        return false;
    (void)__atomic_compare_exchange_n(&n_used, &used, used + 1, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
    return true;
}

bool heap_live_put(void *pointer, struct heap_sampled sampled)
{
    for (size_t slot, from = 0;;) {
        void *expected = NULL;
        size_t used = __atomic_load_n(&n_used, __ATOMIC_ACQUIRE), same = find(pointer, from, used, &slot);
        if (same != NO_SLOT) { /* its end was not seen: it was freed by a way around us */
            infos[same] = sampled;
            return true;
        }
        if (slot == NO_SLOT) {
            if (!use_next(used))
                return false;
            from = used;
            continue;
        }
        if (!__atomic_compare_exchange_n(&slots[slot], &expected, pointer, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
            continue; /* another thread was faster */
        infos[slot] = sampled; /* nobody else asks for it before its owner has it */
        filter_add(pointer);
        return true;
    }
}

bool heap_live_take(void *pointer, struct heap_sampled *ret)
{
    size_t unused, slot = pointer ? find(pointer, 0, __atomic_load_n(&n_used, __ATOMIC_ACQUIRE), &unused) : NO_SLOT;
    if (slot == NO_SLOT)
        return false;
    struct heap_sampled sampled = infos[slot];
    if (!__atomic_compare_exchange_n(&slots[slot], &pointer, NULL, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
        return false; /* freed twice, by two threads at once: the program's fault */
    filter_remove(pointer);
    *ret = sampled;
    return true;
}

void heap_live_mark(const void *from, size_t bytes)
{
    uintptr_t grain = (uintptr_t)from >> HEAP_FILTER_GRAIN_BITS, last = ((uintptr_t)from + bytes - 1) >> HEAP_FILTER_GRAIN_BITS;
    for (; bytes && grain <= last; grain++)
        __atomic_store_n(&heap_filter[heap_filter_index((const void *)(grain << HEAP_FILTER_GRAIN_BITS))], HEAP_FILTER_STUCK,
                         __ATOMIC_RELAXED);
}
