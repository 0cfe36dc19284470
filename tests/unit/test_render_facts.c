/* What a profile counts and says of itself: joins, filters, ends, facts, warnings, the quality format. */
#include <errno.h>

#include "bpf/heap.h"
#include "daemon/facts.h"
#include "tests/unit/render_fixture.h"

static struct raw_build b;
static struct fixture f;

static void setup(void)
{
    build_init(&b);
    fixture_init(&f);
    build_mapping(&b, 0x10000, 0x20000, 0, build_object(&b, "/nonexistent/prog"));
}

static void teardown(void)
{
    renderer_free(f.renderer);
}

static const Perftools__Profiles__Label *label_of(const Perftools__Profiles__Profile *pb, size_t sample,
                                                  const char *key)
{
    for (size_t i = 0; i < pb->sample[sample]->n_label; i++)
        if (strcmp(reader_string(pb, pb->sample[sample]->label[i]->key), key) == 0)
            return pb->sample[sample]->label[i];
    ck_abort_msg("no label %s", key);
}

/* What each is short of whole numbers, the next one has. */
START_TEST(test_weights_stand_for_more)
{
    uint64_t before = 0;
    int64_t samples = 0, weight = 0;
    b.params.scale = 3333;
    for (uint64_t i = 0; i < 3; i++)
        build_user(&b, (uint64_t[]){0x10010 + i, 0x10081}, 2, STACK_END_ROOT, 5);
    for (size_t i = 0; i < b.n_counts; i++)
        before += b.counts[i].value.weight;
    Perftools__Profiles__Profile *pb = fixture_profile(&f, &b, NULL);
    for (size_t i = 0; i < pb->n_sample; i++) {
        samples += pb->sample[i]->value[0];
        weight += pb->sample[i]->value[1];
    }
    ck_assert_uint_gt(before, 0);
    ck_assert_int_eq(samples, 15);
    ck_assert_int_eq(weight, (int64_t)(before * 3333 / 1000));
    reader_free(pb);
}
END_TEST

/* Of allocations that were seen for a part of the time, objects and bytes stand for more, by the fractions that they are counted with. */
START_TEST(test_allocations_stand_for_more)
{
    b.params.scale = 4500;
    b.params.heap = 1;
    b.params.types.n = 2;
    uint64_t stack = build_stack(&b, NULL, 0, (uint64_t[]){0x10010, 0x10081}, 2, STACK_END_ROOT);
    build_count(&b, stack, 3 << HEAP_FRACTION_BITS);
    b.counts[b.n_counts - 1].value.weight = (1000 << HEAP_FRACTION_BITS) + (1 << (HEAP_FRACTION_BITS - 1));
    build_count(&b, stack, 0);
    b.counts[b.n_counts - 1].key.state = HEAP_COUNT_FREE;
    build_count(&b, build_stack(&b, NULL, 0, (uint64_t[]){0x10020, 0x10091}, 2, STACK_END_ROOT), UINT64_MAX);
    Perftools__Profiles__Profile *pb = fixture_profile(&f, &b, NULL);
    ck_assert_uint_eq(pb->n_sample, 2);
    for (size_t i = 0; i < 2; i++) {
        bool huge = pb->sample[i]->value[0] != 14; /* 13.5 */
        ck_assert_uint_eq(pb->sample[i]->n_value, 2);
        ck_assert_int_eq(pb->sample[i]->value[1], huge ? pb->sample[i]->value[1] : 4502); /* 4502.25 */
        ck_assert_int_gt(pb->sample[i]->value[0], 0);
        ck_assert(!huge || pb->sample[i]->value[0] == (int64_t)(UINT64_MAX >> HEAP_FRACTION_BITS));
    }
    reader_free(pb);
}
END_TEST

START_TEST(test_counts_and_late_samples_are_one)
{
    uint64_t stack = build_stack(&b, NULL, 0, (uint64_t[]){0x10010}, 1, STACK_END_ROOT);
    build_count(&b, stack, 3);
    build_sample_record(&b, stack, 4);
    build_stack(&b, NULL, 0, (uint64_t[]){0x10020}, 1, STACK_END_ROOT); /* seen, never counted */
    struct stack_record *again =
        (void *)((char *)b.records + b.records_len); /* the same hash, other frames */
    memcpy(again, b.records, sizeof(*again));
    again->n_user = 0;
    b.records_len += sizeof(*again);
    Perftools__Profiles__Profile *pb = fixture_profile(&f, &b, NULL);
    ck_assert_uint_eq(pb->n_sample, 1);
    ck_assert_int_eq(pb->sample[0]->value[0], 7);
    ck_assert_int_eq(pb->sample[0]->value[1], 70000000);
    ck_assert_int_eq(label_of(pb, 0, "pid")->num, 77);
    ck_assert_int_eq(label_of(pb, 0, "tid")->num, 78);
    ck_assert_str_eq(reader_string(pb, label_of(pb, 0, "thread")->str), "worker-1");
    ck_assert(has_comment(pb, "cprofd.samples=7"));
    ck_assert_ptr_nonnull(comment_of(pb, "cprofd.version="));
    ck_assert_int_eq(pb->period, 10000000);
    ck_assert_int_eq(pb->duration_nanos, 1000000000);
    reader_free(pb);
}
END_TEST

START_TEST(test_counts_without_a_stack_are_lost_and_said)
{
    build_count(&b, 1ull << 60, 6);
    build_user(&b, (uint64_t[]){0x10010}, 1, STACK_END_ROOT, 1);
    build_fact(&b, "lost.ring=10");
    build_fact(&b, "lost.stack=2");
    struct rendered r = fixture_render(&f, &b, NULL);
    ck_assert_uint_eq(r.result.body.lost, 18);
    ck_assert_uint_eq(r.result.body.samples, 1);
    ck_assert_uint_eq(r.result.body.rooted, 1);
    free(r.body);
    Perftools__Profiles__Profile *pb = fixture_profile(&f, &b, NULL);
    ck_assert(has_comment(pb, "cprofd.lost.stack=8"));
    ck_assert(has_comment(pb, "cprofd.lost.ring=10"));
    ck_assert(has_comment(pb, "cprofd.samples=1"));
    reader_free(pb);
}
END_TEST

START_TEST(test_names_of_threads_are_any_bytes)
{
    memcpy(b.key.comm, "\xff\xfe;\n0123456789abcd", CPROFD_COMM_LEN); /* and no NUL at the end */
    build_user(&b, (uint64_t[]){0x10010}, 1, STACK_END_ROOT, 1);
    reader_free(fixture_profile(&f, &b, NULL)); /* which checks strings */
}
END_TEST

START_TEST(test_each_end_is_counted_and_shown)
{
    static const char *const shown[STACK_END_COUNT] = {
        [STACK_END_UNPROVEN] = "[truncated: unproven]",
        [STACK_END_BAD_FP] = "[truncated: bad_fp]",
        [STACK_END_UNREADABLE] = "[truncated: unreadable]",
        [STACK_END_TOO_DEEP] = "[truncated: too_deep]",
        [STACK_END_NO_USER] = "[truncated: no_user]",
        [STACK_END_NO_CODE] = "[truncated: no_code]",
        [STACK_END_NEW_CODE] = "[truncated: no unwinding table yet of prog]",
        [STACK_END_NO_CFI] = "[truncated: no unwind info in prog]",
        [STACK_END_UNSUPPORTED] = "[truncated: unwind info that can't be evaluated in prog]",
        [STACK_END_BAD_CFA] = "[truncated: stack switch or wrong unwind info in prog]",
        [STACK_END_NO_TIME] = "[truncated: no_time]",
        [STACK_END_RUNNING] = "[running]",
        [STACK_END_UNSEEN] = "[truncated: unseen]",
        [STACK_END_UNSAMPLED] = "[cpu: unsampled]",
    };
    for (int end = 0; end < STACK_END_EARLIER; end++) /* that one is a root */
        build_user(&b, (uint64_t[]){0x10010, 0x10021}, 2, (enum stack_end)end, 1u << end);
    Perftools__Profiles__Profile *pb = fixture_profile(&f, &b, NULL);
    size_t seen = 0;
    for (size_t i = 0; i < pb->n_sample; i++)
        for (int end = 0; end < STACK_END_COUNT; end++)
            if (shown[end] && pb->sample[i]->n_location_id == 3 &&
                strcmp(name_of(pb, i, 2), shown[end]) == 0) {
                ck_assert_uint_eq(location_of(pb, i, 2)->address, 0x0100000000000000 + end);
                ck_assert_str_eq(reader_string(pb, mapping_of(pb, i, 2)->filename), "[cprofd]");
                ck_assert_int_eq(pb->sample[i]->value[0], 1 << end);
                seen++;
            }
    ck_assert_uint_eq(seen, STACK_END_EARLIER - 1);
    ck_assert_uint_eq(pb->n_sample, STACK_END_EARLIER);
    ck_assert(has_comment(pb, "cprofd.rooted=1"));
    ck_assert(has_comment(pb, "cprofd.guessed=0"));
    ck_assert(has_comment(pb, "cprofd.truncated.unproven=2"));
    ck_assert(has_comment(pb, "cprofd.truncated.bad_fp=4"));
    ck_assert(has_comment(pb, "cprofd.truncated.unreadable=8"));
    ck_assert(has_comment(pb, "cprofd.truncated.too_deep=16"));
    ck_assert(has_comment(pb, "cprofd.truncated.no_user=32"));
    ck_assert(has_comment(pb, "cprofd.truncated.no_code=64"));
    reader_free(pb);
}
END_TEST

/* By the object of the leaf: a library of that name, or a program and its version, but none whose name only begins alike. */
START_TEST(test_interpreters_are_named)
{
    static const struct {
        const char *path;
        bool interpreter;
    } cases[] = {{"/usr/bin/python3.11", true}, {"/usr/lib/libpython3.so.1", true}, {"/usr/bin/pythonista", false}, {"/opt/node", true}};

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        b.n_counts = b.n_mappings = b.n_objects = 0;
        b.records_len = 0;
        build_mapping(&b, 0x10000, 0x20000, 0, build_object(&b, cases[i].path));
        build_user(&b, (uint64_t[]){0x10010}, 1, STACK_END_ROOT, 3);
        b.params.format = RAW_FORMAT_QUALITY;
        char *text = fixture_text(&f, &b, NULL);
        ck_assert_msg(!!strstr(text, "(leaf of 3 samples, ") == cases[i].interpreter, "%s: %s", cases[i].path, text);
        free(text);
    }
}
END_TEST

/* A sample with any step that was a guess is counted once, whatever else it is. */
START_TEST(test_guesses_are_counted)
{
    build_user(&b, (uint64_t[]){0x10010, STACK_FRAME(0x10021, STACK_FRAME_GUESSED), STACK_FRAME(0x10031, STACK_FRAME_GUESSED)}, 3,
               STACK_END_ROOT, 5);
    build_user(&b, (uint64_t[]){0x10010, STACK_FRAME(0x10021, STACK_FRAME_FP)}, 2, STACK_END_ROOT, 1);
    Perftools__Profiles__Profile *pb = fixture_profile(&f, &b, NULL);
    ck_assert(has_comment(pb, "cprofd.guessed=5"));
    ck_assert(has_comment(pb, "cprofd.rooted=6"));
    ck_assert(has_comment(pb, "cprofd.depth.max=3"));
    ck_assert(has_comment(pb, "cprofd.guessed_at=prog+0x10 in /nonexistent/prog: guessed, 5 samples"));
    ck_assert(has_comment(pb, "cprofd.guessed_at=prog+0x20 in /nonexistent/prog: guessed, 5 samples"));
    reader_free(pb);
    b.params.format = RAW_FORMAT_QUALITY;
    char *text = fixture_text(&f, &b, NULL);
    ck_assert_ptr_nonnull(strstr(text, "\"guessed_by\": [{\"object\": \"/nonexistent/prog\", \"function\": \"prog+0x10\", \"samples\": 5}, "));
    free(text);
}
END_TEST

START_TEST(test_an_empty_stack_is_a_frame)
{
    build_user(&b, NULL, 0, STACK_END_ROOT, 2);
    Perftools__Profiles__Profile *pb = fixture_profile(&f, &b, NULL);
    ck_assert_str_eq(name_of(pb, 0, 0), "[truncated: no_user]");
    ck_assert(has_comment(pb, "cprofd.rooted=0"));
    ck_assert(has_comment(pb, "cprofd.truncated.no_user=2"));
    reader_free(pb);
}
END_TEST

/* Three threads, of 1, 2 and 4 samples, each in code of its own. */
static void three_threads(void)
{
    static const char *const names[] = {"main", "io-1", "io-2"};
    build_fact(&b, "cpu_actual_ns=70000000");
    for (uint32_t i = 0; i < 3; i++) {
        memset(b.key.comm, 0, sizeof(b.key.comm));
        strcpy(b.key.comm, names[i]);
        b.key.tid = 100 + i;
        build_user(&b, (uint64_t[]){0x10000 + i, 0x10101}, 2, STACK_END_ROOT, 1u << i);
    }
}

static void check_filter(const char *samples, const char *filtered)
{
    Perftools__Profiles__Profile *pb = fixture_profile(&f, &b, NULL);
    ck_assert_str_eq(comment_of(pb, "cprofd.samples="), samples);
    if (filtered)
        ck_assert_str_eq(comment_of(pb, "cprofd.filtered="), filtered);
    else
        ck_assert_ptr_null(comment_of(pb, "cprofd.filtered="));
    ck_assert(has_comment(pb, "cprofd.cpu_sampled_ns=70000000")); /* before all filters */
    reader_free(pb);
}

START_TEST(test_filters)
{
    three_threads();
    check_filter("cprofd.samples=7", NULL);
    b.params.tid = 101;
    check_filter("cprofd.samples=2", "cprofd.filtered=5");
    b.params.tid = 0;
    strcpy(b.params.thread, "^io-[0-9]$");
    check_filter("cprofd.samples=6", "cprofd.filtered=1");
    strcpy(b.params.thread, "nobody");
    check_filter("cprofd.samples=0", "cprofd.filtered=7");
    b.params.thread[0] = '\0';
    strcpy(b.params.focus, "prog\\+0x(1|2)$");
    check_filter("cprofd.samples=6", "cprofd.filtered=1");
    strcpy(b.params.focus, "prog\\+0x100");
    check_filter("cprofd.samples=7", NULL); /* a caller counts */
    strcpy(b.params.thread, "io");
    check_filter("cprofd.samples=6", "cprofd.filtered=1");
}
END_TEST

START_TEST(test_states_are_a_label_and_a_filter)
{
    uint64_t stack = build_stack(&b, NULL, 0, (uint64_t[]){0x10010}, 1, STACK_END_ROOT);
    b.key.state = SAMPLE_STATE_RUNQ;
    build_count(&b, stack, 3);
    b.key.state = SAMPLE_STATE_SLEEP;
    build_count(&b, stack, 4);
    Perftools__Profiles__Profile *pb = fixture_profile(&f, &b, NULL);
    ck_assert_uint_eq(pb->n_sample, 2);
    for (size_t i = 0; i < 2; i++) {
        const char *state = reader_string(pb, label_of(pb, i, "state")->str);
        ck_assert_str_eq(state, pb->sample[i]->value[0] == 3 ? "runq" : "sleep");
    }
    reader_free(pb);
    b.params.states = 1u << SAMPLE_STATE_RUNQ | 1u << SAMPLE_STATE_CPU;
    check_filter("cprofd.samples=3", "cprofd.filtered=4");
    b.key.state = UINT32_MAX; /* nothing that a kernel writes */
    build_count(&b, stack, 1);
    b.params.states = 0;
    pb = fixture_profile(&f, &b, NULL);
    ck_assert_uint_eq(pb->n_sample, 3);
    reader_free(pb);
}
END_TEST

START_TEST(test_profiles_of_counts_alone)
{
    build_user(&b, (uint64_t[]){0x10010}, 1, STACK_END_ROOT, 3);
    b.params.types = (struct raw_types){.type = {"goroutine"}, .unit = {"count"}, .n = 1, .period_type = "goroutine", .period_unit = "count"};
    Perftools__Profiles__Profile *pb = fixture_profile(&f, &b, NULL);
    ck_assert_uint_eq(pb->n_sample_type, 1);
    ck_assert_uint_eq(pb->sample[0]->n_value, 1);
    ck_assert_int_eq(pb->sample[0]->value[0], 3);
    reader_free(pb);
}
END_TEST

START_TEST(test_a_bad_expression_is_said)
{
    three_threads();
    strcpy(b.params.thread, "(");
    struct rendered r = fixture_render(&f, &b, NULL);
    ck_assert_int_eq(r.error, -EINVAL);
    ck_assert_ptr_nonnull(strstr(r.result.message, "\"thread\""));
    free(r.body);
    b.params.thread[0] = '\0';
    strcpy(b.params.focus, "[");
    r = fixture_render(&f, &b, NULL);
    ck_assert_int_eq(r.error, -EINVAL);
    ck_assert_ptr_nonnull(strstr(r.result.message, "\"focus\""));
    free(r.body);
}
END_TEST

static bool warns(uint64_t samples, const char *actual)
{
    setup();
    build_user(&b, (uint64_t[]){0x10010}, 1, STACK_END_ROOT, samples);
    if (actual)
        build_fact(&b, actual);
    Perftools__Profiles__Profile *pb = fixture_profile(&f, &b, NULL);
    bool warned = comment_of(pb, "cprofd.warning=") != NULL;
    reader_free(pb);
    teardown();
    return warned;
}

/* 10 ms a sample: 100 due are right within 3 * sqrt(100) = 30, a million within 2 % = 20,000. */
START_TEST(test_cpu_time_beyond_the_sampling_error_warns)
{
    ck_assert(!warns(100, "cpu_actual_ns=1000000000"));
    ck_assert(!warns(130, "cpu_actual_ns=1000000000"));
    ck_assert(!warns(70, "cpu_actual_ns=1000000000"));
    ck_assert(warns(131, "cpu_actual_ns=1000000000"));
    ck_assert(warns(69, "cpu_actual_ns=1000000000"));
    ck_assert(!warns(1019999, "cpu_actual_ns=10000000000000"));
    ck_assert(warns(1020001, "cpu_actual_ns=10000000000000"));
    ck_assert(!warns(3, "cpu_actual_ns=1000"));
    ck_assert(warns(4, "cpu_actual_ns=1000"));
    ck_assert(!warns(0, "cpu_actual_ns=65000000"));
    ck_assert(warns(0, "cpu_actual_ns=67000000"));
    ck_assert(!warns(1, "cpu_actual_ns=67000000"));
    ck_assert(!warns(1000, NULL));
    ck_assert(!warns(1000, "cpu_actual_ns=unknown"));
}
END_TEST

START_TEST(test_events_have_no_cpu_time)
{
    b.params.cpu_clock = 0;
    strcpy(b.params.types.type[0], "cycles_sample");
    strcpy(b.params.types.type[1], "cycles_event");
    strcpy(b.params.types.unit[1], "count");
    build_user(&b, (uint64_t[]){0x10010}, 1, STACK_END_ROOT, 3);
    build_fact(&b, "cpu_actual_ns=1");
    build_fact(&b, "daemon_cpu_ns=1000000000000");
    Perftools__Profiles__Profile *pb = fixture_profile(&f, &b, NULL);
    ck_assert_str_eq(reader_string(pb, pb->sample_type[1]->type), "cycles_event");
    ck_assert_ptr_null(comment_of(pb, "cprofd.cpu_sampled_ns="));
    ck_assert_ptr_null(comment_of(pb, "cprofd.warning="));
    ck_assert_ptr_nonnull(comment_of(pb, "cprofd.daemon_cpu_ns=1000")); /* the loop's and this job's */
    ck_assert(!has_comment(pb, "cprofd.daemon_cpu_ns=1000000000000"));
    reader_free(pb);
}
END_TEST

START_TEST(test_sums_stop_at_their_bounds)
{
    build_user(&b, (uint64_t[]){0x10010}, 1, STACK_END_ROOT, 1);
    b.counts[0].value = (struct sample_value){UINT64_MAX, UINT64_MAX};
    build_sample_record(&b, b.counts[0].key.stack_hash[0], 5);
    build_fact(&b, "lost.a=18446744073709551615");
    build_fact(&b, "lost.b=18446744073709551615");
    struct rendered r = fixture_render(&f, &b, NULL);
    ck_assert_int_eq(r.error, 0);
    ck_assert_uint_eq(r.result.body.samples, UINT64_MAX);
    ck_assert_uint_eq(r.result.body.lost, UINT64_MAX);
    free(r.body);
}
END_TEST

START_TEST(test_quality)
{
    build_user(&b, (uint64_t[]){0x10010, 0x10021}, 2, STACK_END_BAD_FP, 3);
    build_user(&b, (uint64_t[]){0x10015, 0x10021}, 2, STACK_END_BAD_FP, 4); /* another leaf, the same place */
    build_user(&b, (uint64_t[]){0x10010, 0x10031}, 2, STACK_END_BAD_FP, 9);
    build_user(&b, (uint64_t[]){0x10010, 0x10021}, 2, STACK_END_UNREADABLE, 1);
    build_user(&b, (uint64_t[]){0x10010}, 1, STACK_END_ROOT, 100);
    build_user(&b, NULL, 0, STACK_END_NO_USER, 2);
    build_fact(&b, "target=exi\"ted\\\n\xff");
    build_fact(&b, "window_ns=5");
    build_fact(&b, "warning=one");
    build_fact(&b, "warning=2");
    b.params.format = RAW_FORMAT_QUALITY;
    char *text = fixture_text(&f, &b, NULL);
    static const char *const parts[] = {
        "{\"target\": \"exi\\\"ted\\\\\\u000a\xef\xbf\xbd\", \"window_ns\": 5, \"warning\": [\"one\", \"2\"], ",
        "\"unavailable\": [\"/nonexistent/prog: could not be opened\"], ",
        "\"samples\": 119, ",
        "\"rooted\": 100, \"guessed\": 0, \"truncated.bad_fp\": 16, \"truncated.unreadable\": 1, ",
        "\"truncated.no_user\": 2, \"depth.p50\": 1, \"depth.p90\": 2, \"depth.p99\": 2, \"depth.max\": 2, "
        "\"cpu_sampled_ns\": 1190000000, ",
        "\"truncated_by\": [{\"object\": \"/nonexistent/prog\", \"function\": \"prog+0x30\", \"reason\": \"bad_fp\", \"samples\": 9}, "
        "{\"object\": \"/nonexistent/prog\", \"function\": \"prog+0x20\", \"reason\": \"bad_fp\", \"samples\": 7}, "
        "{\"object\": \"\", \"function\": \"\", \"reason\": \"no_user\", \"samples\": 2}, "
        "{\"object\": \"/nonexistent/prog\", \"function\": \"prog+0x20\", \"reason\": \"unreadable\", \"samples\": 1}], \"guessed_by\": []}\n",
    };
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
        ck_assert_msg(strstr(text, parts[i]), "%s\nlacks %s", text, parts[i]);
    free(text);
    strcpy(b.params.focus, "prog\\+0x15");
    text = fixture_text(&f, &b, NULL);
    ck_assert_ptr_nonnull(strstr(text, "\"reason\": \"bad_fp\", \"samples\": 4}], \"guessed_by\": []}\n"));
    free(text);
}
END_TEST

START_TEST(test_notes_are_bounded)
{
    for (int i = 0; i < FACTS_MAX_NOTES + 5; i++) {
        char path[64];
        (void)snprintf(path, sizeof(path), "/nonexistent/%d", i);
        build_mapping(&b, 0x100000 + 0x1000u * (unsigned)i, 0x101000 + 0x1000u * (unsigned)i, 0,
                      build_object(&b, path));
        build_user(&b, (uint64_t[]){0x100000 + 0x1000u * (unsigned)i}, 1, STACK_END_ROOT, 1);
    }
    Perftools__Profiles__Profile *pb = fixture_profile(&f, &b, NULL);
    ck_assert(has_comment(pb, "cprofd.unavailable_more=5"));
    reader_free(pb);
}
END_TEST

START_TEST(test_facts_tell_numbers_from_text)
{
    struct facts facts = {0};
    uint64_t n;
    char *text;
    size_t len;
    static const char read[] = "a=1\0b=01\0c=1.5\0d=1.\0e=\0f=-1\0g=99999999999999999999\0h=0\0i=x=y";
    facts_read(&facts, read, sizeof(read));
    ck_assert(facts_number(&facts, "a", &n) && n == 1);
    ck_assert(facts_number(&facts, "h", &n) && n == 0);
    ck_assert(!facts_number(&facts, "b", &n) && !facts_number(&facts, "c", &n) &&
              !facts_number(&facts, "e", &n) && !facts_number(&facts, "g", &n));
    ck_assert(!facts_number(&facts, "none", &n));
    facts_count(&facts, "a", 2);
    facts_set(&facts, "e", "text");
    FILE *out = open_memstream(&text, &len);
    facts_to_json(&facts, out);
    fclose(out);
    ck_assert_str_eq(text,
                     "\"a\": 3, \"b\": \"01\", \"c\": 1.5, \"d\": \"1.\", \"e\": \"text\", \"f\": \"-1\", "
                     "\"g\": 99999999999999999999, \"h\": 0, \"i\": \"x=y\"");
    free(text);
    for (int i = 0; i < FACTS_MAX + 10; i++) {
        char key[16];
        (void)snprintf(key, sizeof(key), "k%d", i);
        facts_set(&facts, key, "v");
    }
    ck_assert_uint_eq(facts.n, FACTS_MAX);
    facts_deinit(&facts);
    facts_deinit(&facts);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("render_facts");
    TCase *tc = tcase_create("render_facts");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, test_weights_stand_for_more);
    tcase_add_test(tc, test_allocations_stand_for_more);
    tcase_add_test(tc, test_counts_and_late_samples_are_one);
    tcase_add_test(tc, test_counts_without_a_stack_are_lost_and_said);
    tcase_add_test(tc, test_names_of_threads_are_any_bytes);
    tcase_add_test(tc, test_each_end_is_counted_and_shown);
    tcase_add_test(tc, test_interpreters_are_named);
    tcase_add_test(tc, test_guesses_are_counted);
    tcase_add_test(tc, test_an_empty_stack_is_a_frame);
    tcase_add_test(tc, test_filters);
    tcase_add_test(tc, test_a_bad_expression_is_said);
    tcase_add_test(tc, test_events_have_no_cpu_time);
    tcase_add_test(tc, test_sums_stop_at_their_bounds);
    tcase_add_test(tc, test_quality);
    tcase_add_test(tc, test_notes_are_bounded);
    tcase_add_test(tc, test_states_are_a_label_and_a_filter);
    tcase_add_test(tc, test_profiles_of_counts_alone);
    suite_add_tcase(suite, tc);
    TCase *bare = tcase_create("bare");
    tcase_set_timeout(bare, 60);
    tcase_add_test(bare, test_cpu_time_beyond_the_sampling_error_warns);
    tcase_add_test(bare, test_facts_tell_numbers_from_text);
    suite_add_tcase(suite, bare);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
