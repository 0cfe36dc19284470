/* Times in a time namespace: what the kernel tells of one, and that times here are the kernel's all the same. */
#include <check.h>
#include <errno.h>
#include <linux/sched.h>
#include <sched.h>
#include <stdlib.h>

#include "util/clock.h"

START_TEST(test_offsets)
{
    static const struct {
        const char *text;
        int r;
        int64_t ahead_ns;
    } cases[] = {
        {"monotonic           0         0\nboottime            0         0\n", 0, 0},
        {"monotonic      100000         5\nboottime         7000         0\n", 0, 100000000000005},
        {"monotonic          -1 999999999\nboottime           -8         0\n", 0, -1},
        {"monotonic      -50000         0\n", 0, -50000000000000},
        {"boottime            7         0\nmonotonic           3         4\n", 0, 3000000004},
        {"boottime            7         0\n", -EBADMSG, 0},
        {"monotonic      100000\n", -EBADMSG, 0},
        {"monotonic      100000 1000000000\n", -EBADMSG, 0},
        {"monotonic           x         0\n", -EBADMSG, 0},
        {"", -EBADMSG, 0},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint64_t ahead_ns = 0;
        ck_assert_int_eq(clock_parse_offsets(cases[i].text, &ahead_ns), cases[i].r);
        ck_assert_int_eq((int64_t)ahead_ns, cases[i].ahead_ns);
    }
}
END_TEST

/* Ahead and behind; what sleeps by such a time sleeps until then. */
START_TEST(test_times)
{
    static const int64_t ahead_ns[] = {0, 100000000000005, -1000000};

    for (size_t i = 0; i < sizeof(ahead_ns) / sizeof(ahead_ns[0]); i++) {
        clock_ahead_ns = (uint64_t)ahead_ns[i];
        uint64_t before_ns = clock_ns(CLOCK_MONOTONIC), until_ns = monotonic_ns() + NSEC_PER_MSEC;
        ck_assert_int_ge((int64_t)(until_ns + clock_ahead_ns), (int64_t)(before_ns + NSEC_PER_MSEC));
        monotonic_sleep_until(until_ns);
        ck_assert_uint_ge(monotonic_ns(), until_ns);
        ck_assert_uint_ge(clock_ns(CLOCK_MONOTONIC), before_ns + NSEC_PER_MSEC);
        struct timespec at = monotonic_timespec(until_ns);
        ck_assert_int_eq(at.tv_sec * (int64_t)NSEC_PER_SEC + at.tv_nsec - (int64_t)until_ns, ahead_ns[i]);
    }
}
END_TEST

/* Where children would be in another namespace, nothing is known of this one. */
START_TEST(test_children_elsewhere)
{
    ck_assert_int_eq(clock_init(), 0);
    if (unshare(CLONE_NEWTIME) == 0)
        ck_assert_int_eq(clock_init(), -EXDEV);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("clock");
    TCase *tc = tcase_create("clock");
    tcase_add_test(tc, test_offsets);
    tcase_add_test(tc, test_times);
    tcase_add_test(tc, test_children_elsewhere);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
