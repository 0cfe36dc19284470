/* The programs of custom profiles (bpf/custom.h). A probe finds its session by its cookie, which also says what is done there. Each session has
 * probes and maps of its own. What is removed costs a lookup, and writes nothing where it is not there. */
#include "bpf/kernel_types.h"

#include <linux/bpf.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "bpf/custom.h"
#include "bpf/program_count.h"
#include "bpf/program_session.h"
#include "bpf/program_task.h"
#include "bpf/program_probe.h"
#include "bpf/program_walk.h"

char LICENSE[] SEC("license") = "GPL";

MAP_OF_SESSIONS(custom_live, sizeof(struct custom_value));
/* Weights, by where the return address of the call stands. */
MAP_OF_SESSIONS(custom_calls, sizeof(__u64));

/* What is done at a place that was hit. */
struct hit {
    __u64 key, weight, skip, sp;
};

#define READ(value) \
    do { \
        ret = (value); \
        barrier_var(ret); /* else a compiler chooses an address first, which verifiers don't let it read of a context */ \
    } while (0)

static __noinline __u64 read_register(REGS *regs, __u32 from)
{
    __u64 ret = 0;

    if (from == CUSTOM_ARG0)
        READ(ARG(regs, 0));
    if (from == CUSTOM_ARG1)
        READ(ARG(regs, 1));
    if (from == CUSTOM_ARG2)
        READ(ARG(regs, 2));
    if (from == CUSTOM_ARG3)
        READ(ARG(regs, 3));
    if (from == CUSTOM_ARG4)
        READ(ARG(regs, 4));
    if (from == CUSTOM_ARG5)
        READ(ARG(regs, 5));
    if (from == CUSTOM_RESULT)
        READ(RESULT(regs));
    return ret;
}

/* ---- values */

static __noinline int value_remove(struct session_ctl *s, __u32 slot, __u64 key)
{
    void *live = bpf_map_lookup_elem(&custom_live, &slot);

    if (!s || !live)
        return 0;
    if (!bpf_map_lookup_elem(live, &key) || bpf_map_delete_elem(live, &key))
        __sync_fetch_and_add(&s->unknown_removes, 1);
    else
        __sync_fetch_and_add(&s->live_values, -1);
    return 0;
}

/* Whoever adds a value anew is the one that counts, though nothing may be known of him. */
static __noinline int value_forget(struct session_ctl *s, __u32 slot, __u64 key)
{
    void *live = bpf_map_lookup_elem(&custom_live, &slot);

    if (!s || !live || bpf_map_delete_elem(live, &key))
        return 0;
    __sync_fetch_and_add(&s->replaced, 1);
    __sync_fetch_and_add(&s->live_values, -1);
    return 0;
}

static __noinline int value_add(struct session_ctl *s, __u32 slot, const struct hit *h, const struct scratch *x)
{
    void *live = bpf_map_lookup_elem(&custom_live, &slot);
    struct custom_value value = {};
    __u64 key;

    if (!s || !live || !h || !x)
        return 0;
    key = h->key;
    value.stack_hash[0] = x->walk.record.stack_hash[0];
    value.stack_hash[1] = x->walk.record.stack_hash[1];
    value.weight = h->weight;
    value.epoch = s->epoch;
    value.times = s->thin;
    value.skip = h->skip > CUSTOM_MAX_SKIP ? CUSTOM_MAX_SKIP : h->skip;
    if (!bpf_map_update_elem(live, &key, &value, BPF_NOEXIST)) {
        __sync_fetch_and_add(&s->live_values, 1);
    } else if (!bpf_map_update_elem(live, &key, &value, BPF_EXIST)) {
        __sync_fetch_and_add(&s->replaced, 1);
    } else {
        __sync_fetch_and_add(&s->lost_live, value.times);
        return 0;
    }
    __sync_fetch_and_add(&s->samples, 1);
    return 0;
}

/* Of a profile that nothing is removed from: it counts by its stack, as events do. */
static __noinline int value_count(struct session_ctl *s, __u32 slot, const struct hit *h, struct scratch *x)
{
    void *table = bpf_map_lookup_elem(&counts, &slot), *ring = bpf_map_lookup_elem(&records, &slot);
    struct sample_value add = {};

    if (!s || !h || !x || !table || !ring)
        return 0;
    __builtin_memset(&x->key, 0, sizeof(x->key));
    x->key.stack_hash[0] = x->walk.record.stack_hash[0];
    x->key.stack_hash[1] = x->walk.record.stack_hash[1];
    x->key.tgid = s->tgid;
    x->key.epoch = s->epoch;
    x->key.state = h->skip > CUSTOM_MAX_SKIP ? CUSTOM_MAX_SKIP : h->skip;
    add.samples = s->thin;
    add.weight = (h->weight < CUSTOM_MAX_WEIGHT ? h->weight : CUSTOM_MAX_WEIGHT) * s->thin;
    if (h->weight > CUSTOM_MAX_WEIGHT)
        __sync_fetch_and_add(&s->cut_weights, s->thin);
    count_sample(s, table, ring, x, &add);
    __sync_fetch_and_add(&s->samples, 1);
    __sync_fetch_and_add(&s->live_values, add.samples);
    return 0;
}

/* ---- calls */

static __noinline int call_begins(struct session_ctl *s, __u32 slot, __u64 sp, __u64 weight)
{
    void *calls = bpf_map_lookup_elem(&custom_calls, &slot);

    if (s && calls && bpf_map_update_elem(calls, &sp, &weight, BPF_ANY))
        __sync_fetch_and_add(&s->lost_calls, 1);
    return 0;
}

/* False: its beginning was not seen. */
static __noinline bool call_ends(__u32 slot, __u64 sp, __u64 *ret_weight)
{
    void *calls = bpf_map_lookup_elem(&custom_calls, &slot);
    __u64 *weight = calls ? bpf_map_lookup_elem(calls, &sp) : NULL;

    if (!weight || !ret_weight)
        return false;
    *ret_weight = *weight;
    bpf_map_delete_elem(calls, &sp);
    return true;
}

/* ---- keys */

static __noinline __u64 read_key(REGS *regs, __u32 role)
{
    __u64 key = read_register(regs, CUSTOM_ROLE_KEY(role));

    return role & CUSTOM_ROLE_INT ? (__u64)(__s64)(__s32)key : key;
}

/* No pointer is in the last page, nor one of 32 bits, which is an int's -1 that somebody took for one. */
static __noinline bool is_error(__u64 key, __u32 role)
{
    if (role & CUSTOM_ROLE_NUMBER)
        return (__s64)key < 0;
    return key == 0 || key > (__u64)-4096 || (key > 0xfffff000 && key <= 0xffffffff);
}

/* ---- the probes */

/* Not inline: a walk needs most of the programs' stack. True: it adds, and its stack is wanted. */
static __noinline __u32 hit_begins(REGS *regs, struct session_ctl *s, __u64 cookie, struct hit *ret)
{
    __u32 role = CUSTOM_COOKIE_ROLE(cookie), slot = COOKIE_SLOT(cookie), thin;

    if (!s || !ret || !regs)
        return 0;
    ret->sp = regs->sp;
    ret->skip = role & CUSTOM_ROLE_SKIPS ? (__u32)read_register(regs, CUSTOM_ARG3) : CUSTOM_ROLE_SKIP(role);
    ret->weight = read_register(regs, CUSTOM_ROLE_WEIGHT(role));
    if (CUSTOM_ROLE_OP(role) == CUSTOM_CALL) {
        call_begins(s, slot, ret->sp, ret->weight);
        return 0;
    }
    ret->key = read_key(regs, role);
    if (CUSTOM_ROLE_OP(role) == CUSTOM_REMOVE) {
        value_remove(s, slot, ret->key);
        return 0;
    }
    if (role & CUSTOM_ROLE_CALLED && !call_ends(slot, ret->sp, &ret->weight)) {
        __sync_fetch_and_add(&s->lost_calls, 1);
        value_forget(s, slot, ret->key);
        return 0;
    }
    if (role & CUSTOM_ROLE_MAY_FAIL && is_error(ret->key, role)) {
        __sync_fetch_and_add(&s->failed_adds, 1);
        return 0;
    }
    thin = s->thin;
    if (thin > 1 && bpf_get_prandom_u32() % thin) {
        value_forget(s, slot, ret->key);
        return 0;
    }
    return 1;
}

static __always_inline void take_stack(void *ctx, struct session_ctl *s, __u64 cookie, const struct hit *h)
{
    __u32 slot = COOKIE_SLOT(cookie), level;
    void *table = bpf_map_lookup_elem(&counts, &slot), *ring = bpf_map_lookup_elem(&records, &slot);
    struct task_struct *task = bpf_get_current_task_btf();
    struct sample_value none = {};
    struct scratch *x;

    x = table && ring ? scratch_take(&level) : NULL;
    if (!x) {
        __sync_fetch_and_add(&s->lost_nested, 1);
        value_forget(s, slot, h->key);
        return;
    }
    session_follow(s, slot, task);
    collect_stack_at(ctx, s, task, &x->walk, CUSTOM_COOKIE_ROLE(cookie) & CUSTOM_ROLE_AT_ENTRY);
    if (CUSTOM_COOKIE_ROLE(cookie) & CUSTOM_ROLE_COUNTED)
        value_count(s, slot, h, x);
    else if (give_stack(s, table, ring, x, &none, 1))
        value_add(s, slot, h, x);
    else
        value_forget(s, slot, h->key);
    scratch_release(level);
}

static __always_inline int on_hit(void *ctx, __u64 cookie)
{
    __u64 now_ns = bpf_ktime_get_ns();
    struct session_ctl *s = session_of_probe(cookie);
    struct hit h = {};

    if (!s)
        return 0;
    __sync_fetch_and_add(&s->hits, 1);
    if (!hit_begins(ctx, s, cookie, &h))
        return 0;
    take_stack(ctx, s, cookie, &h);
    charge_cost(s, now_ns);
    return 0;
}

SEC("kprobe")
int on_custom(struct pt_regs *ctx)
{
    return on_hit(ctx, bpf_get_attach_cookie(ctx));
}

/* The same, loaded for uprobe_multi links where the kernel has them. */
SEC("kprobe")
int on_custom_multi(struct pt_regs *ctx)
{
    return on_hit(ctx, bpf_get_attach_cookie(ctx));
}
