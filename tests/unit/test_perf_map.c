/* Perf maps: whose line names an address, and what hostile ones can do. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "symbolize/code_names.h"
#include "symbolize/perf_map.h"
#include "util/cleanup.h"
#include "util/clock.h"

#define NEVER UINT64_MAX
/* As much as the reader takes at once: what lies across its borders is where it could go wrong. */
#define PIECE (256u << 10)

static struct code_names *names;
static struct perf_map_result result;

static int map_fd(const char *text, size_t len)
{
    int fd = memfd_create("map", MFD_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, text, len), (ssize_t)len);
    return fd;
}

static void want(const uint64_t *addresses, size_t n)
{
    code_names_free(names);
    names = code_names_new(addresses, n);
    ck_assert_ptr_nonnull(names);
}

static int read_bytes(const char *text, size_t len)
{
    AUTO_CLOSE int fd = map_fd(text, len);
    return perf_map_read(fd, names, NEVER, &result);
}

static void read_text(const char *text)
{
    ck_assert_int_eq(read_bytes(text, strlen(text)), 0);
}

static void expect(uint64_t address, const char *name)
{
    const struct code_name *found = code_names_find(names, address);
    ck_assert_pstr_eq(found ? found->name : NULL, name);
    if (found)
        ck_assert(!found->filename && found->line == 0); /* a name is no place, whatever it looks like */
}

static void teardown(void)
{
    code_names_free(names);
    names = NULL;
}

START_TEST(test_names_as_they_are)
{
    want((uint64_t[]){0x1000, 0x10ff, 0x1100, 0x2000, 0x3000, 0x7f6500ec7180, 0xffffffffffffffff}, 7);
    read_text("1000 100 LazyCompile:~fn /srv/file.js:12:3\n"
              "2000 1 py::inner:/a b/c.py\n"
              "0x3000  0x10\tLorg/foo;::bar\n"
              "0x00007f6500ec7180 0x0000000000000078 void java.lang.Object.<init>()\n"
              "FFFFFFFFFFFFFFFF 1 \xc3\xa9t\xc3\xa9 _ZN3fooEv\n");
    expect(0x1000, "LazyCompile:~fn /srv/file.js:12:3");
    expect(0x10ff, "LazyCompile:~fn /srv/file.js:12:3");
    expect(0x1100, NULL);
    expect(0x2000, "py::inner:/a b/c.py");
    expect(0x3000, "Lorg/foo;::bar");
    expect(0x7f6500ec7180, "void java.lang.Object.<init>()");
    expect(0xffffffffffffffff, "\xc3\xa9t\xc3\xa9 _ZN3fooEv");
    ck_assert_uint_eq(result.lines, 5);
    ck_assert_uint_eq(result.malformed, 0);
    ck_assert(!result.cut);
    ck_assert_uint_eq(code_names_left(names), 1);
    ck_assert_ptr_null(code_names_find(names, 0x1234)); /* nobody asked for it */
}
END_TEST

START_TEST(test_the_newest_wins)
{
    want((uint64_t[]){0x1000, 0x1040, 0x1080, 0x10c0, 0x2000}, 5);
    read_text("1000 100 old\n"
              "1040 40 replaced\n"
              "1040 10 newest\n"
              "2000 10 alone\n"
              "1080 80 overlaps\n");
    expect(0x1000, "old");
    expect(0x1040, "newest");
    expect(0x1080, "overlaps");
    expect(0x10c0, "overlaps");
    expect(0x2000, "alone");
    ck_assert_uint_eq(code_names_left(names), 0);
}
END_TEST

START_TEST(test_it_stops_when_all_are_named)
{
    want((uint64_t[]){0x1000}, 1);
    read_text("rubbish\n1000 10 old\n1000 10 new\n");
    expect(0x1000, "new");
    ck_assert_uint_eq(result.lines, 1);
    ck_assert_uint_eq(result.malformed, 0);
}
END_TEST

START_TEST(test_what_was_named_before_stays)
{
    want((uint64_t[]){0x1000, 0x1001}, 2);
    ck_assert_int_eq(code_names_claim(names, 0x1000, 1, "by another", 10), 0);
    read_text("1000 10 by the map\n");
    expect(0x1000, "by another");
    expect(0x1001, "by the map");
}
END_TEST

/* A line is written in pieces, as a buffer empties: what has no end may be half a name. */
START_TEST(test_a_line_without_an_end_does_not_count)
{
    want((uint64_t[]){0x1000, 0x2000}, 2);
    read_text("1000 10 whole\n2000 10 LazyCompile:~ha");
    expect(0x1000, "whole");
    expect(0x2000, NULL);
    want((uint64_t[]){0x2000}, 1);
    read_text("2000 10 alone");
    expect(0x2000, NULL);
    ck_assert_uint_eq(result.lines, 0);
    read_text("");
    read_text("\n\n\n");
    ck_assert_uint_eq(result.lines, 0);
}
END_TEST

START_TEST(test_malformed_lines)
{
    static const char *const lines[] = {
        "x", "1000", "1000 ", "1000 10", "1000 10 ", " 1000 10 name", "1000 0 name", "1000 -1 name", "-1000 10 name", "1000 10name",
        "10001000100010001 10 name", "1000 fffffffffffffffff name", "1000 ffffffffffffffff name", "0x 10 name", "1000 0x name", "0xx1000 10 name",
        "\xff\xfe\x00\x01", "1000 10\rname",
    };
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        char text[128];
        want((uint64_t[]){0x1000, 0x3000}, 2);
        (void)snprintf(text, sizeof(text), "3000 10 other\n%s\n", lines[i]);
        read_text(text);
        ck_assert_msg(!code_names_find(names, 0x1000), "%s", lines[i]);
        expect(0x3000, "other");
        ck_assert_msg(result.malformed == 1, "%s", lines[i]);
    }
    want((uint64_t[]){0x1000}, 1);
    ck_assert_int_eq(read_bytes("1000 10 a\0b\n", 12), 0); /* a NUL ends no name */
    expect(0x1000, NULL);
    ck_assert_uint_eq(result.malformed, 1);
}
END_TEST

/* Wherever the pieces that are read begin and end. */
START_TEST(test_lines_across_pieces)
{
    for (unsigned shift = 0; shift < 40; shift++) {
        static char text[3 * PIECE];
        size_t len = (size_t)sprintf(text, "1000 10 first\n");
        memset(text + len, 'z', shift);
        len += shift;
        text[len++] = '\n';
        unsigned n = 0;
        while (len < 2 * PIECE + 100)
            len += (size_t)sprintf(text + len, "%x 8 function_%u\n", 0x10000 + 8 * n, n), n++;
        len += (size_t)sprintf(text + len, "2000 10 last\n");
        uint64_t *addresses = calloc(n + 2, sizeof(*addresses));
        addresses[0] = 0x1000;
        addresses[1] = 0x2000;
        for (unsigned i = 0; i < n; i++)
            addresses[i + 2] = 0x10007 + 8 * i;
        want(addresses, n + 2);
        free(addresses);
        ck_assert_int_eq(read_bytes(text, len), 0);
        expect(0x1000, "first");
        expect(0x2000, "last");
        ck_assert_uint_eq(code_names_left(names), 0);
        for (unsigned i = 0; i < n; i += 997) {
            char name[32];
            (void)sprintf(name, "function_%u", i);
            expect(0x10007 + 8 * i, name);
        }
        ck_assert_uint_eq(result.malformed, shift > 0);
    }
}
END_TEST

/* Longer than what is read at once, in the middle, at the beginning and at the end. */
START_TEST(test_endless_lines)
{
    static char text[6 * PIECE];
    for (int at_end = 0; at_end < 2; at_end++) {
        size_t len = (size_t)sprintf(text, "1000 10 first\n");
        memset(text + len, '1', 2 * PIECE + 17);
        len += 2 * PIECE + 17;
        if (!at_end)
            len += (size_t)sprintf(text + len, "\n2000 10 last\n");
        want((uint64_t[]){0x1000, 0x2000}, 2);
        ck_assert_int_eq(read_bytes(text, len), 0);
        expect(0x1000, "first");
        expect(0x2000, at_end ? NULL : "last");
        ck_assert_uint_eq(result.malformed, at_end ? 0 : 1);
    }
    memset(text, 'a', 2 * PIECE);
    memcpy(text + 2 * PIECE, "\n1000 10 x\n", 11);
    want((uint64_t[]){0x1000, 0x2000}, 2);
    ck_assert_int_eq(read_bytes(text, 2 * PIECE + 11), 0);
    expect(0x1000, "x");
}
END_TEST

/* A name that is too long is not known, and what was there before is not it. */
START_TEST(test_long_names)
{
    static char text[2 * CODE_NAME_MAX_BYTES];
    for (size_t more = 0; more < 2; more++) {
        size_t len = (size_t)sprintf(text, "1000 10 old\n1000 10 "), n = CODE_NAME_MAX_BYTES + more;
        memset(text + len, 'n', n);
        text[len + n] = '\n';
        want((uint64_t[]){0x1000}, 1);
        ck_assert_int_eq(read_bytes(text, len + n + 1), 0);
        const struct code_name *found = code_names_find(names, 0x1000);
        ck_assert(more ? !found : found && strlen(found->name) == CODE_NAME_MAX_BYTES);
    }
}
END_TEST

START_TEST(test_all_names_have_a_bound)
{
    enum { N = 1000 };
    AUTO_FREE char *text = malloc(N * (CODE_NAME_MAX_BYTES + 32));
    uint64_t addresses[N];
    size_t len = 0, named = 0;
    for (unsigned i = 0; i < N; i++) {
        addresses[i] = 0x1000 + i;
        len += (size_t)sprintf(text + len, "%x 1 ", 0x1000 + i);
        memset(text + len, 'n', CODE_NAME_MAX_BYTES);
        len += CODE_NAME_MAX_BYTES;
        text[len++] = '\n';
    }
    want(addresses, N);
    ck_assert_int_eq(read_bytes(text, len), -ENOSPC);
    for (unsigned i = 0; i < N; i++)
        named += code_names_find(names, 0x1000 + i) != NULL;
    ck_assert_uint_ge(named, CODE_NAMES_MAX_BYTES / (CODE_NAME_MAX_BYTES + 1024));
    ck_assert_uint_lt(named, N);
    ck_assert_ptr_nonnull(code_names_find(names, addresses[N - 1])); /* the newest */
}
END_TEST

/* Gigabytes of nothing: only so much of its end is looked at. */
START_TEST(test_a_sparse_file)
{
    AUTO_CLOSE int fd = map_fd("1000 10 beginning\n", 18);
    const char *end = "\n2000 10 end\n";
    ck_assert_int_eq(pwrite(fd, end, strlen(end), 1ll << 40), (ssize_t)strlen(end));
    want((uint64_t[]){0x1000, 0x2000}, 2);
    ck_assert_int_eq(perf_map_read(fd, names, NEVER, &result), 0);
    expect(0x1000, NULL);
    expect(0x2000, "end");
    ck_assert(result.cut);
    want((uint64_t[]){0x2000}, 1);
    ck_assert_int_eq(perf_map_read(fd, names, NEVER, &result), 0);
    expect(0x2000, "end");
    ck_assert(!result.cut); /* nobody needs more of it */
}
END_TEST

/* Each line covers everything, again and again. */
START_TEST(test_everything_covered_all_the_time)
{
    enum { LINES = 200000, N = 50000 };
    static char text[LINES * 24];
    static uint64_t addresses[N];
    size_t len = 0;
    for (unsigned i = 0; i < LINES; i++)
        len += (size_t)sprintf(text + len, "0 fffffffffffff%x x%u\n", i & 1, i % 1000);
    for (unsigned i = 0; i < N; i++)
        addresses[i] = 16 * (uint64_t)i + 3;
    addresses[N - 1] = UINT64_MAX; /* that nothing covers: all lines are read */
    want(addresses, N);
    ck_assert_int_eq(read_bytes(text, len), 0);
    ck_assert_uint_eq(code_names_left(names), 1);
    ck_assert_uint_eq(result.lines, LINES);
    expect(3, "x999");
}
END_TEST

START_TEST(test_a_file_that_gets_shorter)
{
    static char text[2 * PIECE];
    memset(text, '\n', sizeof(text));
    AUTO_CLOSE int fd = map_fd(text, sizeof(text));
    AUTO_CLOSE int pipe_end = -1;
    int ends[2];
    want((uint64_t[]){0x1000}, 1);
    ck_assert_int_eq(perf_map_read(-1, names, NEVER, &result), -EBADF);
    ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0); /* no size, and no offsets */
    pipe_end = ends[0];
    ck_assert_int_eq(perf_map_read(pipe_end, names, NEVER, &result), 0);
    close(ends[1]);
    ck_assert_int_eq(perf_map_read(fd, names, 0, &result), 0); /* no time left */
    ck_assert(result.cut);
    ck_assert_uint_eq(result.lines, 0);
}
END_TEST

START_TEST(test_no_addresses)
{
    want(NULL, 0);
    read_text("1000 10 name\n");
    ck_assert_uint_eq(code_names_left(names), 0);
    ck_assert_ptr_null(code_names_find(names, 0x1000));
    code_names_free(NULL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("perf_map");
    TCase *tc = tcase_create("perf_map");
    tcase_set_timeout(tc, 60);
    tcase_add_checked_fixture(tc, NULL, teardown);
    tcase_add_test(tc, test_names_as_they_are);
    tcase_add_test(tc, test_the_newest_wins);
    tcase_add_test(tc, test_it_stops_when_all_are_named);
    tcase_add_test(tc, test_what_was_named_before_stays);
    tcase_add_test(tc, test_a_line_without_an_end_does_not_count);
    tcase_add_test(tc, test_malformed_lines);
    tcase_add_test(tc, test_lines_across_pieces);
    tcase_add_test(tc, test_endless_lines);
    tcase_add_test(tc, test_long_names);
    tcase_add_test(tc, test_all_names_have_a_bound);
    tcase_add_test(tc, test_a_sparse_file);
    tcase_add_test(tc, test_everything_covered_all_the_time);
    tcase_add_test(tc, test_a_file_that_gets_shorter);
    tcase_add_test(tc, test_no_addresses);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
