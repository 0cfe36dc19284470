/* The index of a package of split units: both versions, a table that is full, and each way to be malformed. */
#include <check.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "symbolize/split_package.h"

#define COLUMNS 3
#define UNITS 2
#define SLOTS 4

/* Two units. The second one's place in the table is taken by the first. */
struct index {
    uint32_t version, n_columns, n_units, n_slots;
    uint64_t ids[SLOTS];
    uint32_t rows[SLOTS];
    uint32_t columns[COLUMNS], offsets[UNITS][COLUMNS], sizes[UNITS][COLUMNS];
};

#define INDEX_BYTES (offsetof(struct index, sizes) + sizeof(((struct index *)0)->sizes))

#define FIRST 0x1111111100000001ull
#define SECOND 0x2222222200000001ull /* slot 1, then 1 + (2 | 1) */

static const uint8_t section[100];
static struct split_bytes sections[SPLIT_SECTIONS];

static struct index sound(uint32_t version, uint32_t third)
{
    return (struct index){
        .version = version, .n_columns = COLUMNS, .n_units = UNITS, .n_slots = SLOTS,
        .ids = {SECOND, FIRST}, .rows = {2, 1}, .columns = {1, 3, third},
        .offsets = {{0, 0, 0}, {40, 10, 20}}, .sizes = {{40, 10, 20}, {60, 90, 30}},
    };
}

static int find_in(const struct index *index, size_t size, uint64_t id)
{
    for (size_t i = 0; i < SPLIT_SECTIONS; i++)
        sections[i] = (struct split_bytes){section, sizeof(section)};
    return split_package_find((struct split_bytes){(const uint8_t *)index, size}, id, sections);
}

static int find(const struct index *index, uint64_t id)
{
    return find_in(index, INDEX_BYTES, id);
}

static void check_section(enum split_section which, size_t offset, size_t size)
{
    ck_assert_uint_eq(sections[which].size, size);
    ck_assert_ptr_eq(sections[which].data, section + offset);
}

START_TEST(test_gnu)
{
    struct index index = sound(2, 6);
    ck_assert_int_eq(find(&index, FIRST), 0);
    check_section(SPLIT_INFO, 0, 40);
    check_section(SPLIT_ABBREV, 0, 10);
    check_section(SPLIT_STR_OFFSETS, 0, 20);
    check_section(SPLIT_STR, 0, sizeof(section));
    ck_assert_int_eq(find(&index, SECOND), 0);
    check_section(SPLIT_INFO, 40, 60);
    check_section(SPLIT_ABBREV, 10, 90);
    check_section(SPLIT_STR_OFFSETS, 20, 30);
    index.columns[2] = 8; /* .debug_macro there */
    ck_assert_int_eq(find(&index, SECOND), 0);
    ck_assert_uint_eq(sections[SPLIT_RNGLISTS].size, 0);
}
END_TEST

START_TEST(test_dwarf_5)
{
    struct index index = sound(5, 8);
    ck_assert_int_eq(find(&index, SECOND), 0);
    check_section(SPLIT_RNGLISTS, 20, 30);
    ck_assert_uint_eq(sections[SPLIT_STR_OFFSETS].size, 0);
    ck_assert_uint_eq(sections[SPLIT_ADDR].size, 0);
}
END_TEST

START_TEST(test_absent)
{
    struct index index = sound(5, 8);
    ck_assert_int_eq(find(&index, 7), -ENOENT);
    ck_assert_int_eq(find(&index, FIRST + 1), -ENOENT);
    for (size_t i = 0; i < SLOTS; i++) /* no free slot ends the search */
        index.rows[i] = 1;
    ck_assert_int_eq(find(&index, 7), -ENOENT);
}
END_TEST

START_TEST(test_malformed)
{
    struct index index = sound(5, 8);
    for (size_t size = 0; size < INDEX_BYTES; size++)
        ck_assert_int_eq(find_in(&index, size, FIRST), -ENOEXEC);
    ck_assert_uint_eq(sections[SPLIT_INFO].size, sizeof(section)); /* untouched */
    index.version = 3;
    ck_assert_int_eq(find(&index, FIRST), -ENOEXEC);
    index = sound(5, 8);
    index.n_slots = 3;
    ck_assert_int_eq(find(&index, FIRST), -ENOEXEC);
    index.n_slots = 0;
    ck_assert_int_eq(find(&index, FIRST), -ENOEXEC);
    index.n_slots = 1u << 31;
    ck_assert_int_eq(find(&index, FIRST), -ENOEXEC);
    index = sound(5, 8);
    index.n_columns = 0;
    ck_assert_int_eq(find(&index, FIRST), -ENOEXEC);
    index.n_columns = UINT32_MAX;
    ck_assert_int_eq(find(&index, FIRST), -ENOEXEC);
    index = sound(5, 8);
    index.n_units = UINT32_MAX;
    ck_assert_int_eq(find(&index, FIRST), -ENOEXEC);
}
END_TEST

START_TEST(test_rows)
{
    struct index index = sound(5, 8);
    index.rows[1] = UNITS + 1;
    ck_assert_int_eq(find(&index, FIRST), -ENOENT);
    index = sound(5, 8);
    index.sizes[0][0] = 101;
    ck_assert_int_eq(find(&index, FIRST), -ENOEXEC);
    index = sound(5, 8);
    index.offsets[0][1] = UINT32_MAX;
    ck_assert_int_eq(find(&index, FIRST), -ENOEXEC);
    index = sound(5, 8);
    index.sizes[0][1] = 0; /* no abbreviations */
    ck_assert_int_eq(find(&index, FIRST), -ENOEXEC);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("split_package");
    TCase *tests = tcase_create("index");
    tcase_add_test(tests, test_gnu);
    tcase_add_test(tests, test_dwarf_5);
    tcase_add_test(tests, test_absent);
    tcase_add_test(tests, test_malformed);
    tcase_add_test(tests, test_rows);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
