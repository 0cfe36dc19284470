/* What a reply has that is due before all names are there, in which order names come, and what a job does without. */
#include "daemon/render_job.h"

#include <inttypes.h>

#include "tests/unit/render_fixture.h"

#define FAR_NS (600 * NSEC_PER_SEC)

static struct raw_build b;
static struct fixture f;
static struct worker_message job;
static struct worker_body drafts[16];
static size_t n_drafts;

static void on_draft(void *userdata, const struct worker_body *body)
{
    ck_assert_uint_lt(n_drafts, 16);
    drafts[n_drafts++] = *body;
}

static const struct render_ops drafting_ops = {.need = fixture_need, .touch = fixture_touch, .draft = on_draft};

__attribute__((noinline, noclone)) static int drafted_function(int x)
{
    __asm__ volatile("" : "+r"(x));
    return x * 5;
}

#define OWN ((uint64_t)(uintptr_t)drafted_function)
#define GETPPID ((uint64_t)(uintptr_t)getppid)

static void setup(void)
{
    build_init(&b);
    fixture_init(&f);
    renderer_free(f.renderer);
    f.renderer = renderer_new(&drafting_ops, &f, 64 << 20);
    job = (struct worker_message){.type = WORKER_JOB, .u.job = {.kind = WORKER_RENDER, .deadline_ns = monotonic_ns() + FAR_NS}};
    n_drafts = 0;
    build_own(&b, (void *)drafted_function);
    build_own(&b, (void *)getppid);
    build_user(&b, (uint64_t[]){OWN, GETPPID + 1}, 2, STACK_END_ROOT, 3);
}

static void teardown(void)
{
    renderer_free(f.renderer);
}

static Perftools__Profiles__Profile *decode_body(int fd, const struct worker_body *body)
{
    uint8_t *data = malloc(body->len);
    ck_assert_int_eq(pread(fd, data, body->len, (off_t)body->offset), body->len);
    Perftools__Profiles__Profile *pb = reader_decode(data, body->len);
    reader_check(pb);
    free(data);
    return pb;
}

/* Renders; the output is the caller's to close. */
static struct worker_body render(int *ret_fd)
{
    struct raw_profile raw;
    struct render_result result;
    int raw_fd = build_finish(&b);
    *ret_fd = memfd_create("body", MFD_CLOEXEC);
    ck_assert_int_eq(raw_profile_open(raw_fd, &raw), 0);
    f.raw = &raw;
    n_drafts = 0;
    f.n_touched = 0;
    memset(f.needs, 0, sizeof(f.needs));
    ck_assert_msg(renderer_render(f.renderer, &raw, &job, *ret_fd, &result) == 0, "%s", result.message);
    renderer_trim(f.renderer);
    raw_profile_close(&raw);
    close(raw_fd);
    return result.body;
}

static int64_t start_line_of(const Perftools__Profiles__Profile *pb)
{
    return pb->function[location_of(pb, 0, 0)->line[0]->function_id - 1]->start_line;
}

/* Names without lines: what symbol tables tell. */
static void check_symbols(const Perftools__Profiles__Profile *pb)
{
    ck_assert_str_eq(name_of(pb, 0, 0), "drafted_function");
    ck_assert_uint_eq(mapping_of(pb, 0, 0)->has_functions, 1);
    ck_assert_uint_eq(mapping_of(pb, 0, 0)->has_line_numbers, 0);
    ck_assert_ptr_nonnull(strstr(comment_of(pb, "cprofd.symbols.pending_in="), "files, lines and inlined calls of 1 of 1"));
    ck_assert_ptr_nonnull(comment_of(pb, "cprofd.warning="));
}

/* Each draft is a whole profile of the same samples; the last thing that is known is lines. */
static void check_drafts(int fd)
{
    Perftools__Profiles__Profile *first = decode_body(fd, &drafts[0]);
    unsigned n_symbols = 0;
    ck_assert_ptr_nonnull(strstr(name_of(first, 0, 0), "test_render_drafts+0x"));
    ck_assert_ptr_nonnull(comment_of(first, "cprofd.symbols.pending=2"));
    ck_assert_ptr_nonnull(strstr(comment_of(first, "cprofd.symbols.pending_in="), ": all names"));
    for (size_t i = 0; i < n_drafts; i++) {
        Perftools__Profiles__Profile *pb = decode_body(fd, &drafts[i]);
        ck_assert_uint_eq(pb->n_sample, 1);
        ck_assert_int_eq(pb->sample[0]->value[0], 3);
        ck_assert_uint_eq(drafts[i].samples, 3);
        ck_assert_uint_eq(drafts[i].rooted, 3);
        ck_assert(has_comment(pb, "cprofd.samples=3"));
        ck_assert(has_comment(pb, "cprofd.rooted=3"));
        if (strcmp(name_of(pb, 0, 0), "drafted_function") == 0 && strstr(name_of(pb, 0, 1), "getppid") && start_line_of(pb) == 0) {
            check_symbols(pb);
            n_symbols++;
        }
        reader_free(pb);
    }
    ck_assert_uint_gt(n_symbols, 0);
    reader_free(first);
}

START_TEST(test_what_takes_long_is_preceded_by_drafts)
{
    int fd;
    struct worker_body body = render(&fd);
    ck_assert_uint_ge(n_drafts, 2);
    check_drafts(fd);
    Perftools__Profiles__Profile *pb = decode_body(fd, &body);
    ck_assert_int_gt(start_line_of(pb), 0);
    ck_assert_uint_eq(mapping_of(pb, 0, 0)->has_line_numbers, 1);
    ck_assert(has_comment(pb, "cprofd.samples=3"));
    ck_assert_ptr_null(comment_of(pb, "cprofd.symbols."));
    ck_assert_ptr_null(comment_of(pb, "cprofd.warning="));
    reader_free(pb);
    close(fd);
    (void)render(&fd); /* by now all is known */
    ck_assert_uint_eq(n_drafts, 0);
    close(fd);
}
END_TEST

START_TEST(test_without_a_deadline_there_are_no_drafts)
{
    int fd;
    job.u.job.deadline_ns = 0;
    (void)render(&fd);
    ck_assert_uint_eq(n_drafts, 0);
    close(fd);
}
END_TEST

/* What a draft says of a function's beginning, which it does not know, is not what the reply says. */
START_TEST(test_places_in_functions_are_looked_for_anew)
{
    char text[8192] = "", at[64];
    int fd;
    b.params.format = RAW_FORMAT_COUNTS;
    b.params.types = (struct raw_types){.type = {"threads"}, .unit = {"count"}, .n = 1};
    build_user(&b, (uint64_t[]){GETPPID + 2, OWN + 3}, 2, STACK_END_ROOT, 3);
    struct worker_body body = render(&fd);
    ck_assert_uint_ge(n_drafts, 1);
    ck_assert_uint_lt(body.len, sizeof(text));
    ck_assert_int_eq(pread(fd, text, body.len, (off_t)body.offset), body.len);
    (void)snprintf(at, sizeof(at), "#\t0x%" PRIx64 "\tdrafted_function+0x3\t", OWN + 3);
    ck_assert_msg(strstr(text, at) != NULL, "%s", text);
    close(fd);
}
END_TEST

/* Nobody waits for what comes after the first one, but the next profile has it. */
START_TEST(test_after_the_deadline_one_draft_is_enough)
{
    int fd;
    job.u.job.deadline_ns = 1;
    (void)render(&fd);
    ck_assert_uint_eq(n_drafts, 1); /* that of symbol tables: late is better than without any name */
    Perftools__Profiles__Profile *pb = decode_body(fd, &drafts[0]);
    check_symbols(pb);
    reader_free(pb);
    close(fd);
    (void)render(&fd);
    ck_assert_uint_eq(n_drafts, 0);
    close(fd);
}
END_TEST

START_TEST(test_what_another_worker_reads_is_pending)
{
    int fd;
    job.u.job.spare = WORKER_SPARE_ELSEWHERE;
    struct worker_body body = render(&fd);
    Perftools__Profiles__Profile *pb = decode_body(fd, &body);
    ck_assert_str_eq(name_of(pb, 0, 0), "drafted_function");
    ck_assert_int_eq(start_line_of(pb), 0);
    ck_assert(has_comment(pb, "cprofd.symbols.pending=2"));
    ck_assert_uint_eq(f.needs[WORKER_FILE_DEBUG], 0);
    reader_free(pb);
    close(fd);
    job.u.job.spare = WORKER_SPARE_NOTHING; /* and has not been taken for known */
    body = render(&fd);
    pb = decode_body(fd, &body);
    ck_assert_int_gt(start_line_of(pb), 0);
    reader_free(pb);
    close(fd);
    job.u.job.spare = WORKER_SPARE_ELSEWHERE; /* what is known is shown */
    body = render(&fd);
    pb = decode_body(fd, &body);
    ck_assert_int_gt(start_line_of(pb), 0);
    ck_assert_ptr_null(comment_of(pb, "cprofd.symbols."));
    reader_free(pb);
    close(fd);
}
END_TEST

START_TEST(test_what_broke_a_worker_behind_a_reply_is_not_read)
{
    int fd;
    job.u.job.spare = WORKER_SPARE_SPOILED;
    job.u.job.spare_blame = WORKER_BLAME_HANG;
    struct worker_body body = render(&fd);
    Perftools__Profiles__Profile *pb = decode_body(fd, &body);
    ck_assert_str_eq(name_of(pb, 0, 0), "drafted_function");
    ck_assert_int_eq(start_line_of(pb), 0);
    ck_assert(mapping_of(pb, 0, 0)->has_functions && !mapping_of(pb, 0, 0)->has_line_numbers); /* a reader may look himself */
    ck_assert_ptr_null(comment_of(pb, "cprofd.symbols."));
    ck_assert_ptr_nonnull(strstr(comment_of(pb, "cprofd.excluded="), "took the symbolizer too long"));
    ck_assert_uint_eq(f.needs[WORKER_FILE_DEBUG], 0);
    reader_free(pb);
    close(fd);
}
END_TEST

START_TEST(test_an_object_without_its_debug_information)
{
    int fd;
    job.u.job.n_excluded = 1;
    job.u.job.blame[0] = WORKER_BLAME_MEMORY;
    struct worker_body body = render(&fd);
    Perftools__Profiles__Profile *pb = decode_body(fd, &body);
    ck_assert_str_eq(name_of(pb, 0, 0), "drafted_function");
    ck_assert_int_eq(start_line_of(pb), 0);
    ck_assert(mapping_of(pb, 0, 0)->has_functions && !mapping_of(pb, 0, 0)->has_line_numbers); /* a reader may look himself */
    ck_assert_ptr_nonnull(strstr(comment_of(pb, "cprofd.excluded="),
                                 "test_render_drafts: its debug information took the symbolizer too much memory"));
    ck_assert_ptr_null(comment_of(pb, "cprofd.symbols."));
    reader_free(pb);
    close(fd);
}
END_TEST

START_TEST(test_fast_reads_no_debug_information)
{
    int fd;
    b.params.symbolize = RAW_SYMBOLIZE_FAST;
    struct worker_body body = render(&fd);
    Perftools__Profiles__Profile *pb = decode_body(fd, &body);
    ck_assert_str_eq(name_of(pb, 0, 0), "drafted_function");
    ck_assert_int_eq(start_line_of(pb), 0);
    ck_assert(mapping_of(pb, 0, 0)->has_functions && !mapping_of(pb, 0, 0)->has_filenames && !mapping_of(pb, 0, 0)->has_line_numbers);
    ck_assert_ptr_null(comment_of(pb, "cprofd.symbols."));
    ck_assert_uint_eq(f.needs[WORKER_FILE_DEBUG], 0);
    reader_free(pb);
    close(fd);
}
END_TEST

START_TEST(test_none_has_addresses_and_build_ids)
{
    int fd;
    b.params.symbolize = RAW_SYMBOLIZE_NONE;
    struct worker_body body = render(&fd);
    Perftools__Profiles__Profile *pb = decode_body(fd, &body);
    ck_assert_uint_eq(location_of(pb, 0, 0)->n_line + location_of(pb, 0, 1)->n_line, 0);
    ck_assert_uint_eq(location_of(pb, 0, 0)->address, OWN);
    for (size_t i = 0; i < pb->n_mapping; i++)
        ck_assert(!pb->mapping[i]->has_functions && !pb->mapping[i]->has_filenames && !pb->mapping[i]->has_line_numbers &&
                  !pb->mapping[i]->has_inline_frames);
    ck_assert_uint_gt(strlen(reader_string(pb, mapping_of(pb, 0, 1)->build_id)), 30);
    ck_assert_ptr_null(comment_of(pb, "cprofd.symbols."));
    ck_assert_uint_eq(f.needs[WORKER_FILE_DEBUG], 0);
    reader_free(pb);
    close(fd);
}
END_TEST

/* The symbol endpoint's drafts are of what is known as well. */
START_TEST(test_symbols_are_drafted)
{
    int fd;
    char text[256] = "", line[256];
    b.params.format = RAW_FORMAT_SYMBOL;
    b.addresses[b.n_addresses++] = OWN;
    b.addresses[b.n_addresses++] = 0x10; /* in no mapping */
    b.addresses[b.n_addresses++] = 0xffffffff81001000;
    build_mapping(&b, 0x10000, 0x20000, 0x1000, build_object(&b, "/nonexistent/libgone.so"));
    b.addresses[b.n_addresses++] = 0x10010;
    struct worker_body body = render(&fd);
    ck_assert_uint_ge(n_drafts, 2);
    (void)snprintf(line, sizeof(line), "num_symbols: 1\n0x%lx drafted_function\n0xffffffff81001000 do_syscall_64\n0x10010 libgone.so+0x1010\n",
                   (unsigned long)OWN);
    ck_assert_int_eq(pread(fd, text, drafts[0].len, (off_t)drafts[0].offset), drafts[0].len);
    ck_assert_str_eq(text, "num_symbols: 1\n0xffffffff81001000 do_syscall_64\n");
    memset(text, 0, sizeof(text));
    ck_assert_int_eq(pread(fd, text, drafts[n_drafts - 1].len, (off_t)drafts[n_drafts - 1].offset), drafts[n_drafts - 1].len);
    ck_assert_str_eq(text, line);
    ck_assert_int_eq(pread(fd, text, body.len, (off_t)body.offset), body.len);
    ck_assert_str_eq(text, line);
    close(fd);
}
END_TEST

/* A debug file that anybody wrote, and one that this target may not read: who asks about the same finds out no more; nobody else is
 * told of it, and what others had before is not his either. */
START_TEST(test_doubtful_debug_files_are_for_one_key)
{
    static const struct {
        mode_t mode;
        int error;
    } doubts[] = {{0664, 0}, {0, -EACCES}, {0, -EPERM}};
    static const struct {
        uint64_t key;
        bool asks;
    } jobs[] = {{7, true}, {7, false}, {8, true}, {8, false}, {7, true}, {0, true}, {0, true}};
    int fd;
    build_init(&b); /* the C library alone, which has no debug information of its own */
    build_own(&b, (void *)getppid);
    build_user(&b, (uint64_t[]){GETPPID}, 1, STACK_END_ROOT, 1);
    f.debug_mode = doubts[_i].mode;
    f.debug_error = doubts[_i].error;
    for (size_t i = 0; i < sizeof(jobs) / sizeof(jobs[0]); i++) {
        job.u.job.key = jobs[i].key;
        (void)render(&fd);
        close(fd);
        ck_assert_int_eq(f.needs[WORKER_FILE_DEBUG] > 0, jobs[i].asks);
        ck_assert_int_eq(f.needs[WORKER_FILE_OBJECT] > 0, jobs[i].asks);
    }
}
END_TEST

static uint64_t until_ns(uint64_t deadline_ns, uint64_t most_ns)
{
    struct worker_message m = {.u.job.deadline_ns = deadline_ns};
    struct render_job part = {.message = &m};
    return render_until_ns(&part, most_ns);
}

/* Copied stacks, and names of code made at run time: no draft interrupts these, so they leave half of the time to the others. */
START_TEST(test_what_no_draft_interrupts_leaves_time)
{
    uint64_t before_ns = monotonic_ns(), soon_ns = before_ns + FAR_NS;
    uint64_t free_ns = until_ns(0, NSEC_PER_SEC), half_ns = until_ns(soon_ns, 2 * FAR_NS), most_ns = until_ns(soon_ns, NSEC_PER_SEC),
             late_ns = until_ns(1, NSEC_PER_SEC), little_ns = until_ns(1, 1000), after_ns = monotonic_ns();
    ck_assert(free_ns >= before_ns + NSEC_PER_SEC && free_ns <= after_ns + NSEC_PER_SEC);
    ck_assert(half_ns >= before_ns + FAR_NS / 2 && half_ns <= after_ns + FAR_NS / 2);
    ck_assert(most_ns >= before_ns + NSEC_PER_SEC && most_ns <= after_ns + NSEC_PER_SEC);
    ck_assert(late_ns > before_ns && late_ns < after_ns + NSEC_PER_SEC / 2);
    ck_assert(little_ns >= before_ns + 1000 && little_ns <= after_ns + 1000);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("render_drafts");
    TCase *tc = tcase_create("render_drafts");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 120);
    tcase_add_test(tc, test_what_takes_long_is_preceded_by_drafts);
    tcase_add_test(tc, test_without_a_deadline_there_are_no_drafts);
    tcase_add_test(tc, test_after_the_deadline_one_draft_is_enough);
    tcase_add_test(tc, test_places_in_functions_are_looked_for_anew);
    tcase_add_test(tc, test_what_another_worker_reads_is_pending);
    tcase_add_test(tc, test_what_broke_a_worker_behind_a_reply_is_not_read);
    tcase_add_test(tc, test_an_object_without_its_debug_information);
    tcase_add_test(tc, test_fast_reads_no_debug_information);
    tcase_add_test(tc, test_none_has_addresses_and_build_ids);
    tcase_add_test(tc, test_symbols_are_drafted);
    tcase_add_loop_test(tc, test_doubtful_debug_files_are_for_one_key, 0, 3);
    tcase_add_test(tc, test_what_no_draft_interrupts_leaves_time);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
