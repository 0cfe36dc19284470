/* Tables are made once for each file; a changed space is written anew, and the old one is left: an arena lives no longer than its test. */
#include "tests/unwind/space.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "symbolize/unwind_builder.h"
#include "util/cleanup.h"

#define ARENA_BYTES (1024ull << 20)
#define ROOM_BYTES (64ull << 20) /* made at once: more than a table's image */

struct object {
    unsigned device_major, device_minor;
    uint64_t inode;     /* 0: the vDSO */
    uint32_t table;     /* 0: it has none */
};

struct space {
    struct tracee *tracee;
    struct unwind_arena *arena;
    struct object *objects;
    size_t n_objects;
    uint64_t maps_read; /* of the tracee, when the space was made */
    uint32_t place;
};

int space_new(struct tracee *tracee, int slabs_map, struct space **ret_space)
{
    struct space *space = calloc(1, sizeof(*space));
    int r = space ? unwind_arena_new(slabs_map, ARENA_BYTES, &space->arena) : -ENOMEM;

    if (r) {
        free(space);
        return r;
    }
    space->tracee = tracee;
    *ret_space = space;
    return 0;
}

void space_free(struct space *space)
{
    if (!space)
        return;
    unwind_arena_free(space->arena);
    free(space->objects);
    free(space);
}

const uint8_t *space_chunk(const struct space *space, uint32_t place)
{
    return place ? (const uint8_t *)unwind_arena_at(space->arena, place) - UNWIND_PLACE_OFFSET(place) : NULL;
}

/* ---- room */

static int make_room(struct space *space)
{
    struct unwind_round round;
    int r = unwind_arena_reserve(space->arena, ROOM_BYTES);

    if (!r)
        r = unwind_arena_begin_round(space->arena, false, &round);
    if (r)
        return r;
    r = unwind_arena_run_round(&round);
    unwind_arena_end_round(space->arena, &round, r);
    return r;
}

static int put(struct space *space, const void *bytes, size_t size, uint32_t *ret_place)
{
    int r = unwind_arena_take(space->arena, size, ret_place);

    if (r == -ENOSPC) {
        r = make_room(space);
        if (!r)
            r = unwind_arena_take(space->arena, size, ret_place);
    }
    if (!r)
        memcpy(unwind_arena_at(space->arena, *ret_place), bytes, size);
    return r;
}

/* ---- tables */

static size_t page_bytes(const struct unwind_page *page)
{
    return sizeof(*page) + page->n_rules * sizeof(struct unwind_rule) + page->n_rows * 3ul;
}

static int put_image(struct space *space, const struct unwind_image *image, uint32_t *ret_table)
{
    const uint32_t *pages = (const uint32_t *)(image + 1);
    size_t size = sizeof(struct unwind_table) + image->n_pages * sizeof(uint32_t);
    AUTO_FREE struct unwind_table *table = calloc(1, size);
    uint32_t *places = (uint32_t *)(table + 1);
    int r = 0;

    if (!table)
        return -ENOMEM;
    *table = (struct unwind_table){.base = image->base, .page_shift = image->page_shift, .n_pages = image->n_pages};
    for (uint32_t i = 0; i < image->n_pages && !r; i++) {
        const struct unwind_page *page = (const void *)((const uint64_t *)image + pages[i]);

        if (pages[i])
            r = put(space, page, page_bytes(page), &places[i]);
    }
    return r ? r : put(space, table, size, ret_table);
}

static int build(struct space *space, int fd, uint32_t *ret_table)
{
    struct unwind_output output;
    int r = unwind_build(fd, &output);

    *ret_table = 0;
    if (r == -ENODATA || r == -ENOEXEC)
        return 0;
    if (r)
        return r;
    r = put_image(space, output.image, ret_table);
    unwind_output_deinit(&output);
    return r;
}

/* The vDSO is no file: its memory is one. */
static int open_vdso(struct tracee *tracee, const struct tracee_map *map)
{
    AUTO_CLOSE int fd = memfd_create("vdso", MFD_CLOEXEC);
    size_t size = map->end - map->start;
    AUTO_FREE void *bytes = malloc(size);

    if (fd < 0 || !bytes || tracee_read(tracee, bytes, size, map->start))
        return -1;
    if (write(fd, bytes, size) != (ssize_t)size)
        return -1;
    return TAKE_FD(fd);
}

static int open_object(struct tracee *tracee, const struct tracee_map *map)
{
    char path[96];

    if (!map->inode)
        return open_vdso(tracee, map);
    (void)snprintf(path, sizeof(path), "/proc/%d/map_files/%lx-%lx", tracee->pid, map->start, map->end);
    return open(path, O_RDONLY | O_CLOEXEC);
}

static int table_of(struct space *space, const struct tracee_map *map, uint32_t *ret_table)
{
    struct object *object, *objects;
    AUTO_CLOSE int fd = -1;

    for (size_t i = 0; i < space->n_objects; i++) {
        object = &space->objects[i];
        if (object->inode == map->inode && object->device_major == map->device_major && object->device_minor == map->device_minor) {
            *ret_table = object->table;
            return 0;
        }
    }
    objects = reallocarray(space->objects, space->n_objects + 1, sizeof(*objects));
    if (!objects)
        return -ENOMEM;
    space->objects = objects;
    object = &objects[space->n_objects];
    *object = (struct object){.device_major = map->device_major, .device_minor = map->device_minor, .inode = map->inode};
    fd = open_object(space->tracee, map);
    if (fd >= 0) {
        int r = build(space, fd, &object->table);

        if (r)
            return r;
    }
    space->n_objects++;
    *ret_table = object->table;
    return 0;
}

/* ---- mappings */

static int mapping_of(struct space *space, const struct tracee_map *map, struct unwind_mapping *ret)
{
    bool is_object = map->inode || strcmp(map->path, "[vdso]") == 0;
    int r = 0;

    *ret = (struct unwind_mapping){.start = map->start, .end = map->end, .offset = map->offset, .kind = UNWIND_MAPPING_ANONYMOUS};
    if (is_object) {
        r = table_of(space, map, &ret->table);
        ret->kind = ret->table ? UNWIND_MAPPING_TABLE : UNWIND_MAPPING_NO_CFI;
    }
    return r;
}

static int put_part(struct space *space, struct unwind_space *header, const struct unwind_mapping *mappings, uint32_t n)
{
    if (header->n_parts == UNWIND_SPACE_PARTS)
        return -E2BIG;
    header->parts[header->n_parts].start = mappings[0].start;
    header->parts[header->n_parts].n = n;
    return put(space, mappings, n * sizeof(*mappings), &header->parts[header->n_parts++].mappings);
}

static int make(struct space *space)
{
    struct tracee *tracee = space->tracee;
    static uint32_t version;
    struct unwind_space header = {.version = ++version};
    struct unwind_mapping part[UNWIND_PART_MAPPINGS];
    uint32_t n = 0;
    int r = 0;

    for (size_t i = 0; i < tracee->n_maps && !r; i++) {
        if (!tracee->maps[i].executable)
            continue;
        r = mapping_of(space, &tracee->maps[i], &part[n++]);
        if (!r && n == UNWIND_PART_MAPPINGS) {
            r = put_part(space, &header, part, n);
            n = 0;
        }
    }
    if (!r && n)
        r = put_part(space, &header, part, n);
    return r ? r : put(space, &header, sizeof(header), &space->place);
}

int space_refresh(struct space *space, uint32_t *ret_place)
{
    int r = space->tracee->maps_stale || !space->tracee->n_maps ? tracee_read_maps(space->tracee) : 0;

    if (!r && (!space->place || space->maps_read != space->tracee->maps_read)) {
        r = make(space);
        space->maps_read = space->tracee->maps_read;
    }
    *ret_place = space->place;
    return r;
}
