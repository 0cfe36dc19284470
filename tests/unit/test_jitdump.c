/* Jitdumps: which code was where at the end of the window, its files and lines, and what hostile ones can do. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "symbolize/code_names.h"
#include "symbolize/jitdump.h"
#include "tests/unit/jitdump_build.h"
#include "util/cleanup.h"

#define PID 77
#define V8_PAD 0xDEADBEEF

static struct dump d;
static struct code_names *names;
static struct jitdump_result result;
static struct jitdump_options options;

static void setup(void)
{
    options = (struct jitdump_options){.pid = PID, .deadline_ns = UINT64_MAX, .lines = true};
    dump_begin(&d, PID, 0, 0);
}

static void teardown(void)
{
    code_names_free(names);
    names = NULL;
}

static void want(const uint64_t *addresses, size_t n)
{
    code_names_free(names);
    names = code_names_new(addresses, n);
    ck_assert_ptr_nonnull(names);
}

static int read_dump(void)
{
    AUTO_CLOSE int fd = memfd_create("dump", MFD_CLOEXEC);
    ck_assert_int_eq(write(fd, d.data, d.len), (ssize_t)d.len);
    return jitdump_read(fd, names, &options, &result);
}

static void expect(uint64_t address, const char *name, const char *file, int64_t line)
{
    const struct code_name *found = code_names_find(names, address);
    ck_assert_pstr_eq(found ? found->name : NULL, name);
    ck_assert_pstr_eq(found ? found->filename : NULL, file);
    ck_assert_int_eq(found ? found->line : 0, line);
}

START_TEST(test_names)
{
    want((uint64_t[]){0x1000, 0x10ff, 0x1100, 0x2000}, 4);
    dump_load(&d, 10, 0x1000, 0x100, 1, "JS:*fn /srv/file.js:12:3");
    dump_load(&d, 11, 0x2000, 0x100000, 2, "huge");
    ck_assert_int_eq(read_dump(), 0);
    expect(0x1000, "JS:*fn /srv/file.js:12:3", NULL, 0);
    expect(0x10ff, "JS:*fn /srv/file.js:12:3", NULL, 0);
    expect(0x1100, NULL, NULL, 0);
    expect(0x2000, "huge", NULL, 0);
    ck_assert_uint_eq(result.records, 2);
    ck_assert(!result.malformed && !result.other_clock && result.later == 0);
}
END_TEST

/* At the end of the window: not what came later, nor what was there before. */
START_TEST(test_time)
{
    static const struct {
        uint64_t end_ns;
        const char *name;
        uint64_t later;
    } cases[] = {{5, NULL, 3}, {10, "first", 2}, {19, "first", 2}, {20, "second", 1}, {29, "second", 1}, {30, "third", 0}, {0, "third", 0}};
    dump_load(&d, 10, 0x1000, 0x100, 1, "first");
    dump_load(&d, 30, 0x1000, 0x100, 3, "third"); /* threads write as they come */
    dump_load(&d, 20, 0x1000, 0x100, 2, "second");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        want((uint64_t[]){0x1010}, 1);
        options.end_ns = cases[i].end_ns;
        ck_assert_int_eq(read_dump(), 0);
        expect(0x1010, cases[i].name, NULL, 0);
        ck_assert_uint_eq(result.later, cases[i].later);
    }
    /* Times of another clock say nothing, but the order does. */
    dump_begin(&d, PID, 0, JITDUMP_ARCH_TIMESTAMP);
    dump_load(&d, 30, 0x1000, 0x100, 1, "first");
    dump_load(&d, 10, 0x1000, 0x100, 2, "second");
    options.end_ns = 5;
    want((uint64_t[]){0x1010}, 1);
    ck_assert_int_eq(read_dump(), 0);
    expect(0x1010, "second", NULL, 0);
    ck_assert(result.other_clock);
}
END_TEST

START_TEST(test_overlaps)
{
    want((uint64_t[]){0x1000, 0x1040, 0x1080}, 3);
    dump_load(&d, 10, 0x1000, 0x100, 1, "old");
    dump_load(&d, 11, 0x1040, 0x10, 2, "within");
    dump_load(&d, 12, 0x1080, 0x100, 3, "over");
    ck_assert_int_eq(read_dump(), 0);
    expect(0x1000, "old", NULL, 0);
    expect(0x1040, "within", NULL, 0);
    expect(0x1080, "over", NULL, 0);
}
END_TEST

START_TEST(test_moves)
{
    const struct dump_line lines[] = {{0x1000, 7, "/a.js"}, {0x1010, 8, "\377"}};
    want((uint64_t[]){0x1004, 0x2004, 0x3014, 0x4000, 0x5000}, 5);
    dump_lines(&d, 0x1000, lines, 2, 0);
    dump_load(&d, 10, 0x1000, 0x20, 1, "traveller");
    dump_move(&d, 11, 0x1000, 0x2000, 0x20, 1);
    dump_load(&d, 12, 0x1000, 0x20, 2, "successor");
    dump_move(&d, 13, 0x2000, 0x3000, 0x20, 1);
    dump_move(&d, 14, 0x9000, 0x4000, 0x20, 99); /* nobody knows what */
    dump_load(&d, 15, 0x4000, 0x20, 3, "later");
    dump_move(&d, 16, 0x9000, 0x4000, 0x20, 98); /* nor what was there before any more */
    dump_load(&d, 17, 0x8000, 0x20, 4, "one of its number");
    dump_move(&d, 18, 0x8000, 0x5000, 0x20, 4);
    dump_load(&d, 19, 0x8000, 0x20, 4, "another of its number");
    ck_assert_int_eq(read_dump(), 0);
    expect(0x1004, "successor", NULL, 0);
    expect(0x2004, "traveller", "/a.js", 7);
    expect(0x3014, "traveller", "/a.js", 8);
    expect(0x4000, NULL, NULL, 0);
    expect(0x5000, "one of its number", NULL, 0);
    ck_assert_uint_eq(result.records, 11);
}
END_TEST

START_TEST(test_lines)
{
    const struct dump_line lines[] = {{0x1000, 7, "/a.js"}, {0x1040, 9, "/b.js"}, {0x1020, 8, "\377"}, {0x1060, 0, "/none.js"}, {0x1100, 1, "/a.js"}};
    want((uint64_t[]){0x1000, 0x101f, 0x1020, 0x1040, 0x1060, 0x2000, 0x2fff}, 7);
    dump_lines(&d, 0x1000, lines, 5, 3);
    dump_load(&d, 10, 0x1000, 0x100, 1, "f");
    dump_load(&d, 11, 0x2000, 0x1000, 2, "g"); /* the lines were f's */
    ck_assert_int_eq(read_dump(), 0);
    expect(0x1000, "f", "/a.js", 7);
    expect(0x101f, "f", "/a.js", 7);
    expect(0x1020, "f", "/b.js", 8);
    expect(0x1040, "f", "/b.js", 9);
    expect(0x1060, "f", NULL, 0);
    expect(0x2000, "g", NULL, 0);
    options.lines = false;
    want((uint64_t[]){0x1000}, 1);
    ck_assert_int_eq(read_dump(), 0);
    expect(0x1000, "f", NULL, 0);
}
END_TEST

/* Lines of other code, and before the first one. */
START_TEST(test_lines_of_other_code)
{
    want((uint64_t[]){0x1000, 0x1010, 0x3000}, 3);
    dump_lines(&d, 0x3000, &(struct dump_line){0x3000, 5, "/x.js"}, 1, 0);
    dump_lines(&d, 0x1000, &(struct dump_line){0x1010, 7, "/a.js"}, 1, 0);
    dump_load(&d, 10, 0x1000, 0x100, 1, "f");
    dump_load(&d, 10, 0x3000, 0x100, 2, "g");
    ck_assert_int_eq(read_dump(), 0);
    expect(0x1000, "f", NULL, 0);
    expect(0x1010, "f", "/a.js", 7);
    expect(0x3000, "g", NULL, 0);
}
END_TEST

/* V8's addresses are those in the file that perf inject makes of the code. */
START_TEST(test_lines_of_v8)
{
    const struct dump_line lines[] = {{0x1040, 7, "/a.js"}, {0x1050, 8, "/a.js"}};
    static const uint32_t pads[] = {V8_PAD, 0};
    for (int i = 0; i < 2; i++) {
        dump_begin(&d, PID, pads[i], 0);
        dump_lines(&d, 0x1000, lines, 2, 0);
        dump_load(&d, 10, 0x1000, 0x100, 1, "f");
        want((uint64_t[]){0x1000, 0x1050}, 2);
        ck_assert_int_eq(read_dump(), 0);
        expect(0x1000, "f", i ? NULL : "/a.js", i ? 0 : 7);
        expect(0x1050, "f", "/a.js", 8);
    }
    /* One that does not do so any more shows it by any code whose first line is where the code begins. */
    dump_begin(&d, PID, V8_PAD, 0);
    dump_lines(&d, 0x3000, &(struct dump_line){0x3000, 1, "/b.js"}, 1, 0);
    dump_load(&d, 10, 0x3000, 0x100, 2, "g");
    dump_lines(&d, 0x1000, lines, 2, 0);
    dump_load(&d, 10, 0x1000, 0x100, 1, "f");
    want((uint64_t[]){0x1000, 0x1050}, 2);
    ck_assert_int_eq(read_dump(), 0);
    expect(0x1000, "f", NULL, 0);
    expect(0x1050, "f", "/a.js", 8);
}
END_TEST

START_TEST(test_lines_that_make_no_sense)
{
    static const struct {
        struct dump_line lines[2];
        size_t padding;
    } cases[] = {
        {{{0x1000, 7, "/a.js"}, {0x1101, 8, "/a.js"}}, 0}, /* outside of the code */
        {{{0xfff, 7, "/a.js"}, {0x1010, 8, "/a.js"}}, 0},
        {{{0x1000, 7, "\377"}, {0x1010, 8, "/a.js"}}, 0},  /* the same as none */
        {{{0x1000, 7, ""}, {0x1010, 8, "/a.js"}}, 0},
        {{{0x1000, 7, "a\x19z"}, {0x1010, 8, "/a.js"}}, 0}, /* as V8 does */
        {{{0x1000, 7, "a\x7f"}, {0x1010, 8, "/a.js"}}, 0},
        {{{0x1000, 0x80000000, "/a.js"}, {0x1010, 8, "/a.js"}}, 0},
        {{{0x1000, 7, "/a.js"}, {0x1010, 8, "/a.js"}}, 8}, /* more than padding */
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        dump_begin(&d, PID, 0, 0);
        dump_lines(&d, 0x1000, cases[i].lines, 2, cases[i].padding);
        dump_load(&d, 10, 0x1000, 0x100, 1, "f");
        want((uint64_t[]){0x1000, 0x1010}, 2);
        ck_assert_int_eq(read_dump(), 0);
        expect(0x1010, "f", NULL, 0);
    }
    /* More entries than there are, and ever so many. */
    for (uint64_t n = 3; n != 0; n = n == 3 ? UINT64_MAX : 0) {
        struct jitdump_debug_info info;
        dump_begin(&d, PID, 0, 0);
        dump_lines(&d, 0x1000, cases[7].lines, 2, 0);
        memcpy(&info, d.data + 40, sizeof(info));
        info.n_entries = n;
        memcpy(d.data + 40, &info, sizeof(info));
        dump_load(&d, 10, 0x1000, 0x100, 1, "f");
        want((uint64_t[]){0x1010}, 1);
        ck_assert_int_eq(read_dump(), 0);
        expect(0x1010, "f", NULL, 0);
    }
}
END_TEST

START_TEST(test_headers)
{
    static const struct {
        size_t offset;
        uint32_t value;
        int error;
    } cases[] = {
        {0, JITDUMP_MAGIC_SWAPPED, -ENOTSUP}, {0, 0x464c457f, -ENOEXEC}, {4, 2, -ENOTSUP}, {8, 39, -ENOEXEC}, {8, 4097, -ENOEXEC},
        {20, PID + 1, -ESRCH}, {8, 4096, 0},
    };
    want((uint64_t[]){0x1000}, 1);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        dump_begin(&d, PID, 0, 0);
        dump_load(&d, 10, 0x1000, 0x100, 1, "f");
        memcpy(d.data + cases[i].offset, &cases[i].value, 4);
        ck_assert_int_eq(read_dump(), cases[i].error);
        expect(0x1000, NULL, NULL, 0);
    }
    for (d.len = 0; d.len < 40; d.len += 13)
        ck_assert_int_eq(read_dump(), -ENOEXEC);
    ck_assert_int_eq(jitdump_read(-1, names, &options, &result), -EBADF);
}
END_TEST

/* A record that goes on beyond the file is on its way. */
START_TEST(test_cut_anywhere)
{
    dump_load(&d, 10, 0x1000, 0x10, 1, "whole");
    size_t whole = d.len;
    dump_lines(&d, 0x2000, &(struct dump_line){0x2000, 3, "/a.js"}, 1, 0);
    dump_load(&d, 11, 0x2000, 0x10, 2, "second");
    dump_move(&d, 12, 0x2000, 0x3000, 0x10, 2);
    size_t all = d.len;
    for (d.len = 40; d.len <= all; d.len++) {
        want((uint64_t[]){0x1000, 0x2000, 0x3000}, 3);
        ck_assert_int_eq(read_dump(), 0);
        ck_assert(!result.malformed);
        expect(0x1000, d.len < whole ? NULL : "whole", NULL, 0);
        bool second = d.len >= all - 64, moved = d.len == all;
        expect(0x2000, second ? "second" : NULL, second ? "/a.js" : NULL, second ? 3 : 0);
        expect(0x3000, moved ? "second" : NULL, moved ? "/a.js" : NULL, moved ? 3 : 0);
    }
}
END_TEST

START_TEST(test_malformed_records)
{
    static const struct jitdump_record bad[] = {
        {JITDUMP_LOAD, 55, 0}, {JITDUMP_MOVE, 63, 0}, {JITDUMP_DEBUG_INFO, 31, 0}, {JITDUMP_CLOSE, 15, 0}, {0, 0, 0}};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        dump_begin(&d, PID, 0, 0);
        dump_load(&d, 10, 0x1000, 0x10, 1, "before");
        dump_put(&d, &bad[i], sizeof(bad[i]));
        dump_load(&d, 11, 0x2000, 0x10, 2, "after");
        want((uint64_t[]){0x1000, 0x2000}, 2);
        ck_assert_int_eq(read_dump(), 0);
        ck_assert(result.malformed);
        ck_assert_uint_eq(result.records, 1);
        expect(0x1000, "before", NULL, 0);
        expect(0x2000, NULL, NULL, 0);
    }
    /* What is not known is skipped. */
    dump_begin(&d, PID, 0, 0);
    dump_put(&d, &(struct jitdump_record){JITDUMP_UNWINDING_INFO, 24, 0}, 16);
    dump_put(&d, "\1\2\3\4\5\6\7", 8);
    dump_put(&d, &(struct jitdump_record){1234, 16, 0}, 16);
    dump_load(&d, 11, 0x2000, 0x10, 2, "after");
    want((uint64_t[]){0x2000}, 1);
    ck_assert_int_eq(read_dump(), 0);
    expect(0x2000, "after", NULL, 0);
}
END_TEST

START_TEST(test_code_that_makes_no_sense)
{
    want((uint64_t[]){0x1000, 0x2000, 0x3000, UINT64_MAX}, 4);
    dump_load(&d, 10, 0x1000, 0, 1, "empty");
    dump_load(&d, 11, UINT64_MAX, 2, 2, "around the end");
    dump_load(&d, 12, 0x2000, 0x10, 3, "named");
    dump_load(&d, 13, 0x2000, 0x10, 4, ""); /* newer, and nobody knows what */
    dump_load(&d, 14, 0x3000, 0x10, 5, "endless");
    for (uint8_t *p = d.data + d.len; p > d.data && p[-1] != 'd'; p--)
        if (p[-1] == 0)
            p[-1] = 'x';
    ck_assert_int_eq(read_dump(), 0);
    expect(0x1000, NULL, NULL, 0);
    expect(UINT64_MAX, NULL, NULL, 0);
    expect(0x2000, NULL, NULL, 0);
    expect(0x3000, NULL, NULL, 0);
}
END_TEST

/* Far more code at one place than is kept, each covering all. */
START_TEST(test_everything_covered_all_the_time)
{
    enum { LOADS = 150000 };
    AUTO_CLOSE int fd = memfd_create("dump", MFD_CLOEXEC);
    char name[16];
    ck_assert_int_eq(write(fd, d.data, d.len), (ssize_t)d.len);
    for (unsigned i = 0; i < LOADS; i++) {
        d.len = 0;
        (void)snprintf(name, sizeof(name), "f%u", i);
        dump_load(&d, i ^ 1, 0, 1 << 20, i, name);
        ck_assert_int_eq(write(fd, d.data, d.len), (ssize_t)d.len);
    }
    want((uint64_t[]){1, 2, 3, 1 << 20}, 4);
    ck_assert_int_eq(jitdump_read(fd, names, &options, &result), 0);
    ck_assert_uint_eq(result.records, LOADS);
    expect(1, "f149998", NULL, 0); /* LOADS - 1 is its time */
    expect(3, "f149998", NULL, 0);
    expect(1 << 20, NULL, NULL, 0);
}
END_TEST

START_TEST(test_limits)
{
    want((uint64_t[]){0x1000}, 1);
    dump_load(&d, 10, 0x1000, 0x10, 1, "f");
    options.deadline_ns = 0;
    ck_assert_int_eq(read_dump(), -ETIMEDOUT);
    expect(0x1000, NULL, NULL, 0);
    options.deadline_ns = UINT64_MAX;
    AUTO_CLOSE int fd = memfd_create("dump", MFD_CLOEXEC);
    ck_assert_int_eq(write(fd, d.data, d.len), (ssize_t)d.len);
    ck_assert_int_eq(ftruncate(fd, (off_t)JITDUMP_MAX_BYTES), 0);
    ck_assert_int_eq(jitdump_read(fd, names, &options, &result), 0); /* nothing but a hole behind */
    ck_assert(result.malformed);
    expect(0x1000, "f", NULL, 0);
    ck_assert_int_eq(ftruncate(fd, (off_t)JITDUMP_MAX_BYTES + 1), 0);
    ck_assert_int_eq(jitdump_read(fd, names, &options, &result), -EFBIG);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("jitdump");
    TCase *tc = tcase_create("jitdump");
    tcase_set_timeout(tc, 60);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, test_names);
    tcase_add_test(tc, test_time);
    tcase_add_test(tc, test_overlaps);
    tcase_add_test(tc, test_moves);
    tcase_add_test(tc, test_lines);
    tcase_add_test(tc, test_lines_of_other_code);
    tcase_add_test(tc, test_lines_of_v8);
    tcase_add_test(tc, test_lines_that_make_no_sense);
    tcase_add_test(tc, test_headers);
    tcase_add_test(tc, test_cut_anywhere);
    tcase_add_test(tc, test_malformed_records);
    tcase_add_test(tc, test_code_that_makes_no_sense);
    tcase_add_test(tc, test_everything_covered_all_the_time);
    tcase_add_test(tc, test_limits);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
