/* Work that comes back, comes late, or never. */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "daemon/patience.h"

#if defined(__SANITIZE_ADDRESS__)
#define WITH_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WITH_ASAN 1
#endif
#endif
#ifndef WITH_ASAN
#define WITH_ASAN 0
#endif

#define LONG_NS (60 * NSEC_PER_SEC)
#define SHORT_NS (20 * NSEC_PER_MSEC)
#define ENOUGH_NS NSEC_PER_SEC /* for a thread to begin, on a busy machine */

static atomic_int n_dropped;

/* Waits for a byte from a pipe, if it has one. */
struct errand {
    struct patient_work work;
    int pipe_fd;
    pthread_t thread;
    bool done;
};

static void errand_run(struct patient_work *work)
{
    struct errand *e = (struct errand *)work;
    char byte;

    e->thread = pthread_self();
    if (e->pipe_fd >= 0)
        (void)!read(e->pipe_fd, &byte, 1);
    e->done = true;
}

static void errand_drop(struct patient_work *work)
{
    free(work);
    n_dropped++;
}

static struct errand *errand_new(int pipe_fd)
{
    struct errand *e = calloc(1, sizeof(*e));
    ck_assert_ptr_nonnull(e);
    e->work = (struct patient_work){.run = errand_run, .drop = errand_drop};
    e->pipe_fd = pipe_fd;
    return e;
}

static void wait_for_drops(int n)
{
    while (n_dropped < n)
        usleep(1000);
    ck_assert_int_eq(n_dropped, n);
}

static void reset(void)
{
    n_dropped = 0;
}

START_TEST(test_in_time)
{
    struct patience *p = patience_new(LONG_NS, LONG_NS);
    pthread_t thread = 0;

    for (int i = 0; i < 100; i++) {
        struct errand *e = errand_new(-1);
        ck_assert_int_eq(patience_run(p, &e->work), 0);
        ck_assert(e->done && !pthread_equal(e->thread, pthread_self()));
        ck_assert(i == 0 || pthread_equal(e->thread, thread)); /* one for all */
        thread = e->thread;
        errand_drop(&e->work);
    }
    patience_free(p);
    wait_for_drops(100);
}
END_TEST

/* What comes late is dropped by its thread; others are done meanwhile, until patience is at its end. */
START_TEST(test_late)
{
    struct patience *p = patience_new(ENOUGH_NS, 2 * ENOUGH_NS);
    int fds[2];

    ck_assert_int_eq(pipe(fds), 0);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(patience_run(p, &errand_new(fds[0])->work), -ETIMEDOUT);
        ck_assert_int_eq(n_dropped, 0);
        if (i == 1)
            break;
        struct errand *e = errand_new(-1);
        ck_assert_int_eq(patience_run(p, &e->work), 0);
        free(e);
    }
    ck_assert_int_eq(patience_run(p, &errand_new(-1)->work), -ETIMEDOUT);
    wait_for_drops(1); /* it was not begun */
    ck_assert_int_eq(write(fds[1], "xx", 2), 2);
    wait_for_drops(3);
    patience_free(p);
    close(fds[0]);
    close(fds[1]);
}
END_TEST

/* Less is left than what one may take. */
START_TEST(test_the_rest)
{
    struct patience *p = patience_new(LONG_NS, SHORT_NS);
    int fds[2];

    ck_assert_int_eq(pipe(fds), 0);
    ck_assert_int_eq(patience_run(p, &errand_new(fds[0])->work), -ETIMEDOUT);
    patience_free(p);
    close(fds[1]);
    wait_for_drops(1);
    close(fds[0]);
}
END_TEST

#if !WITH_ASAN
/* No room for a thread's stack: the work is the caller's to do. Once there is, it is done. */
START_TEST(test_no_thread)
{
    struct patience *p = patience_new(LONG_NS, LONG_NS);
    struct errand *e = errand_new(-1);
    struct rlimit before, none;
    unsigned long pages;
    FILE *f = fopen("/proc/self/statm", "re");

    ck_assert_int_eq(fscanf(f, "%lu", &pages), 1);
    fclose(f);
    ck_assert_int_eq(getrlimit(RLIMIT_AS, &before), 0);
    none = (struct rlimit){.rlim_cur = pages * (unsigned long)sysconf(_SC_PAGESIZE) + 65536, .rlim_max = before.rlim_max};
    ck_assert_int_eq(setrlimit(RLIMIT_AS, &none), 0);
    int r = patience_run(p, &e->work);
    ck_assert_int_eq(setrlimit(RLIMIT_AS, &before), 0);
    ck_assert_int_eq(r, -EAGAIN);
    ck_assert(!e->done);
    ck_assert_int_eq(patience_run(p, &e->work), 0);
    ck_assert(e->done);
    errand_drop(&e->work);
    patience_free(p);
}
END_TEST
#endif

START_TEST(test_nothing_was_asked)
{
    patience_free(patience_new(LONG_NS, LONG_NS));
    patience_free(NULL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("patience");
    TCase *tc = tcase_create("patience");
    tcase_set_timeout(tc, 60);
    tcase_add_checked_fixture(tc, reset, NULL);
    tcase_add_test(tc, test_in_time);
    tcase_add_test(tc, test_late);
    tcase_add_test(tc, test_the_rest);
#if !WITH_ASAN
    tcase_add_test(tc, test_no_thread);
#endif
    tcase_add_test(tc, test_nothing_was_asked);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
