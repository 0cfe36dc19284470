/* A page is filled in arrays of its own, and appended to the image when the next one begins. */
#include "symbolize/unwind_pages.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define HASH_SLOTS (2 * UNWIND_PAGE_MAX_RULES)
#define FIRST_IMAGE_BYTES (256u << 10)

static const struct unwind_rule none = {.cfa = UNWIND_CFA_NONE}, unsupported = {.cfa = UNWIND_CFA_UNSUPPORTED};

static bool same_rule(const struct unwind_rule *a, const struct unwind_rule *b) { return memcmp(a, b, sizeof(*a)) == 0; }

/* Room for bytes more; they are zero. */
static int grow(struct unwind_pages *p, size_t bytes)
{
    if (p->used + bytes <= p->room)
        return 0;
    size_t room = p->room ? p->room : FIRST_IMAGE_BYTES;
    while (room < p->used + bytes)
        room *= 2;
    if (room > UNWIND_IMAGE_MAX_BYTES)
        return -EFBIG;
    uint8_t *image = realloc(p->image, room);
    if (!image)
        return -ENOMEM;
    memset(image + p->room, 0, room - p->room);
    p->image = image;
    p->room = room;
    return 0;
}

int unwind_pages_init(struct unwind_pages *p, uint32_t machine, uint64_t start, uint64_t end, uint32_t page_shift, bool cut_down)
{
    assert(start < end && page_shift >= UNWIND_PAGE_MIN_SHIFT && page_shift <= UNWIND_PAGE_MAX_SHIFT);
    uint64_t base = start >> page_shift << page_shift, n_pages = ((end - 1 - base) >> page_shift) + 1;
    if (n_pages > UNWIND_IMAGE_MAX_PAGES)
        return -EFBIG;
    memset(p, 0, sizeof(*p));
    p->header = (struct unwind_image){
        .magic = UNWIND_IMAGE_MAGIC,
        .version = UNWIND_IMAGE_VERSION,
        .machine = machine,
        .page_shift = page_shift,
        .n_pages = (uint32_t)n_pages,
        .base = base,
    };
    p->cut_down = cut_down;
    p->put_offset = base;
    size_t bytes = (sizeof(p->header) + n_pages * sizeof(uint32_t) + 7) / 8 * 8;
    int r = grow(p, bytes);
    p->used = r < 0 ? 0 : bytes;
    return r;
}

void unwind_pages_deinit(struct unwind_pages *p)
{
    free(p->image);
    p->image = NULL;
}

static size_t page_bytes(size_t n_rows, size_t n_rules)
{
    return sizeof(struct unwind_page) + n_rules * sizeof(struct unwind_rule) + n_rows * (sizeof(uint16_t) + sizeof(uint8_t));
}

/* The slot of a rule in the page's hash, or the free one where it goes. */
static uint16_t *find_rule(struct unwind_pages *p, const struct unwind_rule *rule)
{
    uint64_t key;
    memcpy(&key, rule, sizeof(key));
    size_t slot = (size_t)(key * 0x9e3779b97f4a7c15ull >> 55);
    _Static_assert(HASH_SLOTS == 1 << (64 - 55), "the hash's bits");
    while (p->hash[slot] && !same_rule(&p->rules[p->hash[slot] - 1], rule))
        slot = (slot + 1) % HASH_SLOTS;
    return &p->hash[slot];
}

static void append_row(struct unwind_pages *p, uint16_t low, const struct unwind_rule *rule)
{
    uint16_t *slot = find_rule(p, rule);
    if (!*slot) {
        p->rules[p->n_rules++] = *rule;
        *slot = (uint16_t)p->n_rules;
    }
    p->low[p->n_rows] = low;
    p->rule[p->n_rows++] = (uint8_t)(*slot - 1);
}

/* One row and one rule are kept back, for what a full page says of its rest. */
static void add_row(struct unwind_pages *p, uint16_t low, const struct unwind_rule *rule)
{
    if (p->page_is_full)
        return;
    size_t n_rules = p->n_rules + (*find_rule(p, rule) ? 0 : 1);
    if (n_rules < UNWIND_PAGE_MAX_RULES && page_bytes(p->n_rows + 2, n_rules + 1) <= UNWIND_PAGE_MAX_BYTES) {
        append_row(p, low, rule);
        return;
    }
    p->page_is_full = true;
    if (p->cut_down)
        append_row(p, low, &unsupported);
    else
        p->error = -ENOSPC;
}

static void count_rows(struct unwind_pages *p)
{
    p->header.n_rows += (uint32_t)p->n_rows;
    for (size_t i = 0; i < p->n_rows; i++) {
        const struct unwind_rule *rule = &p->rules[p->rule[i]];
        p->unsupported_rows += UNWIND_CFA_KIND(rule->cfa) == UNWIND_CFA_UNSUPPORTED;
        p->fp_lost_rows += UNWIND_SAVED_FP(rule->saved) == UNWIND_FP_UNDEFINED;
    }
}

static void append_page(struct unwind_pages *p)
{
    struct unwind_page page = {.n_rows = (uint16_t)p->n_rows, .n_rules = (uint16_t)p->n_rules};
    size_t bytes = (page_bytes(p->n_rows, p->n_rules) + 7) / 8 * 8;
    int r = grow(p, bytes);
    if (r < 0) {
        p->error = r;
        return;
    }
    uint32_t place = (uint32_t)(p->used / 8);
    memcpy(p->image + sizeof(struct unwind_image) + p->page * sizeof(place), &place, sizeof(place));
    uint8_t *at = p->image + p->used;
    memcpy(at, &page, sizeof(page));
    at += sizeof(page);
    memcpy(at, p->rules, p->n_rules * sizeof(*p->rules));
    at += p->n_rules * sizeof(*p->rules);
    memcpy(at, p->low, p->n_rows * sizeof(*p->low));
    at += p->n_rows * sizeof(*p->low);
    memcpy(at, p->rule, p->n_rows);
    p->used += bytes;
    count_rows(p);
}

static void end_page(struct unwind_pages *p)
{
    if (p->n_rows == 0)
        add_row(p, 0, &p->in_force);
    bool is_empty = p->n_rows == 1 && same_rule(&p->rules[p->rule[0]], &none);
    if (!is_empty && p->error == 0)
        append_page(p);
    p->n_rows = p->n_rules = 0;
    p->page_is_full = false;
    memset(p->hash, 0, sizeof(p->hash));
    p->page++;
}

/* The last row that was put is final. */
static void settle(struct unwind_pages *p)
{
    uint64_t from_base = p->put_offset - p->header.base;
    uint32_t page = (uint32_t)(from_base >> p->header.page_shift);
    if (same_rule(&p->put_rule, &p->in_force))
        return;
    while (p->page < page)
        end_page(p);
    uint16_t low = (uint16_t)(from_base & ((1u << p->header.page_shift) - 1));
    if (p->page < p->header.n_pages) {
        if (p->n_rows == 0 && low > 0)
            add_row(p, 0, &p->in_force);
        add_row(p, low, &p->put_rule);
    }
    p->in_force = p->put_rule;
}

void unwind_pages_put(struct unwind_pages *p, uint64_t offset, const struct unwind_rule *rule)
{
    assert(offset >= p->header.base && offset >= p->put_offset);
    if (offset > p->put_offset)
        settle(p);
    p->put_offset = offset;
    p->put_rule = *rule;
}

void *unwind_pages_finish(struct unwind_pages *p, size_t *ret_bytes, int *ret_error)
{
    settle(p);
    assert(p->error < 0 || same_rule(&p->in_force, &none));
    while (p->page < p->header.n_pages)
        end_page(p);
    if (p->error < 0) {
        *ret_error = p->error;
        return NULL;
    }
    p->header.len = p->used;
    memcpy(p->image, &p->header, sizeof(p->header));
    *ret_bytes = p->used;
    void *image = realloc(p->image, p->used);
    image = image ? image : p->image;
    p->image = NULL;
    return image;
}
