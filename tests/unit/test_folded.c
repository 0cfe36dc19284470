/* Collapsed stacks. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "pprof/profile.h"
#include "util/cleanup.h"

static const struct profile_value_type types[] = {{"samples", "count"}, {"cpu", "nanoseconds"}};
static const struct profile_mapping mapping = {
    .start = 0x1000, .limit = 0x9000, .filename = "/usr/lib/libx;y.so",
};

static uint64_t location(struct profile *p, uint64_t address, const char *inner, const char *outer)
{
    struct profile_line lines[] = {{.name = inner}, {.name = outer}};
    uint64_t m = profile_mapping(p, &mapping);
    return profile_location(p, m, address, lines, inner ? outer ? 2 : 1 : 0);
}

static void add(struct profile *p, uint64_t leaf, uint64_t root, int64_t ns, const char *thread)
{
    struct profile_label label = {.key = "thread", .str = thread};
    uint64_t ids[] = {leaf, root};
    ck_assert_int_eq(profile_sample(p, ids, 2, (int64_t[]){1, ns}, &label, 1), 0);
}

static void assert_folded(const struct profile *p, const char *wanted)
{
    AUTO_FREE uint8_t *body = NULL;
    size_t len = 99;
    ck_assert_int_eq(profile_encode_folded(p, &body, &len), 0);
    ck_assert_ptr_nonnull(body);
    ck_assert_uint_eq(len, strlen(wanted));
    ck_assert_mem_eq(body, wanted, len);
}

START_TEST(test_stacks_root_first)
{
    struct profile *p = profile_new(types, 2, NULL);
    uint64_t leaf = location(p, 0x1000, "inlined", "leaf"), root = location(p, 0x2000, "main", NULL);
    add(p, leaf, root, 50, "a");
    add(p, root, root, 7, "a");
    add(p, leaf, root, 5, "b"); /* another sample, the same names */
    add(p, location(p, 0x1001, "inlined", "leaf"), root, 3, "a");
    add(p, root, leaf, 0, "a"); /* nothing to show */
    assert_folded(p, "main;leaf;inlined 58\nmain;main 7\n");
    profile_free(p);
}
END_TEST

START_TEST(test_default_type_is_shown)
{
    struct profile *p = profile_new(types, 2, "samples");
    add(p, location(p, 0x1000, "leaf", NULL), location(p, 0x2000, "main", NULL), 50, "a");
    assert_folded(p, "main;leaf 1\n");
    profile_free(p);
}
END_TEST

START_TEST(test_names_cannot_break_lines)
{
    struct profile *p = profile_new(types, 2, NULL);
    add(p, location(p, 0x1000, "a;b\nc\x7f", NULL), location(p, 0x2abc, NULL, NULL), 1, "a");
    assert_folded(p, "libx:y.so@0x2abc;a:b c  1\n");
    profile_free(p);
}
END_TEST

START_TEST(test_nothing_and_no_stack)
{
    struct profile *p = profile_new(types, 2, NULL);
    assert_folded(p, "");
    ck_assert_int_eq(profile_sample(p, NULL, 0, (int64_t[]){1, 9}, NULL, 0), 0);
    assert_folded(p, "[no stack] 9\n");
    profile_free(p);
}
END_TEST

START_TEST(test_sums_stay_at_the_bound)
{
    struct profile *p = profile_new(types, 2, NULL);
    uint64_t root = location(p, 0x2000, "main", NULL);
    add(p, root, root, INT64_MAX, "a");
    add(p, root, root, 1, "b");
    assert_folded(p, "main;main 9223372036854775807\n");
    profile_free(p);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("folded");
    TCase *tc = tcase_create("folded");
    tcase_add_test(tc, test_stacks_root_first);
    tcase_add_test(tc, test_default_type_is_shown);
    tcase_add_test(tc, test_names_cannot_break_lines);
    tcase_add_test(tc, test_nothing_and_no_stack);
    tcase_add_test(tc, test_sums_stay_at_the_bound);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
