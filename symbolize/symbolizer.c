/* The cache of modules. An entry is known by the identity of its file alone; what turned out to be no ELF
 * file is an entry without a module, so that it's not read again for each request. */
#include "symbolize/symbolizer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>
#include <utlist.h>

#include "symbolize/module.h"
#include "util/cleanup.h"

/* Mapped files are address space, not memory: what was read of them is counted as that. Yet space ends,
 * too. */
#define MAPPED_PER_CACHE_BYTE 8u
#define CACHE_MAX_ENTRIES 65536u

struct cache_entry {
    struct file_identity id;
    struct module *module; /* NULL: no ELF file */
    int error;             /* then */
    struct cache_entry *prev, *next; /* most recently used first */
    UT_hash_handle hh;
};

struct symbolizer {
    struct symbolizer_ops ops;
    size_t cache_bytes;
    struct cache_entry *by_id, *by_use;
};

struct symbolizer *symbolizer_new(const struct symbolizer_ops *ops, size_t cache_bytes)
{
    struct symbolizer *s = calloc(1, sizeof(*s));
    if (!s)
        return NULL;
    s->ops = *ops;
    s->cache_bytes = cache_bytes;
    return s;
}

static void cache_drop(struct symbolizer *s, struct cache_entry *entry)
{
    HASH_DEL(s->by_id, entry);
    DL_DELETE(s->by_use, entry);
    module_free(entry->module);
    free(entry);
}

void symbolizer_free(struct symbolizer *s)
{
    if (!s)
        return;
    while (s->by_use)
        cache_drop(s, s->by_use);
    free(s);
}

static size_t entry_bytes(const struct cache_entry *entry)
{
    return sizeof(*entry) + (entry->module ? module_bytes(entry->module) : 0);
}

size_t symbolizer_cache_bytes(const struct symbolizer *s)
{
    const struct cache_entry *entry;
    size_t bytes = 0;
    DL_FOREACH(s->by_use, entry)
        bytes += entry_bytes(entry);
    return bytes;
}

/* What is kept so far. */
struct kept {
    size_t bytes, mapped, n;
};

static bool has_room(const struct symbolizer *s, const struct kept *kept, const struct cache_entry *entry)
{
    size_t mapped = entry->module ? module_mapped_bytes(entry->module) : 0;
    return kept->bytes + entry_bytes(entry) <= s->cache_bytes
           && (kept->mapped + mapped) / MAPPED_PER_CACHE_BYTE <= s->cache_bytes && kept->n < CACHE_MAX_ENTRIES;
}

/* Of a module that is too large, the frames that it found are kept at least: they are what the next profile
 * asks for first, and some hundredth of it. */
void symbolizer_trim(struct symbolizer *s)
{
    struct cache_entry *entry, *next;
    struct kept kept = {0};
    DL_FOREACH_SAFE(s->by_use, entry, next) {
        if (entry->module)
            module_drop_pages(entry->module);
        if (entry->module && !has_room(s, &kept, entry))
            module_shed_debug(entry->module);
        if (!has_room(s, &kept, entry) || (entry->module && module_is_incomplete(entry->module))) {
            cache_drop(s, entry);
            continue;
        }
        kept.bytes += entry_bytes(entry);
        kept.mapped += entry->module ? module_mapped_bytes(entry->module) : 0;
        kept.n++;
    }
}

void symbolizer_begin(struct symbolizer *s, uint64_t key)
{
    struct cache_entry *entry, *next;
    DL_FOREACH_SAFE(s->by_use, entry, next)
        if (entry->module && entry->module->key && entry->module->key != key)
            cache_drop(s, entry);
}

static struct cache_entry *cache_find(const struct symbolizer *s, const struct file_identity *id)
{
    struct cache_entry *entry;
    HASH_FIND(hh, s->by_id, id, sizeof(*id), entry);
    return entry;
}

bool symbolizer_has(const struct symbolizer *s, const struct file_identity *id)
{
    return cache_find(s, id) != NULL;
}

static int cache_add(struct symbolizer *s, const struct file_identity *id, struct module *module, int error)
{
    struct cache_entry *entry = calloc(1, sizeof(*entry));
    if (!entry)
        return -ENOMEM;
    entry->id = *id;
    entry->module = module;
    entry->error = error;
    HASH_ADD(hh, s->by_id, id, sizeof(entry->id), entry);
    if (!entry->hh.tbl) {
        free(entry);
        return -ENOMEM;
    }
    DL_PREPEND(s->by_use, entry);
    return 0;
}

int symbolizer_module(struct symbolizer *s, const struct file_identity *id, int fd_owned, void *userdata,
                      struct module **ret_module)
{
    AUTO_CLOSE int fd = fd_owned;
    struct module *module = NULL;
    struct cache_entry *entry = cache_find(s, id);
    if (!entry) {
        int error = fd < 0 ? -EBADF : module_new(&s->ops, fd, &module);
        if (error < 0 && error != -ENOEXEC)
            return error;
        int r = cache_add(s, id, module, error);
        if (r < 0) {
            module_free(module);
            return r;
        }
        entry = s->by_use;
    }
    DL_DELETE(s->by_use, entry);
    DL_PREPEND(s->by_use, entry);
    if (entry->error < 0)
        return entry->error;
    entry->module->userdata = userdata;
    entry->module->read_bytes++; /* or will be */
    *ret_module = entry->module;
    return 0;
}
