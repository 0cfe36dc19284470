/* Separate debug files: where they are looked for, in which order, and what their hostile names cannot reach. */
#include "daemon/debug_files.h"
#include "symbolize/symbolizer.h"
#include "tests/unit/elf_head.h"
#include "tests/unit/mapper.h"

/* Two root directories. */
static struct debug_roots roots;

static void make_directory(const char *path)
{
    char command[PATH_MAX + 16];
    (void)snprintf(command, sizeof(command), "mkdir -p '%s'", scratch_path(path));
    ck_assert_int_eq(system(command), 0);
}

static void roots_make(void)
{
    scratch_make();
    make_directory("target/usr/lib/debug/.build-id/ab");
    make_directory("target/usr/lib/debug/.dwz/x86_64");
    make_directory("target/usr/lib/debug/opt/app");
    make_directory("target/opt/app/.debug");
    make_directory("host/usr/lib/debug/.build-id/ab");
    make_directory("host/usr/lib/debug/.dwz/x86_64");
    make_directory("host/usr/lib/debug/opt/app");
    make_directory("host/opt/app");
    roots.target = open(scratch_path("target"), O_PATH | O_DIRECTORY | O_CLOEXEC);
    roots.host = open(scratch_path("host"), O_PATH | O_DIRECTORY | O_CLOEXEC);
}

static void roots_remove(void)
{
    close_fd(&roots.target);
    close_fd(&roots.host);
    scratch_remove();
}

/* What is found is told by the file's first byte; or -errno. */
static int find(enum debug_file_kind kind, const char *name, const char *build_id, int object_fd)
{
    struct worker_message need = {.u.need = {.kind = WORKER_FILE_DEBUG, .debug_kind = kind}};
    char byte;

    (void)snprintf(need.u.need.name, sizeof(need.u.need.name), "%s", name);
    (void)snprintf(need.u.need.build_id, sizeof(need.u.need.build_id), "%s", build_id);
    AUTO_CLOSE int fd = debug_file_open(&roots, "/opt/app/program", object_fd, &need);
    if (fd < 0)
        return fd;
    ck_assert_int_eq(pread(fd, &byte, 1, 0), 1);
    return byte;
}

static int by_build_id(const char *id)
{
    return find(DEBUG_FILE_BUILD_ID, id, "", -1);
}

static int by_debuglink(const char *name)
{
    return find(DEBUG_FILE_DEBUGLINK, name, "", -1);
}

static int by_altlink(const char *name, const char *build_id)
{
    return find(DEBUG_FILE_ALTLINK, name, build_id, -1);
}

START_TEST(test_build_id)
{
    ck_assert_int_eq(by_build_id("abcdef01"), -ENOENT);
    close(scratch_file("host/usr/lib/debug/.build-id/ab/cdef01.debug", 'h'));
    ck_assert_int_eq(by_build_id("abcdef01"), 'h');
    close(scratch_file("target/usr/lib/debug/.build-id/ab/cdef01.debug", 't'));
    ck_assert_int_eq(by_build_id("abcdef01"), 't');
    close_fd(&roots.target);
    ck_assert_int_eq(by_build_id("abcdef01"), 'h');
}
END_TEST

START_TEST(test_build_id_refused)
{
    static const char *const bad[] = {"", "ab", "abc", "abcde", "ABCDEF01", "ab/../01", "../../..", "abcdefgh", "ab cdef0"};
    char longest[160];
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        ck_assert_msg(by_build_id(bad[i]) == -EINVAL, "%s", bad[i]);
    memset(longest, 'a', sizeof(longest));
    longest[128] = '\0';
    ck_assert_int_eq(by_build_id(longest), -ENOENT);
    longest[128] = 'a';
    longest[130] = '\0';
    ck_assert_int_eq(by_build_id(longest), -EINVAL);
}
END_TEST

START_TEST(test_debuglink)
{
    ck_assert_int_eq(by_debuglink("program.debug"), -ENOENT);
    close(scratch_file("host/opt/app/program.debug", '!')); /* the host's own /opt is none of the places */
    ck_assert_int_eq(by_debuglink("program.debug"), -ENOENT);
    close(scratch_file("host/usr/lib/debug/opt/app/program.debug", '1'));
    ck_assert_int_eq(by_debuglink("program.debug"), '1');
    close(scratch_file("target/usr/lib/debug/opt/app/program.debug", '2'));
    ck_assert_int_eq(by_debuglink("program.debug"), '2');
    close(scratch_file("target/opt/app/.debug/program.debug", '3'));
    ck_assert_int_eq(by_debuglink("program.debug"), '3');
    AUTO_CLOSE int beside = scratch_file("target/opt/app/program.debug", '4');
    ck_assert_int_eq(by_debuglink("program.debug"), '4');
    ck_assert_int_eq(find(DEBUG_FILE_DEBUGLINK, "program.debug", "", beside), '3'); /* nobody is his own debug file */
}
END_TEST

START_TEST(test_debuglink_refused)
{
    static const char *const bad[] = {"", ".", "..", "/etc/passwd", "../../etc/passwd", "a/b", "a/"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        ck_assert_msg(by_debuglink(bad[i]) == -EINVAL, "%s", bad[i]);
    /* A link beside the binary stays within the target's root, and a FIFO is no file. */
    ck_assert_int_eq(symlink("/etc/passwd", scratch_path("target/opt/app/out")), 0);
    ck_assert_int_eq(by_debuglink("out"), -ENOENT);
    ck_assert_int_eq(mkfifo(scratch_path("target/opt/app/fifo"), 0644), 0);
    ck_assert_int_eq(by_debuglink("fifo"), -ENOENT);
    char longest[4096];
    memset(longest, 'x', sizeof(longest));
    longest[4090] = '\0';
    ck_assert_int_lt(by_debuglink(longest), 0);
}
END_TEST

START_TEST(test_split)
{
    static const char *const bad[] = {"", "x.dwo", "../x.dwo", "/opt/x", "/opt/.dwo", "/opt/x.dwo/", "/opt/x.dwo/passwd"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        ck_assert_msg(find(DEBUG_FILE_DWO, bad[i], "", -1) == -EINVAL, "%s", bad[i]);
    close(scratch_file("host/opt/x.dwo", '!'));
    close(scratch_file("x.dwo", '!'));
    ck_assert_int_eq(find(DEBUG_FILE_DWO, "/opt/x.dwo", "", -1), -ENOENT);
    ck_assert_int_eq(find(DEBUG_FILE_DWO, "/../x.dwo", "", -1), -ENOENT);
    close(scratch_file("target/opt/app/x.dwo", 'b'));
    ck_assert_int_eq(find(DEBUG_FILE_DWO, "/build/x.dwo", "", -1), 'b');
    close(scratch_file("target/opt/x.dwo", 'a'));
    ck_assert_int_eq(find(DEBUG_FILE_DWO, "/opt/x.dwo", "", -1), 'a');
    ck_assert_int_eq(symlink("/etc/passwd", scratch_path("target/opt/out.dwo")), 0);
    ck_assert_int_eq(find(DEBUG_FILE_DWO, "/opt/out.dwo", "", -1), -ENOENT);
}
END_TEST

START_TEST(test_package)
{
    close(scratch_file("host/opt/app/program.dwp", '!'));
    ck_assert_int_eq(find(DEBUG_FILE_DWP, "", "", -1), -ENOENT);
    close(scratch_file("host/usr/lib/debug/opt/app/program.dwp", '1'));
    ck_assert_int_eq(find(DEBUG_FILE_DWP, "", "", -1), '1');
    close(scratch_file("target/usr/lib/debug/opt/app/program.dwp", '2'));
    ck_assert_int_eq(find(DEBUG_FILE_DWP, "", "", -1), '2');
    close(scratch_file("target/opt/app/program.dwp", '3'));
    ck_assert_int_eq(find(DEBUG_FILE_DWP, "/etc/passwd", "", -1), '3'); /* no name is listened to */
}
END_TEST

START_TEST(test_altlink)
{
    close(scratch_file("host/usr/lib/debug/.dwz/x86_64/common.debug", 'h'));
    ck_assert_int_eq(by_altlink("/usr/lib/debug/.dwz/x86_64/common.debug", ""), 'h');
    ck_assert_int_eq(by_altlink("../../.dwz/x86_64/common.debug", ""), 'h');
    close(scratch_file("target/usr/lib/debug/.dwz/x86_64/common.debug", 't'));
    ck_assert_int_eq(by_altlink("/usr/lib/debug/.dwz/x86_64/common.debug", ""), 't');
    ck_assert_int_eq(by_altlink("../../../.dwz/x86_64/common.debug", "nonsense"), 't');
    close(scratch_file("target/usr/lib/debug/.build-id/ab/cdef01.debug", 'b'));
    ck_assert_int_eq(by_altlink("/usr/lib/debug/.dwz/x86_64/common.debug", "abcdef01"), 'b');
    ck_assert_int_eq(by_altlink("/anything", "abcdef01"), 'b');
}
END_TEST

START_TEST(test_altlink_refused)
{
    static const char *const bad[] = {
        "", "/", "/etc/passwd", "/usr/lib/debug/", "/usr/lib/debug/../../../etc/passwd", "/usr/lib/debug/a/..", "../../etc/passwd",
        ".dwz/../../../etc/passwd", ".dwz/..", "usr/lib/debug/x", "/usr/lib/debugger/x",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        ck_assert_msg(by_altlink(bad[i], "") == -EINVAL, "%s", bad[i]);
    ck_assert_int_eq(by_altlink("/usr/lib/debug/..a/b..", ""), -ENOENT); /* two dots in a name are none of "..") */
}
END_TEST

/* A file of that build, whose first byte alone tells nothing. */
static void write_build(const char *path, const char *id)
{
    struct mapped_head head = head_with_id(id);
    AUTO_CLOSE int fd = scratch_file(path, '-');
    ck_assert_int_eq(pwrite(fd, head.bytes, head.len, 0), (ssize_t)head.len);
}

/* Whatever the target has in one place, a file of the right build is found in the next. */
START_TEST(test_another_build_hides_none)
{
    write_build("target/usr/lib/debug/.build-id/ab/cdef01.debug", "\xab\xcd\xef\x02");
    ck_assert_int_eq(find(DEBUG_FILE_BUILD_ID, "abcdef01", "abcdef01", -1), -ENOENT);
    close(scratch_file("host/usr/lib/debug/.build-id/ab/cdef01.debug", 'h'));
    ck_assert_int_eq(find(DEBUG_FILE_BUILD_ID, "abcdef01", "abcdef01", -1), 'h');
    write_build("target/usr/lib/debug/.build-id/ab/cdef01.debug", "\xab\xcd\xef\x01");
    ck_assert_int_eq(find(DEBUG_FILE_BUILD_ID, "abcdef01", "abcdef01", -1), ELFMAG0);

    write_build("target/opt/app/program.debug", "\x01\x02");
    write_build("target/opt/app/.debug/program.debug", "\x01\x02\x03");
    close(scratch_file("host/usr/lib/debug/opt/app/program.debug", '1'));
    ck_assert_int_eq(find(DEBUG_FILE_DEBUGLINK, "program.debug", "010203", -1), ELFMAG0);
    ck_assert_int_eq(find(DEBUG_FILE_DEBUGLINK, "program.debug", "", -1), ELFMAG0);
    ck_assert_int_eq(find(DEBUG_FILE_DEBUGLINK, "program.debug", "01020304", -1), '1'); /* has none: its checksum may be right */
}
END_TEST

START_TEST(test_malformed_needs)
{
    struct worker_message need = {.u.need = {.debug_kind = DEBUG_FILE_BUILD_ID, .name = "abcdef01"}};
    ck_assert_int_eq(debug_file_open(&roots, "relative", -1, &need), -EINVAL);
    ck_assert_int_eq(debug_file_open(&roots, "", -1, &need), -EINVAL);
    need.u.need.debug_kind = 99;
    ck_assert_int_eq(debug_file_open(&roots, "/opt/app/program", -1, &need), -EINVAL);
    need.u.need.debug_kind = DEBUG_FILE_DEBUGLINK;
    memset(need.u.need.name, 'x', sizeof(need.u.need.name)); /* no end */
    ck_assert_int_eq(debug_file_open(&roots, "/opt/app/program", -1, &need), -EINVAL);
    need.u.need.name[5] = '\0';
    memset(need.u.need.build_id, 'a', sizeof(need.u.need.build_id));
    ck_assert_int_eq(debug_file_open(&roots, "/opt/app/program", -1, &need), -EINVAL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("debug_files");
    TCase *tc = tcase_create("debug_files");
    tcase_add_checked_fixture(tc, roots_make, roots_remove);
    tcase_add_test(tc, test_build_id);
    tcase_add_test(tc, test_build_id_refused);
    tcase_add_test(tc, test_debuglink);
    tcase_add_test(tc, test_debuglink_refused);
    tcase_add_test(tc, test_split);
    tcase_add_test(tc, test_package);
    tcase_add_test(tc, test_altlink);
    tcase_add_test(tc, test_altlink_refused);
    tcase_add_test(tc, test_another_build_hides_none);
    tcase_add_test(tc, test_malformed_needs);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
