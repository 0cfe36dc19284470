/* The stack engine in the kernel, over registers that it is given and the memory of the process that runs it: beside the host's build of
 * the same code, frame for frame. */
#include "bpf/kernel_types.h"

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "bpf/stack_walk.h"
#include "bpf/unwind.h"
#include "tests/unwind/kernel_walk_case.h"

struct slab_map {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, UNWIND_SLAB_CHUNKS);
    __uint(key_size, sizeof(__u32));
    __uint(value_size, UNWIND_CHUNK_BYTES);
};
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
    __uint(max_entries, UNWIND_MAX_SLABS);
    __type(key, __u32);
    __array(values, struct slab_map);
} slabs SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, STACK_CACHE_ENTRIES);
    __type(key, __u32);
    __type(value, struct stack_cached);
} cached_rules SEC(".maps");

char LICENSE[] SEC("license") = "GPL";

struct kernel_walk_case given;
struct stack_walk walk;

static long stack_read(void *to, __u32 size, __u64 address)
{
    return bpf_probe_read_user(to, size, (void *)address);
}

static __always_inline const __u8 *stack_chunk(__u32 place)
{
    __u32 slab = UNWIND_PLACE_SLAB(place), chunk = UNWIND_PLACE_CHUNK(place);
    void *chunks = place ? bpf_map_lookup_elem(&slabs, &slab) : NULL;

    return chunks ? bpf_map_lookup_elem(chunks, &chunk) : NULL;
}

static __always_inline struct stack_cached *stack_cache(__u32 index)
{
    return bpf_map_lookup_elem(&cached_rules, &index);
}

static __always_inline int stack_register(__u32 reg, __u64 *ret)
{
    if (reg >= KERNEL_WALK_REGISTERS)
        return 0;
    *ret = given.registers[reg];
    return 1;
}

static __always_inline __u64 stack_probed_return(__u64 slot)
{
    return 0;
}

#include "bpf/stack.h"

#define STEPS 32

STACK_GLOBAL int steps(struct stack_walk *w)
{
    if (!w)
        return 0;
    for (__u32 i = 0; i < STEPS; i++)
        if (!stack_step(w))
            return 0;
    return 1;
}

SEC("raw_tp")
int walk_given(void *ctx)
{
    walk.pc = given.pc;
    walk.sp = given.registers[STACK_SP];
    walk.fp = given.registers[STACK_FP];
    walk.space = given.space;
    walk.by_fp = 0;
    walk.registers = 0;
    walk.mapping.end = 0;
    walk.guessed_fp = 0;
    walk.exact = 1;
    walk.end = STACK_END_TOO_DEEP;
    walk.n = 0;
    walk.record.n_kernel = 0;
    stack_begin(&walk);
    stack_push(&walk, STACK_FRAME_EXACT);
    for (__u32 i = 0; i < STEPS; i++)
        if (!steps(&walk))
            break;
    return 0;
}
