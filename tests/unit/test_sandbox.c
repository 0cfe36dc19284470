/* What a sandboxed process tries and must not get, and what it still can. Each attempt is a process of its
 * own; built twice, with the suite's sanitizers and without (the filter of the latter is the production one). */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "daemon/sandbox.h"
#include "util/fdmsg.h"

enum { NOT_ENTERED = 100, REFUSED = 0, ALLOWED = 1, WRONG_ERROR = 2 };

static int sock; /* the test's own end of a pair with the sandboxed process, whose end is last_fd */
static int file; /* a descriptor that it was given: this executable */

/* Runs attempt in a sandbox; its return value. */
static int in_sandbox(int (*attempt)(void))
{
    int pair[2], status;
    pid_t parent = getpid();
    ck_assert_int_eq(fdmsg_pair(pair), 0);
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        int self = open("/proc/self/exe", O_RDONLY);
        if (self < 0 || dup2(pair[1], 3) != 3 || dup2(self, 4) != 4)
            _exit(NOT_ENTERED);
        sock = 3;
        file = 4;
        struct sandbox s = {
            .parent = parent, .last_fd = 4, .memory_bytes = 1ull << 30, .file_bytes = 1 << 20};
        _exit(sandbox_enter(&s) < 0 ? NOT_ENTERED : attempt());
    }
    close(pair[1]);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    close(pair[0]);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static int refused(long r)
{
    return r != -1 ? ALLOWED : errno == EPERM ? REFUSED : WRONG_ERROR;
}

static int try_open(void)
{
    return refused(syscall(SYS_open, "/dev/null", O_RDONLY));
}
static int try_openat(void)
{
    return refused(openat(AT_FDCWD, "/dev/null", O_RDONLY));
}
static int try_openat2(void)
{
    return refused(syscall(SYS_openat2, AT_FDCWD, "/dev/null", (uint64_t[3]){0}, 24));
}
static int try_creat(void)
{
    return refused(creat("/tmp/cprofd-sandbox", 0600));
}
static int try_unlink(void)
{
    return refused(unlink("/tmp/cprofd-sandbox"));
}
static int try_stat(void)
{
    return refused(syscall(SYS_stat, "/", &(struct stat){0}));
}
static int try_fstatat(void)
{
    return refused(fstatat(AT_FDCWD, "/", &(struct stat){0}, 0));
}
static int try_readlink(void)
{
    return refused(readlink("/proc/self/exe", (char[8]){0}, 8));
}
static int try_socket_inet(void)
{
    return refused(socket(AF_INET, SOCK_STREAM, 0));
}
static int try_socket_unix(void)
{
    return refused(socket(AF_UNIX, SOCK_STREAM, 0));
}
static int try_socketpair(void)
{
    return refused(socketpair(AF_UNIX, SOCK_STREAM, 0, (int[2]){0}));
}
static int try_connect(void)
{
    return refused(connect(sock, &(struct sockaddr){.sa_family = AF_UNIX}, 2));
}
static int try_ptrace(void)
{
    return refused(ptrace(PTRACE_ATTACH, getppid(), 0, 0));
}
static int try_kill(void)
{
    return refused(kill(1, 0));
}
static int try_kill_all(void)
{
    return refused(kill(-1, 0));
}
static int try_tgkill_other(void)
{
    return refused(syscall(SYS_tgkill, 1, 1, 0));
}
static int try_tkill(void)
{
    return refused(syscall(SYS_tkill, 1, 0));
}
static int try_execve(void)
{
    return refused(execve("/bin/true", (char *[]){"true", NULL}, NULL));
}
static int try_execveat(void)
{
    return refused(syscall(SYS_execveat, file, "", (char *[]){"x", NULL}, NULL, AT_EMPTY_PATH));
}
static int try_fork(void)
{
    return refused(syscall(SYS_fork));
}
static int try_vfork(void)
{
    return refused(syscall(SYS_clone, CLONE_VM | SIGCHLD, 0, 0, 0, 0));
}
static int try_clone3(void)
{
    return refused(syscall(SYS_clone3, (uint64_t[11]){0}, 88));
}
static int try_unshare(void)
{
    return refused(unshare(CLONE_NEWUSER));
}
static int try_process_vm_readv(void)
{
    return refused(process_vm_readv(1, NULL, 0, NULL, 0, 0));
}
static int try_process_vm_writev(void)
{
    return refused(process_vm_writev(1, NULL, 0, NULL, 0, 0));
}
static int try_pidfd_open(void)
{
    return refused(syscall(SYS_pidfd_open, 1, 0));
}
static int try_perf_event(void)
{
    return refused(syscall(SYS_perf_event_open, (char[128]){0}, 0, -1, -1, 0));
}
static int try_bpf(void)
{
    return refused(syscall(SYS_bpf, 0, (char[128]){0}, 128));
}
static int try_prctl(void)
{
    return refused(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0));
}
static int try_setrlimit(void)
{
    return refused(setrlimit(RLIMIT_AS, &(struct rlimit){1, 1}));
}
static int try_dup(void)
{
    return refused(dup(sock));
}
static int try_dupfd(void)
{
    return refused(fcntl(sock, F_DUPFD, 0));
}
static int try_setown(void)
{
    return refused(fcntl(sock, F_SETOWN, 1));
}
static int try_ioctl(void)
{
    return refused(syscall(SYS_ioctl, 0, 0x5412, "x"));
}
static int try_io_uring(void)
{
    return refused(syscall(SYS_io_uring_setup, 1, (char[128]){0}));
}
static int try_memfd(void)
{
    return refused(memfd_create("x", 0));
}

/* mmap's and mprotect's failure under another name. */
static int try_mmap_exec(void)
{
    void *p = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return refused(p == MAP_FAILED ? -1 : 0);
}

static int try_mprotect_exec(void)
{
    void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return refused(p == MAP_FAILED ? 0 : mprotect(p, 4096, PROT_READ | PROT_EXEC));
}

#define ATTEMPT(name)     \
    {                     \
#name, try_##name \
    }
static const struct attempt {
    const char *name;
    int (*attempt)(void);
} attempts[] = {
    ATTEMPT(open),
    ATTEMPT(openat),
    ATTEMPT(openat2),
    ATTEMPT(creat),
    ATTEMPT(unlink),
    ATTEMPT(stat),
    ATTEMPT(fstatat),
    ATTEMPT(readlink),
    ATTEMPT(socket_inet),
    ATTEMPT(socket_unix),
    ATTEMPT(socketpair),
    ATTEMPT(connect),
    ATTEMPT(ptrace),
    ATTEMPT(kill),
    ATTEMPT(kill_all),
    ATTEMPT(tgkill_other),
    ATTEMPT(tkill),
    ATTEMPT(execve),
    ATTEMPT(execveat),
    ATTEMPT(fork),
    ATTEMPT(vfork),
    ATTEMPT(clone3),
    ATTEMPT(unshare),
    ATTEMPT(process_vm_readv),
    ATTEMPT(process_vm_writev),
    ATTEMPT(pidfd_open),
    ATTEMPT(perf_event),
    ATTEMPT(bpf),
    ATTEMPT(prctl),
    ATTEMPT(setrlimit),
    ATTEMPT(dup),
    ATTEMPT(dupfd),
    ATTEMPT(setown),
    ATTEMPT(ioctl),
    ATTEMPT(io_uring),
    ATTEMPT(memfd),
    ATTEMPT(mmap_exec),
    ATTEMPT(mprotect_exec),
};

START_TEST(test_refused)
{
    int r = in_sandbox(attempts[_i].attempt);
    ck_assert_msg(r == REFUSED, "%s: %d", attempts[_i].name, r);
}
END_TEST

static bool no_capabilities(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct caps[2];
    if (syscall(SYS_capget, &header, caps) < 0)
        return errno == EPERM; /* by the filter: seen from outside, below */
    return (caps[0].effective | caps[0].permitted | caps[1].effective | caps[1].permitted) == 0;
}

static int use_what_is_left(void)
{
    char buf[64];
    struct stat st;
    struct timespec ts;
    void *p = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    void *q = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, file, 0);

    if (p == MAP_FAILED || q == MAP_FAILED || memcmp(q, "\177ELF", 4) != 0)
        return 1;
    if (mprotect(p, 4096, PROT_READ) < 0 || munmap(p, 1 << 20) < 0)
        return 2;
    if (read(file, buf, 4) != 4 || pread(file, buf, 4, 0) != 4 || lseek(file, 0, SEEK_END) <= 0 ||
        fstat(file, &st) < 0)
        return 3;
    if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts) < 0 || fcntl(file, F_GETFD) < 0)
        return 4;
    if (fdmsg_send(sock, "x", 1, NULL, 0) < 0 || close(file) < 0)
        return 5;
    return no_capabilities() ? 0 : 6;
}

START_TEST(test_computing_is_left)
{
    ck_assert_int_eq(in_sandbox(use_what_is_left), 0);
}
END_TEST

static int other_fds_are_open(void)
{
    for (int fd = 5; fd < 300; fd++)
        if (fcntl(fd, F_GETFD) >= 0)
            return 1;
    return 0;
}

START_TEST(test_other_descriptors_are_closed)
{
    ck_assert_int_ge(fcntl(0, F_DUPFD, 200), 200); /* without CLOEXEC, in this test's own process */
    ck_assert_int_eq(in_sandbox(other_fds_are_open), 0);
}
END_TEST

static int abort_itself(void)
{
    abort();
}

START_TEST(test_abort_is_seen_as_abort)
{
    ck_assert_int_eq(in_sandbox(abort_itself), 1000 + SIGABRT);
}
END_TEST

static int hold_still(void)
{
    char buf[8];
    (void)fdmsg_send(sock, "in", 2, NULL, 0);
    return (int)fdmsg_recv(sock, buf, sizeof(buf), NULL, NULL);
}

/* Seen from outside: /proc/PID/status, limits, and who owns /proc/PID. */
START_TEST(test_capabilities_dumpable_and_limits)
{
    char path[64], line[256], buf[8];
    int pair[2], seen = 0;
    struct rlimit limit;
    struct stat st;
    pid_t parent = getpid();
    ck_assert_int_eq(fdmsg_pair(pair), 0);
    pid_t pid = fork();
    if (pid == 0) {
        close(pair[0]);
        sock = pair[1];
        struct sandbox s = {
            .parent = parent, .last_fd = sock, .memory_bytes = 1ull << 30, .file_bytes = 1 << 20};
        _exit(sandbox_enter(&s) < 0 ? NOT_ENTERED : hold_still());
    }
    close(pair[1]);
    ck_assert_int_eq(fdmsg_recv(pair[0], buf, sizeof(buf), NULL, NULL), 2);
    (void)snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
    FILE *f = fopen(path, "re");
    while (fgets(line, sizeof(line), f)) {
        if (strncmp(line, "CapPrm:", 7) == 0 || strncmp(line, "CapEff:", 7) == 0 ||
            strncmp(line, "CapAmb:", 7) == 0)
            seen += strtoull(line + 7, NULL, 16) == 0;
        seen += strcmp(line, "NoNewPrivs:\t1\n") == 0;
        seen += strcmp(line, "Seccomp:\t2\n") == 0;
    }
    fclose(f);
    ck_assert_int_eq(seen, 5);
    ck_assert_int_eq(prlimit(pid, RLIMIT_CORE, NULL, &limit), 0);
    ck_assert_uint_eq(limit.rlim_max, 0);
    ck_assert_int_eq(prlimit(pid, RLIMIT_FSIZE, NULL, &limit), 0);
    ck_assert_uint_eq(limit.rlim_max, 1 << 20);
    ck_assert_int_eq(prlimit(pid, RLIMIT_NPROC, NULL, &limit), 0);
    ck_assert_uint_eq(limit.rlim_max, 0);
#ifdef PRODUCTION_SANDBOX
    ck_assert_int_eq(prlimit(pid, RLIMIT_AS, NULL, &limit), 0);
    ck_assert_uint_eq(limit.rlim_max, 1ull << 30);
#endif
    (void)snprintf(path, sizeof(path), "/proc/%d/environ", (int)pid);
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_uint_eq(st.st_uid, 0); /* not dumpable: root's */
    close(pair[0]);
    ck_assert_int_eq(waitpid(pid, &(int){0}, 0), pid);
}
END_TEST

START_TEST(test_a_parent_that_is_gone_is_noticed)
{
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        struct sandbox s = {.parent = 1 << 30, .last_fd = 2, .memory_bytes = 1ull << 30, .file_bytes = 1};
        _exit(sandbox_enter(&s) == -ESRCH ? 0 : 1);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("sandbox");
    TCase *tc = tcase_create("sandbox");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, test_refused, 0, (int)(sizeof(attempts) / sizeof(attempts[0])));
    tcase_add_test(tc, test_computing_is_left);
    tcase_add_test(tc, test_other_descriptors_are_closed);
    tcase_add_test(tc, test_abort_is_seen_as_abort);
    tcase_add_test(tc, test_capabilities_dumpable_and_limits);
    tcase_add_test(tc, test_a_parent_that_is_gone_is_noticed);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
