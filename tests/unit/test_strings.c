/* Interned strings, and the index that finds them. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pprof/strings.h"
#include "pprof/utf8.h"

static struct strings strings;

static void setup(void)
{
    ck_assert_int_eq(strings_init(&strings, 42), 0);
}

static void teardown(void)
{
    strings_deinit(&strings);
    strings_deinit(&strings);
}

static uint32_t intern(const char *text)
{
    uint32_t id = UINT32_MAX;
    ck_assert_int_eq(strings_intern(&strings, text, &id), 0);
    return id;
}

START_TEST(test_each_once)
{
    char text[32];
    ck_assert_uint_eq(intern(""), 0);
    ck_assert_uint_eq(intern(NULL), 0);
    for (int round = 0; round < 2; round++)
        for (uint32_t i = 1; i <= 20000; i++) {
            (void)snprintf(text, sizeof(text), "name%u", i);
            ck_assert_uint_eq(intern(text), i);
        }
    ck_assert_str_eq(strings_get(&strings, 0), "");
    ck_assert_str_eq(strings_get(&strings, 777), "name777");
    ck_assert_uint_eq(strings.by_id.n, 20001);
}
END_TEST

START_TEST(test_prefixes_differ)
{
    ck_assert_uint_eq(intern("abcdefghij"), 1);
    ck_assert_uint_eq(intern("abcdefghi"), 2);
    ck_assert_uint_eq(intern("abcdefghijk"), 3);
    ck_assert_uint_eq(intern("abcdefghi"), 2);
}
END_TEST

/* With every hash alike, only the comparison tells items apart. */
static bool same_number(const void *owner, uint32_t id, const void *key)
{
    return ((const int *)owner)[id] == *(const int *)key;
}

START_TEST(test_equal_hashes)
{
    struct table t = {0};
    int numbers[100] = {0};
    int missing = -1;
    ck_assert_uint_eq(table_find(&t, 7, same_number, numbers, &missing), TABLE_NONE);
    for (int i = 0; i < 100; i++) {
        numbers[i] = i * 3;
        ck_assert_int_eq(table_reserve(&t), 0);
        table_insert(&t, 7, (uint32_t)i);
    }
    for (int i = 0; i < 100; i++)
        ck_assert_uint_eq(table_find(&t, 7, same_number, numbers, &(int){i * 3}), i);
    ck_assert_uint_eq(table_find(&t, 7, same_number, numbers, &missing), TABLE_NONE);
    ck_assert_uint_eq(table_find(&t, 8, same_number, numbers, &(int){3}), TABLE_NONE);
    table_deinit(&t);
    table_deinit(&t);
}
END_TEST

static char *text_of(const char *unit, size_t len)
{
    size_t unit_len = strlen(unit);
    char *text = malloc(len + 1);
    for (size_t i = 0; i < len; i++)
        text[i] = unit[i % unit_len];
    text[len] = '\0';
    return text;
}

START_TEST(test_longest_is_kept_whole)
{
    char *text = text_of("x", STRINGS_MAX_BYTES);
    ck_assert_str_eq(strings_get(&strings, intern(text)), text);
    free(text);
}
END_TEST

static void check_cut(const char *unit, size_t len)
{
    char *text = text_of(unit, len);
    const char *kept = strings_get(&strings, intern(text));
    size_t kept_len = strlen(kept), mark_len = strlen(STRINGS_CUT_MARK);
    ck_assert_uint_le(kept_len, STRINGS_MAX_BYTES);
    ck_assert_uint_gt(kept_len, STRINGS_MAX_BYTES - 4);
    ck_assert_str_eq(kept + kept_len - mark_len, STRINGS_CUT_MARK);
    ck_assert_uint_eq(utf8_valid_prefix(kept, kept_len), kept_len);
    ck_assert_uint_eq(intern(text), strings.by_id.n - 1);
    free(text);
}

START_TEST(test_too_long_is_cut_at_a_character)
{
    check_cut("x", STRINGS_MAX_BYTES + 1);
    check_cut("\xf0\x9f\x92\xa9", STRINGS_MAX_BYTES + 1);
    check_cut("\xf0\x9f\x92\xa9", 4 * STRINGS_MAX_BYTES);
    check_cut("\xe2\x82\xac", STRINGS_MAX_BYTES + 1);
    check_cut("\xff", STRINGS_MAX_BYTES / 2); /* too long once it is repaired */
    check_cut("\xff", 2 * STRINGS_MAX_BYTES);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("strings");
    TCase *tc = tcase_create("strings");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, test_each_once);
    tcase_add_test(tc, test_prefixes_differ);
    tcase_add_test(tc, test_equal_hashes);
    tcase_add_test(tc, test_longest_is_kept_whole);
    tcase_add_test(tc, test_too_long_is_cut_at_a_character);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
