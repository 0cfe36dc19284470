/* The kernel's symbols are found, also behind a service manager's mask. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/kallsyms_file.h"
#include "util/cleanup.h"

#define EXIT_SKIP 77

static bool is_kallsyms(int fd)
{
    struct statfs fs;
    char c;
    return fd >= 0 && fstatfs(fd, &fs) == 0 && fs.f_type == PROC_SUPER_MAGIC && read(fd, &c, 1) == 1 &&
           (fcntl(fd, F_GETFD) & FD_CLOEXEC);
}

START_TEST(test_plain)
{
    AUTO_CLOSE int fd = kallsyms_file_open();
    if (fd == -ENOENT)
        return; /* a kernel or a container without */
    ck_assert(is_kallsyms(fd));
}
END_TEST

/* In a child with a mount namespace of its own: puts an empty file on top. */
static bool mask(void)
{
    char empty[] = "/tmp/cprofd-mask-XXXXXX";
    AUTO_CLOSE int real = open("/proc/1/root/proc/kallsyms", O_RDONLY | O_CLOEXEC);
    AUTO_CLOSE int file = mkostemp(empty, O_CLOEXEC);
    bool done = is_kallsyms(real) && file >= 0 && unshare(CLONE_NEWNS) == 0 &&
                mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
                mount(empty, "/proc/kallsyms", NULL, MS_BIND, NULL) == 0;
    (void)unlink(empty);
    return done;
}

static int open_masked(void)
{
    if (!mask())
        return EXIT_SKIP;
    AUTO_CLOSE int fd = kallsyms_file_open();
    return is_kallsyms(fd) ? EXIT_SUCCESS : EXIT_FAILURE;
}

START_TEST(test_masked)
{
    int status;
    pid_t pid = fork();
    if (pid == 0)
        _exit(open_masked());
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status));
    if (WEXITSTATUS(status) == EXIT_SKIP)
        puts("skipped: needs root, mount namespaces and the first process's /proc/kallsyms");
    else
        ck_assert_int_eq(WEXITSTATUS(status), EXIT_SUCCESS);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("kallsyms_file");
    TCase *tc = tcase_create("kallsyms_file");
    tcase_add_test(tc, test_plain);
    tcase_add_test(tc, test_masked);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
