/* The programs of probes on a process's allocator (bpf/heap.h). A probe finds its session by its cookie, which also says what kind of function it
 * is in. Each session has probes and maps of its own.
 *
 * Most calls end here after a subtraction from what the thread has left to its next sampling point. Of one that is sampled the stack is
 * walked at the entry, and the pointer is taken when it returns: by session probes, whose return is seen only where the entry asks for it, or
 * where the kernel has none by return probes. Frees look the pointer up, and write nothing unless it is there. */
#include "bpf/kernel_types.h"

#include <linux/bpf.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "bpf/heap.h"
#include "bpf/program_count.h"
#include "bpf/program_session.h"
#include "bpf/program_task.h"
#include "bpf/program_probe.h"
#include "bpf/program_walk.h"

char LICENSE[] SEC("license") = "GPL";

const volatile struct heap_tables tables = {};

/* A kernel function: whether a session probe's program runs for the return. Weak: kernels before Linux 6.13 have none. */
extern bool bpf_session_is_return(void) __ksym __weak;

MAP_OF_SESSIONS(heap_live, sizeof(struct heap_object));

struct {
    __uint(type, BPF_MAP_TYPE_TASK_STORAGE);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, int);
    __type(value, struct heap_thread);
} heap_threads SEC(".maps");

/* Calls that allocate, on each CPU. */
struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, CPROFD_MAX_SESSIONS);
    __type(key, __u32);
    __type(value, __u64);
} heap_hits SEC(".maps");

#if defined(__TARGET_ARCH_arm64)
#define SP_AFTER_RETURN 0 /* beside where it was at the entry */
#else
#define SP_AFTER_RETURN 8
#endif

/* What a site says. */
struct heap_told {
    __u64 address, bytes, weight;
};

/* What a probe that was hit works on. */
struct hit {
    struct session_ctl *s;
    __u64 args[3], sp;
    __u64 session;
    __u32 slot, kind;
};

static __always_inline __u64 random_bits(void)
{
    return (__u64)bpf_get_prandom_u32() << 32 | bpf_get_prandom_u32();
}

/* What the session notes of threads is under this number: of a call whose return fell between two slices it is void. */
static __always_inline __u64 session_number(const struct session_ctl *s, __u32 slot)
{
    return (__u64)s->instance << 32 | (__u64)(s->slice & 0xffffff) << 8 | slot;
}

/* ---- counts */

/* 0, or negative where there is no room. */
static __always_inline long count_add(void *table, const struct sample_key *key, const struct sample_value *add)
{
    struct sample_value *value = bpf_map_lookup_elem(table, key);

    if (!value) {
        if (!bpf_map_update_elem(table, key, add, BPF_NOEXIST))
            return 0;
        value = bpf_map_lookup_elem(table, key);
    }
    if (!value)
        return -1;
    __sync_fetch_and_add(&value->samples, add->samples);
    __sync_fetch_and_add(&value->weight, add->weight);
    return 0;
}

static __always_inline void object_key(const struct session_ctl *s, const struct heap_object *object, __u32 state, struct sample_key *ret)
{
    __builtin_memset(ret, 0, sizeof(*ret));
    ret->stack_hash[0] = object->stack_hash[0];
    ret->stack_hash[1] = object->stack_hash[1];
    ret->tgid = s->tgid;
    ret->epoch = object->epoch;
    ret->state = state;
}

static __always_inline void object_value(const struct session_ctl *s, const struct heap_object *object, struct sample_value *ret)
{
    struct heap_weight weight;

    if (object->weight)
        heap_take_weight(object->weight, object->bytes, &weight);
    else
        heap_weigh(&tables, s->rate, object->bytes, &weight);
    ret->samples = object->part ? 0 : weight.objects;
    ret->weight = weight.bytes;
}

static __noinline int count_free(struct session_ctl *s, __u32 slot, const struct heap_object *object)
{
    void *table = bpf_map_lookup_elem(&counts, &slot);
    struct sample_value value;
    struct sample_key key;

    if (!table || !object || !s)
        return 0;
    object_key(s, object, HEAP_COUNT_FREE, &key);
    object_value(s, object, &value);
    if (count_add(table, &key, &value))
        __sync_fetch_and_add(&s->lost_frees, 1);
    return 0;
}

/* What is counted as allocated has a place to be counted as freed. 0, or negative where there is no room. */
static __noinline long count_alloc(struct session_ctl *s, __u32 slot, const struct heap_object *object)
{
    void *table = bpf_map_lookup_elem(&counts, &slot);
    struct sample_value value = {};
    struct sample_key key;
    long error;

    if (!table || !object || !s)
        return -1;
    object_key(s, object, HEAP_COUNT_FREE, &key);
    error = bpf_map_update_elem(table, &key, &value, BPF_NOEXIST);
    object_value(s, object, &value);
    key.state = HEAP_COUNT_ALLOC;
    if ((!error || error == -17 /* EEXIST */) && !count_add(table, &key, &value))
        return 0;
    __sync_fetch_and_add(&s->lost_table, 1);
    return -1;
}

/* ---- live objects */

/* Takes the object at an address out of those that live. False: none that is known does. */
static __always_inline bool live_take(__u32 slot, __u64 address, struct heap_object *ret)
{
    void *live = bpf_map_lookup_elem(&heap_live, &slot);
    struct heap_object *object = live && address ? bpf_map_lookup_elem(live, &address) : NULL;

    if (!object)
        return false;
    *ret = *object;
    return bpf_map_delete_elem(live, &address) == 0;
}

/* What finds no room is no longer followed: it is as if it was freed at once. */
static __noinline int live_add(struct session_ctl *s, __u32 slot, __u64 address, const struct heap_object *object)
{
    void *live = bpf_map_lookup_elem(&heap_live, &slot);
    struct heap_object before;

    if (!live || !s || !object || s->allocs_alone)
        return 0;
    if (live_take(slot, address, &before)) { /* it was freed by a way that is not probed */
        __sync_fetch_and_add(&s->replaced, 1);
        count_free(s, slot, &before);
    }
    if (bpf_map_update_elem(live, &address, object, BPF_ANY)) {
        __sync_fetch_and_add(&s->lost_live, 1);
        count_free(s, slot, object);
    }
    return 0;
}

static __noinline int on_free(struct session_ctl *s, __u32 slot, __u64 address)
{
    struct heap_object object;

    if (s && live_take(slot, address, &object))
        count_free(s, slot, &object);
    return 0;
}

/* ---- calls */

/* What the session knows of this thread. NULL: nothing, and there is no room. */
static __always_inline struct heap_call *call_of(const struct hit *h, bool make)
{
    struct heap_thread *thread = bpf_task_storage_get(&heap_threads, bpf_get_current_task_btf(), NULL, make ? BPF_LOCAL_STORAGE_GET_F_CREATE : 0);
    __u32 index = h->s->heap_index & (HEAP_MAX_SESSIONS - 1);
    struct heap_call *call;

    if (!thread)
        return NULL;
    call = &thread->calls[index];
    if (call->session == h->session)
        return call;
    if (!make)
        return NULL;
    call->session = h->session;
    call->left = heap_gap(&tables, h->s->rate, random_bits());
    call->sp = 0;
    return call;
}

/* The same for one that begins. NULL, too: it is a part of another. */
static __always_inline struct heap_call *call_to_begin(const struct hit *h)
{
    struct heap_call *call = call_of(h, true);

    if (!call) {
        __sync_fetch_and_add(&h->s->lost_threads, 1);
        return NULL;
    }
    /* The allocator calls itself. What operator new calls counts in its place: it has as good a chance, and is there alone where new has thrown. */
    if (call->sp && h->sp <= call->sp && !call->may_throw)
        return NULL;
    call->sp = 0;
    return call;
}

/* False: so many bytes don't exist. */
static __always_inline bool wanted_bytes(const struct hit *h, __u64 *ret)
{
    __u64 n = 1, size;

    switch (h->kind) {
    case HEAP_MALLOC:
    case HEAP_NEW:
        size = h->args[0];
        break;
    case HEAP_CALLOC:
        n = h->args[0];
        size = h->args[1];
        break;
    case HEAP_REALLOCARRAY:
        n = h->args[1];
        size = h->args[2];
        break;
    case HEAP_POSIX_MEMALIGN:
        size = h->args[2];
        break;
    default:
        size = h->args[1];
    }
    if (n > 1 && size > (1ull << 47) / n)
        return false;
    *ret = n * size;
    return *ret <= 1ull << 47;
}

static __always_inline bool sampled(const struct hit *h, struct heap_call *call, __u64 bytes)
{
    __u64 size = bytes ? bytes : 1;

    if (h->s->rate <= 1)
        return true;
    if (call->left > size) {
        call->left -= size;
        return false;
    }
    call->left = heap_gap(&tables, h->s->rate, random_bits());
    return true;
}

enum next { NEXT_NOTHING, NEXT_RETURN, NEXT_STACK };

/* Not inline: a walk needs most of the programs' stack. */
static __noinline __u32 call_begins(REGS *regs, struct session_ctl *s, __u32 slot, __u32 kind)
{
    struct hit h = {.s = s, .args = {ARG(regs, 0), ARG(regs, 1), ARG(regs, 2)}, .sp = regs->sp, .slot = slot, .kind = kind};
    bool moves = kind == HEAP_REALLOC || kind == HEAP_REALLOCARRAY, whole;
    struct heap_call *call;
    __u64 bytes;

    /* Else a compiler chooses an address first, which verifiers don't let it read of a context. */
    barrier_var(h.args[0]);
    barrier_var(h.args[1]);
    barrier_var(h.args[2]);
    if (!s || !wanted_bytes(&h, &bytes))
        return NEXT_NOTHING; /* which fails */
    h.session = session_number(s, slot);
    call = call_to_begin(&h);
    if (!call)
        return NEXT_NOTHING;
    call->had_old = moves && live_take(slot, h.args[0], &call->old_object);
    call->sampled = sampled(&h, call, bytes);
    /* These may end in malloc, or begin there: who returns tells. */
    whole = kind == HEAP_MEMALIGN || kind == HEAP_POSIX_MEMALIGN || (moves && h.args[0] == 0);
    if (!call->sampled && !call->had_old && !whole)
        return NEXT_NOTHING;
    call->sp = h.sp;
    call->may_throw = kind == HEAP_NEW;
    call->mapped = 0;
    call->bytes = bytes;
    call->old = moves ? h.args[0] : 0;
    call->out = kind == HEAP_POSIX_MEMALIGN ? h.args[0] : 0;
    return call->sampled ? NEXT_STACK : NEXT_RETURN;
}

#include "bpf/heap_maps.h"

/* The stack of the call is there, or not to be had. */
static __noinline int call_has_stack(struct session_ctl *s, __u32 slot, const struct scratch *x)
{
    struct hit h = {.s = s, .slot = slot};
    struct heap_call *call;

    if (!s)
        return 0;
    h.session = session_number(s, slot);
    call = call_of(&h, false);
    if (!call)
        return 0;
    call->sampled = x != NULL;
    if (!x)
        return 0;
    call->stack_hash[0] = x->walk.record.stack_hash[0];
    call->stack_hash[1] = x->walk.record.stack_hash[1];
    call->epoch = s->epoch;
    return 0;
}

static __always_inline void take_stack(void *ctx, struct session_ctl *s, __u32 slot)
{
    void *table = bpf_map_lookup_elem(&counts, &slot), *ring = bpf_map_lookup_elem(&records, &slot);
    struct task_struct *task = bpf_get_current_task_btf();
    const struct sample_value none = {};
    struct scratch *x = NULL;
    __u32 level = 0;
    bool given;

    if (table && ring)
        x = scratch_take(&level);
    if (!x) {
        __sync_fetch_and_add(&s->lost_nested, 1);
        call_has_stack(s, slot, NULL);
        return;
    }
    session_follow(s, slot, task);
    collect_stack(ctx, s, task, &x->walk);
    given = give_stack(s, table, ring, x, &none, 1);
    call_has_stack(s, slot, given ? x : NULL);
    scratch_release(level);
}

/* Many together: one counter for all CPUs would be what threads wait for. Frees, which write nothing, are taken to be as many, if they are probed.
 * returns: each call is hit at its end as well. */
static __always_inline void hit_counted(struct session_ctl *s, __u32 slot, bool returns)
{
    __u64 *hits = bpf_map_lookup_elem(&heap_hits, &slot);

    if (hits && ++*hits % HEAP_HITS_AT_ONCE == 0)
        __sync_fetch_and_add(&s->hits, HEAP_HITS_AT_ONCE * (1 + !s->allocs_alone + returns));
}

/* An allocator has told of one that it has sampled. Not inline, as call_begins. */
static __noinline int site_counts(struct session_ctl *s, __u32 slot, const struct scratch *x, const struct heap_told *told)
{
    struct heap_object object = {};

    if (!s || !x || !told)
        return 0;
    object.stack_hash[0] = x->walk.record.stack_hash[0];
    object.stack_hash[1] = x->walk.record.stack_hash[1];
    object.bytes = told->bytes;
    object.weight = told->weight ? told->weight : 1;
    object.epoch = s->epoch;
    __sync_fetch_and_add(&s->samples, 1);
    if (!count_alloc(s, slot, &object))
        live_add(s, slot, told->address, &object);
    return 0;
}

static __always_inline void on_site(void *ctx, struct session_ctl *s, __u32 slot, const struct heap_told *told)
{
    void *table = bpf_map_lookup_elem(&counts, &slot), *ring = bpf_map_lookup_elem(&records, &slot);
    struct task_struct *task = bpf_get_current_task_btf();
    const struct sample_value none = {};
    __u64 began_ns = bpf_ktime_get_ns();
    struct scratch *x = NULL;
    __u32 level = 0;

    __sync_fetch_and_add(&s->hits, 1);
    if (table && ring)
        x = scratch_take(&level);
    if (!x) {
        __sync_fetch_and_add(&s->lost_nested, 1);
        return;
    }
    session_follow(s, slot, task);
    collect_stack(ctx, s, task, &x->walk);
    if (give_stack(s, table, ring, x, &none, 1))
        site_counts(s, slot, x, told);
    scratch_release(level);
    charge_cost(s, began_ns);
}

#define COOKIE_KIND(cookie) (COOKIE_TIMER(cookie) & ~HEAP_STEPPED)
#define COOKIE_STEPPED(cookie) ((COOKIE_TIMER(cookie) & HEAP_STEPPED) != 0)

/* 0: its return is to be seen. returns: it is hit in any case. */
static __always_inline int on_entry(void *ctx, __u64 cookie, bool returns)
{
    __u32 slot = COOKIE_SLOT(cookie), kind = COOKIE_KIND(cookie), next;
    struct session_ctl *s = session_of_hit(cookie, COOKIE_STEPPED(cookie));
    REGS *regs = ctx;
    __u64 began_ns;

    if (!s)
        return 1;
    if (kind == HEAP_FREE) {
        on_free(s, slot, ARG(regs, 0));
        return 1;
    }
    if (kind >= HEAP_MAP) {
        __sync_fetch_and_add(&s->hits, 1 + (returns && kind != HEAP_UNMAP)); /* the kernel's own work for it is far more */
        next = map_begins(ctx, s, slot, kind);
    } else {
        hit_counted(s, slot, returns);
        next = call_begins(ctx, s, slot, kind);
    }
    if (next == NEXT_STACK) {
        began_ns = bpf_ktime_get_ns();
        take_stack(ctx, s, slot);
        charge_cost(s, began_ns);
    }
    return next == NEXT_NOTHING;
}

/* ---- returns */

/* What it gives; 0: it failed. */
static __always_inline __u64 call_result(const struct heap_call *call, REGS *regs)
{
    __u64 address = 0;

    if (!call->out)
        return RESULT(regs);
    if ((__u32)RESULT(regs) != 0 || bpf_probe_read_user(&address, sizeof(address), (void *)call->out))
        return 0;
    return address;
}

static __noinline int call_ends(REGS *regs, struct session_ctl *s, __u32 slot)
{
    struct hit h = {.s = s, .slot = slot};
    struct heap_object object = {};
    struct heap_call *call;
    __u64 address;

    if (!s)
        return 0;
    h.session = session_number(s, slot);
    call = call_of(&h, false);
    /* At the ret, or behind it. */
    if (!call || !call->sp || (regs->sp != call->sp && regs->sp != call->sp + SP_AFTER_RETURN))
        return 0;
    call->sp = 0;
    address = call_result(call, regs);
    if (call->mapped)
        return map_ends(s, slot, call, address);
    if (call->had_old && !address && call->bytes) { /* it failed, and the old object stays */
        object = call->old_object;
        live_add(s, slot, call->old, &object);
        return 0;
    }
    if (call->had_old) {
        object = call->old_object;
        count_free(s, slot, &object);
    }
    if (!call->sampled || !address)
        return 0;
    object.stack_hash[0] = call->stack_hash[0];
    object.stack_hash[1] = call->stack_hash[1];
    object.bytes = call->bytes;
    object.epoch = call->epoch;
    __sync_fetch_and_add(&s->samples, 1);
    if (!count_alloc(s, slot, &object))
        live_add(s, slot, address, &object);
    return 0;
}

/* Behind a call it is the kernel's trampoline that is hit. counts: it was not counted with its entry. */
static __always_inline int on_return(void *ctx, __u64 cookie, bool counts)
{
    struct session_ctl *s = session_of_hit(cookie, COOKIE_STEPPED(cookie) && COOKIE_KIND(cookie) == HEAP_NEW_RETURN);

    if (!s)
        return 0;
    if (counts)
        __sync_fetch_and_add(&s->hits, 1);
    call_ends(ctx, s, COOKIE_SLOT(cookie));
    return 0;
}

/* ---- sites */

static __always_inline int on_told(void *ctx, __u64 cookie)
{
    __u32 slot = COOKIE_SLOT(cookie), kind = COOKIE_KIND(cookie);
    struct session_ctl *s = session_of_hit(cookie, COOKIE_STEPPED(cookie));
    REGS *regs = ctx;
    struct heap_told told = {.address = ARG(regs, 0), .bytes = ARG(regs, 1), .weight = ARG(regs, 2)};

    barrier_var(told.address);
    barrier_var(told.bytes);
    barrier_var(told.weight);
    if (!s)
        return 0;
    if (kind == HEAP_SITE_FREE) {
        on_free(s, slot, told.address);
        return 0;
    }
    if (kind == HEAP_SITE_UNTRACKED) { /* it passed the other two as well */
        __sync_fetch_and_add(&s->lost_live, 1);
        return 0;
    }
    on_site(ctx, s, slot, &told);
    return 0;
}

/* ---- programs: for each way to attach them */

SEC("kprobe")
int on_heap(struct pt_regs *ctx)
{
    (void)on_entry(ctx, bpf_get_attach_cookie(ctx), true);
    return 0;
}

SEC("kprobe")
int on_heap_site(struct pt_regs *ctx)
{
    return on_told(ctx, bpf_get_attach_cookie(ctx));
}

SEC("kprobe")
int on_heap_return(struct pt_regs *ctx)
{
    return on_return(ctx, bpf_get_attach_cookie(ctx), false);
}

/* For uprobe_multi links. */
SEC("kprobe")
int on_heap_multi(struct pt_regs *ctx)
{
    (void)on_entry(ctx, bpf_get_attach_cookie(ctx), true);
    return 0;
}

SEC("kprobe")
int on_heap_site_multi(struct pt_regs *ctx)
{
    return on_told(ctx, bpf_get_attach_cookie(ctx));
}

SEC("kprobe")
int on_heap_return_multi(struct pt_regs *ctx)
{
    return on_return(ctx, bpf_get_attach_cookie(ctx), false);
}

/* For links of session probes. */
SEC("kprobe")
int on_heap_session(struct pt_regs *ctx)
{
    if (bpf_session_is_return())
        return on_return(ctx, bpf_get_attach_cookie(ctx), true);
    return on_entry(ctx, bpf_get_attach_cookie(ctx), false);
}
