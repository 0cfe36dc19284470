/* Files by hostile names. Owns nothing: what a piece of work has goes with it, and a file that comes too late is closed. */
#include "daemon/named_files.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/debug_files.h"
#include "daemon/fs_identity.h"
#include "daemon/jit_files.h"
#include "daemon/patience.h"
#include "daemon/target_files.h"
#include "util/cleanup.h"

struct named_work {
    struct patient_work work;
    struct target target; /* a copy: the original's descriptors */
    struct target_status status;
    pid_t parent;
    int root_fd, object_fd;
    struct worker_message need;
    char object_path[PATH_MAX];
    int fd; /* the result, or -errno */
};

static int named_open_path(const struct named_work *w)
{
    const char *name = w->need.u.need.name;

    if (!memchr(name, '\0', sizeof(w->need.u.need.name)) || name[0] != '/')
        return -EINVAL;
    return target_files_open_beneath(w->root_fd, name);
}

static int named_open_debug(const struct named_work *w)
{
    AUTO_CLOSE int host = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    struct debug_roots roots = {.target = w->root_fd, .host = host};

    return debug_file_open(&roots, w->object_path, w->object_fd, &w->need);
}

static void named_run(struct patient_work *work)
{
    struct named_work *w = (struct named_work *)work;
    bool path = w->need.u.need.kind == WORKER_FILE_PATH;

    if (path && w->need.u.need.name[0] == '\0') { /* its program, which the kernel names */
        w->fd = target_files_open_exe(&w->target);
        return;
    }
    if (w->need.u.need.kind == WORKER_FILE_PERF_MAP) {
        w->fd = jit_files_open_perf_map(&w->target, &w->status, w->root_fd);
        return;
    }
    struct fs_identity *before = fs_identity_assume(&w->status);
    if (!before)
        return;
    w->fd = path ? named_open_path(w) : named_open_debug(w);
    fs_identity_restore(before, w->parent);
}

static void named_drop(struct patient_work *work)
{
    struct named_work *w = (struct named_work *)work;

    close_fd(&w->fd);
    free(w);
}

int named_file_open(struct patience *patience, const struct named_file *file)
{
    struct named_work *w = malloc(sizeof(*w));

    if (!w)
        return -ENOMEM;
    *w = (struct named_work){.work = {.run = named_run, .drop = named_drop}, .target = *file->target, .status = *file->status,
                             .parent = file->parent, .root_fd = file->root_fd, .object_fd = file->object_fd, .need = *file->need,
                             .fd = -EPERM};
    if (strlen(file->object_path) < sizeof(w->object_path))
        strcpy(w->object_path, file->object_path);
    int r = patience_run(patience, &w->work);
    if (r == -ETIMEDOUT)
        return r;
    if (r < 0)
        named_run(&w->work);
    int fd = w->fd;
    w->fd = -1;
    named_drop(&w->work);
    return fd;
}
