/* What probes cost, and how much of the window they were attached for: what the attacher notes in the page that it shares with the loop. */
#include "bpf/heap.h"
#include "bpf/uprobe_price.h"
#include "daemon/attacher_duty.h"
#include "daemon/recorder_impl.h"
#include "util/clock.h"

/* Up to now, since the attacher began. */
static uint64_t attached_ns(const struct attacher_progress *progress)
{
    uint64_t sum_ns, since_ns, now_ns;

    do {
        sum_ns = __atomic_load_n(&progress->attached_ns, __ATOMIC_ACQUIRE);
        since_ns = __atomic_load_n(&progress->attached_since_ns, __ATOMIC_ACQUIRE);
        now_ns = monotonic_ns();
    } while (sum_ns != __atomic_load_n(&progress->attached_ns, __ATOMIC_ACQUIRE)
             || since_ns != __atomic_load_n(&progress->attached_since_ns, __ATOMIC_ACQUIRE));
    return sum_ns + (since_ns && now_ns > since_ns ? now_ns - since_ns : 0);
}

void recorder_duty_open(struct recorder *r)
{
    r->attached_before_ns = attached_ns(r->progress);
    r->slices_before = recorder_ctl(r)->slice - (__atomic_load_n(&r->progress->attached_since_ns, __ATOMIC_ACQUIRE) != 0);
}

void recorder_duty_close(struct recorder *r)
{
    if (r->attached_ns > 0)
        return;
    r->attached_ns = attached_ns(r->progress) - r->attached_before_ns;
    r->slices = recorder_ctl(r)->slice - r->slices_before;
}

uint64_t recorder_hit_ns(const struct recorder *r)
{
    return r->hit_ns;
}

uint64_t recorder_hits_ns(const struct recorder *r)
{
    const struct uprobe_price *price = r->sampler->price;
    const struct session_ctl *ctl = recorder_ctl(r);

    return ctl->hits * r->hit_ns + (r->hit_ns > 0 ? ctl->stepped_hits * uprobe_price_of_step_ns(price) : 0);
}

uint64_t recorder_attached_ns(const struct recorder *r)
{
    return r->params.duty > 0 ? r->attached_ns : 0;
}

uint32_t recorder_slices(const struct recorder *r)
{
    return r->params.duty > 0 ? r->slices : 0;
}

uint64_t recorder_attached_so_far_ns(const struct recorder *r)
{
    return attached_ns(r->progress);
}

double recorder_duty_part(const struct recorder *r)
{
    return attacher_duty_part(r->params.duty, __atomic_load_n(&r->progress->moving_ns, __ATOMIC_RELAXED));
}

void recorder_duty_scale(const struct recorder *r, uint64_t window_ns, uint64_t cpu_ns, struct duty_scale *ret)
{
    uint64_t hits = recorder_ctl(r)->hits, a_call = r->sampler->heap.session_prog < 0 ? 2 : 1; /* hits */
    bool of_heap = r->params.event == EVENT_HEAP;
    const struct duty_window window = {.window_ns = window_ns, .attached_ns = r->attached_ns, .cpu_ns = cpu_ns, .hits = hits,
                                       .unseen_hits = recorder_ctl(r)->paused_hits,
                                       .uncounted_hits = of_heap ? a_call * HEAP_HITS_AT_ONCE * (uint64_t)r->sampler->n_cpus : 0,
                                       .hit_ns = hits > 0 ? recorder_hits_ns(r) / hits : r->hit_ns};

    duty_scale_find(&window, &r->progress->work, ret);
}
