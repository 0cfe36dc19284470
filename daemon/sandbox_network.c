/* What the debuginfod client gives up before it speaks with a server: all but sockets of the internet, threads, and files of one folder.
 *
 * Allowed is what libcurl and the C library's resolver need. Landlock is asked for by its system calls: the C library has no names for
 * them. Paths that a rule names and that are not there need no rule. */
#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <linux/netlink.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "daemon/sandbox.h"
#include "daemon/sandbox_impl.h"
#include "util/cleanup.h"

#define NETWORK_MAX_FDS 256 /* sockets of a download, and of its name's resolution */

static int network_limits(const struct sandbox_network *s)
{
    /* Over RLIMIT_FSIZE a write is to fail, not to kill. */
    if (signal(SIGXFSZ, SIG_IGN) == SIG_ERR || signal(SIGPIPE, SIG_IGN) == SIG_ERR)
        return -errno;
    int r = sandbox_limit(RLIMIT_CORE, 0);
    r = r ? r : sandbox_limit(RLIMIT_NOFILE, NETWORK_MAX_FDS);
    r = r ? r : sandbox_limit(RLIMIT_MEMLOCK, 0);
    r = r ? r : sandbox_limit(RLIMIT_FSIZE, s->file_bytes);
    return r ? r : sandbox_limit(RLIMIT_AS, s->memory_bytes);
}

/* ---- Landlock */

#define NETWORK_READ (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define NETWORK_CHANGE                                                                                                       \
    (LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE |                        \
     LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG)
#define NETWORK_NEVER                                                                                                        \
    (LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_BLOCK |                             \
     LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_SYM)

static int network_allow(int ruleset, const char *path, uint64_t access)
{
    AUTO_CLOSE int fd = open(path, O_PATH | O_CLOEXEC);
    struct landlock_path_beneath_attr rule = {.allowed_access = access, .parent_fd = fd};

    if (fd < 0)
        return errno == ENOENT || errno == ENOTDIR ? 0 : -errno;
    return syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) < 0 ? -errno : 0;
}

/* Libraries that are loaded late, names of hosts, and whom to trust. Of /etc, what everybody may read: the client is not root. */
static int network_allow_all(int ruleset, const char *folder)
{
    static const char *const readable[] = {"/etc", "/usr", "/lib", "/lib64", "/run/systemd/resolve", "/run/resolvconf",
                                           "/run/NetworkManager"};
    int r = network_allow(ruleset, folder, NETWORK_READ | NETWORK_CHANGE);

    for (size_t i = 0; r == 0 && i < sizeof(readable) / sizeof(readable[0]); i++)
        r = network_allow(ruleset, readable[i], NETWORK_READ);
    return r;
}

/* After PR_SET_NO_NEW_PRIVS. */
static int network_confine(const char *folder, bool *ret_confined)
{
    struct landlock_ruleset_attr attr = {.handled_access_fs = NETWORK_READ | NETWORK_CHANGE | NETWORK_NEVER};
    AUTO_CLOSE int ruleset = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);

    *ret_confined = ruleset >= 0;
    if (ruleset < 0) /* not built in, not switched on, or refused by the service manager's filter */
        return errno == ENOSYS || errno == EOPNOTSUPP || errno == EPERM ? 0 : -errno;
    int r = network_allow_all(ruleset, folder);
    if (r == 0 && syscall(SYS_landlock_restrict_self, ruleset, 0) < 0)
        r = -errno;
    return r;
}

/* ---- system calls */

static const int network_allowed[] = {
    /* descriptors */
    SCMP_SYS(read), SCMP_SYS(readv), SCMP_SYS(pread64), SCMP_SYS(write), SCMP_SYS(writev), SCMP_SYS(pwrite64), SCMP_SYS(lseek),
    SCMP_SYS(close), SCMP_SYS(fcntl), SCMP_SYS(dup), SCMP_SYS(fstat), SCMP_SYS(ftruncate), SCMP_SYS(fadvise64), SCMP_SYS(fsync),
    SCMP_SYS(poll), SCMP_SYS(ppoll), SCMP_SYS(select), SCMP_SYS(pselect6), SCMP_SYS(pipe), SCMP_SYS(pipe2), SCMP_SYS(eventfd2),
    SCMP_SYS(epoll_create1), SCMP_SYS(epoll_ctl), SCMP_SYS(epoll_wait), SCMP_SYS(epoll_pwait),
    /* files: which ones is Landlock's affair */
    SCMP_SYS(open), SCMP_SYS(openat), SCMP_SYS(stat), SCMP_SYS(lstat), SCMP_SYS(newfstatat), SCMP_SYS(statx), SCMP_SYS(access),
    SCMP_SYS(faccessat), SCMP_SYS(faccessat2), SCMP_SYS(getdents64), SCMP_SYS(readlink), SCMP_SYS(readlinkat), SCMP_SYS(getcwd),
    SCMP_SYS(fchdir), SCMP_SYS(mkdir), SCMP_SYS(mkdirat), SCMP_SYS(rmdir), SCMP_SYS(unlink), SCMP_SYS(unlinkat), SCMP_SYS(rename),
    SCMP_SYS(renameat), SCMP_SYS(renameat2), SCMP_SYS(fchmod), SCMP_SYS(utimensat), SCMP_SYS(futimesat), SCMP_SYS(fstatfs),
    SCMP_SYS(statfs),
    /* the network, and the loop */
    SCMP_SYS(connect), SCMP_SYS(bind), SCMP_SYS(getsockname), SCMP_SYS(getpeername), SCMP_SYS(setsockopt), SCMP_SYS(getsockopt),
    SCMP_SYS(sendto), SCMP_SYS(sendmsg), SCMP_SYS(sendmmsg), SCMP_SYS(recvfrom), SCMP_SYS(recvmsg), SCMP_SYS(recvmmsg),
    SCMP_SYS(shutdown), SCMP_SYS(socketpair),
    /* memory, threads, clocks, itself */
    SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(brk), SCMP_SYS(madvise), SCMP_SYS(futex), SCMP_SYS(sched_yield),
    SCMP_SYS(sched_getaffinity), SCMP_SYS(set_robust_list), SCMP_SYS(rseq), SCMP_SYS(restart_syscall), SCMP_SYS(clock_gettime),
    SCMP_SYS(clock_getres), SCMP_SYS(clock_nanosleep), SCMP_SYS(nanosleep), SCMP_SYS(gettimeofday), SCMP_SYS(time), SCMP_SYS(getrusage),
    SCMP_SYS(sysinfo), SCMP_SYS(uname), SCMP_SYS(getrandom), SCMP_SYS(getpid), SCMP_SYS(getppid), SCMP_SYS(gettid), SCMP_SYS(getuid),
    SCMP_SYS(geteuid), SCMP_SYS(getgid), SCMP_SYS(getegid), SCMP_SYS(rt_sigreturn), SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigaction),
    SCMP_SYS(sigaltstack), SCMP_SYS(exit), SCMP_SYS(exit_group),
};

static int network_filter(void)
{
    static const int missing[] = {SCMP_SYS(clone3)}; /* whose flags a filter can't see */
    const struct sandbox_rule rules[] = {
        {SCMP_SYS(mmap), 1, {SCMP_A2_64(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)}},
        {SCMP_SYS(mprotect), 1, {SCMP_A2_64(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)}},
        {SCMP_SYS(clone), 1, {SCMP_A0_64(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD)}}, /* the resolver's */
        {SCMP_SYS(socket), 1, {SCMP_A0_64(SCMP_CMP_EQ, AF_INET)}},
        {SCMP_SYS(socket), 1, {SCMP_A0_64(SCMP_CMP_EQ, AF_INET6)}},
        /* Which addresses has this machine? */
        {SCMP_SYS(socket), 2, {SCMP_A0_64(SCMP_CMP_EQ, AF_NETLINK), SCMP_A2_64(SCMP_CMP_EQ, NETLINK_ROUTE)}},
        {SCMP_SYS(ioctl), 1, {SCMP_A1_64(SCMP_CMP_EQ, FIONREAD)}},
        {SCMP_SYS(prlimit64), 2, {SCMP_A0_64(SCMP_CMP_EQ, 0), SCMP_A2_64(SCMP_CMP_EQ, 0)}}, /* asks, and sets none */
        {SCMP_SYS(tgkill), 1, {SCMP_A0_64(SCMP_CMP_EQ, (scmp_datum_t)getpid())}}, /* abort() */
    };
    const struct sandbox_filter filter = {
        .allowed = network_allowed, .n_allowed = sizeof(network_allowed) / sizeof(network_allowed[0]),
        .rules = rules, .n_rules = sizeof(rules) / sizeof(rules[0]),
        .missing = missing, .n_missing = sizeof(missing) / sizeof(missing[0]),
    };

    return sandbox_load(&filter);
}

int sandbox_enter_network(const struct sandbox_network *s, bool *ret_confined)
{
    int r = network_limits(s);
    r = r ? r : sandbox_drop_capabilities();
    r = r ? r : sandbox_bind_to_parent(s->parent);
    r = r ? r : network_confine(s->folder, ret_confined);
    return r ? r : network_filter();
}
