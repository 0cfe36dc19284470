/* The stack engine's host build, on stacks made by hand: the very code that runs in the kernel. */
#include <check.h>
#include <linux/perf_event.h>
#include <stdlib.h>
#include <string.h>

#include "bpf/attach.h"
#include "bpf/cost.h"
#include "tests/unit/stack_fixture.h"

#include "bpf/stack.h"

static struct stack_walk walk;

/* Frames of two words: [fp], [return address]; the outermost one's fp is `last`. */
static void lay_frames(unsigned n, __u64 last)
{
    memset(stack, 0, sizeof(stack));
    for (unsigned i = 0; i < n; i++) {
        stack[2 * i] = i + 1 < n ? STACK_BASE + 16 * (i + 1) : last;
        stack[2 * i + 1] = 0x401000 + i;
    }
    memset(&walk, 0, sizeof(walk));
    walk.pc = 0x400500;
    walk.sp = walk.fp = STACK_BASE;
    stack_push(&walk, 0);
}

static unsigned walk_all(void)
{
    unsigned frames = 1;
    while (stack_step_frame_pointer(&walk))
        frames++;
    return frames;
}

START_TEST(test_walks_to_the_zero)
{
    lay_frames(5, 0);
    ck_assert_uint_eq(walk_all(), 6);
    ck_assert_uint_eq(walk.end, STACK_END_UNPROVEN);
    ck_assert_uint_eq(walk.n, 6);
    ck_assert_uint_eq(STACK_FRAME_ADDRESS(walk.frames[0]), 0x400500);
    ck_assert_uint_eq(STACK_FRAME_ADDRESS(walk.frames[5]), 0x401004);
}
END_TEST

/* At a function's first instruction the caller's address is on top of the stack, and the frame pointer still the caller's. */
START_TEST(test_entry_finds_the_caller)
{
    lay_frames(3, 0);
    walk.fp = STACK_BASE + 16;
    stack[0] = 0x400800;
    ck_assert_int_eq(stack_step_entry(&walk), 1);
    ck_assert_uint_eq(STACK_FRAME_ADDRESS(walk.frames[1]), 0x400800);
    ck_assert_uint_eq(walk_all(), 3);
    ck_assert_uint_eq(STACK_FRAME_ADDRESS(walk.frames[2]), 0x401001);
    walk.sp = 0;
    ck_assert_int_eq(stack_step_entry(&walk), 0);
    ck_assert_uint_eq(walk.end, STACK_END_UNREADABLE);
}
END_TEST

START_TEST(test_ends_that_are_none)
{
    lay_frames(3, 8);
    ck_assert_uint_eq(walk_all(), 4);
    ck_assert_uint_eq(walk.end, STACK_END_BAD_FP); /* downwards */
    lay_frames(3, STACK_BASE + 1001);
    ck_assert_uint_eq(walk_all(), 4);
    ck_assert_uint_eq(walk.end, STACK_END_BAD_FP); /* unaligned */
    lay_frames(3, STACK_BASE + sizeof(stack));
    ck_assert_uint_eq(walk_all(), 4);
    ck_assert_uint_eq(walk.end, STACK_END_UNREADABLE);
    lay_frames(3, STACK_BASE + 320);
    stack[41] = 0xffffffff81000000ull; /* no user address */
    ck_assert_uint_eq(walk_all(), 4);
    ck_assert_uint_eq(walk.end, STACK_END_BAD_FP);
    lay_frames(2, STACK_BASE); /* a circle */
    ck_assert_uint_eq(walk_all(), 3);
    ck_assert_uint_eq(walk.end, STACK_END_BAD_FP);
}
END_TEST

START_TEST(test_too_deep)
{
    lay_frames(STACK_WORDS / 2, 0);
    unsigned frames = walk_all();
    ck_assert_uint_eq(frames, CPROFD_MAX_FRAMES);
    ck_assert_uint_eq(walk.end, STACK_END_TOO_DEEP);
    ck_assert_uint_eq(walk.n, CPROFD_MAX_FRAMES);
    lay_frames(STACK_WORDS / 2, 0);
    walk.n = walk.record.n_kernel = CPROFD_MAX_KERNEL_FRAMES;
    walk_all();
    ck_assert_uint_eq(walk.n, STACK_WALK_FRAMES);
}
END_TEST

START_TEST(test_hash_tells_stacks_apart)
{
    __u64 a[2], b[2];
    lay_frames(5, 0);
    walk_all();
    memcpy(a, walk.hash, sizeof(a));
    lay_frames(4, 0);
    walk_all();
    memcpy(b, walk.hash, sizeof(b));
    ck_assert(a[0] != b[0] && a[1] != b[1]);
    lay_frames(5, 0);
    stack[1] ^= 1;
    walk_all();
    ck_assert(a[0] != walk.hash[0] && a[1] != walk.hash[1]);
}
END_TEST

/* Each cost lies in its bucket: costs ascend with buckets, and a bucket's middle is at most an eighth off. */
START_TEST(test_buckets_of_costs)
{
    __u32 last = 0;
    for (__u64 ns = 0; ns < 20000000; ns += 1 + ns / 100) {
        __u32 bucket = cost_bucket(ns);
        ck_assert_uint_lt(bucket, COST_BUCKETS);
        ck_assert_uint_ge(bucket, last);
        last = bucket;
        if (ns < 128 || ns >= 8388608)
            continue;
        __u64 middle = cost_bucket_ns(bucket);
        ck_assert_msg(middle > ns - ns / 8 - 1 && middle < ns + ns / 8 + 1, "%llu: %llu", ns, middle);
    }
    ck_assert_uint_eq(last, COST_BUCKETS - 1);
    ck_assert_uint_eq(cost_bucket(~0ull), COST_BUCKETS - 1);
}
END_TEST

START_TEST(test_attributes_of_events)
{
    struct perf_event_attr attr;
    attach_perf_attr(PERF_TYPE_HARDWARE, PERF_COUNT_HW_CACHE_MISSES, 12345, false, &attr);
    ck_assert_uint_eq(attr.type, PERF_TYPE_HARDWARE);
    ck_assert_uint_eq(attr.config, PERF_COUNT_HW_CACHE_MISSES);
    ck_assert_uint_eq(attr.sample_period, 12345);
    ck_assert_uint_eq(attr.size, sizeof(attr));
    ck_assert(attr.exclude_kernel && attr.exclude_hv && attr.disabled && !attr.freq && !attr.inherit);
    attach_perf_attr(PERF_TYPE_HARDWARE, PERF_COUNT_HW_CPU_CYCLES, 1, true, &attr);
    ck_assert(!attr.exclude_kernel);
    attach_perf_attr(PERF_TYPE_RAW, 0x1a2, 1, false, &attr);
    ck_assert(attr.exclude_kernel && attr.type == PERF_TYPE_RAW && attr.config == 0x1a2);
    /* It happens in the kernel: excluded, it would never be counted. */
    attach_perf_attr(PERF_TYPE_SOFTWARE, PERF_COUNT_SW_CONTEXT_SWITCHES, 1, false, &attr);
    ck_assert(!attr.exclude_kernel);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("stack");
    TCase *tc = tcase_create("stack");
    tcase_add_test(tc, test_walks_to_the_zero);
    tcase_add_test(tc, test_entry_finds_the_caller);
    tcase_add_test(tc, test_ends_that_are_none);
    tcase_add_test(tc, test_too_deep);
    tcase_add_test(tc, test_hash_tells_stacks_apart);
    tcase_add_test(tc, test_buckets_of_costs);
    tcase_add_test(tc, test_attributes_of_events);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
