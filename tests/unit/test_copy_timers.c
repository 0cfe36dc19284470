/* The timers' rates add up to the one asked for, none is slower than the bound, and no two are in step. */
#include <check.h>
#include <math.h>
#include <stdlib.h>

#include "bpf/copy_timers.h"

START_TEST(test_mean_is_exact)
{
    for (int i = 0; i < 20000; i++) {
        /* 100 us to an hour, evenly over the decades. */
        uint64_t period_ns = (uint64_t)(1e5 * pow(10, (double)(random() % 7560) / 1000.0));
        uint64_t bits[2] = {(uint64_t)random() << 33 ^ (uint64_t)random() << 11, (uint64_t)random() << 33};
        struct copy_timers t;
        copy_timers_draw(period_ns, bits, &t);
        ck_assert_double_le(fabs(copy_timers_mean_period_ns(&t) / (double)period_ns - 1), 2e-5);
        ck_assert_uint_ge(t.decimation, 1);
        for (int k = 0; k < CPROFD_TIMERS_PER_CPU; k++) {
            ck_assert_uint_ge(t.period_ns[k], 250000);
            /* Not near the period: a program whose cycle is that would be seen at one point of it. */
            double base = 3.0 * (double)period_ns / t.decimation;
            ck_assert_double_gt(fabs((double)t.period_ns[k] / base - 1), 0.012);
            ck_assert_double_le((double)t.period_ns[k], 1.08 * (double)COPY_TIMER_MAX_PERIOD_NS);
        }
        ck_assert_double_gt((double)t.period_ns[1] / (double)t.period_ns[0], 1.05);
        ck_assert_double_gt(fabs((double)t.period_ns[2] / (double)t.period_ns[0] - 1), 0.01);
        ck_assert_double_gt(fabs((double)t.period_ns[2] / (double)t.period_ns[1] - 1), 0.01);
    }
}
END_TEST

START_TEST(test_draws_differ)
{
    struct copy_timers a, b;
    copy_timers_draw(10000000, (uint64_t[2]){1ull << 63, 5}, &a);
    copy_timers_draw(10000000, (uint64_t[2]){1ull << 62, 7ull << 60}, &b);
    ck_assert_uint_ne(a.period_ns[0], b.period_ns[0]);
    ck_assert_uint_ne(a.period_ns[1], b.period_ns[1]);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("copy_timers");
    TCase *tc = tcase_create("copy_timers");
    tcase_add_test(tc, test_mean_is_exact);
    tcase_add_test(tc, test_draws_differ);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
