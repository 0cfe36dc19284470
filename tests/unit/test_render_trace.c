/* Events rendered as execution traces: states, names, stacks, and when a trace lacks too much to be shown. The order of events is
 * test_exec_trace.c's. */
#include <seccomp.h>

#include "tests/unit/render_fixture.h"
#include "util/cleanup.h"

#define START_NS 1000000000000ull

static struct raw_build b;
static struct fixture f;

static void setup(void)
{
    build_init(&b);
    fixture_init(&f);
    build_own(&b, (const void *)(uintptr_t)setup);
    b.params.format = RAW_FORMAT_TRACE_CHROME;
    b.params.types.n = 0;
    b.params.cpu_clock = 0;
    b.params.end_monotonic_ns = START_NS + (uint64_t)b.params.duration_ns;
}

static void teardown(void)
{
    renderer_free(f.renderer);
}

static void add_event(struct trace_record event, uint64_t stack)
{
    event.type = RECORD_TRACE;
    event.time_ns += START_NS;
    event.stack_hash[0] = stack;
    memcpy((char *)b.records + b.records_len, &event, sizeof(event));
    b.records_len += sizeof(event);
}

__attribute__((noinline)) static void my_wait(void)
{
    __asm__ volatile("nop; nop; nop; nop");
}

__attribute__((noinline)) static void my_thread(void)
{
    __asm__ volatile("nop; nop; nop; nop");
}

#define EVENT(stack, ...) add_event((struct trace_record){__VA_ARGS__}, stack)

static void assert_has(const char *body, const char *words)
{
    ck_assert_msg(strstr(body, words), "no %s in %s", words, body);
}

static void assert_lacks(const char *body, const char *words)
{
    ck_assert_msg(!strstr(body, words), "%s in %s", words, body);
}

START_TEST(test_states_names_and_stacks)
{
    uint64_t frames[] = {(uintptr_t)my_wait, (uintptr_t)my_thread + 2};
    uint64_t stack = build_stack(&b, NULL, 0, frames, 2, STACK_END_ROOT);
    int number = seccomp_syscall_resolve_name("clock_nanosleep");
    EVENT(stack, .event = TRACE_OUT, .time_ns = 1000, .tid = 77, .cpu = 1, .state = SAMPLE_STATE_SLEEP, .syscall = number, .comm = "main-one");
    EVENT(0, .event = TRACE_WAKING, .state = TRACE_RECOVERED, .time_ns = 5000, .tid = 77, .syscall = -1, .comm = "main-one");
    EVENT(0, .event = TRACE_IN, .time_ns = 6000, .tid = 77, .cpu = 1, .syscall = -1, .comm = "main-one");
    EVENT(stack, .event = TRACE_NEW, .time_ns = 7000, .tid = 78, .actor = 77, .cpu = 1, .syscall = -1, .comm = "child");
    EVENT(0, .event = TRACE_IN, .time_ns = 8000, .tid = 78, .cpu = 0, .syscall = -1, .comm = "child");
    EVENT(0, .event = TRACE_OUT, .time_ns = 9000, .tid = 78, .cpu = 0, .state = SAMPLE_STATE_NONE, .syscall = -1, .comm = "child");
    AUTO_FREE char *body = fixture_text(&f, &b, NULL);
    assert_has(body, "\"name\":\"process_name\",\"args\":{\"name\":\"main-one\"}");
    assert_has(body, "\"name\":\"thread_name\",\"args\":{\"name\":\"child\"}");
    assert_has(body, "\"tid\":77,\"ts\":1.000,\"dur\":4.000,\"name\":\"sleep (clock_nanosleep)\",\"cat\":\"sched\",\"args\":{\"cpu\":1},\"sf\":2");
    assert_has(body, "\"name\":\"my_thread\"}");
    assert_has(body, "\"name\":\"my_wait\",\"parent\":\"1\"}");
    assert_has(body, "\"tid\":78,\"ts\":8.000,\"dur\":1.000,\"name\":\"running\"");
    assert_has(body, "\"cprofd.events\":\"6\"");
    assert_has(body, "\"cprofd.invented\":\"0\"");
    assert_has(body, "\"cprofd.recovered\":\"1\"");
    assert_has(body, "\"cprofd.rooted\":\"2\"");
}
END_TEST

START_TEST(test_each_format)
{
    static const struct {
        uint32_t format;
        const char *head;
    } formats[] = {{RAW_FORMAT_TRACE_GO, "go 1.23 trace"}, {RAW_FORMAT_TRACE_PERFETTO, "\n"}, {RAW_FORMAT_TRACE_CHROME, "{\"displayTimeUnit\""}};
    for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++) {
        b.params.format = formats[i].format;
        struct rendered r = fixture_render(&f, &b, NULL); /* no event at all */
        ck_assert_msg(r.error == 0, "%s", r.result.message);
        ck_assert_mem_eq(r.body, formats[i].head, strlen(formats[i].head));
        free(r.body);
    }
}
END_TEST

START_TEST(test_stack_that_was_lost)
{
    EVENT(4711, .event = TRACE_OUT, .time_ns = 1000, .tid = 77, .state = SAMPLE_STATE_IO, .syscall = -1, .comm = "a");
    AUTO_FREE char *body = fixture_text(&f, &b, NULL);
    assert_has(body, "\"cprofd.stacks_lost\":\"1\"");
    assert_has(body, "\"name\":\"io\",\"cat\":\"sched\",\"args\":{\"cpu\":0}}");
}
END_TEST

/* So many waits of one thread, of some of which the wake was lost. */
static void add_waits(unsigned n, unsigned lost)
{
    for (unsigned i = 0; i < n; i++) {
        uint64_t at = 1000 + i * 100000;
        EVENT(0, .event = TRACE_OUT, .time_ns = at, .tid = 77, .state = SAMPLE_STATE_LOCK, .syscall = -1, .comm = "a");
        if (i >= lost)
            EVENT(0, .event = TRACE_WAKING, .time_ns = at + 10, .tid = 77, .syscall = -1, .comm = "a");
        EVENT(0, .event = TRACE_IN, .time_ns = at + 20, .tid = 77, .syscall = -1, .comm = "a");
    }
}

START_TEST(test_threads_that_do_nothing)
{
    uint64_t frames[] = {(uintptr_t)my_wait, (uintptr_t)my_thread + 2};
    b.key.state = SAMPLE_STATE_LOCK;
    build_count(&b, build_stack(&b, NULL, 0, frames, 2, STACK_END_ROOT), 1);
    b.counts[0].value.weight = START_NS + 1000;
    EVENT(0, .event = TRACE_IN, .time_ns = 500, .tid = 77, .cpu = 1, .syscall = -1, .comm = "main-one");
    AUTO_FREE char *body = fixture_text(&f, &b, NULL);
    assert_has(body, "\"tid\":78,\"ts\":0.000,\"name\":\"thread_name\",\"args\":{\"name\":\"worker-1\"}");
    assert_has(body, "\"tid\":78,\"ts\":0.000,\"dur\":1000000.000,\"name\":\"lock\",\"cat\":\"sched\",\"args\":{\"cpu\":0},\"sf\":2}");
    assert_has(body, "\"cprofd.events\":\"1\"");
}
END_TEST

START_TEST(test_few_repairs_are_told)
{
    add_waits(700, 3);
    struct rendered r = fixture_render(&f, &b, NULL);
    ck_assert_msg(r.error == 0, "%s", r.result.message);
    ck_assert_uint_eq(r.result.body.samples, 2097);
    ck_assert_uint_eq(r.result.body.repaired, 3);
    assert_has(r.body, "\"cprofd.invented\":\"3\"");
    assert_has(r.body, "\"end\":\"made up: events were lost\"");
    free(r.body);
}
END_TEST

START_TEST(test_many_repairs_are_refused)
{
    add_waits(700, 4);
    struct rendered r = fixture_render(&f, &b, NULL);
    ck_assert_int_eq(r.error, -EBADE);
    assert_has(r.result.message, "of 2096 events 0 were lost, and 4 had to be made up and 0 left out");
    free(r.body);
}
END_TEST

START_TEST(test_losses_are_refused)
{
    add_waits(10, 0);
    build_fact(&b, "lost.ring=2");
    struct rendered r = fixture_render(&f, &b, NULL);
    ck_assert_int_eq(r.error, -EBADE);
    assert_has(r.result.message, "of 30 events 2 were lost");
    free(r.body);
}
END_TEST

START_TEST(test_events_are_no_samples_of_a_profile)
{
    b.params.format = RAW_FORMAT_FOLDED;
    b.params.types.n = 2;
    add_waits(3, 0);
    AUTO_FREE char *body = fixture_text(&f, &b, NULL);
    ck_assert_str_eq(body, "");
    assert_lacks(body, "lost");
}
END_TEST

START_TEST(test_event_that_is_none)
{
    EVENT(0, .event = TRACE_EVENT_COUNT, .time_ns = 1, .tid = 77);
    struct rendered r = fixture_render(&f, &b, NULL);
    ck_assert_int_eq(r.error, -EINVAL);
    free(r.body);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("render_trace");
    TCase *c = tcase_create("render_trace");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, test_states_names_and_stacks);
    tcase_add_test(c, test_each_format);
    tcase_add_test(c, test_stack_that_was_lost);
    tcase_add_test(c, test_threads_that_do_nothing);
    tcase_add_test(c, test_few_repairs_are_told);
    tcase_add_test(c, test_many_repairs_are_refused);
    tcase_add_test(c, test_losses_are_refused);
    tcase_add_test(c, test_events_are_no_samples_of_a_profile);
    tcase_add_test(c, test_event_that_is_none);
    suite_add_tcase(suite, c);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
