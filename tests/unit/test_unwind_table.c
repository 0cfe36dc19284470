/* Images of unwinding tables: what is in force where, and that nothing passes the check that the stack engine could trip over. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "util/unwind_table.h"

#define SHIFT 12
#define BASE 0x3000
#define PAGE_BYTES 64 /* room of each in the image */

/* Three pages, of which the second has nothing. */
struct image {
    struct unwind_image header;
    __u32 pages[4];
    _Alignas(8) unsigned char page[2][PAGE_BYTES];
};

static const struct unwind_rule rules[] = {
    {.cfa = UNWIND_CFA(UNWIND_CFA_REGISTER, 7), .cfa_offset = 8},
    {.cfa = UNWIND_CFA(UNWIND_CFA_REGISTER, 7), .cfa_offset = 16, .saved = UNWIND_SAVED(UNWIND_FP_CFA, 0), .saved_offset = -2},
    {.cfa = UNWIND_CFA_ROOT},
};

static unsigned char *low_at(unsigned char *page, unsigned i) { return page + sizeof(struct unwind_page) + sizeof(rules) + 2 * i; }

static void make_page(unsigned char *page, const __u16 low[3], const __u8 rule[3])
{
    const struct unwind_page header = {.n_rows = 3, .n_rules = 3};
    memcpy(page, &header, sizeof(header));
    memcpy(page + sizeof(header), rules, sizeof(rules));
    memcpy(low_at(page, 0), low, 6);
    memcpy(low_at(page, 3), rule, 3);
}

static struct image make_image(void)
{
    struct image image = {
        .header = {UNWIND_IMAGE_MAGIC, UNWIND_IMAGE_VERSION, 62, SHIFT, 3, 6, BASE, sizeof(image)},
        .pages = {offsetof(struct image, page[0]) / 8, 0, offsetof(struct image, page[1]) / 8, 0},
    };
    make_page(image.page[0], (const __u16[]){0, 0x10, 0xfff}, (const __u8[]){0, 1, 2});
    make_page(image.page[1], (const __u16[]){0, 1, 2}, (const __u8[]){2, 0, 1});
    return image;
}

static int check(const struct image *image) { return unwind_image_check(image, sizeof(*image)); }

static int rule_at(const struct image *image, __u64 offset)
{
    struct unwind_rule found = unwind_image_find(image, offset);
    for (int i = 0; i < 3; i++)
        if (memcmp(&found, &rules[i], sizeof(found)) == 0)
            return i;
    ck_assert_int_eq(found.cfa, UNWIND_CFA_NONE);
    return -1;
}

START_TEST(test_find)
{
    struct image image = make_image();
    ck_assert_int_eq(check(&image), 0);
    ck_assert_int_eq(rule_at(&image, 0), -1);
    ck_assert_int_eq(rule_at(&image, BASE - 1), -1);
    ck_assert_int_eq(rule_at(&image, BASE), 0);
    ck_assert_int_eq(rule_at(&image, BASE + 0xf), 0);
    ck_assert_int_eq(rule_at(&image, BASE + 0x10), 1);
    ck_assert_int_eq(rule_at(&image, BASE + 0xffe), 1);
    ck_assert_int_eq(rule_at(&image, BASE + 0xfff), 2);
    ck_assert_int_eq(rule_at(&image, BASE + 0x1000), -1);
    ck_assert_int_eq(rule_at(&image, BASE + 0x2000), 2);
    ck_assert_int_eq(rule_at(&image, BASE + 0x2001), 0);
    ck_assert_int_eq(rule_at(&image, BASE + 0x2fff), 1);
    ck_assert_int_eq(rule_at(&image, BASE + 0x3000), -1);
    ck_assert_int_eq(rule_at(&image, ~0ull), -1);
}
END_TEST

/* Each sets one thing wrong. */
static void break_image(struct image *image, int how)
{
    struct unwind_page *page = (struct unwind_page *)image->page[0];
    struct unwind_rule *rule = (struct unwind_rule *)(page + 1);
    __u16 low;
    switch (how) {
    case 0: image->header.magic++; break;
    case 1: image->header.version++; break;
    case 2: image->header.len += 8; break;
    case 3: image->header.page_shift = UNWIND_PAGE_MIN_SHIFT - 1; break;
    case 4: image->header.page_shift = UNWIND_PAGE_MAX_SHIFT + 1; break;
    case 5: image->header.n_pages = UNWIND_IMAGE_MAX_PAGES + 1; break;
    case 6: image->header.n_pages = sizeof(*image) / 4; break;
    case 7: image->header.n_rows++; break;
    case 8: image->header.base += 1u << (SHIFT - 1); break;
    case 9: image->header.base = 1ull << 63; break;
    case 10: image->pages[0] = 1; break;
    case 11: image->pages[1] = image->pages[0]; break;
    case 12: image->pages[1] = image->pages[2]; break;
    case 13: image->pages[2] = sizeof(*image) / 8; break;
    case 14: image->pages[2] = UINT32_MAX; break;
    case 15: image->pages[2]++; break;
    case 16: page->n_rows = 0; image->header.n_rows -= 3; break;
    case 17: page->n_rows = UINT16_MAX; break;
    case 18: page->n_rules = 0; break;
    case 19: page->n_rules = UNWIND_PAGE_MAX_RULES + 1; break;
    case 20: page->pad = 1; break;
    case 21: *low_at(image->page[0], 0) = 1; break;
    case 22: low = 0x10; memcpy(low_at(image->page[0], 2), &low, 2); break;
    case 23: low = 0x0f; memcpy(low_at(image->page[0], 2), &low, 2); break;
    case 24: low = 1u << SHIFT; memcpy(low_at(image->page[0], 2), &low, 2); break;
    case 25: *low_at(image->page[0], 3) = 3; break;
    case 26: rule->saved = 2 << 4; break; /* an addend without UNWIND_CFA_MEMORY */
    case 27: rule[1].saved = UNWIND_SAVED(UNWIND_FP_CFA, UNWIND_RA_SAVED); break;
    case 28: rule->saved = UNWIND_SAVED(UNWIND_FP_SAME, UNWIND_RA_AFTER_FP); break;
    case 29: rule->saved = UNWIND_SAVED(0, UNWIND_RA_REGISTER); rule->saved_offset = UNWIND_MAX_REGISTERS; break;
    case 30: rule->saved = UNWIND_SAVED(0, UNWIND_RA_REGISTER); rule->saved_offset = -1; break;
    default: ck_abort();
    }
}

#define N_BREAKS 31

START_TEST(test_broken)
{
    struct image image = make_image();
    break_image(&image, _i);
    ck_assert_int_eq(check(&image), -EBADMSG);
}
END_TEST

START_TEST(test_length)
{
    struct image image = make_image();
    const size_t needed = sizeof(image) - PAGE_BYTES + sizeof(struct unwind_page) + sizeof(rules) + 3 * 3;
    for (size_t len = 0; len < needed; len++) {
        unsigned char *cut = malloc(len + 1);
        ck_assert_ptr_nonnull(cut);
        memcpy(cut, &image, len);
        ck_assert_int_eq(unwind_image_check(cut, len), -EBADMSG);
        if (len >= sizeof(image.header)) {
            ((struct unwind_image *)cut)->len = len;
            ck_assert_int_eq(unwind_image_check(cut, len), -EBADMSG);
        }
        free(cut);
    }
}
END_TEST

/* Saved in registers or beside the frame pointer, where rules have room for it. */
START_TEST(test_saved)
{
    static const __u8 good[] = {
        UNWIND_SAVED(UNWIND_FP_UNDEFINED, UNWIND_RA_SAVED),  UNWIND_SAVED(UNWIND_FP_SAME, UNWIND_RA_SAVED),
        UNWIND_SAVED(UNWIND_FP_CFA, UNWIND_RA_AFTER_FP),     UNWIND_SAVED(UNWIND_FP_CFA, UNWIND_RA_REGISTER),
        UNWIND_SAVED(UNWIND_FP_SAME, UNWIND_RA_REGISTER),    UNWIND_SAVED(UNWIND_FP_FP, UNWIND_RA_CFA),
    };
    for (size_t i = 0; i < sizeof(good); i++) {
        struct image image = make_image();
        struct unwind_rule *rule = (struct unwind_rule *)(image.page[0] + sizeof(struct unwind_page));
        rule->saved = good[i];
        rule->saved_offset = 5;
        ck_assert_int_eq(check(&image), 0);
    }
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("image");
    tcase_add_test(t, test_find);
    tcase_add_loop_test(t, test_broken, 0, N_BREAKS);
    tcase_add_test(t, test_length);
    tcase_add_test(t, test_saved);
    Suite *s = suite_create("unwind_table");
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed > 0;
}
