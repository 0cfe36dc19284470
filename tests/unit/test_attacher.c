/* What a user is told when events can't be attached; and where they must not be. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bpf/heap.h"
#include "bpf/sampler.h"
#include "bpf/uprobe_price.h"
#include "daemon/attacher.h"
#include "daemon/attacher_duty.h"
#include "daemon/attacher_returns.h"
#include "util/cleanup.h"

#define PARANOID "/proc/sys/kernel/perf_event_paranoid"

static int paranoid(void)
{
    int level = -100;
    AUTO_FCLOSE FILE *f = fopen(PARANOID, "re");
    return f && fscanf(f, "%d", &level) == 1 ? level : -100;
}

static bool set_paranoid(int level)
{
    FILE *f = fopen(PARANOID, "we");
    return f && fprintf(f, "%d", level) > 0 && fclose(f) == 0;
}

static char message[2048];

static int explain(int error, bool kernel, enum event_kind event)
{
    const struct attacher_message failed = {.type = ATTACHER_FAILED, .stage = ATTACHER_COPIES, .error = error};
    const struct session_params params = {.event = event, .event_text = "some-event", .kernel = kernel};
    return attacher_explain(&failed, &params, message, sizeof(message));
}

/* Returns false where the setting can't be changed. No kernel makes a difference between 2 and 3, but those of distributions. */
static bool explain_at(int level, int error, bool kernel, enum event_kind event)
{
    int before = paranoid();
    if (!set_paranoid(level))
        return false;
    int status = explain(error, kernel, event);
    ck_assert(set_paranoid(before));
    ck_assert_int_eq(status, 503);
    return true;
}

START_TEST(test_permission)
{
    if (!explain_at(3, -EACCES, false, EVENT_CPU_CLOCK)) {
        printf("skipped: needs to set kernel.perf_event_paranoid\n");
        return;
    }
    ck_assert_ptr_nonnull(strstr(message, "kernel.perf_event_paranoid is 3"));
    ck_assert_ptr_nonnull(strstr(message, "set it to 2"));
    ck_assert(explain_at(2, -EACCES, true, EVENT_CPU_CLOCK));
    ck_assert_ptr_nonnull(strstr(message, "some-event with kernel frames: kernel.perf_event_paranoid is 2: set it to 1"));
    ck_assert(explain_at(2, -EPERM, false, EVENT_PERF));
    ck_assert_ptr_nonnull(strstr(message, "event some-event: kernel.perf_event_paranoid is 2"));
    ck_assert(explain_at(2, -EPERM, false, EVENT_CPU_CLOCK));
    ck_assert_ptr_nonnull(strstr(message, "seccomp"));
}
END_TEST

START_TEST(test_other_faults)
{
    ck_assert_int_eq(explain(-ENOBUFS, false, EVENT_CPU_CLOCK), 503);
    ck_assert_ptr_nonnull(strstr(message, "perf_event_mlock_kb"));
    ck_assert_int_eq(explain(-EMFILE, false, EVENT_CPU_CLOCK), 503);
    ck_assert_ptr_nonnull(strstr(message, "LimitNOFILE"));
    ck_assert_int_eq(explain(-ESRCH, false, EVENT_CPU_CLOCK), 404);
    ck_assert_int_eq(explain(-ENOENT, false, EVENT_PERF), 400);
    ck_assert_int_eq(explain(-ENOENT, false, EVENT_GROWTH), 503);
    ck_assert_ptr_nonnull(strstr(message, "kmem:rss_stat"));
}
END_TEST

/* On a kernel of which it is known what it does, whatever the target is now. */
static int check_returns(enum uprobe_returns known, uint32_t kind)
{
    struct uprobe_price price = {.returns = known};
    const struct sampler sampler = {.price = &price};
    const struct role_place place = {.role = kind};
    const struct role_file file = {.fd = -1, .places = &place, .n = 1};
    const struct attacher_request q = {.sampler = &sampler, .files = &file, .n_files = 1};
    return attacher_returns_check(&q);
}

START_TEST(test_return_probes_that_kill)
{
    ck_assert_int_eq(check_returns(UPROBE_RETURNS_KILL, HEAP_MALLOC), -EUCLEAN);
    ck_assert_int_eq(check_returns(UPROBE_RETURNS_KILL, HEAP_SITE_ALLOC), 0);
    ck_assert_int_eq(check_returns(UPROBE_RETURNS_SURVIVE, HEAP_MALLOC), 0);
    ck_assert_int_eq(explain(-EUCLEAN, false, EVENT_HEAP), 503);
    ck_assert_ptr_nonnull(strstr(message, "libcprofd-heap.so"));
}
END_TEST

static void explain_price_of(enum event_kind event, double percent)
{
    const struct attacher_message failed = {.stage = ATTACHER_PRICE, .error = -EDQUOT,
                                            .price = {.hit_ns = 700, .per_second = 1e6, .percent = percent}};
    const struct session_params params = {.event = event, .event_text = "x", .max_overhead = 5};

    ck_assert_int_eq(attacher_explain(&failed, &params, message, sizeof(message)), 409);
}

static void explain_price(enum event_kind event)
{
    explain_price_of(event, 70);
    ck_assert_ptr_nonnull(strstr(message, "each probe costs 700 ns: 70.0 %"));
    ck_assert_ptr_nonnull(strstr(message, "max_overhead="));
}

/* Of a target that hardly did anything but pay for its probes, and of one that mostly waits. */
START_TEST(test_figures_that_are_not_known)
{
    struct attacher_message failed = {.stage = ATTACHER_PRICE, .error = -EDQUOT, .price = {.hit_ns = 700, .per_second = 1e6, .percent = 70}};
    const struct session_params params = {.event = EVENT_UPROBE, .event_text = "x", .max_overhead = 5};

    (void)attacher_explain(&failed, &params, message, sizeof(message));
    ck_assert_ptr_nonnull(strstr(message, "it happens about 1000000 times a second of the process's CPU time, and each probe costs 700 ns: "
                                          "70.0 % of that time,"));
    failed.price.more = failed.price.mostly_waits = true;
    (void)attacher_explain(&failed, &params, message, sizeof(message));
    ck_assert_ptr_nonnull(strstr(message, "it happens more than 1000000 times"));
    ck_assert_ptr_nonnull(strstr(message, "70.0 % of a fifth of a CPU, which one that mostly waits"));
}
END_TEST

/* What is named is within the budget, and a number that the parameter takes. */
START_TEST(test_duty_that_fits)
{
    static const struct {
        double percent;
        const char *duty;
    } fits[] = {{5.01, "(duty=99)"}, {30.2, "(duty=16)"}, {70, "(duty=7.1)"}, {72.1, "(duty=6.9)"}, {10000, "(duty=0.05)"}, {30000, "(duty=0.016)"},
                {1e9, "(duty=0.001)"}};

    for (size_t i = 0; i < sizeof(fits) / sizeof(fits[0]); i++) {
        explain_price_of(EVENT_UPROBE, fits[i].percent);
        ck_assert_msg(strstr(message, fits[i].duty) != NULL, "%s: %s", fits[i].duty, message);
    }
}
END_TEST

/* Half to one and a half of the mean, whatever the random number is; and on average the mean. */
START_TEST(test_spans_of_duty)
{
    uint64_t sum = 0;

    for (uint64_t i = 0; i < 1000; i++) {
        uint64_t span = attacher_duty_span(1000000, i * 0x9e3779b97f4a7c15);
        ck_assert(span >= 500000 && span < 1500000);
        sum += span;
    }
    ck_assert(sum > 980000000 && sum < 1020000000);
    ck_assert_uint_eq(attacher_duty_span(0, 7), 0);
}
END_TEST

/* What takes long to attach is attached for less of the time than was asked for. */
START_TEST(test_part_of_duty)
{
    ck_assert_double_eq_tol(attacher_duty_part(10, 0), 0.1, 1e-9);
    ck_assert_double_eq_tol(attacher_duty_part(10, NSEC_PER_SEC), 0.05, 1e-9);
    ck_assert_double_eq_tol(attacher_duty_part(0.001, NSEC_PER_SEC / 4), 0.000008, 1e-12);
}
END_TEST

/* No parameter is named that the kind of profile does not take. */
START_TEST(test_choices)
{
    explain_price(EVENT_UPROBE);
    ck_assert_ptr_nonnull(strstr(message, "duty=7.1"));
    ck_assert_ptr_null(strstr(message, "libcprofd-heap.so"));
    explain_price(EVENT_CUSTOM);
    ck_assert_ptr_nonnull(strstr(message, "profile?event=uprobe:PATH:SYMBOL&duty=7.1"));
    ck_assert_ptr_null(strstr(message, "libcprofd-heap.so"));
    explain_price(EVENT_HEAP);
    ck_assert_ptr_nonnull(strstr(message, "allocs?seconds=10&duty=7.1)"));
    ck_assert_ptr_nonnull(strstr(message, "libcprofd-heap.so"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("attacher");
    TCase *c = tcase_create("all");
    tcase_add_test(c, test_figures_that_are_not_known);
    tcase_add_test(c, test_permission);
    tcase_add_test(c, test_other_faults);
    tcase_add_test(c, test_return_probes_that_kill);
    tcase_add_test(c, test_choices);
    tcase_add_test(c, test_duty_that_fits);
    tcase_add_test(c, test_spans_of_duty);
    tcase_add_test(c, test_part_of_duty);
    suite_add_tcase(suite, c);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
