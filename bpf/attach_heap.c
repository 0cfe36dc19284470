/* Attaches the probes of an allocator's functions: what is seen at its entry alone, then what allocates, whose return is seen where the entry asks
 * for it, or always, where the kernel can't be asked. Owns nothing. */
#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>

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
    int r = attach_own_map(s->heap.maps_map, slot, "cprofd_maps", sizeof(struct heap_object), HEAP_MAX_MAPS);
    if (r < 0)
        return r;
    return attach_own_map(s->heap.live_map, slot, "cprofd_live", sizeof(struct heap_object), heap_live_entries(s->ctl[slot].rate));
}

int attach_heap_code(const struct sampler *s, uint32_t slot, const struct heap_code *code)
{
    return bpf_map_update_elem(s->heap.code_map, &slot, code, BPF_ANY) < 0 ? -errno : 0;
}

/* How a place is probed. */
enum heap_way { WAY_ENTRY /* alone */, WAY_CALL /* and the return, where the entry asks for it */, WAY_RET /* it is a ret itself */,
                WAY_SITE /* of an allocator that samples by itself */ };

static uint32_t heap_way_of(uint32_t role)
{
    uint32_t kind = role & ~HEAP_STEPPED;

    if (kind >= HEAP_SITE_ALLOC)
        return WAY_SITE;
    return kind == HEAP_FREE || kind == HEAP_NEW || kind == HEAP_UNMAP ? WAY_ENTRY : kind == HEAP_NEW_RETURN ? WAY_RET : WAY_CALL;
}

/* Returns first: an entry that finds one is seen to its end. */
static int attach_allocating(const struct sampler *s, uint32_t slot, uint32_t pid, const struct role_file *file, struct attachment *ret)
{
    const struct sampler_heap *h = &s->heap;
    const struct probe_set session = {.prog = -1, .multi_prog = h->session_prog, .multi_type = ATTACH_TRACE_UPROBE_SESSION};
    const struct probe_set back = {.prog = h->return_prog, .multi_prog = h->return_multi_prog, .multi_type = ATTACH_TRACE_UPROBE_MULTI,
                                   .at_return = true};
    const struct probe_set entry = {.prog = h->prog, .multi_prog = h->multi_prog, .multi_type = ATTACH_TRACE_UPROBE_MULTI};

    int r = attach_roles(s, slot, pid, file, heap_way_of, WAY_CALL, &session, ret);
    if (r != -EOPNOTSUPP && r != -EINVAL)
        return r;
    r = attach_roles(s, slot, pid, file, heap_way_of, WAY_CALL, &back, ret);
    return r < 0 ? r : attach_roles(s, slot, pid, file, heap_way_of, WAY_CALL, &entry, ret);
}

int attach_heap(const struct sampler *s, uint32_t slot, uint32_t pid, const struct role_file *file, struct attachment *ret)
{
    const struct sampler_heap *h = &s->heap;
    const struct probe_set sites = {.prog = h->site_prog, .multi_prog = h->site_multi_prog, .multi_type = ATTACH_TRACE_UPROBE_MULTI};
    const struct probe_set rets = {.prog = h->return_prog, .multi_prog = h->return_multi_prog, .multi_type = ATTACH_TRACE_UPROBE_MULTI};
    const struct probe_set entries = {.prog = h->prog, .multi_prog = h->multi_prog, .multi_type = ATTACH_TRACE_UPROBE_MULTI};

    if (h->prog < 0)
        return -EOPNOTSUPP;
    int r = attach_roles(s, slot, pid, file, heap_way_of, WAY_SITE, &sites, ret);
    r = r < 0 ? r : attach_roles(s, slot, pid, file, heap_way_of, WAY_RET, &rets, ret);
    r = r < 0 ? r : attach_roles(s, slot, pid, file, heap_way_of, WAY_ENTRY, &entries, ret);
    return r < 0 ? r : attach_allocating(s, slot, pid, file, ret);
}
