/* Copies an image's pages and makes their index. Owns the image's mapping; the pages copied so far are its own until the last one is. */
#include "daemon/unwind_load.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "bpf/unwind_arena.h"
#include "util/cleanup.h"
#include "util/unwind_table.h"

struct unwind_load {
    struct unwind_arena *arena;
    const uint8_t *image;
    size_t len;
    struct unwind_image header;
    uint32_t index;     /* the place of the index; 0: not taken yet */
    uint32_t next_page; /* those before are copied */
    uint64_t copied_bytes;
};

static size_t index_bytes(uint32_t n_pages)
{
    return sizeof(struct unwind_table) + n_pages * sizeof(uint32_t);
}

static size_t page_bytes(const struct unwind_page *page)
{
    return sizeof(*page) + page->n_rules * sizeof(struct unwind_rule) + page->n_rows * (sizeof(uint16_t) + sizeof(uint8_t));
}

static uint32_t *index_pages(struct unwind_arena *arena, uint32_t index)
{
    return (uint32_t *)((uint8_t *)unwind_arena_at(arena, index) + sizeof(struct unwind_table));
}

/* Gives back an index and the pages that it names; seen: programs may know it. */
static void table_put(struct unwind_arena *arena, uint32_t index, bool seen)
{
    void (*put)(struct unwind_arena *, uint32_t, size_t) = seen ? unwind_arena_put : unwind_arena_put_unseen;
    const struct unwind_table *table = unwind_arena_at(arena, index);
    const uint32_t *pages = index_pages(arena, index);
    uint32_t n_pages = table->n_pages;

    for (uint32_t i = 0; i < n_pages; i++)
        if (pages[i])
            put(arena, pages[i], page_bytes(unwind_arena_at(arena, pages[i])));
    put(arena, index, index_bytes(n_pages));
}

void unwind_load_put(struct unwind_arena *arena, uint32_t place)
{
    table_put(arena, place, true);
}

static void cleanup_load(struct unwind_load **load)
{
    unwind_load_free(*load);
}

int unwind_load_new(struct unwind_arena *arena, int fd, uint64_t len, struct unwind_load **ret)
{
    if (len < sizeof(struct unwind_image) || len > SIZE_MAX)
        return -EBADMSG;
    CLEANUP(cleanup_load) struct unwind_load *load = calloc(1, sizeof(*load));
    if (!load)
        return -ENOMEM;
    load->arena = arena;
    load->len = len;
    void *image = mmap(NULL, len, PROT_READ, MAP_PRIVATE, fd, 0);
    if (image == MAP_FAILED)
        return -errno;
    load->image = image;
    int r = unwind_image_check(image, len);
    if (r < 0)
        return r;
    memcpy(&load->header, image, sizeof(load->header));
    *ret = TAKE_PTR(load);
    return 0;
}

void unwind_load_free(struct unwind_load *load)
{
    if (!load)
        return;
    if (load->index)
        table_put(load->arena, load->index, false);
    if (load->image)
        (void)munmap((void *)load->image, load->len);
    free(load);
}

static int load_index(struct unwind_load *load)
{
    size_t bytes = index_bytes(load->header.n_pages);
    int r = unwind_arena_take(load->arena, bytes, &load->index);
    if (r < 0)
        return r;
    struct unwind_table *table = unwind_arena_at(load->arena, load->index);
    memset(table, 0, bytes);
    *table = (struct unwind_table){
        .base = load->header.base, .page_shift = load->header.page_shift, .n_pages = load->header.n_pages};
    return 0;
}

/* Copies a page. Returns its bytes, or -ENOSPC. */
static ssize_t load_page(struct unwind_load *load, uint32_t i)
{
    const uint32_t *places = (const uint32_t *)(load->image + sizeof(struct unwind_image));
    uint32_t place;

    if (places[i] == 0)
        return 0;
    const uint8_t *page = load->image + (size_t)places[i] * 8;
    size_t bytes = page_bytes((const struct unwind_page *)page);
    int r = unwind_arena_take(load->arena, bytes, &place);
    if (r < 0)
        return r;
    memcpy(unwind_arena_at(load->arena, place), page, bytes);
    index_pages(load->arena, load->index)[i] = place;
    return (ssize_t)bytes;
}

int unwind_load_step(struct unwind_load *load, uint32_t *ret_place)
{
    int r = load->index ? 0 : load_index(load);
    if (r < 0)
        return r;
    for (uint64_t step = 0; load->next_page < load->header.n_pages; load->next_page++) {
        if (step >= UNWIND_LOAD_STEP_BYTES)
            return 1;
        ssize_t bytes = load_page(load, load->next_page);
        if (bytes < 0)
            return (int)bytes;
        step += (uint64_t)bytes;
        load->copied_bytes += (uint64_t)bytes;
    }
    *ret_place = load->index;
    load->index = 0; /* the caller's now */
    return 0;
}

uint64_t unwind_load_total_bytes(const struct unwind_load *load)
{
    return load->len + load->header.n_pages * 64; /* the arena rounds each page up */
}

uint64_t unwind_load_left_bytes(const struct unwind_load *load)
{
    uint64_t total = unwind_load_total_bytes(load);
    return total > load->copied_bytes ? total - load->copied_bytes : 1;
}
