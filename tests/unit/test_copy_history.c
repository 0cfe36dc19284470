/* Names and epochs that come in any order. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/copy_history.h"

static void named(struct copy_history *h, uint64_t time_ns, uint32_t tid, const char *name)
{
    char comm[CPROFD_COMM_LEN] = {0};

    strncpy(comm, name, sizeof(comm) - 1);
    copy_history_named(h, time_ns, tid, comm);
}

START_TEST(test_names)
{
    struct copy_history h = {0};

    named(&h, 500, 7, "later");
    named(&h, 0, 7, "first");
    copy_history_forked(&h, 300, 8, 7);
    copy_history_forked(&h, 600, 9, 8);
    named(&h, 900, 8, "own");
    copy_history_forked(&h, 100, 20, 21); /* of one another, which can't be */
    copy_history_forked(&h, 100, 21, 20);
    ck_assert_ptr_null(copy_history_name(&(struct copy_history){0}, 7, 7, 1));
    copy_history_sort(&h);
    ck_assert_str_eq(copy_history_name(&h, 7, 7, 499), "first");
    ck_assert_str_eq(copy_history_name(&h, 7, 7, 500), "later");
    ck_assert_str_eq(copy_history_name(&h, 7, 8, 800), "first"); /* as its parent was called when it began */
    ck_assert_str_eq(copy_history_name(&h, 7, 8, 900), "own");
    ck_assert_str_eq(copy_history_name(&h, 7, 9, 901), "first");
    ck_assert_str_eq(copy_history_name(&h, 7, 8, 100), "first"); /* before it was heard of */
    ck_assert_str_eq(copy_history_name(&h, 7, 10, 700), "later"); /* unknown: its process's */
    ck_assert_str_eq(copy_history_name(&h, 7, 20, 700), "later");
    ck_assert_ptr_null(copy_history_name(&h, 6, 10, 700));
    copy_history_deinit(&h);
}
END_TEST

START_TEST(test_epochs)
{
    struct copy_history h = {0};

    ck_assert_uint_eq(copy_history_epoch(&h, 100), 0);
    ck_assert_uint_eq(copy_history_changed(&h, 100, false), 1);
    ck_assert_uint_eq(copy_history_changed(&h, 300, false), 2);
    ck_assert_uint_eq(copy_history_epoch(&h, 99), 0);
    ck_assert_uint_eq(copy_history_epoch(&h, 100), 1);
    ck_assert_uint_eq(copy_history_epoch(&h, 299), 1);
    ck_assert_uint_eq(copy_history_epoch(&h, 300), 2);
    /* An earlier one that comes late goes with the later one; an exec takes all that is after it. */
    ck_assert_uint_eq(copy_history_changed(&h, 200, false), 3);
    ck_assert_uint_eq(copy_history_epoch(&h, 250), 1);
    ck_assert_uint_eq(copy_history_epoch(&h, 300), 3);
    ck_assert_uint_eq(copy_history_changed(&h, 150, true), 4);
    ck_assert_uint_eq(copy_history_epoch(&h, 149), 1);
    ck_assert_uint_eq(copy_history_epoch(&h, 150), 4);
    copy_history_deinit(&h);
}
END_TEST

/* There is an end to what is kept: then only an exec counts, as the last epoch. */
START_TEST(test_bounds)
{
    struct copy_history h = {0};
    uint32_t n = 0, last = 0;

    while ((n = copy_history_changed(&h, 1000 + last, false)) != 0)
        last = n;
    ck_assert_uint_ge(last, 10000);
    ck_assert_uint_eq(h.n_left_out, 1);
    ck_assert_uint_eq(copy_history_changed(&h, 500, true), last);
    ck_assert_uint_eq(h.n_left_out, 2);
    ck_assert_uint_eq(copy_history_epoch(&h, 499), 0);
    ck_assert_uint_eq(copy_history_epoch(&h, 500), last);
    for (uint32_t i = 0; i < 300000; i++)
        named(&h, i, i, "many");
    copy_history_sort(&h);
    ck_assert_str_eq(copy_history_name(&h, 1, 5, 0), "many");
    ck_assert_ptr_null(copy_history_name(&h, 299999, 299999, 0));
    copy_history_deinit(&h);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("copy_history");
    TCase *tc = tcase_create("copy_history");
    tcase_add_test(tc, test_names);
    tcase_add_test(tc, test_epochs);
    tcase_add_test(tc, test_bounds);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
