/* A process by its /proc directory. Owns its descriptors. Nothing here but reading maps, cmdline and the
 * program's file waits for the target: status, stat, comm and exe take none of its locks. */
#include "daemon/target.h"

#include <ctype.h>
#include <dirent.h>
#include <elf.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/clock.h"

/* 65,536 groups of eleven bytes, and all the rest. */
#define STATUS_MAX_BYTES (1 << 20)
#define STAT_MAX_BYTES 4096

static void cleanup_closedir(DIR **d)
{
    if (*d)
        (void)closedir(*d);
}

static void cleanup_target(struct target *t)
{
    target_deinit(t);
}

/* A task that is gone shows in several ways: its directory is empty, or its files read as gone. */
static int gone_or(int error)
{
    return error == ENOENT || error == ESRCH ? -ESRCH : -error;
}

static int task_fd(const struct target *t)
{
    return t->thread_fd >= 0 ? t->thread_fd : t->dir_fd;
}

/* Reads to the end of file, at most max bytes, growing as it goes. */
static int read_whole(int fd, size_t max, char **ret_text, size_t *ret_len)
{
    size_t len = 0, cap = 4096;
    AUTO_FREE char *text = malloc(cap);

    if (!text)
        return -ENOMEM;
    for (;;) {
        ssize_t n = read(fd, text + len, cap - len - 1);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return gone_or(errno);
        if (n == 0)
            break;
        len += (size_t)n;
        if (len > max)
            return -EFBIG;
        if (cap - len > cap / 4)
            continue;
        char *larger = realloc(text, cap * 2);
        if (!larger)
            return -ENOMEM;
        text = larger;
        cap *= 2;
    }
    text[len] = '\0';
    *ret_text = TAKE_PTR(text);
    *ret_len = len;
    return 0;
}

static int read_file_at(int dir_fd, const char *name, size_t max, char **ret_text, size_t *ret_len)
{
    AUTO_CLOSE int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return gone_or(errno);
    return read_whole(fd, max, ret_text, ret_len);
}

static int read_status_at(int dir_fd, const char *name, struct target_status *ret)
{
    AUTO_FREE char *text = NULL;
    size_t len;
    int r = read_file_at(dir_fd, name, STATUS_MAX_BYTES, &text, &len);
    return r < 0 ? r : target_status_parse(text, len, ret);
}

static bool has_ended(const struct target_status *s)
{
    return s->state == 'Z' || s->state == 'X';
}

/* Makes the first thread that lives the one that stands for the process. */
static int target_find_live_thread(struct target *t, struct target_status *ret)
{
    AUTO_CLOSE int tasks = openat(t->dir_fd, "task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (tasks < 0)
        return gone_or(errno);
    CLEANUP(cleanup_closedir) DIR *dir = fdopendir(tasks);
    if (!dir)
        return -errno;
    tasks = -1; /* the stream's now */
    for (struct dirent *entry; (entry = readdir(dir));) {
        struct target_status s;
        if (!isdigit((unsigned char)entry->d_name[0]))
            continue;
        AUTO_CLOSE int thread = openat(dirfd(dir), entry->d_name, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (thread < 0 || read_status_at(thread, "status", &s) < 0 || has_ended(&s))
            continue;
        t->thread_fd = TAKE_FD(thread);
        t->tid = s.pid;
        *ret = s;
        return 0;
    }
    return -ESRCH;
}

int target_refresh(struct target *t, struct target_status *ret)
{
    struct target_status s;
    int r = read_status_at(t->dir_fd, "status", &s);
    if (r < 0)
        return r;
    close_fd(&t->thread_fd);
    t->tid = t->pid;
    if (has_ended(&s)) {
        if (s.threads <= 1)
            return -ESRCH;
        return target_find_live_thread(t, ret);
    }
    *ret = s;
    return 0;
}

int target_thread_status(const struct target *t, pid_t tid, struct target_status *ret)
{
    char name[40];
    (void)snprintf(name, sizeof(name), "task/%d/status", tid);
    struct target_status s;
    int r = read_status_at(t->dir_fd, name, &s);
    if (r < 0)
        return r;
    if (has_ended(&s))
        return -ESRCH;
    *ret = s;
    return 0;
}

int target_gone(pid_t pid, struct denial *d)
{
    return deny(d, 404, "no such process: %d (it may have ended)", pid);
}

const char *target_error(int error)
{
    if (error != EACCES && error != EPERM)
        return strerror(error);
    return "permission denied: the daemon needs CAP_SYS_PTRACE over it (run it as root or by its systemd unit; a security module can refuse it as "
           "well, and in a user namespace of its own the daemon has it over that namespace's processes alone)";
}

static int target_failed(pid_t pid, int error, struct denial *d)
{
    if (error == -ESRCH)
        return target_gone(pid, d);
    return deny(d, 503, "process %d cannot be read: %s", pid, target_error(-error));
}

/* The pidfd comes second. If the directory's process still answers after it, the number was its own
 * throughout. */
static int target_open_pidfd(struct target *t)
{
    struct target_status s;
    t->pidfd = (int)syscall(SYS_pidfd_open, t->pid, 0);
    if (t->pidfd < 0)
        return errno == EINVAL ? -ESRCH : gone_or(errno);
    return target_refresh(t, &s);
}

int target_open(pid_t pid, struct target *ret, struct denial *d)
{
    CLEANUP(cleanup_target) struct target t = TARGET_INIT;
    struct target_status s;
    char path[32];

    if (pid <= 0)
        return deny(d, 404, "no such process: %d", pid);
    (void)snprintf(path, sizeof(path), "/proc/%d", pid);
    t.pid = pid;
    t.dir_fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (t.dir_fd < 0 && errno == ENOENT && access("/proc/self", F_OK) < 0)
        return deny(d, 503, "the daemon sees no processes: /proc is not mounted where it runs, or is of another PID namespace");
    if (t.dir_fd < 0)
        return target_failed(pid, gone_or(errno), d);
    int r = read_status_at(t.dir_fd, "status", &s);
    if (r < 0)
        return target_failed(pid, r, d);
    if (s.tgid != pid)
        return deny(d, 404,
                    "%d is a thread of process %d: ask for /pid/%d, with tid=%d for this thread alone", pid,
                    s.tgid, s.tgid, pid);
    r = target_open_pidfd(&t);
    if (r < 0)
        return target_failed(pid, r, d);
    *ret = t;
    t = (struct target)TARGET_INIT;
    return 0;
}

void target_deinit(struct target *t)
{
    close_fd(&t->thread_fd);
    close_fd(&t->pidfd);
    close_fd(&t->dir_fd);
}

int target_stat(const struct target *t, struct target_stat *ret)
{
    AUTO_FREE char *text = NULL;
    size_t len;
    int r = read_file_at(t->dir_fd, "stat", STAT_MAX_BYTES, &text, &len);
    return r < 0 ? r : target_stat_parse(text, len, ret);
}

int target_open_file(const struct target *t, const char *name, int flags)
{
    int fd = openat(task_fd(t), name, flags | O_CLOEXEC);
    return fd < 0 ? gone_or(errno) : fd;
}

int target_read_file(const struct target *t, const char *name, size_t max, char **ret_text, size_t *ret_len)
{
    return read_file_at(task_fd(t), name, max, ret_text, ret_len);
}

int target_readlink(const struct target *t, const char *name, char *buf, size_t size)
{
    ssize_t len = readlinkat(task_fd(t), name, buf, size);
    if (len < 0 && (errno != ENOENT || !target_alive(t)))
        return gone_or(errno);
    if (len < 0)
        len = 0;
    if ((size_t)len >= size)
        return -ENAMETOOLONG;
    buf[len] = '\0';
    return 0;
}

int target_comm(const struct target *t, char ret_comm[16])
{
    AUTO_FREE char *text = NULL;
    size_t len;
    int r = read_file_at(t->dir_fd, "comm", STAT_MAX_BYTES, &text, &len);
    if (r < 0)
        return r;
    if (len > 0)
        len--; /* the newline that the kernel adds */
    memset(ret_comm, 0, 16);
    memcpy(ret_comm, text, len < 15 ? len : 15);
    return 0;
}

/* The files of a process that is not dumpable belong to root, all others to its effective user
 * (task_dump_owner in fs/proc/base.c); the directory itself is always its user's. */
int target_dumpable(const struct target *t, const struct target_status *s, bool *ret)
{
    struct stat st;
    if (fstatat(task_fd(t), "status", &st, AT_SYMLINK_NOFOLLOW) < 0)
        return gone_or(errno);
    *ret = st.st_uid == s->uid[TARGET_EFFECTIVE];
    return 0;
}

/* The file of offsets tells of the namespace that children of the process will be in, and is of the whole process. */
struct target_clock target_clock(const struct target *t)
{
    char ours[64] = "", its[64] = "", children[64] = "";
    AUTO_FREE char *text = NULL;
    size_t len;

    if (readlink("/proc/self/ns/time", ours, sizeof(ours) - 1) < 0 && errno == ENOENT)
        return (struct target_clock){.known = true}; /* a kernel without time namespaces */
    if (target_readlink(t, "ns/time", its, sizeof(its)) < 0)
        return (struct target_clock){0};
    if (strcmp(its, ours) == 0)
        return (struct target_clock){.ahead_ns = clock_ahead_ns, .known = true};
    uint64_t ahead_ns = 0;
    bool known = target_readlink(t, "ns/time_for_children", children, sizeof(children)) == 0 && strcmp(its, children) == 0 &&
                 read_file_at(t->dir_fd, "timens_offsets", STAT_MAX_BYTES, &text, &len) == 0 && clock_parse_offsets(text, &ahead_ns) == 0;
    return (struct target_clock){.ahead_ns = ahead_ns, .known = known};
}

bool target_alive(const struct target *t)
{
    struct pollfd p = {.fd = t->pidfd, .events = POLLIN};
    return poll(&p, 1, 0) == 0;
}

/* The class of the program that runs; ELFCLASSNONE where it cannot be told. By what the kernel told the program of its own headers, since
 * the file may be on a file system that does not answer. To a 32-bit program the words of that are of another size. */
static unsigned char target_elf_class(const struct target *t)
{
    uint64_t pair[2];
    AUTO_CLOSE int fd = target_open_file(t, "auxv", O_RDONLY);

    for (off_t at = 0; fd >= 0 && pread(fd, pair, sizeof(pair), at) == sizeof(pair); at += sizeof(pair)) {
        if (pair[0] == AT_PHENT)
            return pair[1] == sizeof(Elf64_Phdr) ? ELFCLASS64 : ELFCLASS32;
        if (pair[0] == AT_NULL)
            return ELFCLASSNONE;
        if (pair[0] > UINT32_MAX)
            return ELFCLASS32;
    }
    return ELFCLASSNONE;
}

int target_check_program(const struct target *t, struct denial *d)
{
    struct target_stat stat;
    int r = target_stat(t, &stat);
    if (r < 0)
        return target_failed(t->pid, r, d);
    if (stat.flags & TARGET_PF_KTHREAD)
        return deny(d, 400, "%d is a thread of the kernel: it has no program that could be profiled", t->pid);
    if (target_elf_class(t) == ELFCLASS32)
        return deny(d, 400, "process %d is a 32-bit program: only 64-bit ones can be profiled", t->pid);
    return target_alive(t) ? 0 : target_gone(t->pid, d);
}
