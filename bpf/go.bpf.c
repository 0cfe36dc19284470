/* The programs of probes in Go's runtime (bpf/go_waits.h): waits of goroutines, and releases of locks. A probe finds its session by its
 * cookie, which also says in which function it is. Each session has probes and maps of its own.
 *
 * The functions are probed behind the comparison that they begin with, where the kernel emulates the instruction. A goroutine whose stack
 * is grown there comes by twice: what it did the first time is undone. */
#include "bpf/kernel_types.h"

#include <linux/bpf.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "bpf/go_waits.h"
#include "bpf/lock_waits.h"
#include "bpf/program_count.h"
#include "bpf/program_session.h"
#include "bpf/program_task.h"
#include "bpf/program_probe.h"
#include "bpf/program_walk.h"

char LICENSE[] SEC("license") = "GPL";

#define GUARD_TRIES 64

MAP_OF_SESSIONS(go_waits, sizeof(struct go_wait));
MAP_OF_SESSIONS(go_locks, sizeof(struct go_lock));

/* What a probe that was hit works on. */
struct hit {
    struct session_ctl *s;
    struct pt_regs___x86 *regs;
    void *waits;
    __u64 now_ns;
    __u32 slot;
};

/* ---- locks */

/* False: others hold it, and the verifier has no patience. */
static __always_inline bool lock_guard(struct go_lock *lock)
{
    for (__u32 i = 0; i < GUARD_TRIES; i++)
        if (__sync_val_compare_and_swap(&lock->guard, 0, 1) == 0)
            return true;
    return false;
}

static __always_inline void lock_unguard(struct go_lock *lock)
{
    __sync_val_compare_and_swap(&lock->guard, 1, 0);
}

/* NULL: there is no room, or it is not to be made. */
static __always_inline struct go_lock *lock_at(struct hit *h, __u64 address, bool make)
{
    void *locks = bpf_map_lookup_elem(&go_locks, &h->slot);
    struct go_lock none = {}, *lock = locks ? bpf_map_lookup_elem(locks, &address) : NULL;

    if (lock || !locks || !make)
        return lock;
    (void)bpf_map_update_elem(locks, &address, &none, BPF_NOEXIST);
    return bpf_map_lookup_elem(locks, &address);
}

static __always_inline void wait_leaves_lock(struct hit *h, struct go_wait *w)
{
    struct go_lock *lock = w->counted ? lock_at(h, w->lock, false) : NULL;

    if (lock && lock_guard(lock)) {
        go_lock_leave(lock, w->began_ns);
        lock_unguard(lock);
    }
    w->counted = 0;
}

static __always_inline void wait_joins_lock(struct hit *h, struct go_wait *w)
{
    struct go_lock *lock = lock_at(h, w->lock, true);

    if (!lock || !lock_guard(lock)) {
        __sync_fetch_and_add(&h->s->lost_locks, 1);
        return;
    }
    go_lock_join(lock, h->now_ns);
    lock_unguard(lock);
    w->counted = 1;
}

/* ---- counts */

static __always_inline void key_begin(struct session_ctl *s, struct scratch *x, const __u64 *hash, __u32 epoch)
{
    __builtin_memset(&x->key, 0, sizeof(x->key));
    x->key.stack_hash[0] = hash[0];
    x->key.stack_hash[1] = hash[1];
    x->key.tgid = s->tgid;
    x->key.epoch = epoch;
}

/* A wait that is over, by the stack that was taken when it began. */
static __always_inline void count_wait(struct hit *h, const struct go_wait *w, const struct sample_value *add)
{
    void *table = bpf_map_lookup_elem(&counts, &h->slot), *ring = bpf_map_lookup_elem(&records, &h->slot);
    struct scratch *x;
    __u32 level;

    if (!table || !ring)
        return;
    x = scratch_take(&level);
    if (!x) {
        __sync_fetch_and_add(&h->s->lost_nested, 1);
        return;
    }
    key_begin(h->s, x, w->stack_hash, w->epoch);
    count_in(h->s, table, ring, x, bpf_map_lookup_elem(table, &x->key), add);
    scratch_release(level);
}

/* ---- the probes. Each says what the stack is needed for */

enum next { NEXT_NOTHING, NEXT_WAIT, NEXT_RELEASE };

static __always_inline void on_acquire(struct hit *h)
{
    __u64 g = h->regs->r14;
    struct go_wait *w = bpf_map_lookup_elem(h->waits, &g), fresh = {};

    if (!w) {
        fresh.lock = h->regs->ax;
        fresh.profiled = (__u32)h->regs->cx;
        if (bpf_map_update_elem(h->waits, &g, &fresh, BPF_ANY))
            __sync_fetch_and_add(&h->s->lost_locks, 1);
        return;
    }
    if (w->began_ns) /* its end was not seen */
        wait_leaves_lock(h, w);
    w->began_ns = 0;
    w->lock = h->regs->ax;
    w->profiled = (__u32)h->regs->cx;
}

/* The entry of a goroutine; NULL: there is no room. */
static __always_inline struct go_wait *wait_at(struct hit *h, __u64 g)
{
    struct go_wait *w = bpf_map_lookup_elem(h->waits, &g), fresh = {};

    if (w)
        return w;
    if (bpf_map_update_elem(h->waits, &g, &fresh, BPF_NOEXIST))
        __sync_fetch_and_add(&h->s->lost_locks, 1);
    return bpf_map_lookup_elem(h->waits, &g);
}

static __always_inline enum next on_park(struct hit *h)
{
    __u64 reason = 1ull << (h->regs->cx & 63);
    bool by_sema = reason & h->s->go_sema_reasons, is_mutex = h->s->go_kind == GO_WAITS_MUTEX;
    __u32 thin = h->s->thin;
    struct go_wait *w;

    if (!(reason & (is_mutex ? h->s->go_sema_reasons : h->s->go_reasons)))
        return NEXT_NOTHING;
    w = wait_at(h, h->regs->r14);
    if (!w)
        return NEXT_NOTHING;
    if (w->began_ns)
        wait_leaves_lock(h, w);
    w->began_ns = 0;
    w->epoch = h->s->epoch;
    w->thin = thin;
    if (by_sema && !(w->profiled & (is_mutex ? GO_SEMA_MUTEX : GO_SEMA_BLOCK)))
        return NEXT_NOTHING;
    if (is_mutex) {
        wait_joins_lock(h, w);
        w->began_ns = h->now_ns;
        return NEXT_NOTHING;
    }
    return h->s->rate == 0 || (thin > 1 && bpf_get_prandom_u32() % thin) ? NEXT_NOTHING : NEXT_WAIT;
}

static __always_inline void block_ends(struct hit *h, struct go_wait *w)
{
    struct sample_value add;

    add.samples = lock_keep_wait(h->s->rate, h->now_ns - w->began_ns, bpf_get_prandom_u32(), &add.weight);
    if (add.samples == 0)
        return;
    add.samples *= w->thin;
    add.weight *= w->thin;
    __sync_fetch_and_add(&h->s->samples, add.samples);
    count_wait(h, w, &add);
}

static __always_inline enum next mutex_is_released(struct hit *h, struct go_wait *w, struct sample_value *ret)
{
    struct go_lock *lock = w->counted ? lock_at(h, w->lock, false) : NULL;
    __u64 one_in = h->s->fraction * h->s->thin;

    w->counted = 0;
    if (!lock)
        return NEXT_NOTHING;
    if (!lock_guard(lock)) {
        __sync_fetch_and_add(&h->s->lost_locks, 1);
        return NEXT_NOTHING;
    }
    ret->samples = one_in;
    ret->weight = go_lock_release(lock, h->now_ns) * one_in;
    lock_unguard(lock);
    return one_in == 0 || bpf_get_prandom_u32() % one_in ? NEXT_NOTHING : NEXT_RELEASE;
}

static __always_inline enum next on_ready(struct hit *h, struct sample_value *ret)
{
    __u64 g = h->regs->ax;
    struct go_wait *w = bpf_map_lookup_elem(h->waits, &g);
    enum next next = NEXT_NOTHING;

    if (!w || w->began_ns == 0)
        return NEXT_NOTHING;
    if (h->s->go_kind == GO_WAITS_MUTEX)
        next = mutex_is_released(h, w, ret);
    else
        block_ends(h, w);
    w->began_ns = 0;
    return next;
}

/* Not inline: a walk needs most of the programs' stack. */
static __noinline __u32 hit_begins(struct pt_regs___x86 *regs, struct session_ctl *s, __u32 slot, __u32 place, struct sample_value *ret)
{
    struct hit h = {.s = s, .regs = regs, .now_ns = bpf_ktime_get_ns(), .slot = slot};

    h.waits = bpf_map_lookup_elem(&go_waits, &slot);
    if (!h.waits)
        return NEXT_NOTHING;
    switch (place) {
    case GO_PLACE_PARK:
        return on_park(&h);
    case GO_PLACE_READY:
        return on_ready(&h, ret);
    case GO_PLACE_ACQUIRE:
        on_acquire(&h);
        break;
    }
    return NEXT_NOTHING;
}

/* The stack that it waits with is there: its wait begins. */
static __noinline void wait_begins(__u32 slot, __u64 g, const struct scratch *x, __u64 now_ns)
{
    void *waits = bpf_map_lookup_elem(&go_waits, &slot);
    struct go_wait *w = waits ? bpf_map_lookup_elem(waits, &g) : NULL;

    if (!w)
        return;
    w->stack_hash[0] = x->walk.record.stack_hash[0];
    w->stack_hash[1] = x->walk.record.stack_hash[1];
    w->began_ns = now_ns;
}

static __always_inline void take_stack(void *ctx, struct session_ctl *s, __u32 slot, bool is_release, const struct sample_value *add, __u64 now_ns)
{
    void *table = bpf_map_lookup_elem(&counts, &slot), *ring = bpf_map_lookup_elem(&records, &slot);
    struct pt_regs___x86 *regs = ctx;
    struct scratch *x;
    __u32 level;

    if (!table || !ring)
        return;
    x = scratch_take(&level);
    if (!x) {
        __sync_fetch_and_add(&s->lost_nested, 1);
        return;
    }
    collect_stack(ctx, s, bpf_get_current_task_btf(), &x->walk);
    key_begin(s, x, x->walk.record.stack_hash, s->epoch);
    if (is_release) {
        x->key.state = SAMPLE_STATE_LOCK;
        __sync_fetch_and_add(&s->samples, add->samples);
        count_sample(s, table, ring, x, add);
    } else if (give_stack(s, table, ring, x, add, 1)) {
        wait_begins(slot, regs->r14, x, now_ns);
    }
    scratch_release(level);
}

static __always_inline int on_hit(void *ctx, __u64 cookie)
{
    __u64 now_ns = bpf_ktime_get_ns();
    __u32 slot = COOKIE_SLOT(cookie), next;
    struct session_ctl *s = bpf_map_lookup_elem(&sessions, &slot);
    struct task_struct *task = bpf_get_current_task_btf();
    struct sample_value add = {};

    if (!s || s->instance != COOKIE_INSTANCE(cookie) || s->state != SESSION_OPEN || task_tgid(task) != s->tgid)
        return 0;
    __sync_fetch_and_add(&s->hits, 1);
    session_follow(s, slot, task);
    next = hit_begins(ctx, s, slot, COOKIE_TIMER(cookie), &add);
    if (next != NEXT_NOTHING)
        take_stack(ctx, s, slot, next == NEXT_RELEASE, &add, now_ns);
    charge_cost(s, now_ns);
    return 0;
}

SEC("kprobe")
int on_go(struct pt_regs *ctx)
{
    return on_hit(ctx, bpf_get_attach_cookie(ctx));
}

/* The same, loaded for uprobe_multi links where the kernel has them. */
SEC("kprobe")
int on_go_multi(struct pt_regs *ctx)
{
    return on_hit(ctx, bpf_get_attach_cookie(ctx));
}
