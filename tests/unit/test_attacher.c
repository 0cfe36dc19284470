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

static void explain_price(enum event_kind event)
{
    const struct attacher_message failed = {.stage = ATTACHER_PRICE, .error = -EDQUOT, .price = {.hit_ns = 700, .per_second = 1e6, .percent = 70}};
    const struct session_params params = {.event = event, .event_text = "x", .max_overhead = 5};

    ck_assert_int_eq(attacher_explain(&failed, &params, message, sizeof(message)), 409);
    ck_assert_ptr_nonnull(strstr(message, "each probe costs 700 ns: 70.0 %"));
    ck_assert_ptr_nonnull(strstr(message, "max_overhead="));
}

/* No parameter is named that the kind of profile does not take. */
START_TEST(test_choices)
{
    explain_price(EVENT_UPROBE);
    ck_assert_ptr_nonnull(strstr(message, "duty=7.1"));
    ck_assert_ptr_null(strstr(message, "libcprofd-heap.so"));
    explain_price(EVENT_CUSTOM);
    ck_assert_ptr_null(strstr(message, "duty="));
    ck_assert_ptr_null(strstr(message, "libcprofd-heap.so"));
    explain_price(EVENT_HEAP);
    ck_assert_ptr_null(strstr(message, "duty="));
    ck_assert_ptr_nonnull(strstr(message, "libcprofd-heap.so"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("attacher");
    TCase *c = tcase_create("all");
    tcase_add_test(c, test_permission);
    tcase_add_test(c, test_other_faults);
    tcase_add_test(c, test_return_probes_that_kill);
    tcase_add_test(c, test_choices);
    suite_add_tcase(suite, c);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
