/* Memory that a program maps by itself: anonymous and private, of HEAP_MAP_LEAST bytes or more. Each such mapping is an object, whatever the rate is.
 * It is told from what allocators map by who calls: a call from a file with an allocator in it (heap_code) is none. Part of heap.bpf.c.
 *
 * Live ones are found by their beginning, and by their end, whose key is odd: both entries have the whole object. So what is cut off at either side
 * is seen; a hole in the middle is not, nor what lies between the first and the last of several that end together. */
#pragma once

MAP_OF_SESSIONS(heap_maps, sizeof(struct heap_object));

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, CPROFD_MAX_SESSIONS);
    __type(key, __u32);
    __type(value, struct heap_code);
} heap_code SEC(".maps");

#define MAP_PAGES(bytes) (((bytes) + 4095) & ~4095ull)
#define MAP_LAST_ERROR 4095
#define MAP_KEY_OF_END(address) ((address) | 1)
/* <sys/mman.h>'s, whose names are macros elsewhere. */
#define HEAP_MAP_TYPE 0x0f
#define HEAP_MAP_PRIVATE 0x02
#define HEAP_MAP_FIXED 0x10
#define HEAP_MAP_ANONYMOUS 0x20
#define HEAP_REMAP_FIXED 2

/* Whether no allocator asks for it. Where it is not known which files have one, nobody else does. */
static __noinline int is_programs_own(REGS *regs, __u32 slot)
{
    const struct heap_code *code = bpf_map_lookup_elem(&heap_code, &slot);
    __u64 caller = 0;

    if (!code || code->n == 0 || code->n > HEAP_MAX_CODE || bpf_probe_read_user(&caller, sizeof(caller), (void *)regs->sp))
        return 0;
    for (__u32 i = 0; i < HEAP_MAX_CODE; i++)
        if (i < code->n && caller >= code->at[i].start && caller < code->at[i].end)
            return 0;
    return 1;
}

/* ---- live mappings */

static __noinline int map_take(__u32 slot, __u64 start, struct heap_object *ret)
{
    void *maps = bpf_map_lookup_elem(&heap_maps, &slot);
    struct heap_object *object = maps ? bpf_map_lookup_elem(maps, &start) : NULL;
    __u64 end;

    if (!object || !ret)
        return 0;
    *ret = *object;
    end = MAP_KEY_OF_END(start + ret->bytes);
    bpf_map_delete_elem(maps, &end);
    return !bpf_map_delete_elem(maps, &start);
}

static __noinline int map_put(struct session_ctl *s, __u32 slot, __u64 start, const struct heap_object *object)
{
    void *maps = bpf_map_lookup_elem(&heap_maps, &slot);
    struct heap_object before;
    __u64 end;

    if (!s || !maps || !object || s->allocs_alone)
        return 0;
    if (map_take(slot, start, &before)) { /* it was unmapped by a way that is not probed */
        __sync_fetch_and_add(&s->replaced, 1);
        count_free(s, slot, &before);
    }
    end = MAP_KEY_OF_END(start + object->bytes);
    if (bpf_map_update_elem(maps, &start, object, BPF_ANY) || bpf_map_update_elem(maps, &end, object, BPF_ANY)) {
        bpf_map_delete_elem(maps, &start);
        __sync_fetch_and_add(&s->lost_live, 1);
        count_free(s, slot, object);
    }
    return 0;
}

/* Bytes of an object go: all of it, or as many as are cut off. What is left begins at `start`. */
static __noinline int map_shrink(struct session_ctl *s, __u32 slot, struct heap_object *object, __u64 bytes, __u64 start)
{
    struct heap_object rest;

    if (!s || !object)
        return 0;
    if (bytes < object->bytes) {
        rest = *object;
        rest.bytes -= bytes;
        rest.weight = rest.bytes;
        map_put(s, slot, start, &rest);
        object->bytes = bytes;
        object->weight = bytes;
        object->part = 1;
    }
    count_free(s, slot, object);
    return 0;
}

static __noinline int range_ends(struct session_ctl *s, __u32 slot, __u64 start, __u64 end)
{
    void *maps = bpf_map_lookup_elem(&heap_maps, &slot);
    __u64 key = MAP_KEY_OF_END(end), first;
    struct heap_object object, *found;

    if (!s || !maps || (start & 4095) || end <= start)
        return 0;
    if (map_take(slot, start, &object))
        map_shrink(s, slot, &object, end - start, end);
    found = bpf_map_lookup_elem(maps, &key);
    if (!found)
        return 0;
    first = end - found->bytes;
    if (map_take(slot, first, &object))
        map_shrink(s, slot, &object, first < start ? end - start : object.bytes, first);
    return 0;
}

/* ---- calls */

struct map_args {
    __u64 address, bytes, flags;
    bool wanted;
};

static __always_inline void read_args(REGS *regs, __u32 kind, struct map_args *ret)
{
    __u64 args[5] = {ARG(regs, 0), ARG(regs, 1), ARG(regs, 2), ARG(regs, 3), ARG(regs, 4)};

    for (int i = 0; i < 5; i++)
        barrier_var(args[i]);
    ret->address = args[0];
    ret->bytes = MAP_PAGES(args[1]);
    ret->flags = args[3];
    ret->wanted = kind == HEAP_MAP && (args[3] & HEAP_MAP_TYPE) == HEAP_MAP_PRIVATE && (args[3] & HEAP_MAP_ANONYMOUS) && args[2] != 0 &&
                  ret->bytes >= HEAP_MAP_LEAST;
}

/* A part of one, too: what is left of it stays. 0: it is none that is known. */
static __always_inline int remap_begins(REGS *regs, const struct hit *h, struct heap_call *call, struct map_args *args)
{
    __u64 bytes = args->bytes, target = ARG(regs, 4);
    struct heap_object object;

    barrier_var(target);
    args->bytes = ARG(regs, 2);
    barrier_var(args->bytes);
    args->bytes = MAP_PAGES(args->bytes);
    if (!map_take(h->slot, args->address, &object))
        return 0;
    if (args->flags & HEAP_REMAP_FIXED)
        range_ends(h->s, h->slot, target, target + args->bytes);
    call->had_old = bytes == object.bytes;
    if (call->had_old)
        call->old_object = object;
    else
        map_shrink(h->s, h->slot, &object, bytes, args->address + bytes);
    return 1;
}

/* Not inline, as call_begins. */
static __noinline __u32 map_begins(REGS *regs, struct session_ctl *s, __u32 slot, __u32 kind)
{
    struct hit h = {.s = s, .sp = regs->sp, .slot = slot, .kind = kind};
    struct heap_call *call;
    struct map_args args;

    if (!s || !is_programs_own(regs, slot))
        return NEXT_NOTHING;
    read_args(regs, kind, &args);
    if (kind == HEAP_UNMAP || (kind == HEAP_MAP && (args.flags & HEAP_MAP_FIXED)))
        range_ends(s, slot, args.address, args.address + args.bytes);
    if (kind == HEAP_UNMAP || (kind == HEAP_MAP && !args.wanted))
        return NEXT_NOTHING;
    h.session = session_number(s, slot);
    call = call_to_begin(&h);
    if (!call)
        return NEXT_NOTHING;
    call->had_old = 0;
    if (kind == HEAP_REMAP && !remap_begins(regs, &h, call, &args))
        return NEXT_NOTHING;
    call->sp = h.sp;
    call->sampled = 1;
    call->mapped = 1;
    call->may_throw = 0;
    call->bytes = args.bytes;
    call->old = args.address;
    call->out = 0;
    return NEXT_STACK;
}

static __noinline int map_ends(struct session_ctl *s, __u32 slot, struct heap_call *call, __u64 address)
{
    struct heap_object object = {};
    bool failed = address > ~0ull - MAP_LAST_ERROR;

    if (!s || !call)
        return 0;
    if (call->had_old) {
        object = call->old_object;
        if (failed)
            map_put(s, slot, call->old, &object);
        else
            count_free(s, slot, &object);
    }
    if (failed || !call->sampled)
        return 0;
    object.stack_hash[0] = call->stack_hash[0];
    object.stack_hash[1] = call->stack_hash[1];
    object.bytes = call->bytes;
    object.weight = call->bytes;
    object.epoch = call->epoch;
    object.part = 0;
    __sync_fetch_and_add(&s->samples, 1);
    if (!count_alloc(s, slot, &object))
        map_put(s, slot, address, &object);
    return 0;
}
