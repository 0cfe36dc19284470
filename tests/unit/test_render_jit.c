/* Code that was made at run time: which mappings hold it, whose names it gets, and what is said where it gets none. */
#include <errno.h>

#include "tests/unit/jitdump_build.h"
#include "tests/unit/render_fixture.h"

static struct raw_build b;
static struct fixture f;
static struct dump d;

static void setup(void)
{
    build_init(&b);
    fixture_init(&f);
    dump_begin(&d, 5, 0, 0);
    b.params.end_monotonic_ns = 5100;
    b.params.end_target_ns = 100; /* its clock is behind */
}

static void teardown(void)
{
    renderer_free(f.renderer);
}

static void use_dump(void)
{
    f.jitdump = d.data;
    f.jitdump_len = d.len;
    build_mapping(&b, 0x900000, 0x901000, 0, build_object(&b, "/tmp/jit-5.dump"));
}

static Perftools__Profiles__Profile *profile(void)
{
    return fixture_profile(&f, &b, NULL);
}

/* What the profile says of such code; "" where it says nothing. */
static const char *said(const Perftools__Profiles__Profile *pb)
{
    const char *comment = comment_of(pb, "cprofd.jit=");
    return comment ? comment + strlen("cprofd.jit=") : "";
}

static void expect_line(const Perftools__Profiles__Profile *pb, size_t frame, const char *name, const char *file, int64_t line)
{
    const Perftools__Profiles__Line *l = location_of(pb, 0, frame)->line[0];
    const Perftools__Profiles__Function *function = pb->function[l->function_id - 1];
    ck_assert_str_eq(reader_string(pb, function->name), name);
    ck_assert_str_eq(reader_string(pb, function->filename), file);
    ck_assert_int_eq(l->line, line);
    ck_assert_int_eq(function->start_line, 0);
}

/* Callers are looked up where they call, which may be the last byte of their code. */
START_TEST(test_names_of_a_perf_map)
{
    f.perf_map = "10000 10 old\n10000 20 LazyCompile:~fn /a.js:12:3\n10020 10 py::caller:/a.py\n";
    build_named(&b, 0x10000, 0x20000, "//anon");
    build_user(&b, (uint64_t[]){0x10010, 0x10020, 0x10030, 0x10041}, 4, STACK_END_ROOT, 1);
    Perftools__Profiles__Profile *pb = profile();
    expect_line(pb, 0, "LazyCompile:~fn /a.js:12:3", "", 0);
    expect_line(pb, 1, "LazyCompile:~fn /a.js:12:3", "", 0);
    expect_line(pb, 2, "py::caller:/a.py", "", 0);
    expect_line(pb, 3, "[anon]+0x10040", "", 0);
    const Perftools__Profiles__Mapping *m = mapping_of(pb, 0, 0);
    ck_assert(m->has_functions && !m->has_filenames && !m->has_line_numbers);
    ck_assert_str_eq(reader_string(pb, m->filename), "//anon");
    ck_assert_ptr_nonnull(strstr(said(pb), "3 of 4 addresses"));
    ck_assert_ptr_nonnull(strstr(said(pb), "perf map last written 0 s before the end"));
    ck_assert_uint_eq(f.needs[WORKER_FILE_PERF_MAP], 1);
    ck_assert_uint_eq(f.needs[WORKER_FILE_JITDUMP], 0);
    ck_assert(fixture_touched(&f, WORKER_TOUCH_PERF_MAP)); /* whose fault it is if it breaks the worker */
    reader_free(pb);
    pb = profile(); /* nothing is kept: the map may have changed */
    ck_assert_uint_eq(f.needs[WORKER_FILE_PERF_MAP], 1);
    reader_free(pb);
}
END_TEST

START_TEST(test_names_of_a_jitdump)
{
    const struct dump_line lines[] = {{0x10000, 7, "/srv/a.js"}, {0x10008, 8, "/srv/b.js"}};
    dump_lines(&d, 0x10000, lines, 2, 0);
    dump_load(&d, 50, 0x10000, 0x10, 1, "from the dump");
    dump_load(&d, 101, 0x10000, 0x10, 2, "after the window");
    use_dump();
    f.perf_map = "10000 20 from the map\n";
    build_named(&b, 0x10000, 0x20000, "//anon");
    build_user(&b, (uint64_t[]){0x10004, 0x10009, 0x10015}, 3, STACK_END_ROOT, 1);
    Perftools__Profiles__Profile *pb = profile();
    expect_line(pb, 0, "from the dump", "/srv/a.js", 7);
    expect_line(pb, 1, "from the dump", "/srv/b.js", 8);
    expect_line(pb, 2, "from the map", "", 0);
    const Perftools__Profiles__Mapping *m = mapping_of(pb, 0, 0);
    ck_assert(m->has_functions && m->has_filenames && m->has_line_numbers);
    ck_assert_ptr_nonnull(strstr(said(pb), "3 of 3 addresses"));
    ck_assert_ptr_nonnull(strstr(said(pb), "jitdump of 3 records, 1 of them later than the window; perf map"));
    ck_assert(fixture_touched(&f, 0));
    reader_free(pb);
    b.params.symbolize = RAW_SYMBOLIZE_FAST;
    pb = profile();
    expect_line(pb, 0, "from the dump", "", 0);
    reader_free(pb);
    b.params.end_target_ns = 0;
    pb = profile();
    expect_line(pb, 0, "after the window", "", 0);
    ck_assert_ptr_nonnull(strstr(said(pb), "3 records, some of them maybe later than the window: the clock of the process is not known; perf map"));
    reader_free(pb);
}
END_TEST

START_TEST(test_an_excluded_dump_is_not_read)
{
    dump_load(&d, 50, 0x10000, 0x10, 1, "from the dump");
    use_dump();
    build_named(&b, 0x10000, 0x20000, "//anon");
    build_user(&b, (uint64_t[]){0x10004}, 1, STACK_END_ROOT, 1);
    struct worker_message job = {.type = WORKER_JOB, .u.job = {.kind = WORKER_RENDER, .n_excluded = 1, .blame = {WORKER_BLAME_CRASH}}};
    Perftools__Profiles__Profile *pb = fixture_profile(&f, &b, &job);
    expect_line(pb, 0, "[anon]+0x10004", "", 0);
    ck_assert_uint_eq(f.needs[WORKER_FILE_JITDUMP], 0);
    reader_free(pb);
    job.u.job.excluded[0] = WORKER_TOUCH_PERF_MAP;
    f.perf_map = "10000 10 from the map\n";
    pb = fixture_profile(&f, &b, &job);
    expect_line(pb, 0, "from the dump", "", 0);
    reader_free(pb);
    f.jitdump = NULL;
    f.jitdump_error = -ENOENT;
    pb = fixture_profile(&f, &b, &job);
    expect_line(pb, 0, "[anon]+0x10004", "", 0);
    ck_assert_uint_eq(f.needs[WORKER_FILE_PERF_MAP], 0);
    ck_assert(has_comment(pb, "cprofd.excluded=the perf map: crashed the symbolizer"));
    reader_free(pb);
    job.u.job.n_excluded = 0;
    job.u.job.no_symbols = WORKER_BLAME_HANG;
    pb = fixture_profile(&f, &b, &job);
    expect_line(pb, 0, "[anon]+0x10004", "", 0);
    ck_assert_uint_eq(f.needs[WORKER_FILE_JITDUMP] + f.needs[WORKER_FILE_PERF_MAP], 0);
    ck_assert_str_eq(said(pb), "");
    reader_free(pb);
}
END_TEST

/* Memory in all its forms; files that are programs, and what the kernel maps, have names of their own. */
START_TEST(test_which_mappings)
{
    static const struct {
        const char *name;
        bool file, jit;
    } cases[] = {
        {"//anon", false, true}, {"", false, true}, {"[heap]", false, true}, {"[anon:v8]", false, true}, {"[vsyscall]", false, false},
        {"[uprobes]", false, false}, {"/memfd:doublemapper", true, true}, {"/dev/zero", true, true}, {"/SYSV00000000", true, true},
        {"/etc/passwd", true, false}, {"/proc/self/exe", true, false}, {"/nonexistent/lib.so", true, false},
    };
    f.perf_map = "10000 10000 made\n";
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        build_init(&b);
        if (cases[i].file)
            build_mapping(&b, 0x10000, 0x20000, 0, build_object(&b, cases[i].name));
        else
            build_named(&b, 0x10000, 0x20000, cases[i].name);
        b.objects[0].available = strncmp(cases[i].name, "/etc", 4) == 0 || strncmp(cases[i].name, "/proc", 5) == 0;
        build_user(&b, (uint64_t[]){0x10f10}, 1, STACK_END_ROOT, 1);
        Perftools__Profiles__Profile *pb = profile();
        ck_assert_msg((strcmp(name_of(pb, 0, 0), "made") == 0) == cases[i].jit, "%s: %s", cases[i].name, name_of(pb, 0, 0));
        ck_assert_msg((said(pb)[0] != '\0') == cases[i].jit, "%s: %s", cases[i].name, said(pb));
        reader_free(pb);
    }
}
END_TEST

/* The files are those of the program that runs at the end. */
START_TEST(test_code_of_an_earlier_image)
{
    struct raw_mapping *m;
    uint64_t address = 0x10010;
    f.perf_map = "10000 10000 made\n";
    m = build_named(&b, 0x10000, 0x20000, "//anon");
    m->last_epoch = 3;
    m = build_own(&b, (void *)setup);
    m->main_binary = 1;
    m->first_epoch = 4;
    for (unsigned epoch = 3; epoch <= 4; epoch++) {
        b.n_counts = b.records_len = 0;
        b.key.epoch = epoch;
        if (epoch == 4) {
            m = build_named(&b, 0x10000, 0x20000, "//anon");
            m->first_epoch = 4;
        }
        build_user(&b, &address, 1, STACK_END_ROOT, 1);
        Perftools__Profiles__Profile *pb = profile();
        ck_assert_str_eq(name_of(pb, 0, 0), epoch == 3 ? "[anon]+0x10010" : "made");
        reader_free(pb);
    }
}
END_TEST

START_TEST(test_how_to_get_names)
{
    static const struct {
        const char *program;
        const char *map;
        const char *said;
    } cases[] = {
        {"/usr/bin/node", NULL, "--perf-basic-prof"}, {"/opt/python3.13", NULL, "-X perf"}, {"/usr/lib/jvm/bin/java", NULL, "Compiler.perfmap"},
        {"/usr/bin/other", NULL, "the runtime must be told"}, {"/usr/bin/node", "1 1 x\n", "what was made last may not be written yet"},
        {"/usr/lib/jvm/bin/java", "1 1 x\n", "write it again (write a perf map by `jcmd PID Compiler.perfmap`"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        build_init(&b);
        f.perf_map = cases[i].map;
        build_mapping(&b, 0x100000, 0x200000, 0, build_object(&b, cases[i].program))->main_binary = 1;
        build_named(&b, 0x10000, 0x20000, "//anon");
        build_user(&b, (uint64_t[]){0x10010}, 1, STACK_END_ROOT, 1);
        Perftools__Profiles__Profile *pb = profile();
        ck_assert_msg(strstr(said(pb), cases[i].said), "%s", said(pb));
        ck_assert_msg(!strstr(said(pb), "there is none") == (cases[i].map != NULL), "%s", said(pb));
        reader_free(pb);
    }
}
END_TEST

START_TEST(test_what_can_not_be_read)
{
    static const int errors[] = {-ELOOP, -EINVAL, -EPERM, -ESTALE, -EACCES, -ETIMEDOUT};
    build_named(&b, 0x10000, 0x20000, "//anon");
    build_user(&b, (uint64_t[]){0x10010}, 1, STACK_END_ROOT, 1);
    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
        f.perf_map_error = errors[i];
        Perftools__Profiles__Profile *pb = profile();
        ck_assert_str_eq(name_of(pb, 0, 0), "[anon]+0x10010");
        ck_assert_msg(strstr(said(pb), "; perf map: "), "%s", said(pb));
        reader_free(pb);
    }
    static const int dump_errors[] = {-ENOENT, -ESRCH, -ENOEXEC, -ETIMEDOUT};
    use_dump();
    f.jitdump = NULL;
    f.perf_map = "10000 20 named all the same\n";
    for (size_t i = 0; i < sizeof(dump_errors) / sizeof(dump_errors[0]); i++) {
        f.jitdump_error = dump_errors[i];
        Perftools__Profiles__Profile *pb = profile();
        ck_assert_str_eq(name_of(pb, 0, 0), "named all the same");
        ck_assert_msg(strstr(said(pb), "1 of 1 addresses") && strstr(said(pb), "; jitdump: it"), "%s", said(pb));
        reader_free(pb);
    }
    d.data[0] = 0; /* no header */
    f.jitdump = d.data;
    f.jitdump_len = d.len;
    Perftools__Profiles__Profile *pb = profile();
    ck_assert_msg(strstr(said(pb), "; jitdump: it has no jitdump's header"), "%s", said(pb));
    reader_free(pb);
    f.perf_map = "\xff\xfe\n10000 0 x\n1 1 x";
    pb = profile();
    ck_assert_msg(strstr(said(pb), ", 2 of its lines malformed"), "%s", said(pb));
    reader_free(pb);
}
END_TEST

START_TEST(test_a_cancelled_job)
{
    build_named(&b, 0x10000, 0x20000, "//anon");
    build_user(&b, (uint64_t[]){0x10010}, 1, STACK_END_ROOT, 1);
    f.perf_map_error = -ECANCELED;
    struct rendered r = fixture_render(&f, &b, NULL);
    ck_assert_int_eq(r.error, -ECANCELED);
    free(r.body);
    use_dump();
    f.jitdump = NULL;
    f.jitdump_error = -ECANCELED;
    r = fixture_render(&f, &b, NULL);
    ck_assert_int_eq(r.error, -ECANCELED);
    free(r.body);
}
END_TEST

/* Names are any bytes: what is sent is text. The interpreter's own frames are not all there is. */
START_TEST(test_hostile_names)
{
    f.perf_map = "10000 10 a\xff\x1b[31m\xe2\x82z\n10010 10 b;c d\n";
    build_named(&b, 0x10000, 0x20000, "//anon");
    build_user(&b, (uint64_t[]){0x10001, 0x10012}, 2, STACK_END_ROOT, 1);
    Perftools__Profiles__Profile *pb = profile();
    ck_assert_str_eq(name_of(pb, 0, 0), "a\xef\xbf\xbd\x1b[31m\xef\xbf\xbdz");
    ck_assert_str_eq(name_of(pb, 0, 1), "b;c d");
    reader_free(pb);
    b.params.format = RAW_FORMAT_FOLDED;
    char *text = fixture_text(&f, &b, NULL);
    ck_assert_str_eq(text, "b:c d;a\xef\xbf\xbd [31m\xef\xbf\xbdz 10000000\n");
    free(text);
    b.params.format = RAW_FORMAT_SYMBOL;
    b.addresses[b.n_addresses++] = 0x10001;
    b.addresses[b.n_addresses++] = 0x10010;
    b.addresses[b.n_addresses++] = 0x10030;
    text = fixture_text(&f, &b, NULL);
    ck_assert_str_eq(text, "num_symbols: 1\n0x10001 a\xef\xbf\xbd?[31m\xef\xbf\xbdz\n0x10010 b;c d\n0x10030 [anon]+0x10030\n");
    free(text);
}
END_TEST

/* What has a file is left to readers, who have none of made code. */
START_TEST(test_symbolize_none)
{
    f.perf_map = "10000 10 name\n20000 10 in a memfd\n";
    b.params.symbolize = RAW_SYMBOLIZE_NONE;
    build_named(&b, 0x10000, 0x20000, "//anon");
    build_mapping(&b, 0x20000, 0x30000, 0, build_object(&b, "/memfd:jit"));
    build_user(&b, (uint64_t[]){0x10001, 0x20002}, 2, STACK_END_ROOT, 1);
    Perftools__Profiles__Profile *pb = profile();
    ck_assert_str_eq(name_of(pb, 0, 0), "name");
    ck_assert_str_eq(name_of(pb, 0, 1), "");
    reader_free(pb);
}
END_TEST

START_TEST(test_interpreters)
{
    struct raw_mapping *m = build_mapping(&b, 0x10000, 0x20000, 0, build_object(&b, "/usr/bin/python3.13"));
    m->main_binary = 1;
    build_named(&b, 0x30000, 0x40000, "//anon");
    build_user(&b, (uint64_t[]){0x10010, 0x30011}, 2, STACK_END_ROOT, 1);
    for (int named = 0; named < 2; named++) {
        f.perf_map = named ? "30000 100 py::f:/a.py\n" : NULL;
        Perftools__Profiles__Profile *pb = profile();
        ck_assert_int_eq(comment_of(pb, "cprofd.interpreter=") != NULL, !named);
        reader_free(pb);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("render_jit");
    TCase *tc = tcase_create("render_jit");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, test_names_of_a_perf_map);
    tcase_add_test(tc, test_names_of_a_jitdump);
    tcase_add_test(tc, test_an_excluded_dump_is_not_read);
    tcase_add_test(tc, test_which_mappings);
    tcase_add_test(tc, test_code_of_an_earlier_image);
    tcase_add_test(tc, test_how_to_get_names);
    tcase_add_test(tc, test_what_can_not_be_read);
    tcase_add_test(tc, test_a_cancelled_job);
    tcase_add_test(tc, test_hostile_names);
    tcase_add_test(tc, test_symbolize_none);
    tcase_add_test(tc, test_interpreters);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
