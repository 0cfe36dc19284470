/* The arithmetic of sampled allocations, which programs do without floating point: held against the same with it. */
#include <check.h>
#include <math.h>
#include <stdlib.h>

#include "bpf/heap.h"

static struct heap_tables tables;

static double unit(uint64_t value)
{
    return (double)value / (1 << HEAP_FRACTION_BITS);
}

/* A sample of S bytes stands for S / (1 - exp(-S / rate)), within what fractions can say. */
START_TEST(test_weights)
{
    static const uint64_t rates[] = {2, 100, 4096, 524288, 1ull << 30, HEAP_MAX_RATE};

    for (size_t r = 0; r < sizeof(rates) / sizeof(rates[0]); r++)
        for (double size = 1; size < 1e13; size = ceil(size * 1.37)) {
            struct heap_weight w;
            double p = -expm1(-size / (double)rates[r]);
            heap_weigh(&tables, rates[r], (uint64_t)size, &w);
            ck_assert_double_eq_tol(unit(w.bytes), size / p, 1e-4 * size / p + 0.01);
            ck_assert_double_eq_tol(unit(w.objects), 1 / p, 1e-4 / p + 0.01);
        }
}
END_TEST

START_TEST(test_exact_weights)
{
    struct heap_weight w;

    heap_weigh(&tables, 1, 77, &w);
    ck_assert_uint_eq(HEAP_ROUND(w.bytes), 77);
    ck_assert_uint_eq(HEAP_ROUND(w.objects), 1);
    heap_weigh(&tables, 1, 0, &w);
    ck_assert_uint_eq(w.bytes, 0);
    ck_assert_uint_eq(HEAP_ROUND(w.objects), 1);
    heap_weigh(&tables, 4096, 1 << 20, &w); /* larger than 16 times the rate: always sampled */
    ck_assert_uint_eq(HEAP_ROUND(w.bytes), 1 << 20);
    heap_weigh(&tables, 4096, 0, &w); /* as likely as one of a byte */
    ck_assert_uint_eq(w.bytes, 0);
    ck_assert_double_eq_tol(unit(w.objects), 4096.5, 1);
}
END_TEST

START_TEST(test_told_weights)
{
    struct heap_weight w;

    heap_take_weight(524288, 100, &w);
    ck_assert_uint_eq(HEAP_ROUND(w.bytes), 524288);
    ck_assert_double_eq_tol(unit(w.objects), 5242.88, 0.01);
    heap_take_weight(UINT64_MAX, 0, &w);
    ck_assert_uint_eq(w.bytes, 1ull << (50 + HEAP_FRACTION_BITS));
}
END_TEST

static uint64_t random_bits(void)
{
    return (uint64_t)random() << 40 ^ (uint64_t)random() << 20 ^ (uint64_t)random();
}

/* -ln(u) * rate, for any u that there is: the smallest, the largest, and at powers of two, where the table begins anew. */
START_TEST(test_gaps)
{
    for (int i = 0; i < 100000; i++) {
        uint64_t bits = i < 64 ? 1ull << i : i == 64 ? UINT64_MAX : random_bits() >> (i % 50);
        double u = (double)(bits | 1) / 0x1p64, gap = (double)heap_gap(&tables, 1 << 20, bits);
        ck_assert_double_eq_tol(gap, floor(-log(u) * (1 << 20)) + 1, 64); /* of 2^20, which is the mean */
    }
    ck_assert_uint_le(heap_gap(&tables, HEAP_MAX_RATE, 0), 45 * HEAP_MAX_RATE);
    ck_assert_uint_ge(heap_gap(&tables, 2, UINT64_MAX), 1);
}
END_TEST

/* All of it together, from a fixed seed: what is counted of samples is what there was. */
START_TEST(test_estimate)
{
    const uint64_t rate = 1000;
    double truth = 0, objects = 0, bytes = 0, n = 2000000;
    uint64_t left = heap_gap(&tables, rate, random_bits());

    for (int i = 0; i < (int)n; i++) {
        uint64_t size = i % 3 == 0 ? 8 : i % 3 == 1 ? 200 : 3000;
        struct heap_weight w;
        truth += (double)size;
        if (left > size) {
            left -= size;
            continue;
        }
        left = heap_gap(&tables, rate, random_bits());
        heap_weigh(&tables, rate, size, &w);
        objects += unit(w.objects);
        bytes += unit(w.bytes);
    }
    ck_assert_double_eq_tol(bytes / truth, 1, 0.005);
    ck_assert_double_eq_tol(objects / n, 1, 0.03);
}
END_TEST

START_TEST(test_room)
{
    ck_assert_uint_eq(heap_live_entries(1), HEAP_LIVE_MOST);
    ck_assert_uint_eq(heap_live_entries(524288), 131072);
    ck_assert_uint_eq(heap_live_entries(HEAP_MAX_RATE), HEAP_LIVE_LEAST);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("heap");
    TCase *t = tcase_create("all");

    heap_tables_fill(&tables);
    srandom(1);
    tcase_add_test(t, test_weights);
    tcase_add_test(t, test_exact_weights);
    tcase_add_test(t, test_told_weights);
    tcase_add_test(t, test_gaps);
    tcase_add_test(t, test_estimate);
    tcase_add_test(t, test_room);
    suite_add_tcase(s, t);
    SRunner *runner = srunner_create(s);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
