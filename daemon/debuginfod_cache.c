/* The cache's folder on disk. Owns nothing between calls. */
#include "daemon/debuginfod_cache.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <grp.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/clock.h"

#define CACHE_OWNER "cprofd"
#define CACHE_NOBODY 65534
/* As libdebuginfod's own (cache_miss_s). */
#define CACHE_ABSENT_NS (600 * NSEC_PER_SEC)
/* A file that was written to so recently may be written to still. */
#define CACHE_SETTLED_NS (3700 * NSEC_PER_SEC)
/* What an entry costs beside its bytes: two inodes and their blocks. */
#define CACHE_ENTRY_BYTES 8192
#define CACHE_MAX_FILES (1u << 20)
/* Of the tree, by nftw: FOLDER/SERVER/BUILDID/debuginfo. */
#define CACHE_FILE_LEVEL 3
#define CACHE_WALK_FDS 8

static uint64_t timespec_ns(struct timespec t)
{
    return (uint64_t)t.tv_sec * NSEC_PER_SEC + (uint64_t)t.tv_nsec;
}

/* ---- the folder and its owner */

__attribute__((format(printf, 4, 5))) static int cache_fail(int error, char *text, size_t len, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(text, len, fmt, args);
    va_end(args);
    return error;
}

static int cache_make(const char *path, char *text, size_t len)
{
    const struct passwd *owner = geteuid() == 0 ? getpwnam(CACHE_OWNER) : NULL;

    if (mkdir(path, 0700) < 0)
        return errno == EEXIST ? 0 : cache_fail(-errno, text, len, "the folder %s can't be made: %s", path, strerror(errno));
    if (geteuid() != 0)
        return 0;
    if (chown(path, owner ? owner->pw_uid : CACHE_NOBODY, owner ? owner->pw_gid : CACHE_NOBODY) < 0)
        return cache_fail(-errno, text, len, "the folder %s can't be given away: %s", path, strerror(errno));
    return 0;
}

/* For good: root's capabilities go with its user. */
static int cache_become(const struct stat *st)
{
    if (setgroups(0, NULL) < 0 || setresgid(st->st_gid, st->st_gid, st->st_gid) < 0 ||
        setresuid(st->st_uid, st->st_uid, st->st_uid) < 0)
        return -errno;
    return 0;
}

int debuginfod_cache_open(const char *path, char *ret_text, size_t len)
{
    struct stat st;

    int r = cache_make(path, ret_text, len);
    if (r < 0)
        return r;
    if (stat(path, &st) < 0 || !S_ISDIR(st.st_mode))
        return cache_fail(-ENOTDIR, ret_text, len, "%s is no folder", path);
    if (geteuid() == 0) {
        if (st.st_uid == 0)
            return cache_fail(-EPERM, ret_text, len, "the folder %s belongs to root: what fetches files must not run as root, so give "
                              "it to another user, or name one that is not there yet", path);
        r = cache_become(&st);
        if (r < 0)
            return cache_fail(r, ret_text, len, "the user %u can't be taken: %s", (unsigned)st.st_uid, strerror(-r));
    }
    if (access(path, R_OK | W_OK | X_OK) < 0)
        return cache_fail(-errno, ret_text, len, "the folder %s can't be written to: %s", path, strerror(errno));
    return 0;
}

/* FNV-1a: a name for a folder, no secret. */
static uint64_t cache_hash(const char *text)
{
    uint64_t hash = 0xcbf29ce484222325u;

    for (; *text; text++)
        hash = (hash ^ (unsigned char)*text) * 0x100000001b3u;
    return hash;
}

int debuginfod_cache_server(const char *path, const char *url, char ret[PATH_MAX])
{
    if (snprintf(ret, PATH_MAX, "%s/%016" PRIx64, path, cache_hash(url)) >= PATH_MAX)
        return -ENAMETOOLONG;
    return mkdir(ret, 0700) < 0 && errno != EEXIST ? -errno : 0;
}

/* ---- one file */

int debuginfod_cache_find(const char *server_folder, const char *build_id)
{
    char path[PATH_MAX];
    struct stat st;

    if (snprintf(path, sizeof(path), "%s/%s/debuginfo", server_folder, build_id) >= (int)sizeof(path))
        return -EAGAIN;
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return -EAGAIN;
    if (st.st_size == 0)
        return realtime_ns() - timespec_ns(st.st_mtim) < CACHE_ABSENT_NS ? -ENOENT : -EAGAIN;
    /* Its age counts from here, even where reading does not tell the file system so. */
    (void)futimens(fd, (struct timespec[]){{.tv_nsec = UTIME_NOW}, {.tv_nsec = UTIME_OMIT}});
    return TAKE_FD(fd);
}

void debuginfod_cache_forget(const char *server_folder, const char *build_id)
{
    char path[PATH_MAX];

    if (snprintf(path, sizeof(path), "%s/%s/debuginfo", server_folder, build_id) < (int)sizeof(path))
        (void)unlink(path);
}

/* ---- the bound */

/* What a walk finds; nftw's callback has no other way to it. */
static struct {
    struct debuginfod_cache_file *files;
    size_t n, room;
    uint64_t bytes;
    bool failed;
} found;

static int cache_on_file(const char *path, const struct stat *st, int type, struct FTW *at)
{
    if (at->level != CACHE_FILE_LEVEL || type != FTW_F || !S_ISREG(st->st_mode))
        return 0;
    if (found.n == found.room) {
        size_t room = found.room ? 2 * found.room : 256;
        struct debuginfod_cache_file *grown = room <= CACHE_MAX_FILES ? reallocarray(found.files, room, sizeof(*grown)) : NULL;
        if (!grown) {
            found.failed = true; /* what was found is enough to begin with */
            return 1;
        }
        found.files = grown;
        found.room = room;
    }
    uint64_t read_ns = timespec_ns(st->st_atim), changed_ns = timespec_ns(st->st_ctim);
    struct debuginfod_cache_file file = {
        .used_ns = st->st_size > 0 && read_ns > changed_ns ? read_ns : changed_ns,
        .bytes = (uint64_t)st->st_blocks * 512 + CACHE_ENTRY_BYTES, .path = strdup(path),
    };
    if (!file.path)
        return 1;
    found.bytes += file.bytes;
    found.files[found.n++] = file;
    return 0;
}

static int cache_compare(const void *a, const void *b)
{
    const struct debuginfod_cache_file *x = a, *y = b;
    return (x->used_ns > y->used_ns) - (x->used_ns < y->used_ns);
}

static bool cache_is_being_written(const struct debuginfod_cache_file *file)
{
    const char *slash = strrchr(file->path, '/');
    return slash && strcmp(slash, "/debuginfo") != 0 && realtime_ns() - file->used_ns < CACHE_SETTLED_NS;
}

static void cache_remove(struct debuginfod_cache_file *file)
{
    if (unlink(file->path) < 0 && errno != ENOENT)
        return;
    *strrchr(file->path, '/') = '\0';
    (void)rmdir(file->path); /* unless there is more in it */
    found.bytes -= file->bytes;
}

int debuginfod_cache_trim(const char *path, uint64_t most_bytes)
{
    memset(&found, 0, sizeof(found));
    int r = nftw(path, cache_on_file, CACHE_WALK_FDS, FTW_PHYS | FTW_MOUNT) < 0 ? -errno : 0;
    if (found.n > 0)
        qsort(found.files, found.n, sizeof(*found.files), cache_compare);
    for (size_t i = 0; i < found.n; i++) {
        if ((found.bytes > most_bytes || found.failed) && !cache_is_being_written(&found.files[i]))
            cache_remove(&found.files[i]);
        free(found.files[i].path);
    }
    free(found.files);
    return r;
}
