/* Debug files by build id, debuglink and altlink; of split DWARF by their own names. Owns nothing.
 *
 * Every name is checked before it becomes a part of a path: a build id is hexadecimal, a debuglink has no
 * slash, an altlink leads into /usr/lib/debug, a .dwo file is called so, a package has the program's name.
 * Symbolic links cannot leave the root directory, and the reader compares build id, checksum or unit id. */
#include "daemon/debug_files.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "symbolize/symbolizer.h"
#include "util/cleanup.h"

#define DEBUG_DIR "/usr/lib/debug"
/* Hexadecimal digits: 20 bytes are usual, and one would make no file name of its own. */
#define BUILD_ID_MIN_DIGITS 4
#define BUILD_ID_MAX_DIGITS 128

struct search {
    const struct debug_roots *roots;
    const char *directory; /* of the object, with its last slash */
    int directory_len;
    int object_fd;
    const char *build_id;  /* that the file must have; "": unknown */
};

static bool is_same_inode(int a, int b)
{
    struct stat st_a, st_b;
    return a >= 0 && b >= 0 && fstat(a, &st_a) == 0 && fstat(b, &st_b) == 0 && st_a.st_ino == st_b.st_ino &&
           st_a.st_dev == st_b.st_dev;
}

/* Of another build than the one that is wanted: there may be a better one in the next place. Who reads it checks again; here, what cannot
 * be told at once is let pass. */
static bool is_other_build(int fd, const char *wanted)
{
    struct mapped_head head;
    char hex[2 * MAPPED_ID_MAX_BYTES + 1] = "";
    size_t len;

    if (wanted[0] == '\0')
        return false;
    mapped_head_read_file(fd, &head);
    const uint8_t *id = mapped_head_build_id(&head, &len);
    for (size_t i = 0; id && i < len; i++)
        (void)snprintf(hex + 2 * i, 3, "%02x", id[i]);
    return id && strcmp(hex, wanted) != 0;
}

/* A path in one root. A file is not its own debug file: a debuglink may name the very file that has it. */
__attribute__((format(printf, 3, 4))) static int try_path(const struct search *s, int root_fd,
                                                          const char *fmt, ...)
{
    char path[PATH_MAX];
    va_list args;

    if (root_fd < 0)
        return -ENOENT;
    va_start(args, fmt);
    int len = vsnprintf(path, sizeof(path), fmt, args);
    va_end(args);
    if (len < 0 || (size_t)len >= sizeof(path))
        return -ENAMETOOLONG;
    int fd = target_files_open_beneath(root_fd, path);
    if (fd >= 0 && (is_same_inode(fd, s->object_fd) || is_other_build(fd, s->build_id))) {
        (void)close(fd);
        return -ENOENT;
    }
    return fd;
}

bool debug_file_is_build_id(const char *text)
{
    size_t len = strlen(text);
    return len >= BUILD_ID_MIN_DIGITS && len <= BUILD_ID_MAX_DIGITS && len % 2 == 0 &&
           strspn(text, "0123456789abcdef") == len;
}

static int open_by_build_id(const struct search *s, const char *id)
{
    if (!debug_file_is_build_id(id))
        return -EINVAL;
    int fd = try_path(s, s->roots->target, DEBUG_DIR "/.build-id/%.2s/%s.debug", id, id + 2);
    if (fd < 0)
        fd = try_path(s, s->roots->host, DEBUG_DIR "/.build-id/%.2s/%s.debug", id, id + 2);
    return fd;
}

static bool is_file_name(const char *name)
{
    return name[0] != '\0' && !strchr(name, '/') && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

/* The places that gdb and libdw know, in their order. */
static int open_by_debuglink(const struct search *s, const char *name)
{
    int n = s->directory_len;

    if (!is_file_name(name))
        return -EINVAL;
    int fd = try_path(s, s->roots->target, "%.*s%s", n, s->directory, name);
    if (fd < 0)
        fd = try_path(s, s->roots->target, "%.*s.debug/%s", n, s->directory, name);
    if (fd < 0)
        fd = try_path(s, s->roots->target, DEBUG_DIR "%.*s%s", n, s->directory, name);
    if (fd < 0)
        fd = try_path(s, s->roots->host, DEBUG_DIR "%.*s%s", n, s->directory, name);
    return fd;
}

/* No component may be "..": lexically, too, the path stays where it begins. */
static bool has_dotdot(const char *path)
{
    for (const char *at = path; (at = strstr(at, "..")); at += 2)
        if ((at == path || at[-1] == '/') && (at[2] == '\0' || at[2] == '/'))
            return true;
    return false;
}

/* A path into the debug directory: absolute, or relative to a debug file in it
 * ("../../.dwz/x86_64-linux-gnu/foo.debug"). */
static const char *altlink_below_debug_dir(const char *name)
{
    size_t prefix = strlen(DEBUG_DIR "/");

    if (strncmp(name, DEBUG_DIR "/", prefix) == 0) {
        name += prefix;
    } else {
        while (strncmp(name, "../", 3) == 0)
            name += 3;
        if (strncmp(name, ".dwz/", 5) != 0)
            return NULL;
    }
    return name[0] == '\0' || has_dotdot(name) ? NULL : name;
}

static int open_by_altlink(const struct search *s, const char *name, const char *build_id)
{
    const char *below = altlink_below_debug_dir(name);
    int fd = -EINVAL;

    if (build_id[0] != '\0')
        fd = open_by_build_id(s, build_id);
    if (fd < 0 && below) {
        fd = try_path(s, s->roots->target, DEBUG_DIR "/%s", below);
        if (fd < 0)
            fd = try_path(s, s->roots->host, DEBUG_DIR "/%s", below);
    }
    return fd;
}

/* Where the compiler wrote it, which may be anywhere in the target's root, or beside the program. */
static int open_dwo(const struct search *s, const char *path)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    size_t len = strlen(name), suffix = strlen(".dwo");

    if (path[0] != '/' || len <= suffix || strcmp(name + len - suffix, ".dwo") != 0)
        return -EINVAL;
    int fd = try_path(s, s->roots->target, "%s", path);
    if (fd < 0)
        fd = try_path(s, s->roots->target, "%.*s%s", s->directory_len, s->directory, name);
    return fd;
}

static int open_package(const struct search *s, const char *object_path)
{
    int fd = try_path(s, s->roots->target, "%s.dwp", object_path);
    if (fd < 0)
        fd = try_path(s, s->roots->target, DEBUG_DIR "%s.dwp", object_path);
    if (fd < 0)
        fd = try_path(s, s->roots->host, DEBUG_DIR "%s.dwp", object_path);
    return fd;
}

int debug_file_open(const struct debug_roots *roots, const char *object_path, int object_fd,
                    const struct worker_message *need)
{
    const char *slash = strrchr(object_path, '/');
    const char *name = need->u.need.name, *build_id = need->u.need.build_id;
    struct search s = {.roots = roots, .directory = object_path, .object_fd = object_fd, .build_id = build_id};

    if (object_path[0] != '/' || !memchr(name, '\0', sizeof(need->u.need.name)) ||
        !memchr(build_id, '\0', sizeof(need->u.need.build_id)))
        return -EINVAL;
    s.directory_len = (int)(slash - object_path) + 1;
    switch (need->u.need.debug_kind) {
    case DEBUG_FILE_BUILD_ID:
        return open_by_build_id(&s, name);
    case DEBUG_FILE_DEBUGLINK:
        return open_by_debuglink(&s, name);
    case DEBUG_FILE_ALTLINK:
        return open_by_altlink(&s, name, build_id);
    case DEBUG_FILE_DWO:
        return open_dwo(&s, name);
    case DEBUG_FILE_DWP:
        return open_package(&s, object_path);
    case DEBUG_FILE_SERVER:
        return -ENOSYS;
    }
    return -EINVAL;
}
