/* The flattened map against a search of all ranges. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>

#include "symbolize/range_map.h"
#include "util/cleanup.h"

START_TEST(test_nested)
{
    CLEANUP(range_map_deinit) struct range_map map = {0};
    struct range ranges[] = {{20, 30, 2, 1}, {0, 100, 0, 0},   {10, 50, 1, 0},
                             {10, 12, 3, 1}, {100, 110, 4, 0}, {200, 200, 5, 0}};
    ck_assert_int_eq(range_map_build(ranges, 6, &map), 0);
    const struct {
        uint64_t address;
        uint32_t value;
    } wanted[] = {{0, 0},   {9, 0},   {10, 3},           {12, 1},           {19, 1},
                  {20, 2},  {29, 2},  {30, 1},           {50, 0},           {99, 0},
                  {100, 4}, {109, 4}, {110, RANGE_NONE}, {200, RANGE_NONE}, {UINT64_MAX, RANGE_NONE}};
    for (size_t i = 0; i < sizeof(wanted) / sizeof(*wanted); i++)
        ck_assert_uint_eq(range_map_find(&map, wanted[i].address), wanted[i].value);
}
END_TEST

START_TEST(test_empty)
{
    struct range_map map = {0};
    ck_assert_uint_eq(range_map_find(&map, 1), RANGE_NONE);
    ck_assert_int_eq(range_map_build(NULL, 0, &map), 0);
    ck_assert_uint_eq(range_map_find(&map, 1), RANGE_NONE);
    range_map_deinit(&map);
}
END_TEST

/* The rule in words: of the ranges that hold the address the one that begins last; then the deepest; then
 * the shortest. */
static uint32_t find_slowly(const struct range *ranges, size_t n, uint64_t address)
{
    const struct range *best = NULL;
    for (size_t i = 0; i < n; i++) {
        const struct range *r = &ranges[i];
        if (address < r->low || address >= r->high)
            continue;
        if (!best || r->low > best->low || (r->low == best->low && r->depth > best->depth)
            || (r->low == best->low && r->depth == best->depth && r->high < best->high)
            || (r->low == best->low && r->depth == best->depth && r->high == best->high
                && r->value > best->value))
            best = r;
    }
    return best ? best->value : RANGE_NONE;
}

static void compare_random(unsigned seed)
{
    struct range ranges[24];
    size_t n = (size_t)(rand_r(&seed) % 24);
    for (size_t i = 0; i < n; i++) {
        uint64_t low = (uint64_t)(rand_r(&seed) % 64);
        ranges[i] = (struct range){low, low + (uint64_t)(rand_r(&seed) % 32), (uint32_t)i,
                                   (uint32_t)(rand_r(&seed) % 3)};
    }
    CLEANUP(range_map_deinit) struct range_map map = {0};
    ck_assert_int_eq(range_map_build(ranges, n, &map), 0);
    for (uint64_t address = 0; address < 100; address++)
        ck_assert_uint_eq(range_map_find(&map, address), find_slowly(ranges, n, address));
}

START_TEST(test_any_overlap)
{
    for (unsigned seed = 0; seed < 300; seed++)
        compare_random(seed);
}
END_TEST

START_TEST(test_list_is_bounded)
{
    CLEANUP(range_list_deinit) struct range_list list = {0};
    for (uint32_t i = 0; i < 100; i++)
        ck_assert_int_eq(range_list_add(&list, (struct range){i, i + 1, i, 0}, 100), 0);
    ck_assert_int_eq(range_list_add(&list, (struct range){5, 5, 0, 0}, 100), 0);
    ck_assert_int_eq(range_list_add(&list, (struct range){5, 6, 0, 0}, 100), -E2BIG);
    ck_assert_uint_eq(list.n, 100);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("range_map");
    TCase *tc = tcase_create("range_map");
    tcase_add_test(tc, test_nested);
    tcase_add_test(tc, test_empty);
    tcase_add_test(tc, test_any_overlap);
    tcase_add_test(tc, test_list_is_bounded);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
