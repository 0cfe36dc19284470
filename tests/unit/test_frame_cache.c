/* Remembered frames come back as they were; a full cache forgets nothing. */
#include <check.h>
#include <stdlib.h>

#include "symbolize/frame_cache.h"
#include "util/cleanup.h"

START_TEST(test_find)
{
    struct arena arena = {0};
    struct frame_cache cache = {0};
    const struct symbol_frame frames[2] = {{.name = "inner", .line = 7}, {.name = "outer", .line = 8}};
    struct symbol_frame out[SYMBOL_MAX_INLINED];
    ck_assert_int_eq(frame_cache_find(&cache, 5, out), -1);
    frame_cache_add(&cache, &arena, 5, frames, 2);
    frame_cache_add(&cache, &arena, 0, frames, 1);
    frame_cache_add(&cache, &arena, UINT64_MAX, frames, 0);
    ck_assert_int_eq(frame_cache_find(&cache, 5, out), 2);
    ck_assert_str_eq(out[0].name, "inner");
    ck_assert_str_eq(out[1].name, "outer");
    ck_assert_int_eq(out[1].line, 8);
    ck_assert_int_eq(frame_cache_find(&cache, 0, out), 1);
    ck_assert_int_eq(frame_cache_find(&cache, UINT64_MAX, out), 0); /* that nothing is known is known */
    ck_assert_int_eq(frame_cache_find(&cache, 6, out), -1);
    frame_cache_deinit(&cache);
    arena_deinit(&arena);
}
END_TEST

START_TEST(test_many)
{
    struct arena arena = {0};
    struct frame_cache cache = {0};
    struct symbol_frame out[SYMBOL_MAX_INLINED], frame = {.name = "x"};
    for (uint64_t i = 0; i < 70000; i++) {
        frame.line = (int64_t)i;
        frame_cache_add(&cache, &arena, i << 12, &frame, 1);
    }
    ck_assert_uint_eq(cache.n, 65536); /* its bound */
    for (uint64_t i = 0; i < 65536; i++) {
        ck_assert_int_eq(frame_cache_find(&cache, i << 12, out), 1);
        ck_assert_int_eq(out[0].line, (int64_t)i);
    }
    ck_assert_int_eq(frame_cache_find(&cache, 69999ull << 12, out), -1);
    ck_assert_uint_gt(frame_cache_bytes(&cache), 65536);
    frame_cache_deinit(&cache);
    arena_deinit(&arena);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("frame_cache");
    TCase *tc = tcase_create("frame_cache");
    tcase_add_test(tc, test_find);
    tcase_add_test(tc, test_many);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
