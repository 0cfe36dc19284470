/* Mappings by epoch. Owns the mappings that are there (sorted, as the kernel shows them), those that were,
 * and the files of both.
 *
 * A maps file that was opened before an exec is empty after it, so a snapshot can only see the image that it
 * is meant to see. An exec is told some time after it happened, though, and the next one may have happened by
 * then: the image that is opened on word of the first is then the second's already, which is found out when
 * word of the second comes (mapping_table_is_same_image). */
#include "daemon/mapping_table_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "daemon/target_files.h"
#include "daemon/target_maps.h"
#include "util/cleanup.h"
#include "util/clock.h"

#define IMAGE_INIT {.maps_fd = -1, .root_fd = -1}

static void image_close(struct image *image)
{
    close_fd(&image->maps_fd);
    close_fd(&image->root_fd);
}

/* As they are known here: a file system that does not answer is not asked. */
static int image_exe_numbers(int fd, struct image *image)
{
    struct statx st;

    if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_INO, &st) < 0)
        return -errno;
    image->exe_dev = makedev(st.stx_dev_major, st.stx_dev_minor);
    image->exe_ino = st.stx_ino;
    return 0;
}

static int image_open(const struct target *target, struct image *ret)
{
    struct image image = IMAGE_INIT;

    image.maps_fd = target_open_file(target, "maps", O_RDONLY);
    if (image.maps_fd < 0)
        return image.maps_fd;
    image.root_fd = target_files_root(target); /* without it, files are found by their mappings alone */
    AUTO_CLOSE int exe = target_open_file(target, "exe", O_PATH);
    image.exe_known = exe >= 0 && image_exe_numbers(exe, &image) == 0;
    if (target_readlink(target, "exe", image.exe, sizeof(image.exe)) < 0)
        image.exe[0] = '\0';
    *ret = image;
    return 0;
}

struct mapping_table *mapping_table_new(struct patience *patience)
{
    struct mapping_table *t = calloc(1, sizeof(*t));
    if (!t)
        return NULL;
    t->image = t->opened = (struct image)IMAGE_INIT;
    if (file_table_init(&t->files, patience) < 0) {
        free(t);
        return NULL;
    }
    return t;
}

void mapping_table_free(struct mapping_table *t)
{
    if (!t)
        return;
    image_close(&t->image);
    image_close(&t->opened);
    file_table_deinit(&t->files);
    free(t->live.items);
    free(t->past.items);
    free(t);
}

int mapping_table_open_image(struct mapping_table *t, const struct target *target)
{
    image_close(&t->opened);
    return image_open(target, &t->opened);
}

/* ---- reading */

static int list_reserve(struct mapping_list *list, size_t n)
{
    if (n <= list->cap)
        return 0;
    size_t cap = n + n / 2 + 64;
    struct raw_mapping *items = reallocarray(list->items, cap, sizeof(*items));
    if (!items)
        return -ENOMEM;
    list->items = items;
    list->cap = cap;
    return 0;
}

struct snapshot {
    struct mapping_table *table;
    const struct target *target;
    struct mapping_list fresh;
    uint64_t cut;
    struct {
        uint64_t ino, start;
        uint32_t dev_major, dev_minor;
    } head; /* the last mapping of a file's beginning */
};

/* The program itself: by its inode, or where the file system shows different numbers for one file, by its
 * name. */
static bool is_main_binary(const struct mapping_table *t, const struct maps_entry *e,
                           const struct file_ref *ref)
{
    char name[PATH_MAX];
    const struct file_identity *id = ref->object != RAW_NO_OBJECT ? &t->files.objects[ref->object].id : NULL;

    if (!id)
        return false;
    if (t->image.exe_known && id->dev == t->image.exe_dev && id->ino == t->image.exe_ino)
        return true;
    if (e->name_len >= sizeof(name) || t->image.exe[0] == '\0')
        return false;
    name[maps_decode_name(e->name, e->name_len, name)] = '\0';
    return strcmp(name, t->image.exe) == 0;
}

/* Where the file's beginning is mapped: its segments follow one another. */
static uint64_t snapshot_head(struct snapshot *s, const struct maps_entry *e)
{
    if (e->offset == 0) {
        s->head.start = e->start;
        s->head.ino = e->ino;
        s->head.dev_major = e->dev_major;
        s->head.dev_minor = e->dev_minor;
    }
    bool same = e->ino != 0 && s->head.ino == e->ino && s->head.dev_major == e->dev_major && s->head.dev_minor == e->dev_minor;
    return same ? s->head.start : 0;
}

static int snapshot_entry(const struct maps_entry *shown, void *userdata)
{
    struct snapshot *s = userdata;
    struct mapping_table *t = s->table;
    struct maps_entry with_head = *shown;
    const struct maps_entry *e = &with_head;
    struct file_ref ref;

    with_head.head = snapshot_head(s, shown);
    if (!e->executable)
        return 0;
    int r = s->fresh.n < TABLE_MAX_MAPPINGS
                ? file_table_lookup(&t->files, s->target, t->image.root_fd, e, &ref)
                : -ENOSPC;
    if (r == -ENOSPC) {
        s->cut++;
        return 0;
    }
    if (r == 0)
        r = list_reserve(&s->fresh, s->fresh.n + 1);
    if (r < 0)
        return r;
    s->fresh.items[s->fresh.n++] = (struct raw_mapping){
        .start = e->start, .end = e->end, .offset = e->offset, .last_epoch = UINT32_MAX,
        .object = ref.object, .name = ref.name, .main_binary = is_main_binary(t, e, &ref),
    };
    return 0;
}

/* All executable mappings of the current image into s->fresh, which is the caller's to free. */
static int snapshot_read(struct snapshot *s)
{
    if (s->table->image.maps_fd < 0)
        return -ESRCH;
    int r = maps_read(s->table->image.maps_fd, snapshot_entry, s);
    if (r == -E2BIG) {
        s->cut++;
        r = 0;
    }
    return r;
}

/* ---- merging */

static bool same_mapping(const struct raw_mapping *a, const struct raw_mapping *b)
{
    return a->start == b->start && a->end == b->end && a->offset == b->offset && a->object == b->object &&
           a->name == b->name && a->main_binary == b->main_binary;
}

/* Keeps a mapping that has ended, if there was an epoch in which it counted. Room was reserved. */
static void table_end_mapping(struct mapping_table *t, struct raw_mapping m, uint32_t epoch)
{
    if (m.first_epoch >= epoch)
        return;
    if (t->past.n >= TABLE_MAX_PAST_MAPPINGS) {
        t->past_cut++;
        return;
    }
    m.last_epoch = epoch - 1;
    t->past.items[t->past.n++] = m;
}

static int table_reserve_past(struct mapping_table *t)
{
    size_t n = t->past.n + t->live.n;
    return list_reserve(&t->past, n < TABLE_MAX_PAST_MAPPINGS ? n : TABLE_MAX_PAST_MAPPINGS);
}

/* What is in fresh alone begins with the epoch, what is not in it any more ended before. Both are sorted by
 * address. */
static int table_merge(struct mapping_table *t, struct mapping_list *fresh, uint32_t epoch)
{
    int r = table_reserve_past(t);
    if (r < 0)
        return r;
    size_t i = 0, n_same = 0;
    for (size_t j = 0; j < fresh->n; j++) {
        struct raw_mapping *m = &fresh->items[j];
        while (i < t->live.n && t->live.items[i].start < m->start)
            table_end_mapping(t, t->live.items[i++], epoch);
        m->first_epoch = epoch;
        if (i < t->live.n && same_mapping(&t->live.items[i], m)) {
            m->first_epoch = t->live.items[i++].first_epoch;
            n_same++;
        }
    }
    t->version += n_same != fresh->n || n_same != t->live.n;
    while (i < t->live.n)
        table_end_mapping(t, t->live.items[i++], epoch);
    free(t->live.items);
    t->live = *fresh;
    *fresh = (struct mapping_list){0};
    return 0;
}

int mapping_table_snapshot(struct mapping_table *t, const struct target *target, uint32_t epoch)
{
    struct snapshot s = {.table = t, .target = target};
    uint64_t now_ns = monotonic_ns();
    int r = snapshot_read(&s);
    if (r == 0)
        r = table_merge(t, &s.fresh, epoch);
    if (r == 0)
        t->read_ns = now_ns;
    if (r == 0 && s.cut > t->most_cut)
        t->most_cut = s.cut;
    free(s.fresh.items);
    return r;
}

/* ---- the end of the window */

static bool overlap(const struct raw_mapping *a, const struct raw_mapping *b)
{
    return a->start < b->end && b->start < a->end;
}

/* Adds m, unless it is there already. What it took the place of ends with the last epoch that is known, and m
 * begins after. */
static void table_add_late(struct mapping_table *t, struct raw_mapping m, size_t *at, size_t n_before,
                           uint32_t epoch)
{
    while (*at < n_before && t->live.items[*at].end <= m.start)
        (*at)++;
    m.first_epoch = epoch;
    for (size_t i = *at; i < n_before && t->live.items[i].start < m.end; i++) {
        struct raw_mapping *old = &t->live.items[i];
        if (same_mapping(old, &m))
            return;
        if (!overlap(old, &m))
            continue;
        old->last_epoch = epoch;
        m.first_epoch = epoch + 1;
    }
    t->live.items[t->live.n++] = m;
}

static int table_add_rest(struct mapping_table *t, const struct target *target, uint32_t epoch)
{
    struct snapshot s = {.table = t, .target = target};
    size_t at = 0, n_before = t->live.n;
    int r = snapshot_read(&s);
    if (r == 0)
        r = list_reserve(&t->live, n_before + s.fresh.n);
    for (size_t j = 0; r == 0 && j < s.fresh.n; j++)
        table_add_late(t, s.fresh.items[j], &at, n_before, epoch);
    if (r == 0 && s.cut > t->most_cut)
        t->most_cut = s.cut;
    free(s.fresh.items);
    return r;
}

int mapping_table_final(struct mapping_table *t, const struct target *target, uint32_t epoch)
{
    int r = table_add_rest(t, target, epoch);

    close_fd(&t->image.maps_fd); /* what is appended is not in order: no snapshot may follow */
    return r;
}

/* ---- images */

struct fingerprint {
    uint64_t vdso, stack_end;
};

static int fingerprint_entry(const struct maps_entry *e, void *userdata)
{
    struct fingerprint *f = userdata;

    if (e->name_len == strlen("[vdso]") && memcmp(e->name, "[vdso]", e->name_len) == 0)
        f->vdso = e->start;
    if (e->name_len == strlen("[stack]") && memcmp(e->name, "[stack]", e->name_len) == 0)
        f->stack_end = e->end;
    return 0;
}

/* The current image's maps would be empty, had it been replaced, unless somebody shares it (vfork); where the
 * kernel put its stack and vdso tells the two apart. The first image was there before any exec was told. */
bool mapping_table_is_same_image(const struct mapping_table *t)
{
    struct fingerprint a = {0}, b = {0};

    return t->n_images > 1 && t->image.maps_fd >= 0 && t->opened.maps_fd >= 0 &&
           maps_read(t->image.maps_fd, fingerprint_entry, &a) == 0 &&
           maps_read(t->opened.maps_fd, fingerprint_entry, &b) == 0 && a.vdso == b.vdso &&
           a.stack_end == b.stack_end;
}

void mapping_table_end_image(struct mapping_table *t, uint32_t epoch)
{
    if (table_reserve_past(t) < 0)
        t->past_cut += t->live.n;
    else
        for (size_t i = 0; i < t->live.n; i++)
            table_end_mapping(t, t->live.items[i], epoch);
    t->live.n = 0;
    t->version++;
    close_fd(&t->image.maps_fd); /* its root still says where debug files are */
}

int mapping_table_set_image(struct mapping_table *t, const struct target *target, uint32_t ends,
                            uint32_t begins)
{
    if (t->opened.maps_fd < 0)
        return -ESRCH;
    if (mapping_table_is_same_image(t)) {
        for (size_t i = 0; i < t->live.n; i++)
            if (t->live.items[i].first_epoch < begins)
                t->live.items[i].first_epoch = begins;
    } else {
        mapping_table_end_image(t, ends);
    }
    image_close(&t->image);
    t->image = t->opened;
    t->opened = (struct image)IMAGE_INIT;
    t->n_images++;
    return mapping_table_snapshot(t, target, begins);
}

const struct raw_mapping *mapping_table_program(const struct mapping_table *t, size_t index)
{
    for (size_t i = 0; i < t->live.n; i++)
        if (t->live.items[i].main_binary && t->live.items[i].object != RAW_NO_OBJECT && index-- == 0)
            return &t->live.items[i];
    return NULL;
}

unsigned mapping_table_images(const struct mapping_table *t)
{
    return t->n_images;
}

int mapping_table_root(const struct mapping_table *t)
{
    return t->image.root_fd;
}

/* ---- handing over (mapping_table_write.c) */

int mapping_table_write_now(struct mapping_table *t, const struct target *target, uint32_t epoch)
{
    struct mapping_list kept = {0};

    if (list_reserve(&kept, t->live.n) < 0)
        return -ENOMEM;
    if (t->live.n > 0)
        memcpy(kept.items, t->live.items, t->live.n * sizeof(*kept.items));
    kept.n = t->live.n;
    (void)table_add_rest(t, target, epoch);
    int fd = mapping_table_write(t);
    free(t->live.items);
    t->live = kept;
    return fd;
}

/* ---- what is asked of it */

uint64_t mapping_table_version(const struct mapping_table *t)
{
    return t->version;
}

uint64_t mapping_table_read_ns(const struct mapping_table *t)
{
    return t->read_ns;
}

int mapping_table_object(const struct mapping_table *t, uint32_t index, int *ret_fd, const char **ret_path)
{
    if (index >= t->files.n_objects)
        return -ENOENT;
    *ret_fd = t->files.fds[index];
    *ret_path = t->files.strings + t->files.objects[index].path;
    return 0;
}

uint32_t mapping_table_find(const struct mapping_table *t, const char *path)
{
    for (size_t i = 0; i < t->live.n; i++) {
        uint32_t object = t->live.items[i].object;
        if (object != RAW_NO_OBJECT && strcmp(t->files.strings + t->files.objects[object].path, path) == 0)
            return object;
    }
    return RAW_NO_OBJECT;
}

static bool is_named(const char *path, const char *name, bool loosely)
{
    const char *slash = strrchr(path, '/'), *last = slash ? slash + 1 : path;
    size_t len = strlen(name);

    return slash && strncmp(last, name, len) == 0 && last[len] == (loosely ? '.' : '\0');
}

int mapping_table_find_named(const struct mapping_table *t, const char *name, uint32_t *ret)
{
    uint32_t found = RAW_NO_OBJECT;

    for (int loosely = 0; loosely < 2 && found == RAW_NO_OBJECT; loosely++) {
        for (size_t i = 0; i < t->live.n; i++) {
            uint32_t object = t->live.items[i].object;
            if (object == RAW_NO_OBJECT || object == found || !is_named(t->files.strings + t->files.objects[object].path, name, loosely))
                continue;
            if (found != RAW_NO_OBJECT)
                return -ENOTUNIQ;
            found = object;
        }
    }
    if (found == RAW_NO_OBJECT)
        return -ENOENT;
    *ret = found;
    return 0;
}

void mapping_table_cut(const struct mapping_table *t, uint64_t *ret_mappings, uint64_t *ret_files)
{
    *ret_mappings = t->past_cut + t->most_cut;
    *ret_files = t->files.files_cut;
}
