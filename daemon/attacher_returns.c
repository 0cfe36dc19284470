/* Some kernels take the way back from a return probe for a system call of the program's. What this one does is tried once, when the first
 * such probe is asked for. Whether the target has a filter is not asked: any of its threads may, and may begin to at any time. Runs in the
 * attacher. */
#include "daemon/attacher_returns.h"

#include <errno.h>
#include <stdbool.h>

#include "bpf/heap.h"
#include "bpf/sampler.h"
#include "bpf/uprobe_price.h"
#include "bpf/uprobe_returns.h"
#include "daemon/attacher.h"

/* Calls of functions are probed on their way back, too; the sites of an allocator are not. */
static bool returns_are_wanted(const struct attacher_request *q)
{
    for (size_t i = 0; i < q->n_files; i++)
        for (size_t k = 0; k < q->files[i].n; k++)
            if ((q->files[i].places[k].role & ~HEAP_STEPPED) < HEAP_SITE_ALLOC)
                return true;
    return false;
}

int attacher_returns_check(const struct attacher_request *q)
{
    uint32_t *known = &q->sampler->price->returns, is = __atomic_load_n(known, __ATOMIC_ACQUIRE);
    bool survive = false;

    if (!returns_are_wanted(q))
        return 0;
    if (is == UPROBE_RETURNS_UNKNOWN) {
        is = uprobe_returns_try(&survive) == 0 && survive ? UPROBE_RETURNS_SURVIVE : UPROBE_RETURNS_KILL;
        __atomic_store_n(known, is, __ATOMIC_RELEASE);
    }
    return is == UPROBE_RETURNS_SURVIVE ? 0 : -EUCLEAN;
}
