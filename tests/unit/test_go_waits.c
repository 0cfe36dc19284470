/* What a release of a lock of a Go program is charged with. */
#include <check.h>
#include <stdlib.h>

#include "bpf/go_waits.h"

START_TEST(one_waiter)
{
    struct go_lock lock = {0};
    go_lock_join(&lock, 1000);
    ck_assert_uint_eq(go_lock_release(&lock, 1700), 700);
    ck_assert_uint_eq(lock.waiters, 0);
    ck_assert_uint_eq(go_lock_release(&lock, 1800), 0); /* nobody waits */
}
END_TEST

/* Each release is charged with the waits of all, since the last one. */
START_TEST(convoy)
{
    struct go_lock lock = {0};
    uint64_t began[] = {1000, 1100, 1300}, total = 0;
    for (int i = 0; i < 3; i++)
        go_lock_join(&lock, began[i]);
    ck_assert_uint_eq(go_lock_release(&lock, 2000), 1000 + 900 + 700);
    ck_assert_uint_eq(go_lock_release(&lock, 2500), 500 + 500);
    go_lock_join(&lock, 2600);
    total = go_lock_release(&lock, 3000);
    ck_assert_uint_eq(total, 500 + 400);
    ck_assert_uint_eq(go_lock_release(&lock, 3010), 10);
    ck_assert_uint_eq(lock.waiters, 0);
}
END_TEST

/* One that comes twice, since its stack had to grow, counts once. */
START_TEST(comes_twice)
{
    struct go_lock lock = {0};
    go_lock_join(&lock, 1000);
    go_lock_join(&lock, 1200);
    go_lock_leave(&lock, 1200);
    go_lock_join(&lock, 1210);
    ck_assert_uint_eq(go_lock_release(&lock, 2000), 1000 + 790);
    ck_assert_uint_eq(lock.waiters, 1);
    go_lock_leave(&lock, 2000);
    ck_assert_uint_eq(lock.waiters, 0);
    go_lock_leave(&lock, 2000);
    ck_assert_uint_eq(lock.waiters, 0);
}
END_TEST

/* Sums of times wrap where there are many waiters, and differences do not mind. */
START_TEST(many)
{
    struct go_lock lock = {0};
    uint64_t began = 1ull << 62;
    for (int i = 0; i < 1000; i++)
        go_lock_join(&lock, began);
    ck_assert_uint_eq(go_lock_release(&lock, began + 5), 5000);
    ck_assert_uint_eq(go_lock_release(&lock, began + 7), 999 * 2);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("go waits");
    TCase *c = tcase_create("locks");
    tcase_add_test(c, one_waiter);
    tcase_add_test(c, convoy);
    tcase_add_test(c, comes_twice);
    tcase_add_test(c, many);
    suite_add_tcase(s, c);
    SRunner *runner = srunner_create(s);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
