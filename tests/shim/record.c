/* Stands where readers of the shim's sites would: notes each birth and end, and whether they fit together, in tables of its own (this code runs
 * within malloc, and allocates nothing). Built into a shim whose sites call it (heap_sites.h). At exit it appends a line of JSON to the file
 * that RECORD_FILE names: what was told, what of it is live, and each kind of contradiction. Sizes that are 7 mod 16 are counted by themselves
 * ("marked") from heap_record_begin on: the test's programs ask for no others, and libraries hardly for these, but the loader may before (it keeps
 * the path of the program). */
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shim/heap_sites.h"

#define SLOTS (1u << 22)
#define EXPORTED __attribute__((visibility("default")))

struct live {
    void *pointer;
    size_t bytes;
    uint64_t weight;
    bool marked;
};

struct totals {
    uint64_t allocs, frees, bytes, weight;
};

static struct live table[SLOTS];
static struct totals all, marked;
static uint64_t born_twice, ended_unborn, untracked, no_room;
static bool begun;
static int lock;

static void locked(void)
{
    while (__atomic_exchange_n(&lock, 1, __ATOMIC_ACQUIRE))
        ;
}

static void unlocked(void)
{
    __atomic_store_n(&lock, 0, __ATOMIC_RELEASE);
}

/* The pointer's slot, or the free one where it would be. */
static struct live *slot_of(const void *pointer)
{
    size_t i = (size_t)(((uintptr_t)pointer >> 4) * 0x9e3779b97f4a7c15ull >> 32) % SLOTS;
    while (table[i].pointer && table[i].pointer != pointer)
        i = (i + 1) % SLOTS;
    return &table[i];
}

/* Closes the gap that a removal leaves: what stands behind it may have been pushed there. */
static void close_gap(size_t gap)
{
    for (size_t i = (gap + 1) % SLOTS; table[i].pointer; i = (i + 1) % SLOTS) {
        struct live moved = table[i];
        table[i].pointer = NULL;
        *slot_of(moved.pointer) = moved;
    }
}

static void count(struct totals *totals, size_t bytes, uint64_t weight)
{
    totals->allocs++;
    totals->bytes += bytes;
    totals->weight += weight;
}

void heap_record_alloc(void *pointer, size_t bytes, uint64_t weight)
{
    locked();
    bool is_marked = begun && bytes % 16 == 7;
    count(&all, bytes, weight);
    if (is_marked)
        count(&marked, bytes, weight);
    struct live *slot = slot_of(pointer);
    born_twice += slot->pointer != NULL;
    if (all.allocs - all.frees > SLOTS / 2)
        no_room++;
    else
        *slot = (struct live){pointer, bytes, weight, is_marked};
    unlocked();
}

void heap_record_free(void *pointer)
{
    locked();
    struct live *slot = slot_of(pointer);
    if (!slot->pointer) {
        ended_unborn++;
    } else {
        all.frees++;
        marked.frees += slot->marked;
        slot->pointer = NULL;
        close_gap((size_t)(slot - table));
    }
    unlocked();
}

void heap_record_untracked(size_t bytes, uint64_t weight)
{
    (void)bytes, (void)weight;
    __atomic_fetch_add(&untracked, 1, __ATOMIC_RELAXED);
}

/* Called by programs, where there is a recorder, before they allocate. */
EXPORTED void heap_record_begin(void);

void heap_record_begin(void)
{
    locked();
    begun = true;
    unlocked();
}

/* Called by programs that end without destructors, too. */
EXPORTED void heap_record_report(void);

EXPORTED __attribute__((destructor)) void heap_record_report(void)
{
    char line[1024];
    uint64_t live_bytes = 0, live_weight = 0, live = 0;
    const char *path = getenv("RECORD_FILE");
    int fd = path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
    if (fd < 0)
        return;
    locked();
    for (size_t i = 0; i < SLOTS; i++)
        if (table[i].pointer && table[i].marked) {
            live++;
            live_bytes += table[i].bytes;
            live_weight += table[i].weight;
        }
    unlocked();
    int n = snprintf(line, sizeof(line),
                     "{\"pid\": %d, \"allocs\": %lu, \"frees\": %lu, \"bytes\": %lu, \"weight\": %lu, \"marked_allocs\": %lu, \"marked_bytes\": %lu,"
                     " \"marked_weight\": %lu, \"marked_live\": %lu, \"marked_live_bytes\": %lu, \"marked_live_weight\": %lu, \"born_twice\": %lu,"
                     " \"ended_unborn\": %lu, \"untracked\": %lu, \"no_room\": %lu}\n",
                     (int)getpid(), all.allocs, all.frees, all.bytes, all.weight, marked.allocs, marked.bytes, marked.weight, live, live_bytes,
                     live_weight, born_twice, ended_unborn, untracked, no_room);
    if (write(fd, line, (size_t)n) != n)
        abort();
    (void)close(fd);
}
