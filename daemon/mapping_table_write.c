/* Hands a table of mappings over, as the sections of a raw profile: all of it once a window has ended, or what is there now, cut to what the
 * loop has room for while the window is open. Owns nothing. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/mapping_table_impl.h"
#include "util/cleanup.h"

/* ---- all */

static int compare_mappings(const void *va, const void *vb)
{
    const struct raw_mapping *a = va, *b = vb;
    int r = (a->start > b->start) - (a->start < b->start);
    return r ? r : (a->first_epoch > b->first_epoch) - (a->first_epoch < b->first_epoch);
}

static int table_write(const struct raw_object *objects, size_t n_objects, const struct raw_mapping *mappings, size_t n,
                       const char *strings, size_t strings_len)
{
    CLEANUP(raw_writer_cleanup) struct raw_writer *w = raw_writer_new();

    if (!w)
        return -ENOMEM;
    int r = raw_writer_section(w, RAW_OBJECTS, objects, n_objects * sizeof(*objects));
    if (r == 0)
        r = raw_writer_section(w, RAW_MAPPINGS, mappings, n * sizeof(*mappings));
    if (r == 0)
        r = raw_writer_section(w, RAW_STRINGS, strings, strings_len);
    return r == 0 ? raw_writer_finish(w) : r;
}

int mapping_table_write(const struct mapping_table *t)
{
    size_t n = t->live.n + t->past.n;
    AUTO_FREE struct raw_mapping *all = calloc(n + 1, sizeof(*all));

    if (!all)
        return -ENOMEM;
    if (t->live.n > 0)
        memcpy(all, t->live.items, t->live.n * sizeof(*all));
    if (t->past.n > 0)
        memcpy(all + t->live.n, t->past.items, t->past.n * sizeof(*all));
    qsort(all, n, sizeof(*all), compare_mappings);
    return table_write(t->files.objects, t->files.n_objects, all, n, t->files.strings, t->files.strings_len);
}

/* ---- what is there now, cut */

uint64_t mapping_table_live_cut(const struct mapping_table *t)
{
    return t->live.n > TABLE_MAX_LIVE_MAPPINGS ? t->live.n - TABLE_MAX_LIVE_MAPPINGS : 0;
}

/* Names as far as there is room: the loop keeps them while the window is open. */
struct live_strings {
    char *text;
    size_t len;
};

/* Copies a name. Its place, or 0 where there is no room. */
static uint64_t live_string(struct live_strings *s, const char *name)
{
    size_t len = strlen(name) + 1, at = s->len;

    if (len > TABLE_MAX_LIVE_STRING_BYTES - s->len)
        return 0;
    memcpy(s->text + at, name, len);
    s->len += len;
    return at;
}

/* How many mappings to leave out: memory without a file first, then what lies low, which was mapped last. Programs and the libraries
 * that they began with are what most stacks end in. */
struct live_cut {
    uint64_t memory, files;
};

static bool is_memory(const struct mapping_table *t, const struct raw_mapping *m)
{
    return m->object == RAW_NO_OBJECT && strcmp(t->files.strings + m->name, "[vdso]") != 0;
}

static struct live_cut live_cut_of(const struct mapping_table *t)
{
    uint64_t cut = mapping_table_live_cut(t), n_memory = 0;

    for (size_t i = 0; cut > 0 && i < t->live.n; i++)
        n_memory += is_memory(t, &t->live.items[i]);
    return (struct live_cut){.memory = cut < n_memory ? cut : n_memory, .files = cut < n_memory ? 0 : cut - n_memory};
}

static bool live_leaves_out(const struct mapping_table *t, const struct raw_mapping *m, struct live_cut *cut)
{
    uint64_t *left = is_memory(t, m) ? &cut->memory : &cut->files;

    if (*left == 0 || m->main_binary)
        return false;
    (*left)--;
    return true;
}

int mapping_table_write_live(const struct mapping_table *t)
{
    size_t n = 0, n_objects = t->files.n_objects;
    struct live_cut cut = live_cut_of(t);
    AUTO_FREE struct raw_mapping *mappings = calloc(t->live.n + 1, sizeof(*mappings));
    AUTO_FREE struct raw_object *objects = calloc(n_objects + 1, sizeof(*objects));
    AUTO_FREE char *text = malloc(TABLE_MAX_LIVE_STRING_BYTES);
    struct live_strings strings = {.text = text, .len = 1};
    uint64_t last_name = 0, last_place = 0;

    if (!mappings || !objects || !text)
        return -ENOMEM;
    text[0] = '\0';
    for (size_t i = 0; i < n_objects; i++) {
        objects[i] = t->files.objects[i];
        objects[i].path = 0;
    }
    for (size_t i = 0; i < t->live.n; i++) {
        struct raw_mapping *m = &mappings[n];
        if (live_leaves_out(t, &t->live.items[i], &cut))
            continue;
        *m = t->live.items[i];
        n++;
        if (m->object != RAW_NO_OBJECT) {
            struct raw_object *o = &objects[m->object];
            if (o->path == 0)
                o->path = live_string(&strings, t->files.strings + t->files.objects[m->object].path);
            continue;
        }
        if (m->name != last_name) {
            last_name = m->name;
            last_place = live_string(&strings, t->files.strings + m->name);
        }
        m->name = last_place;
    }
    return table_write(objects, n_objects, mappings, n, text, strings.len);
}
