/* Slabs and the room in them. Owns each slab's map, its mapping and the bits that say what of it is taken.
 *
 * Room is given out in granules of 64 bytes, first fit from the lowest slab on, so that the highest ones become empty. What was put back
 * keeps its place taken until the round that began after it has ended. */
#include "bpf/unwind_arena.h"

#include <assert.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "util/cleanup.h"

#define GRANULE_BYTES 64u
#define GRANULES (UNWIND_CHUNK_BYTES / GRANULE_BYTES) /* in a chunk */
#define GRANULE_WORDS (GRANULES / 64)
#define NO_SLOT UINT32_MAX

struct chunk {
    uint64_t taken[GRANULE_WORDS], waiting[GRANULE_WORDS], sealed[GRANULE_WORDS]; /* waiting, sealed: put back, and still taken */
    unsigned longest; /* no free run is longer */
};

enum slab_state {
    SLAB_COMING = 1, /* programs don't find it yet */
    SLAB_THERE,
    SLAB_GOING,      /* empty, and nothing is taken from it any more */
};

struct slab {
    enum slab_state state;
    bool in_round;
    int fd;
    uint8_t *base;
    unsigned longest;                      /* no free run is longer */
    uint64_t n_taken, n_waiting, n_sealed; /* granules; taken counts them all */
    struct chunk chunks[UNWIND_SLAB_CHUNKS];
};

struct unwind_arena {
    int slabs_map;
    uint32_t max_slabs, n_slabs;
    struct slab *slabs[UNWIND_MAX_SLABS];
    bool in_round;
};

/* ---- bits */

/* The first granule from `from` on whose bit is as wanted; GRANULES where none is. */
static unsigned next_bit(const uint64_t *bits, unsigned from, bool set)
{
    while (from < GRANULES) {
        uint64_t word = (set ? bits[from / 64] : ~bits[from / 64]) >> from % 64;
        if (word)
            return from + (unsigned)__builtin_ctzll(word);
        from = (from / 64 + 1) * 64;
    }
    return GRANULES;
}

static void set_bits(uint64_t *bits, unsigned first, unsigned n, bool set)
{
    for (unsigned i = first; i < first + n; i++) {
        if (set)
            bits[i / 64] |= 1ull << i % 64;
        else
            bits[i / 64] &= ~(1ull << i % 64);
    }
}

static unsigned granules_of(size_t bytes)
{
    return (unsigned)((bytes + GRANULE_BYTES - 1) / GRANULE_BYTES);
}

/* The first free run of n in a chunk: 0 with its beginning, or -ENOSPC. */
static int chunk_find(struct chunk *c, unsigned n, unsigned *ret_first)
{
    unsigned longest = 0;

    if (n > c->longest)
        return -ENOSPC;
    for (unsigned first = next_bit(c->taken, 0, false); first < GRANULES;) {
        unsigned end = next_bit(c->taken, first, true);
        if (end - first >= n) {
            *ret_first = first;
            return 0;
        }
        if (end - first > longest)
            longest = end - first;
        first = next_bit(c->taken, end, false);
    }
    c->longest = longest;
    return -ENOSPC;
}

/* ---- slabs */

static void slab_free(struct slab *slab)
{
    close_fd(&slab->fd);
    if (slab->base)
        (void)munmap(slab->base, UNWIND_SLAB_BYTES);
    free(slab);
}

static void cleanup_slab(struct slab **slab)
{
    if (*slab)
        slab_free(*slab);
}

/* Something became free. */
static void slab_forget_longest(struct slab *slab)
{
    slab->longest = GRANULES;
    for (size_t i = 0; i < UNWIND_SLAB_CHUNKS; i++)
        slab->chunks[i].longest = GRANULES;
}

static int slab_map(struct slab *slab, int slabs_map)
{
    LIBBPF_OPTS(bpf_map_create_opts, opts, .map_flags = BPF_F_MMAPABLE);
    int flags = MAP_SHARED;

    if (slabs_map < 0) {
        flags |= MAP_ANONYMOUS;
    } else {
        slab->fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "unwind_slab", sizeof(uint32_t), UNWIND_CHUNK_BYTES, UNWIND_SLAB_CHUNKS, &opts);
        if (slab->fd < 0)
            return -errno;
    }
    void *base = mmap(NULL, UNWIND_SLAB_BYTES, PROT_READ | PROT_WRITE, flags, slab->fd, 0);
    if (base == MAP_FAILED)
        return -errno;
    slab->base = base;
    /* Children have no business with it, and each fork would copy its page tables. */
    (void)madvise(base, UNWIND_SLAB_BYTES, MADV_DONTFORK);
    return 0;
}

static int slab_new(struct unwind_arena *a, uint32_t slot)
{
    CLEANUP(cleanup_slab) struct slab *slab = calloc(1, sizeof(*slab));
    if (!slab)
        return -ENOMEM;
    slab->fd = -1;
    slab->state = SLAB_COMING;
    int r = slab_map(slab, a->slabs_map);
    if (r < 0)
        return r;
    slab_forget_longest(slab);
    if (slot == 0)
        set_bits(slab->chunks[0].taken, 0, 1, true); /* place 0 means none */
    a->slabs[slot] = TAKE_PTR(slab);
    a->n_slabs++;
    return 0;
}

static void slab_remove(struct unwind_arena *a, uint32_t slot)
{
    slab_free(a->slabs[slot]);
    a->slabs[slot] = NULL;
    a->n_slabs--;
}

static uint64_t slab_room(const struct slab *slab)
{
    return UNWIND_SLAB_BYTES - slab->n_taken * GRANULE_BYTES;
}

/* ---- the arena */

int unwind_arena_new(int slabs_map, uint64_t max_bytes, struct unwind_arena **ret)
{
    struct unwind_arena *a = calloc(1, sizeof(*a));
    if (!a)
        return -ENOMEM;
    a->slabs_map = slabs_map;
    unwind_arena_set_max(a, max_bytes);
    *ret = a;
    return 0;
}

void unwind_arena_free(struct unwind_arena *a)
{
    if (!a)
        return;
    for (uint32_t slot = 0; slot < UNWIND_MAX_SLABS; slot++)
        if (a->slabs[slot])
            slab_remove(a, slot);
    free(a);
}

void unwind_arena_set_max(struct unwind_arena *a, uint64_t max_bytes)
{
    uint64_t slabs = max_bytes >> UNWIND_SLAB_SHIFT;

    a->max_slabs = slabs < 1 ? 1 : slabs > UNWIND_MAX_SLABS ? UNWIND_MAX_SLABS : (uint32_t)slabs;
}

static bool slab_find(struct slab *slab, unsigned n, unsigned *ret_chunk, unsigned *ret_first)
{
    unsigned longest = 0;

    if (slab->state != SLAB_THERE || n > slab->longest)
        return false;
    for (unsigned i = 0; i < UNWIND_SLAB_CHUNKS; i++) {
        if (chunk_find(&slab->chunks[i], n, ret_first) == 0) {
            *ret_chunk = i;
            return true;
        }
        if (slab->chunks[i].longest > longest)
            longest = slab->chunks[i].longest;
    }
    slab->longest = longest;
    return false;
}

int unwind_arena_take(struct unwind_arena *a, size_t bytes, uint32_t *ret_place)
{
    unsigned n = granules_of(bytes), chunk, first;

    assert(bytes > 0);
    if (bytes > UNWIND_CHUNK_BYTES)
        return -E2BIG;
    for (uint32_t slot = 0; slot < UNWIND_MAX_SLABS; slot++) {
        struct slab *slab = a->slabs[slot];
        if (!slab || !slab_find(slab, n, &chunk, &first))
            continue;
        set_bits(slab->chunks[chunk].taken, first, n, true);
        slab->n_taken += n;
        *ret_place = UNWIND_PLACE((uint64_t)slot << UNWIND_SLAB_SHIFT | (uint64_t)chunk << UNWIND_CHUNK_SHIFT | first * GRANULE_BYTES);
        return 0;
    }
    return -ENOSPC;
}

/* For assertions. */
static inline bool chunk_has(const struct chunk *c, unsigned first, unsigned n)
{
    return next_bit(c->taken, first, false) >= first + n && next_bit(c->waiting, first, true) >= first + n &&
           next_bit(c->sealed, first, true) >= first + n;
}

/* What a place names, which was taken and not put back. */
static struct chunk *taken_run(struct unwind_arena *a, uint32_t place, size_t bytes, struct slab **ret_slab, unsigned *ret_first)
{
    struct slab *slab = a->slabs[UNWIND_PLACE_SLAB(place)];
    struct chunk *c = &slab->chunks[UNWIND_PLACE_CHUNK(place)];

    *ret_slab = slab;
    *ret_first = UNWIND_PLACE_OFFSET(place) / GRANULE_BYTES;
    assert(place != 0 && slab->state == SLAB_THERE && chunk_has(c, *ret_first, granules_of(bytes)));
    return c;
}

void unwind_arena_put(struct unwind_arena *a, uint32_t place, size_t bytes)
{
    struct slab *slab;
    unsigned first, n = granules_of(bytes);
    struct chunk *c = taken_run(a, place, bytes, &slab, &first);

    set_bits(c->waiting, first, n, true);
    slab->n_waiting += n;
}

void unwind_arena_put_unseen(struct unwind_arena *a, uint32_t place, size_t bytes)
{
    struct slab *slab;
    unsigned first, n = granules_of(bytes);
    struct chunk *c = taken_run(a, place, bytes, &slab, &first);

    set_bits(c->taken, first, n, false);
    slab->n_taken -= n;
    slab_forget_longest(slab);
}

void *unwind_arena_at(struct unwind_arena *a, uint32_t place)
{
    const struct slab *slab = a->slabs[UNWIND_PLACE_SLAB(place)];

    assert(place != 0 && slab);
    return slab->base + ((size_t)UNWIND_PLACE_CHUNK(place) << UNWIND_CHUNK_SHIFT) + UNWIND_PLACE_OFFSET(place);
}

int unwind_arena_reserve(struct unwind_arena *a, uint64_t bytes)
{
    uint64_t room = 0;
    int r = 0;

    for (uint32_t slot = 0; slot < UNWIND_MAX_SLABS; slot++)
        if (a->slabs[slot] && a->slabs[slot]->state == SLAB_COMING)
            room += slab_room(a->slabs[slot]);
    bool comes = room > 0;
    for (uint32_t slot = 0; r == 0 && room < bytes && slot < UNWIND_MAX_SLABS; slot++) {
        if (a->slabs[slot])
            continue;
        r = a->n_slabs < a->max_slabs ? slab_new(a, slot) : -ENOSPC;
        room += r == 0 ? UNWIND_SLAB_BYTES : 0;
        comes = comes || r == 0;
    }
    return comes ? 0 : r;
}

/* ---- rounds */

/* Empty, and not the one that is kept at hand while any other is in use. */
static bool slab_may_go(const struct unwind_arena *a, uint32_t slot, bool *spare)
{
    const struct slab *slab = a->slabs[slot];

    if (slab->state != SLAB_THERE || slab->n_taken > 0)
        return false;
    if (*spare && a->n_slabs <= a->max_slabs) {
        *spare = false;
        return false;
    }
    return true;
}

/* One empty slab stays as long as others are in use. */
static size_t slabs_may_go(const struct unwind_arena *a, uint32_t *ret_slots)
{
    bool spare = false;
    size_t n = 0;

    for (uint32_t slot = 0; slot < UNWIND_MAX_SLABS; slot++)
        spare = spare || (a->slabs[slot] && (a->slabs[slot]->n_taken > 0 || a->slabs[slot]->state == SLAB_COMING));
    for (uint32_t slot = 0; slot < UNWIND_MAX_SLABS; slot++) {
        if (!a->slabs[slot] || !slab_may_go(a, slot, &spare))
            continue;
        if (ret_slots)
            ret_slots[n] = slot;
        n++;
    }
    return n;
}

bool unwind_arena_wants_round(const struct unwind_arena *a)
{
    for (uint32_t slot = 0; slot < UNWIND_MAX_SLABS; slot++) {
        const struct slab *slab = a->slabs[slot];
        if (slab && (slab->n_waiting > 0 || (slab->state != SLAB_THERE && !slab->in_round)))
            return true;
    }
    return slabs_may_go(a, NULL) > 0;
}

static void slab_seal(struct slab *slab)
{
    slab->n_sealed = slab->n_waiting;
    slab->n_waiting = 0;
    for (size_t i = 0; slab->n_sealed > 0 && i < UNWIND_SLAB_CHUNKS; i++) {
        memcpy(slab->chunks[i].sealed, slab->chunks[i].waiting, sizeof(slab->chunks[i].sealed));
        memset(slab->chunks[i].waiting, 0, sizeof(slab->chunks[i].waiting));
    }
}

static void slab_unseal(struct slab *slab, bool seen)
{
    if (slab->n_sealed == 0)
        return;
    for (size_t i = 0; i < UNWIND_SLAB_CHUNKS; i++) {
        struct chunk *c = &slab->chunks[i];
        for (size_t w = 0; w < GRANULE_WORDS; w++) {
            if (seen)
                c->waiting[w] |= c->sealed[w];
            else
                c->taken[w] &= ~c->sealed[w];
            c->sealed[w] = 0;
        }
    }
    slab_forget_longest(slab);
    slab->n_taken -= seen ? 0 : slab->n_sealed;
    slab->n_waiting += seen ? slab->n_sealed : 0;
    slab->n_sealed = 0;
}

static void round_free(struct unwind_round *round)
{
    free(round->coming);
    free(round->going);
    free(round->coming_fds);
    *round = (struct unwind_round){.slabs_map = -1, .staying_fd = -1};
}

int unwind_arena_begin_round(struct unwind_arena *a, bool give_back, struct unwind_round *ret)
{
    struct unwind_round round = {.slabs_map = a->slabs_map, .staying_fd = -1};

    assert(!a->in_round);
    round.coming = calloc(a->n_slabs + 1, sizeof(*round.coming));
    round.going = calloc(a->n_slabs + 1, sizeof(*round.going));
    round.coming_fds = calloc(a->n_slabs + 1, sizeof(*round.coming_fds));
    if (!round.coming || !round.going || !round.coming_fds) {
        round_free(&round);
        return -ENOMEM;
    }
    size_t n = give_back ? slabs_may_go(a, round.going) : 0;
    for (size_t i = 0; i < n; i++)
        a->slabs[round.going[i]]->state = SLAB_GOING;
    for (uint32_t slot = 0; slot < UNWIND_MAX_SLABS; slot++) {
        struct slab *slab = a->slabs[slot];
        if (!slab)
            continue;
        slab->in_round = slab->state != SLAB_THERE;
        if (slab->state == SLAB_COMING) {
            round.coming[round.n_coming] = slot;
            round.coming_fds[round.n_coming++] = slab->fd;
        } else if (slab->state == SLAB_GOING) {
            round.going[round.n_going++] = slot;
        } else {
            slab_seal(slab);
            round.staying = slot;
            round.staying_fd = slab->fd;
        }
    }
    a->in_round = true;
    *ret = round;
    return 0;
}

static int round_bring(const struct unwind_round *round)
{
    LIBBPF_OPTS(bpf_map_batch_opts, opts);
    uint32_t n = (uint32_t)round->n_coming;

    if (n == 0 || bpf_map_update_batch(round->slabs_map, round->coming, round->coming_fds, &n, &opts) == 0)
        return 0;
    /* Older kernels have no batches of maps of maps. */
    for (size_t i = 0; i < round->n_coming; i++)
        if (bpf_map_update_elem(round->slabs_map, &round->coming[i], &round->coming_fds[i], BPF_ANY) < 0)
            return -errno;
    return 0;
}

static int round_take_away(const struct unwind_round *round)
{
    for (size_t i = 0; i < round->n_going; i++)
        if (bpf_map_delete_elem(round->slabs_map, &round->going[i]) < 0 && errno != ENOENT)
            return -errno;
    return 0;
}

/* For an update or a deletion of one element the kernel has waited for all programs since Linux 4.20 (1ae80cf31938, "bpf: wait for running
 * BPF programs when updating map-in-map"); for batches only some kernels do. */
int unwind_arena_run_round(const struct unwind_round *round)
{
    if (round->slabs_map < 0)
        return 0;
    int r = round_bring(round);
    if (r == 0)
        r = round_take_away(round);
    if (r == 0 && round->staying_fd >= 0 &&
        bpf_map_update_elem(round->slabs_map, &round->staying, &round->staying_fd, BPF_ANY) < 0)
        r = -errno;
    return r;
}

void unwind_arena_end_round(struct unwind_arena *a, struct unwind_round *round, int error)
{
    for (uint32_t slot = 0; slot < UNWIND_MAX_SLABS; slot++) {
        struct slab *slab = a->slabs[slot];
        if (!slab)
            continue;
        slab_unseal(slab, error < 0);
        if (!slab->in_round)
            continue;
        slab->in_round = false;
        if (error < 0)
            continue; /* done or not: the next round does it again */
        if (slab->state == SLAB_GOING)
            slab_remove(a, slot);
        else
            slab->state = SLAB_THERE;
    }
    a->in_round = false;
    round_free(round);
}

void unwind_arena_stats(const struct unwind_arena *a, struct unwind_arena_stats *ret)
{
    *ret = (struct unwind_arena_stats){.slab_bytes = a->n_slabs * UNWIND_SLAB_BYTES, .max_bytes = a->max_slabs * UNWIND_SLAB_BYTES};
    for (uint32_t slot = 0; slot < UNWIND_MAX_SLABS; slot++) {
        const struct slab *slab = a->slabs[slot];
        if (!slab)
            continue;
        uint64_t waiting = slab->n_waiting + slab->n_sealed;
        ret->waiting_bytes += waiting * GRANULE_BYTES;
        ret->used_bytes += (slab->n_taken - waiting) * GRANULE_BYTES;
        if (slab->state != SLAB_GOING)
            ret->free_bytes += slab_room(slab);
    }
}
