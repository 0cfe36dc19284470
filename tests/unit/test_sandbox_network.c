/* What the process that speaks with servers tries and must not get, and what it still can. Each attempt is a process of its own. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/sandbox.h"
#include "daemon/sandbox_impl.h"

enum { REFUSED = 0, ALLOWED = 1, WRONG_ERROR = 2, NO_LANDLOCK = 3, NOT_ENTERED = 100 };

#define FILE_BYTES (1 << 20)

static char folder[64], inside[96], outside[64];

static void setup(void)
{
    strcpy(folder, "/tmp/test_sandbox_network.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    (void)snprintf(inside, sizeof(inside), "%s/inside", folder);
    strcpy(outside, "/tmp/test_sandbox_outside.XXXXXX");
    int fd = mkstemp(outside);
    ck_assert_int_ge(fd, 0);
    close(fd);
}

static void teardown(void)
{
    (void)unlink(inside);
    (void)rmdir(folder);
    (void)unlink(outside);
}

/* Runs attempt in a sandbox; its return value. */
static int in_sandbox(int (*attempt)(void), bool needs_landlock)
{
    int status;
    pid_t parent = getpid(), pid = fork();

    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        struct sandbox_network s = {.parent = parent, .memory_bytes = 1ull << 31, .file_bytes = FILE_BYTES, .folder = folder};
        bool confined = false;
        if (sandbox_enter_network(&s, &confined) < 0)
            _exit(NOT_ENTERED);
        _exit(needs_landlock && !confined ? NO_LANDLOCK : attempt());
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static int refused(long r, int wanted)
{
    return r != -1 ? ALLOWED : errno == wanted ? REFUSED : WRONG_ERROR;
}

static int try_exec(void) { return refused(execl("/bin/true", "true", NULL), EPERM); }
static int try_fork(void) { return refused(syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0), EPERM); }
static int try_kill(void) { return refused(kill(getppid(), 0), EPERM); }
static int try_ptrace(void) { return refused(ptrace(PTRACE_ATTACH, getppid(), 0, 0), EPERM); }
static int try_unix(void) { return refused(socket(AF_UNIX, SOCK_STREAM, 0), EPERM); }
static int try_packet(void) { return refused(socket(AF_PACKET, SOCK_RAW, 0), EPERM); }
static int try_netlink(void) { return refused(socket(AF_NETLINK, SOCK_RAW, 2), EPERM); }
static int try_raw(void) { return refused(socket(AF_INET, SOCK_RAW, 1), EPERM); }
static int try_listen(void) { return refused(listen(socket(AF_INET, SOCK_STREAM, 0), 1), EPERM); }
static int try_mount(void) { return refused(syscall(SYS_mount, "none", "/", "tmpfs", 0, 0), EPERM); }
static int try_chown(void) { return refused(syscall(SYS_fchownat, AT_FDCWD, outside, 0, 0, 0), EPERM); }
static int try_bpf(void) { return refused(syscall(SYS_bpf, 0, 0, 0), EPERM); }
static int try_rlimit(void) { return refused(setrlimit(RLIMIT_FSIZE, &(struct rlimit){1, 1}), EPERM); }
static int try_unshare(void) { return refused(unshare(CLONE_NEWUSER), EPERM); }

static int try_executable_memory(void)
{
    return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED && errno == EPERM ? REFUSED : ALLOWED;
}

static int try_read_outside(void) { return refused(open(outside, O_RDONLY), EACCES); }
static int try_write_outside(void) { return refused(open(outside, O_WRONLY), EACCES); }
static int try_read_proc(void) { return refused(open("/proc/1/environ", O_RDONLY), EACCES); }
static int try_make_outside(void) { return refused(open("/tmp/test_sandbox_never", O_WRONLY | O_CREAT, 0600), EACCES); }
static int try_write_etc(void) { return refused(open("/etc/passwd", O_WRONLY), EACCES); }
static int try_remove_outside(void) { return refused(unlink(outside), EACCES); }

static int has_internet_sockets(void)
{
    return socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0) >= 0 && socket(AF_INET6, SOCK_DGRAM, 0) >= 0 &&
           socket(AF_NETLINK, SOCK_RAW, 0) >= 0;
}

static int has_its_folder(void)
{
    char moved[112];

    (void)snprintf(moved, sizeof(moved), "%s.moved", inside);
    int fd = open(inside, O_RDWR | O_CREAT | O_EXCL, 0600);
    return fd >= 0 && write(fd, "x", 1) == 1 && fchmod(fd, 0400) == 0 && rename(inside, moved) == 0 && unlink(moved) == 0;
}

static int has_configuration(void)
{
    return open("/etc/passwd", O_RDONLY) >= 0 && open("/usr/lib", O_RDONLY | O_DIRECTORY) >= 0;
}

static int is_bounded(void)
{
    static const char block[4096];
    int fd = open(inside, O_RDWR | O_CREAT, 0600);
    size_t done = 0;

    while (done <= 2 * FILE_BYTES && write(fd, block, sizeof(block)) > 0)
        done += sizeof(block);
    return fd >= 0 && errno == EFBIG && done == FILE_BYTES;
}

static void *thread_main(void *arg)
{
    return arg;
}

static int has_threads(void)
{
    pthread_t thread;
    void *ret = NULL;
    return pthread_create(&thread, NULL, thread_main, folder) == 0 && pthread_join(thread, &ret) == 0 && ret == folder;
}

static const struct {
    int (*attempt)(void);
    bool needs_landlock;
    int outcome;
} attempts[] = {
    {try_exec, false, REFUSED}, {try_fork, false, REFUSED}, {try_kill, false, REFUSED}, {try_ptrace, false, REFUSED},
    {try_unix, false, REFUSED}, {try_packet, false, REFUSED}, {try_netlink, false, REFUSED}, {try_raw, false, REFUSED},
    {try_listen, false, REFUSED}, {try_mount, false, REFUSED}, {try_chown, false, REFUSED}, {try_bpf, false, REFUSED},
    {try_rlimit, false, REFUSED}, {try_unshare, false, REFUSED}, {try_executable_memory, false, REFUSED},
    {try_read_outside, true, REFUSED}, {try_write_outside, true, REFUSED}, {try_read_proc, true, REFUSED},
    {try_make_outside, true, REFUSED}, {try_write_etc, true, REFUSED}, {try_remove_outside, true, REFUSED},
    {has_internet_sockets, false, ALLOWED}, {has_its_folder, false, ALLOWED}, {has_configuration, false, ALLOWED},
    {is_bounded, false, ALLOWED}, {has_threads, false, ALLOWED},
};

START_TEST(test_attempt)
{
    int outcome = in_sandbox(attempts[_i].attempt, attempts[_i].needs_landlock);

    if (outcome != NO_LANDLOCK)
        ck_assert_int_eq(outcome, attempts[_i].outcome);
}
END_TEST

static int nothing(void)
{
    return 0;
}

/* A parent that is gone already would leave it alone in the world. */
START_TEST(test_parent)
{
    bool confined;
    struct sandbox_network s = {.parent = 1, .memory_bytes = 1ull << 31, .file_bytes = FILE_BYTES, .folder = folder};
    int status;
    pid_t pid = fork();

    if (pid == 0)
        _exit(sandbox_enter_network(&s, &confined) == -ESRCH ? 0 : 1);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
    ck_assert_int_eq(in_sandbox(nothing, false), 0);
}
END_TEST

/* Kernels without it, and service managers that refuse it: the rest of the sandbox is entered, and what is missing is told. */
START_TEST(test_without_landlock)
{
    static const int errors[] = {ENOSYS, EPERM, EOPNOTSUPP};
    int status;
    pid_t parent = getpid(), pid = fork();

    if (pid == 0) {
        struct sandbox_network s = {.parent = parent, .memory_bytes = 1ull << 31, .file_bytes = FILE_BYTES, .folder = folder};
        bool confined = true;
        scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
        if (seccomp_rule_add(filter, SCMP_ACT_ERRNO((unsigned)errors[_i]), SYS_landlock_create_ruleset, 0) < 0 || seccomp_load(filter) < 0)
            _exit(3);
        if (sandbox_enter_network(&s, &confined) < 0 || confined)
            _exit(1);
        _exit(try_exec() == REFUSED && try_unix() == REFUSED && has_its_folder() ? 0 : 2);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
}
END_TEST

START_TEST(test_wrong_folder)
{
    int status;
    pid_t parent = getpid(), pid = fork();

    if (pid == 0) { /* no right to a folder that is not there, and so to none */
        struct sandbox_network s = {.parent = parent, .memory_bytes = 1ull << 31, .file_bytes = FILE_BYTES, .folder = "/nonexistent"};
        bool confined;
        if (sandbox_enter_network(&s, &confined) < 0)
            _exit(1);
        _exit(!confined || try_make_outside() == REFUSED ? 0 : 2);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("sandbox_network");
    TCase *t = tcase_create("sandbox_network");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, test_attempt, 0, (int)(sizeof(attempts) / sizeof(attempts[0])));
    tcase_add_test(t, test_parent);
    tcase_add_loop_test(t, test_without_landlock, 0, 3);
    tcase_add_test(t, test_wrong_folder);
    suite_add_tcase(suite, t);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
