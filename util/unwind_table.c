/* An unwinding table seen from outside of its maker, which may have been taken over by the file that it read: every number in it is
 * checked before the kernel's programs lean on it. */
#include "util/unwind_table.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define PAGE_UNIT 8 /* bytes */

static int check_header(const struct unwind_image *header, size_t len)
{
    if (header->magic != UNWIND_IMAGE_MAGIC || header->version != UNWIND_IMAGE_VERSION || header->len != len || len % PAGE_UNIT)
        return -EBADMSG;
    if (header->page_shift < UNWIND_PAGE_MIN_SHIFT || header->page_shift > UNWIND_PAGE_MAX_SHIFT
        || header->n_pages > UNWIND_IMAGE_MAX_PAGES || len > UINT32_MAX)
        return -EBADMSG;
    __u64 page_bytes = 1ull << header->page_shift;
    if (header->base % page_bytes || header->base > INT64_MAX - page_bytes * UNWIND_IMAGE_MAX_PAGES)
        return -EBADMSG;
    return sizeof(*header) + header->n_pages * sizeof(__u32) <= len ? 0 : -EBADMSG;
}

static bool rule_is_sound(const struct unwind_rule *rule)
{
    __u32 most = UNWIND_CFA_KIND(rule->cfa) == UNWIND_CFA_MEMORY     ? UNWIND_MAX_ADDEND
                 : UNWIND_CFA_KIND(rule->cfa) == UNWIND_CFA_REGISTER ? UNWIND_SAVED_ADDEND(UNWIND_OTHER_STACK)
                                                                     : 0;
    if (UNWIND_SAVED_ADDEND(rule->saved) > most)
        return false;
    bool has_no_saved_fp = UNWIND_SAVED_FP(rule->saved) == UNWIND_FP_SAME || UNWIND_SAVED_FP(rule->saved) == UNWIND_FP_UNDEFINED;
    if (UNWIND_SAVED_RA(rule->saved) == UNWIND_RA_SAVED)
        return has_no_saved_fp;
    if (UNWIND_SAVED_RA(rule->saved) == UNWIND_RA_REGISTER && has_no_saved_fp)
        return rule->saved_offset >= 0 && rule->saved_offset < UNWIND_MAX_REGISTERS;
    return UNWIND_SAVED_RA(rule->saved) != UNWIND_RA_AFTER_FP || UNWIND_SAVED_FP(rule->saved) == UNWIND_FP_CFA;
}

static bool page_is_sound(const struct unwind_page *page, const __u8 *at, __u32 page_shift)
{
    const __u8 *lows = at + page->n_rules * sizeof(struct unwind_rule), *rules = lows + page->n_rows * sizeof(__u16);
    __u32 before = 0;
    for (__u32 i = 0; i < page->n_rules; i++) {
        struct unwind_rule rule;
        memcpy(&rule, at + i * sizeof(rule), sizeof(rule));
        if (!rule_is_sound(&rule))
            return false;
    }
    for (__u32 i = 0; i < page->n_rows; i++) {
        __u16 low;
        memcpy(&low, lows + i * sizeof(low), sizeof(low));
        if ((i == 0 ? low != 0 : low <= before) || low >> page_shift || rules[i] >= page->n_rules)
            return false;
        before = low;
    }
    return true;
}

/* The page at a byte offset; *ret_end is where it ends. */
static int check_page(const __u8 *image, const struct unwind_image *header, size_t at, struct unwind_page *ret, size_t *ret_end)
{
    if (at > header->len - sizeof(*ret))
        return -EBADMSG;
    memcpy(ret, image + at, sizeof(*ret));
    size_t bytes = sizeof(*ret) + ret->n_rules * sizeof(struct unwind_rule) + ret->n_rows * (sizeof(__u16) + sizeof(__u8));
    if (ret->n_rows == 0 || ret->n_rules == 0 || ret->n_rules > UNWIND_PAGE_MAX_RULES || ret->pad || bytes > UNWIND_PAGE_MAX_BYTES
        || bytes > header->len - at)
        return -EBADMSG;
    *ret_end = at + bytes;
    return page_is_sound(ret, image + at + sizeof(*ret), header->page_shift) ? 0 : -EBADMSG;
}

int unwind_image_check(const void *image, size_t len)
{
    struct unwind_image header;
    struct unwind_page page;
    if (len < sizeof(header))
        return -EBADMSG;
    memcpy(&header, image, sizeof(header));
    int r = check_header(&header, len);
    if (r < 0)
        return r;
    size_t end = sizeof(header) + header.n_pages * sizeof(__u32);
    __u64 n_rows = 0;
    for (__u32 i = 0; i < header.n_pages; i++) {
        __u32 place;
        memcpy(&place, (const __u8 *)image + sizeof(header) + i * sizeof(place), sizeof(place));
        if (place == 0)
            continue;
        if ((size_t)place * PAGE_UNIT < end)
            return -EBADMSG;
        r = check_page(image, &header, (size_t)place * PAGE_UNIT, &page, &end);
        if (r < 0)
            return r;
        n_rows += page.n_rows;
    }
    return n_rows == header.n_rows ? 0 : -EBADMSG;
}

struct unwind_rule unwind_image_find(const void *image, __u64 file_offset)
{
    const struct unwind_rule none = {.cfa = UNWIND_CFA_NONE};
    struct unwind_image header;
    struct unwind_page page;
    struct unwind_rule rule;
    __u32 place;
    memcpy(&header, image, sizeof(header));
    __u64 from_base = file_offset - header.base, index = from_base >> header.page_shift;
    if (file_offset < header.base || index >= header.n_pages)
        return none;
    memcpy(&place, (const __u8 *)image + sizeof(header) + index * sizeof(place), sizeof(place));
    if (place == 0)
        return none;
    const __u8 *at = (const __u8 *)image + (size_t)place * PAGE_UNIT;
    memcpy(&page, at, sizeof(page));
    const __u8 *rules = at + sizeof(page), *lows = rules + page.n_rules * sizeof(rule);
    __u32 wanted = (__u32)(from_base & ((1u << header.page_shift) - 1)), from = 0, to = page.n_rows;
    while (to - from > 1) {
        __u32 middle = from + (to - from) / 2;
        __u16 low;
        memcpy(&low, lows + middle * sizeof(low), sizeof(low));
        if (low <= wanted)
            from = middle;
        else
            to = middle;
    }
    memcpy(&rule, rules + lows[page.n_rows * sizeof(__u16) + from] * sizeof(rule), sizeof(rule));
    return rule;
}
