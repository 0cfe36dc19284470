/* The table is an array of pointers and, beside it, what was sampled of each. A pointer's place is one of a window of WINDOW slots from where
 * its hash points to, any that is free; it stays there, so that neither removal nor a search needs to know of others. */
#include "shim/heap_live.h"

#include <sys/mman.h>

#define WINDOW 64u

uint8_t heap_filter[HEAP_FILTER_COUNTERS] __attribute__((aligned(64)));

static void **slots;
static struct heap_sampled *infos;
static size_t n_slots; /* a power of two, and WINDOW more behind it */

bool heap_live_init(size_t pointers)
{
    size_t wanted = 1024;
    while (wanted < 2 * pointers && wanted < SIZE_MAX / 1024)
        wanted *= 2;
    size_t room = wanted + WINDOW;
    void *map = mmap(NULL, room * (sizeof(*slots) + sizeof(*infos)), PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED)
        return false;
    infos = map;
    slots = (void **)(infos + room);
    n_slots = wanted;
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

static size_t window_of(const void *pointer)
{
    uint64_t hash = ((uint64_t)(uintptr_t)pointer >> 4) * 0x9e3779b97f4a7c15ull;
    return (size_t)(hash >> 20) & (n_slots - 1);
}

/* The slot that has the pointer; n_slots + WINDOW where none has. *ret_free: the first that had none, likewise. */
static size_t find(const void *pointer, size_t *ret_free)
{
    size_t first = window_of(pointer), none = n_slots + WINDOW;
    *ret_free = none;
    for (size_t i = first; i < first + WINDOW; i++) {
        const void *there = __atomic_load_n(&slots[i], __ATOMIC_RELAXED);
        if (there == pointer)
            return i;
        if (!there && *ret_free == none)
            *ret_free = i;
    }
    return none;
}

bool heap_live_put(void *pointer, struct heap_sampled sampled)
{
    size_t slot, none = n_slots + WINDOW;
    while (n_slots) {
        void *expected = NULL;
        size_t same = find(pointer, &slot);
        if (same != none) { /* its end was not seen: it was freed by a way around us */
            infos[same] = sampled;
            return true;
        }
        if (slot == none)
            return false;
        if (!__atomic_compare_exchange_n(&slots[slot], &expected, pointer, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
            continue; /* another thread was faster */
        infos[slot] = sampled; /* nobody else asks for it before its owner has it */
        filter_add(pointer);
        return true;
    }
    return false;
}

bool heap_live_take(void *pointer, struct heap_sampled *ret)
{
    size_t unused, slot = n_slots && pointer ? find(pointer, &unused) : WINDOW + n_slots;
    if (slot == n_slots + WINDOW)
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
