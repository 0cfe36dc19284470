/* The files of mappings. Owns their descriptors, the text of all names, and the tree by which a mapping finds
 * what it shares with others. Device, inode and name together are the key: a name alone may be another file
 * later, and an inode alone is not unique on file systems with subvolumes. A file that is held open keeps its
 * inode from being used anew. */
#include "daemon/file_table.h"

#include <errno.h>
#include <fcntl.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/resource.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <unistd.h>

#include "daemon/mapping_table.h"
#include "daemon/patience.h"
#include "daemon/target_files.h"
#include "util/cleanup.h"
#include "util/clock.h"

/* Descriptors that are left for everything else. */
#define SPARE_FDS 64

_Static_assert(RAW_BUILD_ID_BYTES == MAPPED_ID_MAX_BYTES, "one holds the other");

struct named_file {
    uint32_t dev_major, dev_minor;
    uint64_t ino;
    const char *name; /* as in maps; in the same block of memory */
    size_t name_len;
    struct file_ref ref;
};

static int compare_u64(uint64_t a, uint64_t b)
{
    return (a > b) - (a < b);
}

static int compare_named_files(const void *va, const void *vb)
{
    const struct named_file *a = va, *b = vb;
    int r = compare_u64(a->ino, b->ino);

    if (r == 0)
        r = compare_u64(a->dev_major, b->dev_major);
    if (r == 0)
        r = compare_u64(a->dev_minor, b->dev_minor);
    if (r == 0)
        r = compare_u64(a->name_len, b->name_len);
    return r ? r : memcmp(a->name, b->name, a->name_len);
}

/* As many files as the limit of this process allows, which is raised as far as it may be. */
static size_t raise_file_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return 0;
    if (limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
        (void)getrlimit(RLIMIT_NOFILE, &limit);
    }
    if (limit.rlim_cur <= SPARE_FDS)
        return 0;
    return limit.rlim_cur - SPARE_FDS < TABLE_MAX_FILES ? (size_t)limit.rlim_cur - SPARE_FDS
                                                        : TABLE_MAX_FILES;
}

int file_table_init(struct file_table *t, struct patience *patience)
{
    *t = (struct file_table){.patience = patience, .strings = calloc(1, 4096), .strings_cap = 4096, .strings_len = 1};
    t->max_open = raise_file_limit();
    return t->strings ? 0 : -ENOMEM;
}

void file_table_deinit(struct file_table *t)
{
    for (size_t i = 0; i < t->n_objects; i++)
        close_fd(&t->fds[i]);
    tdestroy(t->names, free);
    free(t->objects);
    free(t->fds);
    free(t->strings);
    *t = (struct file_table){0};
}

static int file_table_string(struct file_table *t, const char *text, size_t len, uint64_t *ret)
{
    if (len + 1 > TABLE_MAX_STRING_BYTES - t->strings_len)
        return -ENOSPC;
    if (len + 1 > t->strings_cap - t->strings_len) {
        size_t cap = t->strings_cap * 2 + len + 1;
        char *larger = realloc(t->strings, cap);
        if (!larger)
            return -ENOMEM;
        t->strings = larger;
        t->strings_cap = cap;
    }
    memcpy(t->strings + t->strings_len, text, len);
    t->strings[t->strings_len + len] = '\0';
    *ret = t->strings_len;
    t->strings_len += len + 1;
    return 0;
}

static int file_table_reserve_object(struct file_table *t)
{
    if (t->n_objects < t->cap_objects)
        return 0;
    size_t cap = t->cap_objects ? t->cap_objects * 2 : 64;
    struct raw_object *objects = realloc(t->objects, cap * sizeof(*objects));
    if (!objects)
        return -ENOMEM;
    t->objects = objects;
    int *fds = realloc(t->fds, cap * sizeof(*fds));
    if (!fds)
        return -ENOMEM;
    t->fds = fds;
    t->cap_objects = cap;
    return 0;
}

static uint64_t timespec_ns(struct timespec ts)
{
    return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

/* The identity by fstat where the file is open, else by what maps says. */
static struct file_identity identity_of(const struct opened_file *file, const struct maps_entry *e)
{
    if (file->fd < 0)
        return (struct file_identity){.dev = makedev(e->dev_major, e->dev_minor), .ino = e->ino};
    return (struct file_identity){
        .dev = file->st.st_dev, .ino = file->st.st_ino, .size = (uint64_t)file->st.st_size,
        .mtime_ns = timespec_ns(file->st.st_mtim), .ctime_ns = timespec_ns(file->st.st_ctim),
    };
}

/* ---- opening, which may not come back */

struct open_work {
    struct patient_work work;
    struct target target; /* a copy: the original's descriptors */
    int root_fd;
    struct maps_entry e;  /* its name is behind */
    bool open;            /* else named only */
    struct opened_file file;
    char name[];
};

static void open_run(struct patient_work *work)
{
    struct open_work *w = (struct open_work *)work;

    if (w->open)
        target_files_open(&w->target, w->root_fd, &w->e, &w->file);
    else
        target_files_name(&w->target, w->root_fd, &w->e, &w->file);
}

/* Reads a byte of the target's vdso, which is in memory in any case: what does not come back waits for the target's memory lock. */
static void memory_run(struct patient_work *work)
{
    struct open_work *w = (struct open_work *)work;
    AUTO_CLOSE int fd = target_open_file(&w->target, "auxv", O_RDONLY);
    struct {
        uint64_t type, value;
    } entry;
    uint8_t byte;

    while (fd >= 0 && read(fd, &entry, sizeof(entry)) == sizeof(entry) && entry.type != AT_NULL) {
        struct iovec local = {.iov_base = &byte, .iov_len = 1}, remote = {.iov_base = (void *)(uintptr_t)entry.value, .iov_len = 1};
        if (entry.type == AT_SYSINFO_EHDR)
            (void)process_vm_readv(w->target.tid, &local, 1, &remote, 1, 0);
    }
}

static void open_drop(struct patient_work *work)
{
    struct open_work *w = (struct open_work *)work;

    close_fd(&w->file.fd);
    free(w);
}

static bool is_stuck(const struct file_table *t, const struct maps_entry *e)
{
    for (unsigned i = 0; i < t->n_stuck; i++)
        if (t->stuck[i].dev_major == e->dev_major && t->stuck[i].dev_minor == e->dev_minor)
            return true;
    return false;
}

static void add_stuck(struct file_table *t, const struct maps_entry *e)
{
    if (t->n_stuck == FILE_TABLE_MAX_STUCK)
        return;
    t->stuck[t->n_stuck].dev_major = e->dev_major;
    t->stuck[t->n_stuck].dev_minor = e->dev_minor;
    t->n_stuck++;
}

/* Without a question to its file system. */
static void name_stuck(const struct target *target, int root_fd, const struct maps_entry *shown, struct opened_file *ret)
{
    struct maps_entry e = *shown;

    e.head = 0; /* the page may have to be read */
    target_files_name(target, root_fd, &e, ret);
    ret->error = -ETIMEDOUT;
}

/* Whether the target's memory can be read. Where its lock is held, files are known by their names and numbers alone, rather than not at all. */
static bool memory_is_stuck(struct file_table *t, const struct target *target)
{
    if (!t->memory_asked) {
        struct open_work *w = calloc(1, sizeof(*w));
        if (!w)
            return false;
        *w = (struct open_work){.work = {.run = memory_run, .drop = open_drop}, .target = *target, .file = {.fd = -1}};
        int r = patience_run(t->patience, &w->work);
        t->memory_stuck = r == -ETIMEDOUT;
        t->memory_asked = true;
        if (!t->memory_stuck)
            open_drop(&w->work);
    }
    return t->memory_stuck;
}

/* Opens a file, or asks for its name alone. 0 or -ENOMEM. */
static int open_patiently(struct file_table *t, const struct target *target, int root_fd, const struct maps_entry *e, bool open,
                          struct opened_file *ret)
{
    bool memory_stuck = memory_is_stuck(t, target);

    if (is_stuck(t, e)) {
        name_stuck(target, root_fd, e, ret);
        return 0;
    }
    struct open_work *w = malloc(sizeof(*w) + e->name_len);
    if (!w)
        return -ENOMEM;
    *w = (struct open_work){.work = {.run = open_run, .drop = open_drop}, .target = *target, .root_fd = root_fd, .e = *e, .open = open,
                            .file = {.fd = -1}};
    memcpy(w->name, e->name, e->name_len);
    w->e.name = w->name;
    if (memory_stuck)
        w->e.head = 0;
    int r = patience_run(t->patience, &w->work);
    if (r == -ETIMEDOUT) {
        add_stuck(t, e);
        name_stuck(target, root_fd, e, ret);
        return 0;
    }
    if (r < 0)
        open_run(&w->work);
    *ret = w->file;
    w->file.fd = -1;
    open_drop(&w->work);
    return 0;
}

static int file_table_add_object(struct file_table *t, const struct target *target, int root_fd,
                                 const struct maps_entry *e, struct file_ref *ret)
{
    struct opened_file file;
    struct raw_object object = {0};
    int r = file_table_reserve_object(t);
    if (r < 0)
        return r;
    bool room = t->n_open < t->max_open;
    r = open_patiently(t, target, root_fd, e, room, &file);
    if (r < 0)
        return r;
    AUTO_CLOSE int fd = file.fd;
    object.id = identity_of(&file, e);
    object.deleted = file.deleted;
    object.error = file.error;
    object.build_id_len = (uint32_t)file.build_id_len;
    memcpy(object.build_id, file.build_id, file.build_id_len);
    r = file_table_string(t, file.path, strlen(file.path), &object.path);
    if (r < 0)
        return r;
    t->files_cut += !room;
    object.available = fd >= 0;
    t->n_open += fd >= 0;
    ret->object = (uint32_t)t->n_objects;
    ret->name = 0;
    t->fds[t->n_objects] = TAKE_FD(fd);
    t->objects[t->n_objects++] = object;
    return 0;
}

/* Memory without a file, and what the kernel made: "[vdso]", "[anon:NAME]", "anon_inode:...". */
static int file_table_add_name(struct file_table *t, const struct maps_entry *e, struct file_ref *ret)
{
    const char *name = e->name_len > 0 ? e->name : "//anon";
    size_t len = e->name_len > 0 ? e->name_len : strlen(name);

    ret->object = RAW_NO_OBJECT;
    return file_table_string(t, name, len, &ret->name);
}

static struct named_file *named_file_new(const struct maps_entry *e)
{
    struct named_file *f = malloc(sizeof(*f) + e->name_len);
    if (!f)
        return NULL;
    char *name = (char *)(f + 1);
    if (e->name_len > 0)
        memcpy(name, e->name, e->name_len);
    *f = (struct named_file){.dev_major = e->dev_major, .dev_minor = e->dev_minor, .ino = e->ino,
                             .name = name, .name_len = e->name_len};
    return f;
}

int file_table_lookup(struct file_table *t, const struct target *target, int root_fd,
                      const struct maps_entry *e, struct file_ref *ret)
{
    struct named_file key = {.dev_major = e->dev_major, .dev_minor = e->dev_minor, .ino = e->ino,
                             .name = e->name, .name_len = e->name_len};
    struct named_file **found = tfind(&key, &t->names, compare_named_files);

    if (found) {
        *ret = (*found)->ref;
        return 0;
    }
    if (t->n_names >= TABLE_MAX_NAMES || e->name_len > TABLE_MAX_STRING_BYTES - t->name_bytes)
        return -ENOSPC;
    AUTO_FREE struct named_file *f = named_file_new(e);
    if (!f)
        return -ENOMEM;
    int r = e->ino != 0 && e->name_len > 0 && e->name[0] == '/'
                ? file_table_add_object(t, target, root_fd, e, &f->ref)
                : file_table_add_name(t, e, &f->ref);
    if (r < 0)
        return r;
    *ret = f->ref;
    if (!tsearch(f, &t->names, compare_named_files))
        return -ENOMEM;
    t->n_names++;
    t->name_bytes += e->name_len;
    (void)TAKE_PTR(f);
    return 0;
}
