/* The folder of fetched debug files: what is found in it, what goes when there is no room, and whose it must be. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "daemon/debuginfod_cache.h"
#include "util/cleanup.h"

#define NOBODY 65534

static char root[64], server[PATH_MAX];

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    return remove(path);
}

static void setup(void)
{
    strcpy(root, "/tmp/test_debuginfod_cache.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(root));
    ck_assert_int_eq(debuginfod_cache_server(root, "http://one", server), 0);
}

static void teardown(void)
{
    (void)nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void path_of(char path[PATH_MAX], const char *build_id, const char *name)
{
    ck_assert_int_lt(snprintf(path, PATH_MAX, "%.2000s/%s", server, build_id), PATH_MAX);
    (void)mkdir(path, 0700);
    ck_assert_int_lt(snprintf(path, PATH_MAX, "%.2000s/%s/%s", server, build_id, name), PATH_MAX);
}

/* A file that was used and changed so many seconds ago, as far as its owner can tell. */
static void make(const char *build_id, const char *name, size_t bytes, int age_seconds)
{
    char path[PATH_MAX];
    struct timespec now;

    path_of(path, build_id, name);
    AUTO_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    ck_assert_int_ge(fd, 0);
    for (size_t done = 0; done < bytes; done += 4096) {
        static const char block[4096] = "x";
        ck_assert_int_eq(write(fd, block, sizeof(block)), sizeof(block));
    }
    (void)clock_gettime(CLOCK_REALTIME, &now);
    now.tv_sec -= age_seconds;
    ck_assert_int_eq(futimens(fd, (struct timespec[]){now, now}), 0);
}

static bool is_there(const char *build_id, const char *name)
{
    char path[PATH_MAX];
    path_of(path, build_id, name);
    return access(path, F_OK) == 0;
}

START_TEST(test_server_folders)
{
    char again[PATH_MAX], other[PATH_MAX], longer[PATH_MAX];

    ck_assert_int_eq(debuginfod_cache_server(root, "http://one", again), 0);
    ck_assert_str_eq(server, again);
    ck_assert_int_eq(debuginfod_cache_server(root, "http://../../two", other), 0);
    ck_assert_str_ne(server, other);
    ck_assert_int_eq(strncmp(other, root, strlen(root)), 0);
    ck_assert_ptr_eq(strrchr(other, '/'), other + strlen(root)); /* no part of a URL becomes one of a path */
    memset(longer, 'a', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = '\0';
    ck_assert_int_eq(debuginfod_cache_server(longer, "http://one", other), -ENAMETOOLONG);
    ck_assert_int_eq(debuginfod_cache_server("/nonexistent/folder", "http://one", other), -ENOENT);
}
END_TEST

START_TEST(test_find)
{
    char path[PATH_MAX], long_id[PATH_MAX];

    ck_assert_int_eq(debuginfod_cache_find(server, "aa01"), -EAGAIN);
    make("aa01", "debuginfo", 4096, 100000);
    AUTO_CLOSE int fd = debuginfod_cache_find(server, "aa01");
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
    struct stat st;
    ck_assert_int_eq(fstat(fd, &st), 0);
    ck_assert_int_gt(st.st_atim.tv_sec, st.st_mtim.tv_sec + 90000); /* it was used just now */
    make("aa02", "debuginfo", 0, 10);
    ck_assert_int_eq(debuginfod_cache_find(server, "aa02"), -ENOENT);
    make("aa03", "debuginfo", 0, 1000); /* too long ago */
    ck_assert_int_eq(debuginfod_cache_find(server, "aa03"), -EAGAIN);
    path_of(path, "aa04", "debuginfo");
    ck_assert_int_eq(symlink("/proc/self/exe", path), 0);
    ck_assert_int_eq(debuginfod_cache_find(server, "aa04"), -EAGAIN);
    path_of(path, "aa05", "debuginfo");
    ck_assert_int_eq(mkfifo(path, 0600), 0);
    ck_assert_int_eq(debuginfod_cache_find(server, "aa05"), -EAGAIN);
    memset(long_id, 'a', sizeof(long_id) - 1);
    long_id[sizeof(long_id) - 1] = '\0';
    ck_assert_int_eq(debuginfod_cache_find(server, long_id), -EAGAIN);
    debuginfod_cache_forget(server, long_id);
}
END_TEST

START_TEST(test_forget)
{
    make("aa01", "debuginfo", 4096, 0);
    make("aa02", "debuginfo", 4096, 0);
    debuginfod_cache_forget(server, "aa01");
    debuginfod_cache_forget(server, "aa01");
    ck_assert(!is_there("aa01", "debuginfo"));
    ck_assert(is_there("aa02", "debuginfo"));
}
END_TEST

/* Changing times is a change: files are told apart by when they were read since. */
START_TEST(test_trim)
{
    ck_assert_int_eq(debuginfod_cache_trim(root, 1 << 20), 0); /* nothing there */
    make("aa01", "debuginfo", 256 << 10, 5000);
    make("aa02", "debuginfo", 256 << 10, 5000);
    make("aa03", "debuginfo", 256 << 10, 5000);
    make("aa04", "debuginfo.AbCdEf", 256 << 10, 0); /* is being written */
    ck_assert_int_eq(debuginfod_cache_trim(root, 8 << 20), 0);
    ck_assert(is_there("aa01", "debuginfo") && is_there("aa02", "debuginfo") && is_there("aa03", "debuginfo"));
    (void)usleep(50000); /* file systems' clocks tick some hundred times a second */
    AUTO_CLOSE int used = debuginfod_cache_find(server, "aa01"), too = debuginfod_cache_find(server, "aa03");
    ck_assert(used >= 0 && too >= 0);
    ck_assert_int_eq(debuginfod_cache_trim(root, 800 << 10), 0);
    ck_assert(is_there("aa01", "debuginfo") && !is_there("aa02", "debuginfo") && is_there("aa03", "debuginfo"));
    ck_assert_int_eq(debuginfod_cache_trim(root, 0), 0);
    ck_assert(!is_there("aa01", "debuginfo") && !is_there("aa03", "debuginfo"));
    ck_assert(is_there("aa04", "debuginfo.AbCdEf"));
    ck_assert_int_eq(debuginfod_cache_trim("/nonexistent", 0), -ENOENT);
}
END_TEST

/* What is not laid out as the library does it is not ours to remove. */
START_TEST(test_trim_leaves_what_is_not_its_own)
{
    char path[PATH_MAX], kept[PATH_MAX];

    (void)snprintf(kept, sizeof(kept), "%.2000s/cache_miss_s", server);
    AUTO_CLOSE int fd = open(kept, O_WRONLY | O_CREAT, 0600);
    ck_assert_int_ge(fd, 0);
    path_of(path, "aa01", "debuginfo");
    ck_assert_int_eq(symlink(kept, path), 0);
    ck_assert_int_eq(debuginfod_cache_trim(root, 0), 0);
    ck_assert_int_eq(access(kept, F_OK), 0);
}
END_TEST

/* In a process of its own, for who opens it as root becomes another. Exit status: 0 where it went well. */
static int open_as(uid_t uid, const char *path, char *text, size_t len)
{
    int status, out[2];

    ck_assert_int_eq(pipe(out), 0);
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        char why[512] = "";
        if (uid != 0 && setresuid(uid, uid, uid) < 0)
            _exit(99);
        int r = debuginfod_cache_open(path, why, sizeof(why));
        if (r == 0)
            (void)snprintf(why, sizeof(why), "%u", (unsigned)geteuid());
        if (write(out[1], why, strlen(why)) < 0)
            _exit(98);
        _exit(r == 0 ? 0 : 1);
    }
    close(out[1]);
    ssize_t n = read(out[0], text, len - 1);
    text[n > 0 ? n : 0] = '\0';
    close(out[0]);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status));
    return WEXITSTATUS(status);
}

START_TEST(test_open_as_root)
{
    char path[PATH_MAX], text[512];
    struct stat st;

    if (geteuid() != 0)
        return;
    ck_assert_int_eq(chmod(root, 0755), 0);
    (void)snprintf(path, sizeof(path), "%s/new", root);
    ck_assert_int_eq(open_as(0, path, text, sizeof(text)), 0);
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_uint_ne(st.st_uid, 0);
    ck_assert_uint_eq(st.st_mode & 07777, 0700);
    ck_assert_uint_eq((unsigned)atoi(text), st.st_uid); /* we are who owns it */
    ck_assert_int_eq(open_as(0, path, text, sizeof(text)), 0);
    (void)snprintf(path, sizeof(path), "%s/mine", root);
    ck_assert_int_eq(mkdir(path, 0777), 0);
    ck_assert_int_eq(open_as(0, path, text, sizeof(text)), 1);
    ck_assert_msg(strstr(text, "belongs to root"), "%s", text);
}
END_TEST

START_TEST(test_open_as_user)
{
    char path[PATH_MAX], text[512];

    if (geteuid() != 0)
        return;
    ck_assert_int_eq(chmod(root, 0755), 0);
    ck_assert_int_eq(open_as(NOBODY, root, text, sizeof(text)), 1);
    ck_assert_msg(strstr(text, "can't be written to"), "%s", text);
    (void)snprintf(path, sizeof(path), "%s/new", root);
    ck_assert_int_eq(open_as(NOBODY, path, text, sizeof(text)), 1);
    ck_assert_msg(strstr(text, "can't be made"), "%s", text);
    ck_assert_int_eq(open_as(NOBODY, "/proc/self/exe", text, sizeof(text)), 1);
    ck_assert_msg(strstr(text, "is no folder"), "%s", text);
    ck_assert_int_eq(chmod(root, 0777), 0);
    ck_assert_int_eq(open_as(NOBODY, path, text, sizeof(text)), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("debuginfod_cache");
    TCase *t = tcase_create("debuginfod_cache");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, test_server_folders);
    tcase_add_test(t, test_find);
    tcase_add_test(t, test_forget);
    tcase_add_test(t, test_trim);
    tcase_add_test(t, test_trim_leaves_what_is_not_its_own);
    tcase_add_test(t, test_open_as_root);
    tcase_add_test(t, test_open_as_user);
    suite_add_tcase(suite, t);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
