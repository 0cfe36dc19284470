/* When replies have to leave, and which are of one kind. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/collector.h"
#include "daemon/reply_due.h"
#include "util/clock.h"

#define T (1000 * NSEC_PER_SEC)

/* The limits themselves: Parca's 3 s after the window, go tool pprof's one and a half times whole seconds after it asked. */
START_TEST(test_replies_leave_within_the_limits_of_clients)
{
    static const double seconds[] = {1, 2, 5, 6, 10, 30, 3600};
    for (size_t i = 0; i < sizeof(seconds) / sizeof(seconds[0]); i++) {
        uint64_t window_ns = (uint64_t)(seconds[i] * (double)NSEC_PER_SEC), end_ns = T + window_ns + 50 * NSEC_PER_MSEC;
        uint64_t due_ns = reply_due_ns(T, window_ns, end_ns);
        ck_assert_uint_gt(due_ns, end_ns);
        ck_assert_uint_lt(due_ns, end_ns + 3 * NSEC_PER_SEC);
        ck_assert_uint_lt(due_ns, T + window_ns * 3 / 2);
    }
    ck_assert_uint_gt(reply_due_ns(T, 30 * NSEC_PER_SEC, T + 30 * NSEC_PER_SEC), T + 32 * NSEC_PER_SEC);
}
END_TEST

START_TEST(test_fractions_and_no_window_have_but_the_one_limit)
{
    uint64_t half_ns = NSEC_PER_SEC / 2;
    ck_assert_uint_gt(reply_due_ns(T, half_ns, T + half_ns), T + half_ns + 2 * NSEC_PER_SEC);
    ck_assert_uint_gt(reply_due_ns(T, 0, T), T + 2 * NSEC_PER_SEC);
}
END_TEST

/* A window that began late leaves some time all the same. */
START_TEST(test_names_have_some_time_in_any_case)
{
    uint64_t end_ns = T + 2 * NSEC_PER_SEC;
    ck_assert_uint_gt(reply_due_ns(T, NSEC_PER_SEC, end_ns), end_ns);
    ck_assert_uint_lt(reply_due_ns(T, NSEC_PER_SEC, end_ns), end_ns + NSEC_PER_SEC);
}
END_TEST

START_TEST(test_a_key_is_of_a_user_and_a_program)
{
    struct collector_target a = {.pid = 1, .uid = 5, .exe = "/usr/bin/a"}, same = {.pid = 2, .uid = 5, .exe = "/usr/bin/a"};
    struct collector_target user = {.pid = 1, .uid = 6, .exe = "/usr/bin/a"}, program = {.pid = 1, .uid = 5, .exe = "/usr/bin/b"};
    ck_assert_uint_ne(reply_key(&a), 0);
    ck_assert_uint_eq(reply_key(&a), reply_key(&same));
    ck_assert_uint_ne(reply_key(&a), reply_key(&user));
    ck_assert_uint_ne(reply_key(&a), reply_key(&program));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("reply_due");
    TCase *tc = tcase_create("reply_due");
    tcase_add_test(tc, test_replies_leave_within_the_limits_of_clients);
    tcase_add_test(tc, test_fractions_and_no_window_have_but_the_one_limit);
    tcase_add_test(tc, test_names_have_some_time_in_any_case);
    tcase_add_test(tc, test_a_key_is_of_a_user_and_a_program);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
