/* The texts in Go's layouts: which stacks are one, what is said of threads, and that nothing hostile breaks a line. */
#include <errno.h>

#include "tests/unit/render_fixture.h"

static struct raw_build b;
static struct fixture f;

static void setup(void)
{
    build_init(&b);
    fixture_init(&f);
    build_mapping(&b, 0x10000, 0x20000, 0x1000, build_object(&b, "/nonexistent/prog"));
    b.params.types = (struct raw_types){.type = {"goroutine"}, .unit = {"count"}, .n = 1, .period_type = "goroutine", .period_unit = "count"};
    b.params.period = 1;
    b.params.cpu_clock = 0;
}

static void teardown(void)
{
    renderer_free(f.renderer);
}

static void add(uint32_t tid, enum sample_state state, const char *comm, uint64_t stack)
{
    memset(b.key.comm, 0, sizeof(b.key.comm));
    memcpy(b.key.comm, comm, strnlen(comm, sizeof(b.key.comm)));
    b.key.tid = tid;
    b.key.state = state;
    build_count(&b, stack, 1);
}

static void add_thread(uint32_t tid, uint64_t wait_ns, const char *state, const char *channel)
{
    struct raw_thread *t = &b.threads[b.n_threads++];

    *t = (struct raw_thread){.tid = tid, .wait_ns = wait_ns};
    strcpy(t->state, state);
    strcpy(t->channel, channel);
}

/* The text, which begins with `begins`. */
static char *text(enum raw_format format, const char *begins)
{
    b.params.format = format;
    char *said = fixture_text(&f, &b, NULL);
    ck_assert_msg(strncmp(said, begins, strlen(begins)) == 0, "%s", said);
    return said;
}

START_TEST(test_counts)
{
    uint64_t common = build_stack(&b, NULL, 0, (uint64_t[]){STACK_FRAME(0x10010, STACK_FRAME_EXACT), 0x10021}, 2, STACK_END_ROOT);
    uint64_t other = build_stack(&b, NULL, 0, (uint64_t[]){STACK_FRAME(0x10030, STACK_FRAME_EXACT)}, 1, STACK_END_BAD_FP);

    add(80, SAMPLE_STATE_SLEEP, "a", common);
    add(77, SAMPLE_STATE_LOCK, "main", other);
    add(79, SAMPLE_STATE_SLEEP, "a", common);
    add(78, SAMPLE_STATE_SLEEP, "b", common);
    char *said = text(RAW_FORMAT_COUNTS,
                      "goroutine profile: total 4\n"
                      "2 @ 0x10010 0x10021\n"
                      "# labels: {\"state\":\"sleep\", \"thread\":\"a\"}\n"
                      "# tids: 79 80\n"
                      "#\t0x10010\tprog+0x1010+0x0\t/nonexistent/prog:0\n"
                      "#\t0x10021\tprog+0x1020+0x1\t/nonexistent/prog:0\n"
                      "\n"
                      "1 @ ");
    ck_assert_ptr_nonnull(strstr(said, "\n1 @ 0x10010 0x10021\n# labels: {\"state\":\"sleep\", \"thread\":\"b\"}\n# tids: 78\n"));
    ck_assert_ptr_nonnull(strstr(said, "\n1 @ 0x10030 0x100000000000002\n# labels: {\"state\":\"lock\", \"thread\":\"main\"}\n# tids: 77\n"
                                       "#\t0x10030\tprog+0x1030+0x0\t/nonexistent/prog:0\n"
                                       "#\t0x100000000000002\t[truncated: bad_fp]+0x0\t[cprofd]:0\n\n"));
    ck_assert_ptr_nonnull(strstr(said, "\n# cprofd.truncated.bad_fp=1\n"));
    ck_assert_ptr_nonnull(strstr(said, "\n--- Memory map: ---\n10000-20000 r-xp 00001000 00:00 0 /nonexistent/prog\n"));
    free(said);
}
END_TEST

START_TEST(test_no_thread)
{
    free(text(RAW_FORMAT_COUNTS, "goroutine profile: total 0\n# cprofd."));
    free(text(RAW_FORMAT_STACKS, "# cprofd."));
}
END_TEST

START_TEST(test_states_are_left_out_where_there_are_none)
{
    add(78, SAMPLE_STATE_NONE, "a", build_stack(&b, NULL, 0, (uint64_t[]){0x10010}, 1, STACK_END_ROOT));
    free(text(RAW_FORMAT_COUNTS, "goroutine profile: total 1\n1 @ 0x10010\n# labels: {\"thread\":\"a\"}\n"));
}
END_TEST

START_TEST(test_long_lists_of_threads_are_broken_into_lines)
{
    uint64_t stack = build_stack(&b, NULL, 0, (uint64_t[]){0x10010}, 1, STACK_END_ROOT);

    add(78, SAMPLE_STATE_CPU, "a", stack);
    for (uint32_t tid = 1000; tid < 3500; tid++) {
        struct sample_record *s = (void *)((char *)b.records + b.records_len);
        *s = (struct sample_record){.type = RECORD_SAMPLE, .key = b.counts[0].key, .value = {1, 1}};
        s->key.tid = tid;
        b.records_len += sizeof(*s);
    }
    char *said = text(RAW_FORMAT_COUNTS, "goroutine profile: total 2501\n2501 @ 0x10010\n");
    size_t lines = 0;
    for (const char *at = said; (at = strstr(at, "\n# tids: ")); at++)
        lines++;
    ck_assert_uint_eq(lines, 3);
    ck_assert_ptr_nonnull(strstr(said, "\n# tids: 2999 "));
    free(said);
}
END_TEST

START_TEST(test_a_stack_for_each_thread)
{
    uint64_t waits = build_stack(&b, NULL, 0, (uint64_t[]){STACK_FRAME(0x10010, STACK_FRAME_EXACT), 0x10021}, 2, STACK_END_ROOT);
    uint64_t runs = build_stack(&b, NULL, 0, NULL, 0, STACK_END_RUNNING);

    add(70, SAMPLE_STATE_LOCK, "w", waits);
    add(77, SAMPLE_STATE_CPU, "main", runs);
    add(90, SAMPLE_STATE_IO, "r", waits);
    add_thread(70, 61 * NSEC_PER_SEC + 5 * NSEC_PER_MSEC, "futex wait", "futex_do_wait");
    add_thread(77, 0, "running", "");
    char *said = text(RAW_FORMAT_STACKS,
                      "goroutine 77 [running, thread \"main\"]:\n"
                      "[running](...)\n\t[cprofd]:0 +0x0\n"
                      "\n"
                      "goroutine 70 [futex wait, 1 minutes, for 61.005 s, thread \"w\", in futex_do_wait]:\n"
                      "prog+0x1010(...)\n\t/nonexistent/prog:0 +0x0\n"
                      "prog+0x1020(...)\n\t/nonexistent/prog:0 +0x1\n"
                      "\n"
                      "goroutine 90 [io, thread \"r\"]:\n");
    ck_assert_ptr_nonnull(strstr(said, "\n# cprofd.truncated.running=1\n"));
    free(said);
}
END_TEST

/* Without names, the outermost frames in the outermost one's file are the C library's. */
START_TEST(test_starts_of_threads)
{
    uint64_t a = build_stack(&b, NULL, 0, (uint64_t[]){STACK_FRAME(0x10010, STACK_FRAME_EXACT), 0x10021, 0x30031, 0x30041}, 4, STACK_END_EARLIER);
    uint64_t same = build_stack(&b, NULL, 0, (uint64_t[]){STACK_FRAME(0x10050, STACK_FRAME_EXACT), 0x10021, 0x30031, 0x30041}, 4, STACK_END_EARLIER);
    uint64_t cut = build_stack(&b, NULL, 0, (uint64_t[]){STACK_FRAME(0x10010, STACK_FRAME_EXACT), 0x50021}, 2, STACK_END_EARLIER);
    uint64_t none = build_stack(&b, NULL, 0, NULL, 0, STACK_END_EARLIER);

    build_mapping(&b, 0x30000, 0x40000, 0, build_object(&b, "/nonexistent/libc.so.6"));
    strcpy(b.params.types.type[0], "threadcreate");
    add(80, SAMPLE_STATE_NONE, "a", a);
    add(81, SAMPLE_STATE_NONE, "a", same);
    add(82, SAMPLE_STATE_NONE, "a", cut);
    add(83, SAMPLE_STATE_NONE, "a", none);
    char begins[512], line[128], *said;
    unsigned long long earlier = 0x100000000000000 + STACK_END_EARLIER;
    (void)snprintf(begins, sizeof(begins),
                   "threadcreate profile: total 4\n"
                   "2 @ 0x%llx 0x10021 0x30031 0x30041\n"
                   "# labels: {\"thread\":\"a\"}\n"
                   "# tids: 80 81\n"
                   "#\t0x%llx\t[created earlier]+0x0\t[cprofd]:0\n"
                   "#\t0x10021\tprog+0x1020+0x1\t/nonexistent/prog:0\n"
                   "#\t0x30031\tlibc.so.6+0x30+0x1\t/nonexistent/libc.so.6:0\n",
                   earlier, earlier);
    said = text(RAW_FORMAT_COUNTS, begins);
    /* What ends in no code has no beginning, nor what has no frame. */
    (void)snprintf(line, sizeof(line), "\n1 @ 0x%llx 0x%llx\n", earlier, 0x100000000000000ull + STACK_END_NO_CODE);
    ck_assert_ptr_nonnull(strstr(said, line));
    (void)snprintf(line, sizeof(line), "\n1 @ 0x%llx 0x%llx\n", earlier, 0x100000000000000ull + STACK_END_NO_USER);
    ck_assert_ptr_nonnull(strstr(said, line));
    free(said);
}
END_TEST

/* Whoever waited: stacks are what counts, the one that took the longest first. */
START_TEST(test_contentions)
{
    uint64_t common = build_stack(&b, NULL, 0, (uint64_t[]){STACK_FRAME(0x10010, STACK_FRAME_EXACT), 0x10021}, 2, STACK_END_ROOT);
    uint64_t other = build_stack(&b, NULL, 0, (uint64_t[]){STACK_FRAME(0x10030, STACK_FRAME_EXACT)}, 1, STACK_END_ROOT);

    b.params.types = (struct raw_types){.type = {"contentions", "delay"}, .unit = {"count", "nanoseconds"}, .n = 2};
    add(77, SAMPLE_STATE_NONE, "main", other);
    add(79, SAMPLE_STATE_NONE, "a", common);
    add(78, SAMPLE_STATE_NONE, "b", common);
    char *said = text(RAW_FORMAT_COUNTS,
                      "--- contention:\n"
                      "cycles/second=1000000000\n"
                      "20000000 2 @ 0x10010 0x10021\n"
                      "#\t0x10010\tprog+0x1010+0x0\t/nonexistent/prog:0\n"
                      "#\t0x10021\tprog+0x1020+0x1\t/nonexistent/prog:0\n"
                      "\n"
                      "10000000 1 @ 0x10030\n"
                      "#\t0x10030\tprog+0x1030+0x0\t/nonexistent/prog:0\n"
                      "\n"
                      "# cprofd.");
    ck_assert_ptr_nonnull(strstr(said, "\n--- Memory map: ---\n10000-20000 r-xp 00001000 00:00 0 /nonexistent/prog\n"));
    free(said);
    free(text(RAW_FORMAT_STACKS, "--- contention:\ncycles/second=1000000000\n20000000 2 @ "));
}
END_TEST

/* Of releases, those that are none are left out. */
START_TEST(test_releases)
{
    b.params.types = (struct raw_types){.type = {"contentions", "delay"}, .unit = {"count", "nanoseconds"}, .n = 2};
    b.params.releases = 1;
    add(77, SAMPLE_STATE_LOCK, "main", build_stack(&b, NULL, 0, (uint64_t[]){STACK_FRAME(0x10010, STACK_FRAME_EXACT)}, 1, STACK_END_ROOT));
    add(77, SAMPLE_STATE_OTHER, "main", build_stack(&b, NULL, 0, (uint64_t[]){STACK_FRAME(0x10020, STACK_FRAME_EXACT)}, 1, STACK_END_ROOT));
    char *said = text(RAW_FORMAT_COUNTS, "--- mutex:\ncycles/second=1000000000\nsampling period=1\n10000000 1 @ 0x10010\n");
    ck_assert_ptr_nonnull(strstr(said, "\n# cprofd.signals=1\n"));
    ck_assert_ptr_null(strstr(said, "0x10020"));
    free(said);
}
END_TEST

START_TEST(test_hostile_names)
{
    uint64_t stack = build_stack(&b, NULL, 0, (uint64_t[]){STACK_FRAME(0x30010, STACK_FRAME_EXACT)}, 1, STACK_END_ROOT);

    build_mapping(&b, 0x30000, 0x40000, 0, build_object(&b, "/nonexistent/a\n\xff\tb"));
    add(78, SAMPLE_STATE_CPU, "x]:\n\"\\\xff[0123456", stack);
    char *said = text(RAW_FORMAT_STACKS, "goroutine 78 [cpu, thread \"x):\\u000a\\\"\\\\\xef\xbf\xbd(0123456\"]:\n");
    ck_assert_ptr_nonnull(strstr(said, "\n\t/nonexistent/a?\xef\xbf\xbd?b:0 +0x0\n"));
    free(said);
    free(text(RAW_FORMAT_COUNTS, "goroutine profile: total 1\n1 @ 0x30010\n"
                                 "# labels: {\"state\":\"cpu\", \"thread\":\"x]:\\u000a\\\"\\\\\xef\xbf\xbd[0123456\"}\n# tids: 78\n#\t"));
}
END_TEST

START_TEST(test_filters_hold_in_texts)
{
    uint64_t stack = build_stack(&b, NULL, 0, (uint64_t[]){STACK_FRAME(0x10010, STACK_FRAME_EXACT)}, 1, STACK_END_ROOT);

    add(78, SAMPLE_STATE_CPU, "a", stack);
    add(79, SAMPLE_STATE_IO, "b", stack);
    b.params.tid = 79;
    free(text(RAW_FORMAT_COUNTS, "goroutine profile: total 1\n"));
    b.params.tid = 0;
    b.params.states = 1u << SAMPLE_STATE_CPU;
    free(text(RAW_FORMAT_STACKS, "goroutine 78 [cpu, thread \"a\"]:\n"));
    b.params.states = 0;
    strcpy(b.params.focus, "nothing");
    free(text(RAW_FORMAT_COUNTS, "goroutine profile: total 0\n"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("render_text");
    TCase *tc = tcase_create("render_text");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, test_counts);
    tcase_add_test(tc, test_no_thread);
    tcase_add_test(tc, test_states_are_left_out_where_there_are_none);
    tcase_add_test(tc, test_long_lists_of_threads_are_broken_into_lines);
    tcase_add_test(tc, test_a_stack_for_each_thread);
    tcase_add_test(tc, test_starts_of_threads);
    tcase_add_test(tc, test_contentions);
    tcase_add_test(tc, test_releases);
    tcase_add_test(tc, test_hostile_names);
    tcase_add_test(tc, test_filters_hold_in_texts);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
