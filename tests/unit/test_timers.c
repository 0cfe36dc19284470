/* What is drawn for timers: bounds, and means. */
#include <check.h>
#include <math.h>
#include <stdlib.h>

#include "bpf/timers.h"

START_TEST(test_bounds)
{
    for (int i = 0; i < 20000; i++) {
        /* 100 us to an hour, evenly over the decades. */
        uint64_t period_ns = (uint64_t)(1e5 * pow(10, (double)(random() % 7560) / 1000.0));
        unsigned n_cpus = 1 + (unsigned)random() % 512;
        struct timers t;
        struct timer_draw draw;
        timers_init(&t, period_ns, n_cpus, (uint64_t)random() << 20 ^ (uint64_t)random());
        ck_assert_uint_eq(t.gap_ns, 3 * period_ns);
        ck_assert_uint_le(t.pace_ns, t.gap_ns);
        ck_assert_uint_ge(t.renewal_ns, 10 * t.pace_ns);
        ck_assert_uint_ge(t.renewal_ns, n_cpus * 5000000ull);
        timers_draw(&t, &draw);
        ck_assert_uint_ge(draw.interval_ns, 230000);
        ck_assert_uint_le(draw.interval_ns, TIMER_MAX_INTERVAL_NS);
        ck_assert_uint_le(draw.age_ns, draw.interval_ns);
    }
}
END_TEST

/* Timers of one CPU tick as often as they sample: intervals of Poisson renewals at the rates that they were drawn for. */
START_TEST(test_means)
{
    struct timers t;
    double rate = 0, renewal = 0, drawn_renewal = 0;
    uint32_t which, counts[6] = {0};
    const int n = 200000;

    timers_init(&t, 10000000, 2, 5);
    for (int i = 0; i < n; i++) {
        renewal = (double)t.renewal_ns;
        rate += 1 / (renewal * expm1((double)timers_interval(&t) / renewal));
        drawn_renewal += (double)timers_next_renewal(&t, 6, &which);
        ck_assert_uint_lt(which, 6);
        counts[which]++;
    }
    ck_assert_double_le(fabs(rate / n * (double)t.pace_ns - 1), 0.005);
    ck_assert_double_le(fabs(drawn_renewal / n * 6 / renewal - 1), 0.02);
    for (int i = 0; i < 6; i++)
        ck_assert_double_le(fabs(6.0 * counts[i] / n - 1), 0.05);
}
END_TEST

START_TEST(test_draws_differ)
{
    struct timers a, b;
    timers_init(&a, 10000000, 2, 1);
    timers_init(&b, 10000000, 2, 2);
    ck_assert_uint_ne(timers_interval(&a), timers_interval(&b));
    ck_assert_uint_ne(timers_interval(&a), timers_interval(&a));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("timers");
    TCase *tc = tcase_create("timers");
    tcase_add_test(tc, test_bounds);
    tcase_add_test(tc, test_means);
    tcase_add_test(tc, test_draws_differ);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
