/* For tests: images of unwinding tables (util/unwind_table.h) with pages as full as asked for. */
#pragma once

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "util/unwind_table.h"

struct table_image {
    uint8_t *bytes;
    size_t len;
};

static inline size_t table_image_page_bytes(uint32_t n_rows)
{
    return (sizeof(struct unwind_page) + 2 * sizeof(struct unwind_rule) + n_rows * 3 + 7) & ~(size_t)7;
}

/* The rule of row `row` of page `page`: told by its offset. */
static inline struct unwind_rule table_image_rule(uint32_t page, uint32_t row)
{
    return (struct unwind_rule){.cfa = UNWIND_CFA(UNWIND_CFA_REGISTER, 7), .saved = UNWIND_SAVED(UNWIND_FP_SAME, UNWIND_RA_CFA),
                                .cfa_offset = (int32_t)(16 * (page + 1) + 8 * (row % 2))};
}

/* n_pages pages of 64 KiB from base on, each with n_rows rows 16 bytes apart; every `hole`-th has none (0: all have). */
static inline struct table_image table_image_new(uint64_t base, uint32_t n_pages, uint32_t n_rows, uint32_t hole)
{
    size_t header = (sizeof(struct unwind_image) + n_pages * sizeof(uint32_t) + 7) & ~(size_t)7;
    struct table_image image = {.len = header};
    uint32_t at = 0;

    for (uint32_t i = 0; i < n_pages; i++)
        image.len += hole && i % hole == hole - 1 ? 0 : table_image_page_bytes(n_rows);
    image.bytes = calloc(1, image.len);
    struct unwind_image *h = (struct unwind_image *)image.bytes;
    uint32_t *places = (uint32_t *)(h + 1);
    *h = (struct unwind_image){.magic = UNWIND_IMAGE_MAGIC, .version = UNWIND_IMAGE_VERSION, .machine = 62, .page_shift = 16,
                               .n_pages = n_pages, .base = base, .len = image.len};
    at = (uint32_t)header;
    for (uint32_t i = 0; i < n_pages; i++) {
        if (hole && i % hole == hole - 1)
            continue;
        struct unwind_page *page = (struct unwind_page *)(image.bytes + at);
        struct unwind_rule *rules = (struct unwind_rule *)(page + 1);
        uint16_t *lows = (uint16_t *)(rules + 2);
        *page = (struct unwind_page){.n_rows = (uint16_t)n_rows, .n_rules = 2};
        rules[0] = table_image_rule(i, 0);
        rules[1] = table_image_rule(i, 1);
        for (uint32_t row = 0; row < n_rows; row++) {
            lows[row] = (uint16_t)(row * 16);
            ((uint8_t *)(lows + n_rows))[row] = (uint8_t)(row % 2);
        }
        h->n_rows += n_rows;
        places[i] = at / 8;
        at += (uint32_t)table_image_page_bytes(n_rows);
    }
    return image;
}
