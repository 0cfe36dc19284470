/* Lines of /proc/PID/maps, whole files of them, and an image that goes away. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/target_maps.h"
#include "util/cleanup.h"

static int parse(const char *line, struct maps_entry *e)
{
    return maps_parse_line(line, strlen(line), e);
}

START_TEST(test_lines)
{
    static const struct {
        const char *line, *name;
        bool executable;
        uint64_t start, end, offset, ino;
        uint32_t dev_major, dev_minor;
    } good[] = {
        {"55d0c0a00000-55d0c0a28000 r-xp 0001a000 fe:01 1316 /usr/bin/a b", "/usr/bin/a b", true, 0x55d0c0a00000, 0x55d0c0a28000,
         0x1a000, 1316, 0xfe, 1},
        {"7ffd1000-7ffd2000 r--p 00000000 00:00 0                          [vvar]", "[vvar]", false, 0x7ffd1000, 0x7ffd2000, 0, 0, 0, 0},
        {"ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]", "[vsyscall]", true,
         0xffffffffff600000, 0xffffffffff601000, 0, 0, 0, 0},
        {"1000-2000 rwxp 00000000 00:00 0 ", "", true, 0x1000, 0x2000, 0, 0, 0, 0},
        {"1000-2000 r-xs 00000000 00:1e 18446744073709551615 /x\\012y (deleted)", "/x\\012y (deleted)", true, 0x1000, 0x2000, 0,
         UINT64_MAX, 0, 0x1e},
        {"1000-2000 r-xp 00000000 00:01 5 /memfd:a-b c:d 1-2 (deleted)", "/memfd:a-b c:d 1-2 (deleted)", true, 0x1000, 0x2000, 0, 5, 0, 1},
    };
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        struct maps_entry e;
        ck_assert_int_eq(parse(good[i].line, &e), 0);
        ck_assert_uint_eq(e.start, good[i].start);
        ck_assert_uint_eq(e.end, good[i].end);
        ck_assert_uint_eq(e.offset, good[i].offset);
        ck_assert_uint_eq(e.ino, good[i].ino);
        ck_assert_uint_eq(e.dev_major, good[i].dev_major);
        ck_assert_uint_eq(e.dev_minor, good[i].dev_minor);
        ck_assert_int_eq(e.executable, good[i].executable);
        ck_assert_uint_eq(e.name_len, strlen(good[i].name));
        ck_assert_mem_eq(e.name, good[i].name, e.name_len);
    }
}
END_TEST

START_TEST(test_lines_refused)
{
    static const char *const bad[] = {
        "", "-", "1000", "1000-2000", "1000-2000 r-xp", "2000-1000 r-xp 0 0:0 0 ", "1000-1000 r-xp 0 0:0 0 ",
        "1000-2000 r-xp 0 0:0 x", "1000-2000 r-xp 0 0:0 0", "10000000000000000-20000000000000000 r-xp 0 0:0 0 ",
        "1000-2000 r-xp 0 100000000:0 0 ", "1000-2000 r-xp 0 0:0 18446744073709551616 ", " 1000-2000 r-xp 0 0:0 0 ",
        "1000-2000 r-x 0 0:0 0 ", "1000-2000 r-xp -1 0:0 0 ", "0x1000-0x2000 r-xp 0 0:0 0 ", "1000-2000 r-xp 0 0:0 -1 ",
    };
    struct maps_entry e = {.ino = 9};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        ck_assert_msg(parse(bad[i], &e) == -EBADMSG, "%s", bad[i]);
    ck_assert_uint_eq(e.ino, 9);
}
END_TEST

START_TEST(test_names)
{
    static const struct { const char *name, *real; } names[] = {
        {"/a\\012b", "/a\nb"}, {"\\012\\012", "\n\n"}, {"/a\\01", "/a\\01"}, {"/a\\013", "/a\\013"}, {"", ""}, {"\\\\012", "\\\n"},
    };
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char to[32];
        size_t len = maps_decode_name(names[i].name, strlen(names[i].name), to);
        ck_assert_uint_eq(len, strlen(names[i].real));
        ck_assert_mem_eq(to, names[i].real, len);
    }
}
END_TEST

/* ---- whole files */

struct seen {
    size_t n, names, cut;
    uint64_t last_start;
    size_t stop_at;
};

static int see(const struct maps_entry *e, void *userdata)
{
    struct seen *s = userdata;
    s->n++;
    s->names += e->name_len;
    s->cut += e->name_cut;
    ck_assert_uint_ge(e->start, s->last_start);
    s->last_start = e->start;
    return s->n == s->stop_at ? -ECANCELED : 0;
}

static int file_of(const char *text, size_t len)
{
    int fd = memfd_create("maps", MFD_CLOEXEC);
    ck_assert_int_eq(write(fd, text, len), (ssize_t)len);
    return fd;
}

START_TEST(test_many_lines)
{
    size_t n = 5000, len = 0;
    char *text = malloc(n * 200);
    for (size_t i = 0; i < n; i++)
        len += (size_t)sprintf(text + len, "%zx000-%zx000 r-xp 00000000 fe:01 7 /some/where/%0*d\n", i * 2 + 1, i * 2 + 2, (int)(i % 90) + 1, 7);
    AUTO_CLOSE int fd = file_of(text, len);
    for (int again = 0; again < 2; again++) {
        struct seen s = {0};
        ck_assert_int_eq(maps_read(fd, see, &s), 0);
        ck_assert_uint_eq(s.n, n);
        ck_assert_uint_eq(s.cut, 0);
    }
    struct seen s = {.stop_at = 3};
    ck_assert_int_eq(maps_read(fd, see, &s), -ECANCELED);
    ck_assert_uint_eq(s.n, 3);
    free(text);
}
END_TEST

/* A path may be longer than any buffer: it is cut and marked, and the lines after it are whole. */
START_TEST(test_long_lines)
{
    static const size_t lengths[] = {MAPS_LINE_BYTES - 60, MAPS_LINE_BYTES - 46, MAPS_LINE_BYTES - 45, MAPS_LINE_BYTES - 44,
                                     MAPS_LINE_BYTES, 3 * MAPS_LINE_BYTES + 17};
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        char *text = malloc(lengths[i] + 4096);
        size_t len = (size_t)sprintf(text, "1000-2000 r-xp 00000000 fe:01 1 /first\n2000-3000 r-xp 00000000 fe:01 2 /");
        memset(text + len, 'x', lengths[i]);
        len += lengths[i];
        len += (size_t)sprintf(text + len, "\n3000-4000 r-xp 00000000 fe:01 3 /last\n");
        AUTO_CLOSE int fd = file_of(text, len);
        struct seen s = {0};
        ck_assert_int_eq(maps_read(fd, see, &s), 0);
        ck_assert_uint_eq(s.n, 3);
        ck_assert_uint_eq(s.cut, lengths[i] >= MAPS_LINE_BYTES ? 1 : s.cut);
        ck_assert_uint_eq(s.last_start, 0x3000);
        free(text);
    }
}
END_TEST

START_TEST(test_garbage)
{
    struct seen s = {0};
    AUTO_CLOSE int garbage = file_of("1000-2000 r-xp 00000000 fe:01 1 /first\nnonsense\n", 48), empty = file_of("", 0);
    ck_assert_int_eq(maps_read(garbage, see, &s), -EBADMSG);
    ck_assert_int_eq(maps_read(empty, see, &s), -ESRCH);
    ck_assert_int_eq(maps_read(-1, see, &s), -EBADF);
}
END_TEST

/* The maps of an image are empty once it was exec'd away, and once its process has ended. */
START_TEST(test_image_that_goes)
{
    int to[2], from[2];
    char path[64], byte;
    ck_assert_int_eq(pipe(to), 0);
    ck_assert_int_eq(pipe2(from, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(to[0], 0);
        close(to[1]);
        if (read(0, &byte, 1) == 1)
            execl("/bin/cat", "cat", NULL);
        _exit(1);
    }
    close(from[1]);
    close(to[0]);
    snprintf(path, sizeof(path), "/proc/%d/maps", pid);
    AUTO_CLOSE int before = open(path, O_RDONLY | O_CLOEXEC);
    struct seen s = {0};
    ck_assert_int_eq(maps_read(before, see, &s), 0);
    ck_assert_uint_gt(s.n, 5);
    ck_assert_int_eq(write(to[1], "x", 1), 1);
    ck_assert_int_eq(read(from[0], &byte, 1), 0); /* the exec closed its copy */
    s = (struct seen){0};
    ck_assert_int_eq(maps_read(before, see, &s), -ESRCH);
    ck_assert_uint_eq(s.n, 0);
    AUTO_CLOSE int after = open(path, O_RDONLY | O_CLOEXEC);
    ck_assert_int_eq(maps_read(after, see, &s), 0);
    close(to[1]);
    waitpid(pid, NULL, 0);
    s = (struct seen){0};
    ck_assert_int_eq(maps_read(after, see, &s), -ESRCH);
    close(from[0]);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("target_maps");
    TCase *tc = tcase_create("target_maps");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, test_lines);
    tcase_add_test(tc, test_lines_refused);
    tcase_add_test(tc, test_names);
    tcase_add_test(tc, test_many_lines);
    tcase_add_test(tc, test_long_lines);
    tcase_add_test(tc, test_garbage);
    tcase_add_test(tc, test_image_that_goes);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
