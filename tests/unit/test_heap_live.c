/* The table of sampled pointers: nothing is found that was not put in, all is that was, with threads at work and with no room left. */
#include <check.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "shim/heap_live.h"

#define THREADS 4
#define EACH 600
#define ROUNDS 200

static char addresses[THREADS * EACH * 16];

static void *address(size_t i)
{
    return addresses + 16 * i;
}

START_TEST(test_put_and_take)
{
    struct heap_sampled sampled = {0};
    ck_assert(!heap_live_put(address(1), (struct heap_sampled){1, 2})); /* no table yet */
    ck_assert(!heap_live_take(address(1), &sampled));
    ck_assert(heap_live_init(100));
    ck_assert(!heap_live_maybe(address(1)));
    ck_assert(heap_live_put(address(1), (struct heap_sampled){10, 20}));
    ck_assert(heap_live_maybe(address(1)));
    ck_assert(heap_live_maybe(address(2))); /* a neighbour may be */
    ck_assert(!heap_live_take(address(2), &sampled));
    ck_assert(!heap_live_take(NULL, &sampled));
    ck_assert(heap_live_take(address(1), &sampled));
    ck_assert_uint_eq(sampled.bytes, 10);
    ck_assert_uint_eq(sampled.weight, 20);
    ck_assert(!heap_live_maybe(address(1)));
    ck_assert(!heap_live_take(address(1), &sampled));
}
END_TEST

/* Freed by a way around us, and allocated again: still once. */
START_TEST(test_put_twice)
{
    struct heap_sampled sampled = {0};
    ck_assert(heap_live_init(100));
    ck_assert(heap_live_put(address(1), (struct heap_sampled){10, 20}));
    ck_assert(heap_live_put(address(1), (struct heap_sampled){30, 40}));
    ck_assert(heap_live_take(address(1), &sampled));
    ck_assert_uint_eq(sampled.weight, 40);
    ck_assert(!heap_live_take(address(1), &sampled));
    ck_assert(!heap_live_maybe(address(1)));
}
END_TEST

/* Two in one place of the filter. */
START_TEST(test_filter_counts)
{
    struct heap_sampled sampled;
    ck_assert(heap_live_init(4096));
    for (size_t i = 0; i < 40; i++)
        ck_assert(heap_live_put(address(i), (struct heap_sampled){i, i}));
    for (size_t i = 0; i < 40; i++) {
        ck_assert(heap_live_maybe(address(i)));
        ck_assert(heap_live_take(address(i), &sampled));
        ck_assert_uint_eq(sampled.bytes, i);
    }
    for (size_t i = 0; i < 40; i++)
        ck_assert(!heap_live_maybe(address(i)));
}
END_TEST

/* A counter that is full stays: what it stands for is looked for in vain, never missed. */
START_TEST(test_filter_stuck)
{
    struct heap_sampled sampled;
    size_t same = 0, grain = 1u << HEAP_FILTER_GRAIN_BITS;
    char *base = (char *)((uintptr_t)0x500000000000);
    ck_assert(heap_live_init(4096));
    for (size_t i = 0; i < grain; i++)
        same += heap_live_put(base + i, (struct heap_sampled){1, 1});
    ck_assert_uint_gt(same, HEAP_FILTER_STUCK);
    for (size_t i = 0; i < grain; i++)
        same -= heap_live_take(base + i, &sampled);
    ck_assert_uint_eq(same, 0);
    ck_assert(heap_live_maybe(base));
}
END_TEST

START_TEST(test_full)
{
    struct heap_sampled sampled;
    size_t in = 0;
    ck_assert(heap_live_init(1));
    for (size_t i = 0; i < THREADS * EACH; i++)
        in += heap_live_put(address(i), (struct heap_sampled){1, 1});
    ck_assert_uint_gt(in, 500);
    ck_assert_uint_lt(in, THREADS * EACH);
    for (size_t i = 0; i < THREADS * EACH; i++)
        in -= heap_live_take(address(i), &sampled);
    ck_assert_uint_eq(in, 0);
}
END_TEST

/* Far more than the first level holds: each is found in the level that it is in, once, also where lower ones have room again. */
START_TEST(test_levels)
{
    struct heap_sampled sampled;
    size_t n = 100000, lost = 0;
    char *base = (char *)((uintptr_t)0x500000000000);
    ck_assert(heap_live_init(n));
    for (size_t i = 0; i < n; i++)
        lost += !heap_live_put(base + 16 * i, (struct heap_sampled){i, 1});
    ck_assert_uint_eq(lost, 0);
    for (size_t i = 0; i < n; i += 2)
        lost += !heap_live_take(base + 16 * i, &sampled) || sampled.bytes != i;
    for (size_t i = 1; i < n; i += 2) /* again, without an end */
        lost += !heap_live_put(base + 16 * i, (struct heap_sampled){i, 2});
    for (size_t i = 1; i < n; i += 2)
        lost += !heap_live_take(base + 16 * i, &sampled) || sampled.bytes != i || sampled.weight != 2;
    ck_assert_uint_eq(lost, 0);
    for (size_t i = 0; i < n; i++)
        lost += heap_live_take(base + 16 * i, &sampled);
    ck_assert_uint_eq(lost, 0);
}
END_TEST

/* Addresses that share counters: those that are 4 GiB apart. */
START_TEST(test_filter_folds)
{
    struct heap_sampled sampled;
    char *base = (char *)((uintptr_t)0x500000000000);
    ck_assert(heap_live_init(100));
    ck_assert(heap_live_put(base, (struct heap_sampled){1, 1}));
    ck_assert(heap_live_maybe(base + (1ull << 32)));
    ck_assert(!heap_live_maybe(base + (1ull << 31)));
    ck_assert(!heap_live_take(base + (1ull << 32), &sampled));
    ck_assert(heap_live_maybe(base + (1u << HEAP_FILTER_GRAIN_BITS) - 1));
    ck_assert(!heap_live_maybe(base + (1u << HEAP_FILTER_GRAIN_BITS)));
}
END_TEST

static void *work(void *first)
{
    struct heap_sampled sampled;
    size_t from = (size_t)first * EACH;
    for (unsigned round = 0; round < ROUNDS; round++) {
        for (size_t i = from; i < from + EACH; i++)
            if (!heap_live_put(address(i), (struct heap_sampled){i, round}))
                return "no room";
        for (size_t i = from; i < from + EACH; i++) {
            if (!heap_live_maybe(address(i)) || !heap_live_take(address(i), &sampled))
                return "lost";
            if (sampled.bytes != i || sampled.weight != round)
                return "another's";
        }
    }
    return NULL;
}

START_TEST(test_threads)
{
    pthread_t threads[THREADS];
    ck_assert(heap_live_init(2 * THREADS * EACH));
    for (size_t i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, work, (void *)i), 0);
    for (size_t i = 0; i < THREADS; i++) {
        void *fault = NULL;
        ck_assert_int_eq(pthread_join(threads[i], &fault), 0);
        ck_assert_msg(!fault, "%s", (char *)fault);
    }
}
END_TEST

START_TEST(test_marks)
{
    heap_live_mark(addresses, 3000);
    for (size_t i = 0; i < 3000; i++)
        ck_assert(heap_live_maybe(addresses + i));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("heap_live");
    TCase *tests = tcase_create("heap_live");
    tcase_add_test(tests, test_put_and_take);
    tcase_add_test(tests, test_put_twice);
    tcase_add_test(tests, test_filter_counts);
    tcase_add_test(tests, test_filter_stuck);
    tcase_add_test(tests, test_full);
    tcase_add_test(tests, test_levels);
    tcase_add_test(tests, test_filter_folds);
    tcase_add_test(tests, test_threads);
    tcase_add_test(tests, test_marks);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
