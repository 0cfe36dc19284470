/* Opens /proc/kallsyms, behind which a service's hardening may have put an empty file: systemd's
 * ProtectKernelTunables= does, for whoever has no use for it. The first process of the PID namespace still
 * sees the real one; going by way of its root takes CAP_SYS_PTRACE, and the addresses take CAP_SYSLOG as
 * everywhere. */
#include "daemon/kallsyms_file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stddef.h>
#include <sys/vfs.h>

#include "util/cleanup.h"

static const char *const kallsyms_paths[] = {"/proc/kallsyms", "/proc/1/root/proc/kallsyms"};

static int kallsyms_try(const char *path)
{
    struct statfs fs;
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0 || fstatfs(fd, &fs) < 0)
        return -errno;
    return fs.f_type == PROC_SUPER_MAGIC ? TAKE_FD(fd) : -ENOENT;
}

int kallsyms_file_open(void)
{
    int first = 0;
    for (size_t i = 0; i < sizeof(kallsyms_paths) / sizeof(kallsyms_paths[0]); i++) {
        int fd = kallsyms_try(kallsyms_paths[i]);
        if (fd >= 0)
            return fd;
        first = first ?: fd;
    }
    return first;
}
