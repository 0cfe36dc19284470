/* Writes spaces. Owns nothing: what was written is the arena's, by its place. */
#include "daemon/unwind_space.h"

#include <stdbool.h>
#include <string.h>

#include "bpf/unwind_arena.h"

_Static_assert(UNWIND_SPACE_MAX_MAPPINGS / UNWIND_PART_MAPPINGS == UNWIND_SPACE_PARTS, "as many as parts hold");

static void space_put(struct unwind_arena *arena, uint32_t place, bool seen)
{
    void (*put)(struct unwind_arena *, uint32_t, size_t) = seen ? unwind_arena_put : unwind_arena_put_unseen;
    const struct unwind_space *space = unwind_arena_at(arena, place);

    for (uint32_t i = 0; i < space->n_parts; i++)
        put(arena, space->parts[i].mappings, space->parts[i].n * sizeof(struct unwind_mapping));
    put(arena, place, sizeof(*space));
}

/* Four billion spaces later a version comes again, and a rule cached under it is long overwritten. */
static uint32_t space_next_version(void)
{
    static uint32_t version;

    version++;
    return version ? version : ++version;
}

int unwind_space_write(struct unwind_arena *arena, const struct unwind_mapping *mappings, size_t n, uint32_t *ret_place, size_t *ret_cut)
{
    size_t cut = n > UNWIND_SPACE_MAX_MAPPINGS ? n - UNWIND_SPACE_MAX_MAPPINGS : 0;
    uint32_t place;

    int r = unwind_arena_take(arena, sizeof(struct unwind_space), &place);
    if (r < 0)
        return r;
    struct unwind_space *space = unwind_arena_at(arena, place);
    memset(space, 0, sizeof(*space));
    space->version = space_next_version();
    for (size_t at = 0; at < n - cut; at += space->parts[space->n_parts++].n) {
        size_t part = n - cut - at < UNWIND_PART_MAPPINGS ? n - cut - at : UNWIND_PART_MAPPINGS;
        uint32_t part_place;
        r = unwind_arena_take(arena, part * sizeof(*mappings), &part_place);
        if (r < 0) {
            space_put(arena, place, false);
            return r;
        }
        memcpy(unwind_arena_at(arena, part_place), mappings + at, part * sizeof(*mappings));
        space->parts[space->n_parts].start = mappings[at].start;
        space->parts[space->n_parts].mappings = part_place;
        space->parts[space->n_parts].n = (uint32_t)part;
    }
    *ret_place = place;
    *ret_cut = cut;
    return 0;
}

void unwind_space_put(struct unwind_arena *arena, uint32_t place)
{
    if (place)
        space_put(arena, place, true);
}
