/* Opening a target's files. Owns nothing: descriptors go to the caller.
 *
 * A name is first resolved to an O_PATH descriptor, which opens nothing, and judged; only then is the same
 * inode opened to read. So no device is opened by accident, and no name is swapped between the look and the
 * opening. */
#include "daemon/target_files.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "util/cleanup.h"

#define DELETED " (deleted)"
/* How often a name with ".." is tried that cannot be resolved for certain, since something on this machine was renamed meanwhile
 * (openat2(2), EAGAIN). */
#define BENEATH_TRIES 32

int target_files_root(const struct target *t)
{
    return target_open_file(t, "root", O_PATH | O_DIRECTORY);
}

/* The inode behind an O_PATH descriptor, to read. */
int target_files_reopen(int path_fd)
{
    char self[40];
    struct stat st;

    if (fstat(path_fd, &st) < 0)
        return -errno;
    if (!S_ISREG(st.st_mode))
        return -EINVAL;
    (void)snprintf(self, sizeof(self), "/proc/self/fd/%d", path_fd);
    int fd = open(self, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

static int find_beneath(int root_fd, const char *path, unsigned flags)
{
    struct open_how how = {
        .flags = O_PATH | O_CLOEXEC | flags,
        .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
    };
    int fd = -1;

    errno = EAGAIN;
    for (unsigned i = 0; fd < 0 && errno == EAGAIN && i < BENEATH_TRIES; i++)
        fd = (int)syscall(SYS_openat2, root_fd, path, &how, sizeof(how));
    return fd < 0 ? -errno : fd;
}

int target_files_find_beneath(int root_fd, const char *path)
{
    return find_beneath(root_fd, path, O_NOFOLLOW);
}

int target_files_open_beneath(int root_fd, const char *path)
{
    AUTO_CLOSE int path_fd = find_beneath(root_fd, path, 0);
    if (path_fd < 0)
        return path_fd;
    return target_files_reopen(path_fd);
}

/* ---- is it the file that is mapped? */

struct own_mapping {
    uint64_t start;
    const struct maps_entry *wanted;
    bool same;
};

static int compare_own_mapping(const struct maps_entry *e, void *userdata)
{
    struct own_mapping *own = userdata;
    const struct maps_entry *w = own->wanted;

    if (e->start != own->start)
        return 0;
    own->same = e->ino == w->ino && e->dev_major == w->dev_major && e->dev_minor == w->dev_minor;
    return -ECANCELED; /* enough */
}

/* Maps a page of it, without touching it, and reads what this process's own maps call it. */
static bool same_when_mapped(int fd, const struct maps_entry *e)
{
    AUTO_CLOSE int maps = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    size_t page = (size_t)sysconf(_SC_PAGESIZE);

    if (maps < 0)
        return false;
    void *at = mmap(NULL, page, PROT_READ, MAP_PRIVATE, fd, 0);
    if (at == MAP_FAILED)
        return false;
    struct own_mapping own = {.start = (uint64_t)(uintptr_t)at, .wanted = e};
    (void)maps_read(maps, compare_own_mapping, &own);
    (void)munmap(at, page);
    return own.same;
}

bool target_files_same(int fd, const struct maps_entry *e)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return false;
    if (st.st_ino == e->ino && st.st_dev == makedev(e->dev_major, e->dev_minor))
        return true;
    return same_when_mapped(fd, e);
}

/* ---- the ways to a mapped file */

static void mapping_link(const struct maps_entry *e, char ret[64])
{
    (void)snprintf(ret, 64, "map_files/%llx-%llx", (unsigned long long)e->start, (unsigned long long)e->end);
}

/* By the mapping itself: right for deleted and replaced files too. Needs privileges that a daemon may lack.
 */
static int open_by_mapping(const struct target *t, const struct maps_entry *e)
{
    char name[64];

    mapping_link(e, name);
    AUTO_CLOSE int path_fd = target_open_file(t, name, O_PATH);
    return path_fd < 0 ? path_fd : target_files_reopen(path_fd);
}

int target_files_open_exe(const struct target *t)
{
    AUTO_CLOSE int path_fd = target_open_file(t, "exe", O_PATH);
    return path_fd < 0 ? path_fd : target_files_reopen(path_fd);
}

/* What a file is held against. */
struct wanted {
    const struct maps_entry *e;
    struct mapped_head head;
    bool other; /* one had the numbers, and other contents */
};

static int verified(int fd, struct wanted *w)
{
    if (fd < 0)
        return -1;
    bool same = target_files_same(fd, w->e);
    if (same && mapped_head_is_of(&w->head, fd))
        return fd;
    w->other = w->other || same;
    (void)close(fd);
    return -1;
}

/* By its path first: the file is checked to be the mapped one whatever way it comes, and the way by the mapping takes the
 * target's memory lock, which a stuck process does not give. */
static int open_mapped(const struct target *t, int root_fd, struct wanted *w, const char *path)
{
    int fd = -1;

    if (root_fd >= 0 && path[0] == '/' && !w->e->name_cut)
        fd = verified(target_files_open_beneath(root_fd, path), w);
    if (fd < 0)
        fd = verified(target_files_open_exe(t), w);
    if (fd < 0)
        fd = verified(open_by_mapping(t, w->e), w);
    return fd;
}

/* ---- its name */

/* maps shows paths from this process's root; a target in a chroot knows them from its own. */
static void strip_root(const struct target *t, char *path)
{
    char root[PATH_MAX];

    if (target_readlink(t, "root", root, sizeof(root)) < 0)
        return;
    size_t len = strlen(root);
    if (len <= 1 || strncmp(path, root, len) != 0 || path[len] != '/')
        return;
    memmove(path, path + len, strlen(path + len) + 1);
}

/* " (deleted)" is the kernel's word, unless a file is really called so. */
static bool strip_deleted(int root_fd, const struct opened_file *file, char *path)
{
    size_t len = strlen(path), suffix = strlen(DELETED);
    struct stat st;

    if (len <= suffix || strcmp(path + len - suffix, DELETED) != 0)
        return false;
    AUTO_CLOSE int named = root_fd >= 0 && file->fd >= 0 ? target_files_open_beneath(root_fd, path) : -1;
    if (named >= 0 && fstat(named, &st) == 0 && st.st_ino == file->st.st_ino && st.st_dev == file->st.st_dev)
        return false;
    path[len - suffix] = '\0';
    return true;
}

/* maps shows a newline as a backslash and digits, and a backslash as it is. What it is in a name with both, the link of the mapping tells. */
static bool read_exact_name(const struct target *t, const struct maps_entry *e, char path[PATH_MAX])
{
    char link[64];

    if (!memmem(e->name, e->name_len, "\\012", 4))
        return false;
    mapping_link(e, link);
    return target_readlink(t, link, path, PATH_MAX) == 0 && path[0] == '/';
}

static void fill_path(const struct target *t, const struct maps_entry *e, char path[PATH_MAX])
{
    size_t len = e->name_len < PATH_MAX ? e->name_len : PATH_MAX - 1;

    if (!read_exact_name(t, e, path)) {
        len = maps_decode_name(e->name, len, path);
        path[len] = '\0';
    }
    strip_root(t, path);
}

static void fill_build_id(const struct mapped_head *head, struct opened_file *file)
{
    size_t len;
    const uint8_t *id = mapped_head_build_id(head, &len);

    if (!id)
        return;
    memcpy(file->build_id, id, len);
    file->build_id_len = len;
}

void target_files_open(const struct target *t, int root_fd, const struct maps_entry *e,
                       struct opened_file *ret)
{
    struct wanted w = {.e = e};

    *ret = (struct opened_file){.fd = -1};
    fill_path(t, e, ret->path);
    mapped_head_read(t, e->head, &w.head);
    fill_build_id(&w.head, ret);
    ret->fd = open_mapped(t, root_fd, &w, ret->path);
    ret->error = ret->fd >= 0 ? 0 : w.other ? -EUCLEAN : -ENODEV;
    if (ret->fd >= 0 && fstat(ret->fd, &ret->st) < 0) {
        close_fd(&ret->fd);
        ret->error = -ENODEV;
    }
    ret->deleted = strip_deleted(root_fd, ret, ret->path);
}

void target_files_name(const struct target *t, int root_fd, const struct maps_entry *e,
                       struct opened_file *ret)
{
    struct mapped_head head;

    *ret = (struct opened_file){.fd = -1, .error = -ENODEV};
    fill_path(t, e, ret->path);
    mapped_head_read(t, e->head, &head);
    fill_build_id(&head, ret);
    ret->deleted = strip_deleted(root_fd, ret, ret->path);
}
