/* What a worker gives up before it reads its first hostile byte. Nothing here can be undone by the process
 * itself.
 *
 * Allowed is what computing needs: memory that can't be executed, reading and writing of descriptors that it
 * was given, messages, clocks, its own end. fstat is fstatat(fd, "", AT_EMPTY_PATH) in glibc 2.33 to 2.38,
 * and a filter can't see whether the path is empty: the metadata of a path (never its contents) can be asked
 * for. */
#include "daemon/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <seccomp.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "daemon/sandbox_impl.h"
#include "util/cleanup.h"

#define SANDBOX_MAX_FDS 1024 /* the files that cached modules keep open, and a job's own */

int sandbox_close_fds(int last_fd)
{
    if (close_range((unsigned)last_fd + 1, ~0u, 0) < 0)
        return -errno;
#if !SANDBOX_ASAN /* its reports go to stderr */
    AUTO_CLOSE int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0)
        return -errno;
    for (int fd = 0; fd <= 2; fd++)
        if (dup2(null, fd) < 0)
            return -errno;
#endif
    return 0;
}

int sandbox_limit(int resource, uint64_t most)
{
    struct rlimit limit;

    if (SANDBOX_ASAN && resource == RLIMIT_AS)
        return 0;
    if (getrlimit(resource, &limit) < 0)
        return -errno;
    if (limit.rlim_max > most)
        limit.rlim_max = most;
    limit.rlim_cur = limit.rlim_max;
    return setrlimit(resource, &limit) < 0 ? -errno : 0;
}

static int sandbox_limits(const struct sandbox *s)
{
    /* Over RLIMIT_FSIZE a write is to fail, not to kill. */
    if (signal(SIGXFSZ, SIG_IGN) == SIG_ERR)
        return -errno;
    int r = sandbox_limit(RLIMIT_CORE, 0);
    if (r == 0)
        r = sandbox_limit(RLIMIT_NOFILE, SANDBOX_MAX_FDS);
    if (r == 0)
        r = sandbox_limit(RLIMIT_NPROC, 0);
    if (r == 0)
        r = sandbox_limit(RLIMIT_MEMLOCK, 0);
    if (r == 0)
        r = sandbox_limit(RLIMIT_FSIZE, s->file_bytes);
    if (r == 0)
        r = sandbox_limit(RLIMIT_AS, s->memory_bytes);
    return r;
}

int sandbox_drop_capabilities(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    const struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {0};

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
        prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
        return -errno;
    return syscall(SYS_capset, &header, none) < 0 ? -errno : 0;
}

int sandbox_bind_to_parent(pid_t parent)
{
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
        return -errno;
    return getppid() == parent ? 0 : -ESRCH;
}

/* A system call without conditions. */
static const int sandbox_allowed[] = {
    SCMP_SYS(read),           SCMP_SYS(readv),        SCMP_SYS(pread64),
    SCMP_SYS(preadv),         SCMP_SYS(write),        SCMP_SYS(writev),
    SCMP_SYS(pwrite64),       SCMP_SYS(pwritev),      SCMP_SYS(lseek),
    SCMP_SYS(close),          SCMP_SYS(fstat),        SCMP_SYS(ftruncate),
    SCMP_SYS(recvmsg),        SCMP_SYS(sendmsg),      SCMP_SYS(munmap),
    SCMP_SYS(mremap),         SCMP_SYS(brk),          SCMP_SYS(madvise),
    SCMP_SYS(futex),          SCMP_SYS(sched_yield),  SCMP_SYS(restart_syscall),
    SCMP_SYS(clock_gettime),  SCMP_SYS(clock_getres), SCMP_SYS(gettimeofday),
    SCMP_SYS(getrusage),      SCMP_SYS(sysinfo),      SCMP_SYS(getrandom),
    SCMP_SYS(getpid),         SCMP_SYS(gettid),       SCMP_SYS(rt_sigreturn),
    SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigaction), SCMP_SYS(exit),
    SCMP_SYS(exit_group),
#if SANDBOX_ASAN
    SCMP_SYS(sigaltstack),
#endif
};

int sandbox_load(const struct sandbox_filter *f)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    int r = 0;

    if (!filter)
        return -ENOMEM;
    for (size_t i = 0; r == 0 && i < f->n_allowed; i++)
        r = seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, f->allowed[i], 0, NULL);
    for (size_t i = 0; r == 0 && i < f->n_rules; i++)
        r = seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, f->rules[i].syscall, f->rules[i].n, f->rules[i].condition);
    for (size_t i = 0; r == 0 && i < f->n_missing; i++)
        r = seccomp_rule_add_array(filter, SCMP_ACT_ERRNO(ENOSYS), f->missing[i], 0, NULL);
    if (r == 0)
        r = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
    if (r == 0)
        r = seccomp_load(filter);
    seccomp_release(filter);
    return r;
}

static int sandbox_filter(void)
{
    const struct sandbox_rule rules[] = {
        {SCMP_SYS(mmap), 1, {SCMP_A2_64(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)}},
        {SCMP_SYS(mprotect), 1, {SCMP_A2_64(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)}},
        {SCMP_SYS(newfstatat), 1, {SCMP_A3_64(SCMP_CMP_MASKED_EQ, AT_EMPTY_PATH, AT_EMPTY_PATH)}},
        {SCMP_SYS(fcntl), 1, {SCMP_A1_64(SCMP_CMP_EQ, F_GETFD)}},
        {SCMP_SYS(fcntl), 1, {SCMP_A1_64(SCMP_CMP_EQ, F_GETFL)}},
        {SCMP_SYS(fcntl), 1, {SCMP_A1_64(SCMP_CMP_EQ, F_GET_SEALS)}},
        {SCMP_SYS(tgkill), 1, {SCMP_A0_64(SCMP_CMP_EQ, (scmp_datum_t)getpid())}}, /* abort() */
    };
    const struct sandbox_filter filter = {
        .allowed = sandbox_allowed, .n_allowed = sizeof(sandbox_allowed) / sizeof(sandbox_allowed[0]),
        .rules = rules, .n_rules = sizeof(rules) / sizeof(rules[0]),
    };

    return sandbox_load(&filter);
}

int sandbox_enter(const struct sandbox *s)
{
    int r = sandbox_close_fds(s->last_fd);
    if (r == 0)
        r = sandbox_limits(s);
    if (r == 0)
        r = sandbox_drop_capabilities();
    if (r == 0)
        r = sandbox_bind_to_parent(s->parent);
    if (r == 0)
        r = sandbox_filter();
    return r;
}
