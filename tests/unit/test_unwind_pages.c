/* Rows into pages, and marks laid over rows. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "symbolize/unwind_marks.h"
#include "symbolize/unwind_pages.h"

#define START 0x10100ull

static struct unwind_pages pages;

static struct unwind_rule depth(int32_t bytes)
{
    return bytes ? (struct unwind_rule){.cfa = UNWIND_CFA(UNWIND_CFA_REGISTER, 7), .cfa_offset = bytes} : (struct unwind_rule){0};
}

static void put(uint64_t offset, int32_t bytes)
{
    struct unwind_rule rule = depth(bytes);
    unwind_pages_put(&pages, offset, &rule);
}

static int32_t depth_at(const void *image, uint64_t offset) { return unwind_image_find(image, offset).cfa_offset; }

static void *finish(void)
{
    size_t bytes = 0;
    int r = 1;
    void *image = unwind_pages_finish(&pages, &bytes, &r);
    if (!image) {
        unwind_pages_deinit(&pages);
        errno = -r;
        return NULL;
    }
    ck_assert_int_eq(unwind_image_check(image, bytes), 0);
    return image;
}

START_TEST(test_rows)
{
    ck_assert_int_eq(unwind_pages_init(&pages, 62, START, START + 0x50000, 16, false), 0);
    put(START, 8);
    put(START + 1, 16);
    put(START + 1, 24); /* the last one counts */
    put(START + 2, 24); /* the same again is no row */
    put(START + 9, 8);
    put(0x20000, 32);   /* the first of a page */
    put(0x3fff0, 40);   /* reaches into the next page but one */
    put(0x50010, 0);
    put(START + 0x50000, 0);
    void *image = finish();
    ck_assert_ptr_nonnull(image);
    const struct unwind_image *header = image;
    ck_assert_uint_eq(header->base, 0x10000);
    ck_assert_uint_eq(header->n_pages, 6);
    ck_assert_uint_eq(header->n_rows, 4 + 1 + 2 + 1 + 2);
    ck_assert_uint_eq(((const uint32_t *)(header + 1))[5], 0);
    static const struct {
        uint64_t at;
        int32_t depth;
    } wanted[] = {{START - 1, 0}, {START, 8}, {START + 1, 24}, {START + 8, 24}, {START + 9, 8}, {0x1ffff, 8}, {0x20000, 32}, {0x3ffef, 32},
                  {0x3fff0, 40}, {0x4ffff, 40}, {0x5000f, 40}, {0x50010, 0}, {0x60000, 0}, {0x70000, 0}};
    for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
        ck_assert_int_eq(depth_at(image, wanted[i].at), wanted[i].depth);
    free(image);
}
END_TEST

/* A row of its own for each byte: too many bytes for a page. */
START_TEST(test_full_of_rows)
{
    for (int cut_down = 0; cut_down < 2; cut_down++) {
        ck_assert_int_eq(unwind_pages_init(&pages, 62, 0, 0x20000, 16, cut_down), 0);
        for (uint64_t at = 0; at < 0x20000; at++)
            put(at, at % 2 ? 8 : 16);
        put(0x20000, 0);
        void *image = finish();
        if (!cut_down) {
            ck_assert_ptr_null(image);
            ck_assert_int_eq(errno, ENOSPC);
            continue;
        }
        ck_assert_ptr_nonnull(image);
        for (uint64_t at = 0; at < 0x20000; at++) {
            struct unwind_rule rule = unwind_image_find(image, at);
            if (at % 0x10000 < 10000)
                ck_assert_int_eq(rule.cfa_offset, at % 2 ? 8 : 16);
            else
                ck_assert(rule.cfa_offset == (at % 2 ? 8 : 16) || UNWIND_CFA_KIND(rule.cfa) == UNWIND_CFA_UNSUPPORTED);
        }
        ck_assert_uint_eq(pages.unsupported_rows, 2);
        free(image);
    }
}
END_TEST

START_TEST(test_full_of_rules)
{
    for (int cut_down = 0; cut_down < 2; cut_down++) {
        ck_assert_int_eq(unwind_pages_init(&pages, 62, 0, 0x10000, 16, cut_down), 0);
        for (int i = 0; i < 300; i++)
            put(16 * (uint64_t)i, 8 * (i + 1));
        put(0x10000, 0);
        void *image = finish();
        if (!cut_down) {
            ck_assert_ptr_null(image);
            ck_assert_int_eq(errno, ENOSPC);
            continue;
        }
        for (int i = 0; i < 300; i++) {
            struct unwind_rule rule = unwind_image_find(image, 16 * (uint64_t)i + 15);
            if (i < UNWIND_PAGE_MAX_RULES - 1)
                ck_assert_int_eq(rule.cfa_offset, 8 * (i + 1));
            else
                ck_assert_int_eq(UNWIND_CFA_KIND(rule.cfa), UNWIND_CFA_UNSUPPORTED);
        }
        free(image);
    }
}
END_TEST

/* The same rows at random, in pages of any size, as in an array. */
START_TEST(test_random)
{
    enum { BYTES = 0x4000 };
    static int32_t wanted[BYTES];
    srand((unsigned)_i);
    ck_assert_int_eq(unwind_pages_init(&pages, 62, 0, BYTES, UNWIND_PAGE_MIN_SHIFT + (unsigned)_i % 9, false), 0);
    for (unsigned at = 0; at < BYTES;) {
        unsigned bytes = 1 + (unsigned)rand() % (rand() % 8 ? 20 : 900);
        int32_t value = 8 * (rand() % 30);
        put(at, value);
        for (; bytes > 0 && at < BYTES; bytes--)
            wanted[at++] = value;
    }
    put(BYTES, 0);
    void *image = finish();
    ck_assert_ptr_nonnull(image);
    for (unsigned at = 0; at < BYTES; at++)
        ck_assert_int_eq(depth_at(image, at), wanted[at]);
    free(image);
}
END_TEST

START_TEST(test_too_large)
{
    uint64_t most = (uint64_t)UNWIND_IMAGE_MAX_PAGES << 8;
    ck_assert_int_eq(unwind_pages_init(&pages, 62, 0, most + 1, 8, false), -EFBIG);
    ck_assert_int_eq(unwind_pages_init(&pages, 62, 255, most, 8, false), 0);
    unwind_pages_deinit(&pages);
}
END_TEST

/* ---- marks */

enum { MARKED_BYTES = 256 };
static int32_t out[MARKED_BYTES + 1];
static uint64_t last_out;

static void take(void *userdata, uint64_t offset, const struct unwind_rule *rule)
{
    ck_assert_uint_ge(offset, last_out);
    ck_assert_uint_le(offset, MARKED_BYTES);
    last_out = offset;
    for (uint64_t i = offset; i <= MARKED_BYTES; i++)
        out[i] = rule->cfa_offset;
}

static void add_mark(struct unwind_marks *marks, uint64_t start, uint64_t end, int32_t bytes)
{
    ck_assert_int_eq(unwind_marks_add(marks, start, end, depth(bytes)), 0);
}

/* Each byte's rule by hand: of the marks the one that begins last, the shorter of two that begin together first, up to the next one. */
START_TEST(test_marks)
{
    int32_t under[MARKED_BYTES + 1] = {0}, over[MARKED_BYTES + 1] = {0};
    struct unwind_marks marks = {0};
    bool only_gaps = _i % 2;
    srand((unsigned)_i);
    memset(out, 0, sizeof(out));
    last_out = 0;
    for (int i = rand() % 12; i > 0; i--) {
        uint64_t start = (uint64_t)rand() % MARKED_BYTES, end = start + (uint64_t)rand() % (MARKED_BYTES + 1 - start);
        add_mark(&marks, start, end, 1000 + rand() % 5);
    }
    unwind_marks_settle(&marks);
    for (size_t i = 0; i < marks.n; i++) {
        ck_assert(marks.list[i].start < marks.list[i].end && (i == 0 || marks.list[i - 1].end <= marks.list[i].start));
        for (uint64_t at = marks.list[i].start; at < marks.list[i].end; at++)
            over[at] = marks.list[i].rule.cfa_offset;
    }
    struct unwind_layer layer = {.marks = &marks, .only_gaps = only_gaps, .put = take};
    for (uint64_t at = (uint64_t)rand() % 40; at < MARKED_BYTES; at += 1 + (uint64_t)rand() % 40) {
        struct unwind_rule rule = depth(8 * (rand() % 3));
        unwind_layer_put(&layer, at, &rule);
        for (uint64_t i = at; i <= MARKED_BYTES; i++)
            under[i] = rule.cfa_offset;
    }
    unwind_layer_finish(&layer);
    for (int i = 0; i < MARKED_BYTES; i++)
        ck_assert_int_eq(out[i], over[i] && (!only_gaps || !under[i]) ? over[i] : under[i]);
    unwind_marks_deinit(&marks);
}
END_TEST

START_TEST(test_settled_marks)
{
    struct unwind_marks marks = {0};
    add_mark(&marks, 10, 10, 8); /* empty */
    add_mark(&marks, 50, 60, 8);
    add_mark(&marks, 10, 40, 16);
    add_mark(&marks, 20, 30, 24);
    unwind_marks_settle(&marks);
    ck_assert_uint_eq(marks.n, 3);
    ck_assert_uint_eq(marks.list[0].start, 10);
    ck_assert_uint_eq(marks.list[0].end, 20);
    ck_assert_uint_eq(marks.list[1].start, 20);
    ck_assert_uint_eq(marks.list[1].end, 30);
    ck_assert_uint_eq(marks.list[2].start, 50);
    unwind_marks_deinit(&marks);
    int r = 0;
    for (unsigned i = 0; r == 0 && i <= UNWIND_MAX_MARKS; i++)
        r = unwind_marks_add(&marks, i, i + 1, depth(8));
    ck_assert_int_eq(r, -EFBIG);
    unwind_marks_deinit(&marks);
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("pages");
    tcase_add_test(t, test_rows);
    tcase_add_test(t, test_full_of_rows);
    tcase_add_test(t, test_full_of_rules);
    tcase_add_loop_test(t, test_random, 0, 45);
    tcase_add_test(t, test_too_large);
    tcase_add_loop_test(t, test_marks, 0, 200);
    tcase_add_test(t, test_settled_marks);
    Suite *s = suite_create("unwind_pages");
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed > 0;
}
