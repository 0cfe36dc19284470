/* Rows in ascending order -> the image of util/unwind_table.h. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/unwind_table.h"

#define UNWIND_IMAGE_MAX_BYTES (256u << 20)

struct unwind_pages {
    struct unwind_image header;
    bool cut_down;      /* what a page has no room for becomes UNSUPPORTED, else it is an error */
    uint8_t *image;
    size_t used, room;  /* bytes */
    uint32_t page;      /* the page being filled */
    bool page_is_full;
    uint64_t put_offset; /* of the last row put, which may be replaced by another one at the same place */
    struct unwind_rule put_rule;
    struct unwind_rule in_force; /* of the rows before it */
    size_t n_rows, n_rules;      /* of the page */
    uint16_t low[UNWIND_PAGE_MAX_BYTES / 3];
    uint8_t rule[UNWIND_PAGE_MAX_BYTES / 3];
    struct unwind_rule rules[UNWIND_PAGE_MAX_RULES];
    uint16_t hash[2 * UNWIND_PAGE_MAX_RULES]; /* index of a rule + 1 */
    size_t unsupported_rows, fp_lost_rows;
    int error;
};

/* For rows in file offsets [start, end). 0, -ENOMEM, or -EFBIG. */
int unwind_pages_init(struct unwind_pages *p, uint32_t machine, uint64_t start, uint64_t end, uint32_t page_shift, bool cut_down);
/* The rule from a file offset on; offsets ascend or repeat (the last one counts), and lie in [start, end]. Its bytes are compared, so
 * unused fields are zero. */
void unwind_pages_put(struct unwind_pages *p, uint64_t offset, const struct unwind_rule *rule);
/* Ends the table; what is in force then must be UNWIND_CFA_NONE. The image, malloc'd, or NULL: *ret_error is -ENOMEM, -EFBIG, or
 * -ENOSPC where a page is too small for what is in it and page_shift must be less. */
void *unwind_pages_finish(struct unwind_pages *p, size_t *ret_bytes, int *ret_error);
void unwind_pages_deinit(struct unwind_pages *p);
