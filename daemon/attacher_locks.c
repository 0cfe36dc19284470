/* Owns nothing beyond the call, but for a process that hangs: it has no descriptor of the attacher's, and ends with it. */
#include "daemon/attacher_locks.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "daemon/attacher.h"
#include "daemon/child.h"
#include "util/cleanup.h"
#include "util/clock.h"

static void cleanup_dir(DIR **d)
{
    if (*d)
        (void)closedir(*d);
}

int attacher_try_locks(struct attacher_progress *progress)
{
    CLEANUP(cleanup_dir) DIR *proc = opendir("/proc");
    struct dirent *entry;

    if (!proc)
        return -errno;
    while ((entry = readdir(proc))) {
        char path[64], byte;
        if (!isdigit((unsigned char)entry->d_name[0]))
            continue;
        (void)snprintf(path, sizeof(path), "/proc/%.20s/cmdline", entry->d_name);
        AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            continue;
        progress->lock_of = atoi(entry->d_name);
        (void)!read(fd, &byte, 1);
    }
    progress->lock_of = 0;
    return 0;
}

int attacher_try_locks_within(struct attacher_progress *progress, uint64_t ns)
{
    const struct timespec pause = {.tv_nsec = NSEC_PER_MSEC};
    uint64_t began_ns = monotonic_ns();
    pid_t parent = getpid(), pid, ended = 0;
    int status = 0;

    while (waitpid(-1, NULL, WNOHANG) > 0) /* earlier ones that hung, and were killed */
        ;
    pid = fork();
    if (pid < 0)
        return -errno;
    if (pid == 0) {
        (void)syscall(SYS_close_range, 3, ~0u, 0);
        _exit(child_die_with_parent(parent) == 0 && attacher_try_locks(progress) == 0 ? EXIT_SUCCESS : EXIT_FAILURE);
    }
    while ((ended = waitpid(pid, &status, WNOHANG)) == 0 && monotonic_ns() - began_ns < ns)
        (void)nanosleep(&pause, NULL);
    if (ended != 0) /* one that did not come to its end has not tried all */
        return ended == pid && WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SUCCESS ? 0 : -EINTR;
    (void)kill(pid, SIGKILL);
    return -EBUSY;
}
