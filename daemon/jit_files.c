/* Perf maps and jitdumps of a target. Owns nothing.
 *
 * perf takes a map that belongs to root or to the user who runs perf. Here it is the target's that counts, and there is more to it,
 * since /tmp is anybody's: the file must belong to the target's effective user (ids are those of the host, whatever a user namespace makes
 * of them), or to root, and then anyone may read it (the daemon may read more than the target may); nobody but its owner and group may
 * write it; it is no link and no special file; and it was not written before the process began, as that of an earlier process of the
 * same number was. A jitdump has none of these doubts: the target itself maps it. */
#include "daemon/jit_files.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/target_files.h"
#include "util/cleanup.h"
#include "util/clock.h"

/* The wall clock is set now and then, and a process's beginning is told in clock ticks. */
#define JIT_FILES_CLOCK_SLACK_NS (2 * NSEC_PER_SEC)

static pid_t own_pid(const struct target_status *s)
{
    return s->namespace_pid ? s->namespace_pid : s->tgid;
}

static bool is_trusted(const struct stat *st, const struct target_status *s)
{
    if (st->st_mode & S_IWOTH)
        return false;
    return st->st_uid == s->uid[TARGET_EFFECTIVE] || (st->st_uid == 0 && st->st_mode & S_IROTH);
}

/* By the wall clock, in which files have their times. */
static bool is_older(const struct target *t, const struct stat *st)
{
    struct target_stat stat;
    long ticks = sysconf(_SC_CLK_TCK);

    if (ticks <= 0 || target_stat(t, &stat) < 0)
        return false; /* it has ended: whatever is there was there before that */
    uint64_t age_ns = clock_ns(CLOCK_BOOTTIME) - stat.start_ticks / (uint64_t)ticks * NSEC_PER_SEC;
    uint64_t written_ns = (uint64_t)st->st_mtim.tv_sec * NSEC_PER_SEC + (uint64_t)st->st_mtim.tv_nsec;
    return written_ns + age_ns + JIT_FILES_CLOCK_SLACK_NS < realtime_ns();
}

int jit_files_open_perf_map(const struct target *t, const struct target_status *s, int root_fd)
{
    char path[48];
    struct stat st;

    if (root_fd < 0)
        return -ENOENT;
    (void)snprintf(path, sizeof(path), "/tmp/perf-%d.map", own_pid(s));
    AUTO_CLOSE int path_fd = target_files_find_beneath(root_fd, path);
    if (path_fd < 0)
        return path_fd;
    if (fstat(path_fd, &st) < 0)
        return -errno;
    if (S_ISLNK(st.st_mode))
        return -ELOOP;
    if (!S_ISREG(st.st_mode))
        return -EINVAL;
    if (!is_trusted(&st, s))
        return -EPERM;
    return is_older(t, &st) ? -ESTALE : target_files_reopen(path_fd);
}

bool jit_files_is_jitdump(const struct target_status *s, const char *path)
{
    char name[32];
    const char *slash = strrchr(path, '/');

    (void)snprintf(name, sizeof(name), "/jit-%d.dump", own_pid(s));
    return slash && strcmp(slash, name) == 0;
}
