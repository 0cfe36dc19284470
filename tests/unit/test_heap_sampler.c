/* The sampling of allocations in the process: gaps and weights against the maths library, and sums of weights against what was allocated. */
#include <check.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>

#include "shim/heap_sampler.h"

START_TEST(test_weights)
{
    for (double bytes = 1; bytes < 1e12; bytes *= 1.37)
        for (double mean = 2; mean < 1e10; mean *= 8) {
            double weight = heap_weight(bytes, mean), right = bytes / -expm1(-bytes / mean);
            ck_assert_double_lt(fabs(weight / right - 1), 1e-9);
        }
}
END_TEST

START_TEST(test_gaps)
{
    for (unsigned i = 0; i < 64; i++) {
        uint64_t random = UINT64_MAX >> i;
        double uniform = ((double)(random >> 11) + 1) / 0x1p53;
        ck_assert_double_lt(fabs(heap_gap(random, 1000) - -log(uniform) * 1000), 1e-6);
    }
    ck_assert_double_lt(heap_gap(0, 1), 37); /* the longest: 53 ln 2 */
    ck_assert_double_gt(heap_gap(0, 1), 36.7);
}
END_TEST

/* How far the sum of weights of n allocations of that size is from what was allocated, in standard deviations. A sample's weight w is taken with
 * probability p = S/w: the variance of one allocation's part is w*w*p*(1-p). */
static double deviations(size_t bytes, unsigned n, uint64_t mean)
{
    double sum = 0, weight = heap_weight((double)bytes, (double)mean), p = (double)bytes / weight;
    heap_sampler_set_rate(mean);
    for (unsigned i = 0; i < n; i++)
        if (heap_sampler_passed(bytes))
            sum += (double)heap_sampler_weight(bytes);
    return (sum - (double)n * (double)bytes) / sqrt(n * weight * weight * p * (1 - p) + 1);
}

/* With 6 deviations, one in 10^8 runs fails of itself. */
START_TEST(test_unbiased)
{
    static const size_t sizes[] = {1, 16, 100, 4096, 10000, 65536, 300000};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++)
        ck_assert_double_lt(fabs(deviations(sizes[i], 2000000, 16384)), 6);
}
END_TEST

START_TEST(test_all_and_none)
{
    heap_sampler_set_rate(1);
    for (size_t bytes = 1; bytes < 100; bytes++) {
        ck_assert(heap_sampler_passed(bytes));
        ck_assert_uint_eq(heap_sampler_weight(bytes), bytes);
    }
    ck_assert_uint_eq(heap_sampler_weight(0), 0);
    heap_sampler_set_rate(0);
    for (unsigned i = 0; i < 1000; i++)
        ck_assert(!heap_sampler_passed(1 << 20) || heap_sampler_weight(1 << 20) == 0);
}
END_TEST

static void *first_points(void *ret)
{
    size_t *points = ret;
    for (int i = 0; i < 4; i++) {
        while (!heap_sampler_passed(1) || heap_sampler_weight(1) == 0)
            points[i]++;
    }
    return NULL;
}

/* Threads draw different points: lockstep would be no sampling. */
START_TEST(test_threads_differ)
{
    size_t points[2][4] = {0};
    heap_sampler_set_rate(100000);
    for (int i = 0; i < 2; i++) {
        pthread_t thread;
        ck_assert_int_eq(pthread_create(&thread, NULL, first_points, points[i]), 0);
        ck_assert_int_eq(pthread_join(thread, NULL), 0);
    }
    ck_assert(points[0][0] != points[1][0] || points[0][1] != points[1][1]);
}
END_TEST

/* An allocation that nobody's countdown can hold is refused by the allocator, and must not set it back. */
START_TEST(test_giant_sizes)
{
    heap_sampler_set_rate(4096);
    while (!heap_sampler_passed(100) || heap_sampler_weight(100) == 0)
        ;
    size_t left = heap_thread.left;
    ck_assert(heap_sampler_passed(SIZE_MAX));
    ck_assert_uint_eq(heap_thread.left, left);
    (void)heap_sampler_weight(SIZE_MAX);
    ck_assert_uint_lt(heap_thread.left, 4096 * 40);
}
END_TEST

static uint64_t wanted(const char *text)
{
    ck_assert_int_eq(setenv(HEAP_RATE_ENV, text, 1), 0);
    return heap_sampler_wanted_rate();
}

START_TEST(test_environment)
{
    ck_assert_uint_eq(wanted("1"), 1);
    ck_assert_uint_eq(wanted("0"), 0);
    ck_assert_uint_eq(wanted("65536"), 65536);
    ck_assert_uint_eq(wanted(""), HEAP_RATE_DEFAULT);
    ck_assert_uint_eq(wanted("-1"), HEAP_RATE_DEFAULT);
    ck_assert_uint_eq(wanted("1k"), HEAP_RATE_DEFAULT);
    ck_assert_uint_eq(wanted("99999999999999999999999"), HEAP_RATE_DEFAULT);
    ck_assert_int_eq(unsetenv(HEAP_RATE_ENV), 0);
    ck_assert_uint_eq(heap_sampler_wanted_rate(), HEAP_RATE_DEFAULT);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("heap_sampler");
    TCase *tests = tcase_create("heap_sampler");
    tcase_add_test(tests, test_weights);
    tcase_add_test(tests, test_gaps);
    tcase_add_test(tests, test_unbiased);
    tcase_add_test(tests, test_all_and_none);
    tcase_add_test(tests, test_threads_differ);
    tcase_add_test(tests, test_giant_sizes);
    tcase_add_test(tests, test_environment);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
