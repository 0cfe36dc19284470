/* Attaches the probes of an allocator's functions: what is seen at its entry alone, then what allocates, whose return is seen where the entry asks
 * for it, or always, where the kernel can't be asked. Owns nothing. */
#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bpf/attach.h"
#include "bpf/attach_impl.h"
#include "bpf/heap.h"
#include "util/cleanup.h"

int attach_heap_maps(const struct sampler *s, uint32_t slot)
{
    AUTO_FREE uint64_t *none = calloc((size_t)s->n_cpus, sizeof(*none));

    if (s->heap.prog < 0)
        return -EOPNOTSUPP;
    if (!none)
        return -ENOMEM;
    if (bpf_map_update_elem(s->heap.hits_map, &slot, none, BPF_ANY) < 0)
        return -errno;
    return attach_own_map(s->heap.live_map, slot, "cprofd_live", sizeof(struct heap_object), heap_live_entries(s->ctl[slot].rate));
}

/* How a place is probed. */
enum heap_way { WAY_ENTRY /* alone */, WAY_CALL /* and the return, where the entry asks for it */, WAY_RET /* it is a ret itself */,
                WAY_SITE /* of an allocator that samples by itself */ };

static enum heap_way heap_way_of(uint32_t kind)
{
    if (kind >= HEAP_SITE_ALLOC)
        return WAY_SITE;
    return kind == HEAP_FREE || kind == HEAP_NEW ? WAY_ENTRY : kind == HEAP_NEW_RETURN ? WAY_RET : WAY_CALL;
}

/* Those that are probed one way. */
struct heap_group {
    struct probe_place *places;
    uint64_t *cookies;
    size_t n;
};

static void heap_group_deinit(struct heap_group *g)
{
    free(g->places);
    free(g->cookies);
}

static int heap_group_fill(const struct sampler *s, uint32_t slot, const struct heap_file *file, enum heap_way way, struct heap_group *ret)
{
    ret->places = calloc(file->n + 1, sizeof(*ret->places));
    ret->cookies = calloc(file->n + 1, sizeof(*ret->cookies));
    if (!ret->places || !ret->cookies)
        return -ENOMEM;
    for (size_t i = 0; i < file->n; i++) {
        if (heap_way_of(file->places[i].kind) != way)
            continue;
        ret->places[ret->n] = (struct probe_place){file->places[i].offset, file->places[i].semaphore};
        ret->cookies[ret->n++] = COOKIE(slot, file->places[i].kind, s->ctl[slot].instance);
    }
    return 0;
}

static struct probe_set heap_set(const struct heap_group *g, int prog, int multi_prog, uint32_t multi_type)
{
    return (struct probe_set){.prog = prog, .multi_prog = multi_prog, .multi_type = multi_type, .places = g->places, .cookies = g->cookies,
                              .n = g->n};
}

/* Returns first: an entry that finds one is seen to its end. */
static int attach_allocating(const struct sampler *s, const struct heap_group *g, int fd, uint32_t pid, struct attachment *ret)
{
    const struct sampler_heap *h = &s->heap;
    struct probe_set session = heap_set(g, -1, h->session_prog, ATTACH_TRACE_UPROBE_SESSION);
    struct probe_set back = heap_set(g, h->return_prog, h->return_multi_prog, ATTACH_TRACE_UPROBE_MULTI);
    struct probe_set entry = heap_set(g, h->prog, h->multi_prog, ATTACH_TRACE_UPROBE_MULTI);

    int r = attach_probe_set(&session, fd, pid, ret);
    if (r != -EOPNOTSUPP && r != -EINVAL)
        return r;
    back.at_return = true;
    r = attach_probe_set(&back, fd, pid, ret);
    return r < 0 ? r : attach_probe_set(&entry, fd, pid, ret);
}

int attach_heap(const struct sampler *s, uint32_t slot, uint32_t pid, const struct heap_file *file, struct attachment *ret)
{
    CLEANUP(heap_group_deinit) struct heap_group rets = {0}, entries = {0}, calls = {0}, sites = {0};
    const struct sampler_heap *h = &s->heap;

    if (h->prog < 0)
        return -EOPNOTSUPP;
    int r = heap_group_fill(s, slot, file, WAY_RET, &rets);
    r = r < 0 ? r : heap_group_fill(s, slot, file, WAY_ENTRY, &entries);
    r = r < 0 ? r : heap_group_fill(s, slot, file, WAY_CALL, &calls);
    r = r < 0 ? r : heap_group_fill(s, slot, file, WAY_SITE, &sites);
    struct probe_set ret_set = heap_set(&rets, h->return_prog, h->return_multi_prog, ATTACH_TRACE_UPROBE_MULTI);
    struct probe_set entry_set = heap_set(&entries, h->prog, h->multi_prog, ATTACH_TRACE_UPROBE_MULTI);
    struct probe_set site_set = heap_set(&sites, h->site_prog, h->site_multi_prog, ATTACH_TRACE_UPROBE_MULTI);
    if (r == 0 && sites.n > 0)
        r = attach_probe_set(&site_set, file->fd, pid, ret);
    if (r == 0 && rets.n > 0)
        r = attach_probe_set(&ret_set, file->fd, pid, ret);
    if (r == 0 && entries.n > 0)
        r = attach_probe_set(&entry_set, file->fd, pid, ret);
    return r < 0 || calls.n == 0 ? r : attach_allocating(s, &calls, file->fd, pid, ret);
}
