/* What a recorder of allocations has otherwise. Owns nothing: the recorder does. */
#include "daemon/recorder_impl.h"

/* Threads are not told apart: who frees is another one. */
void recorder_heap_fill(const struct recorder *r, struct session_ctl *ctl)
{
    ctl->heap = 1;
    ctl->heap_index = r->params.heap_index;
    ctl->rate = r->params.rate;
    ctl->allocs_alone = r->params.duty > 0;
    ctl->standing = 1;
    ctl->at_entry = !r->params.heap_sites;
}

size_t recorder_heap_keep(const struct sampler *s, int *ret)
{
    const struct sampler_heap *h = &s->heap;
    const int of_heap[] = {h->prog, h->return_prog, h->multi_prog, h->return_multi_prog, h->session_prog, h->live_map, h->hits_map,
                           h->site_prog, h->site_multi_prog, h->maps_map};
    size_t n = 0;

    for (size_t i = 0; i < sizeof(of_heap) / sizeof(of_heap[0]); i++)
        if (of_heap[i] >= 0)
            ret[n++] = of_heap[i];
    return n;
}
