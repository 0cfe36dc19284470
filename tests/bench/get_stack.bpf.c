/* The kernel's own walk of user stacks, by frame pointers, and what it costs: the measure of ours. */
#include "bpf/kernel_types.h"

#include <linux/bpf.h>
#include <linux/bpf_perf_event.h>

#include <bpf/bpf_helpers.h>

#include "tests/bench/get_stack.h"

#define MAX_FRAMES 127

char LICENSE[] SEC("license") = "GPL";

const volatile __u32 target;

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, __u64[MAX_FRAMES]);
} stacks SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct get_stack_sum);
} sums SEC(".maps");

SEC("perf_event")
int on_tick(struct bpf_perf_event_data *ctx)
{
    __u64 begin = bpf_ktime_get_ns();
    __u32 zero = 0;
    struct get_stack_sum *sum = bpf_map_lookup_elem(&sums, &zero);
    void *stack = bpf_map_lookup_elem(&stacks, &zero);
    struct task_struct *task = bpf_get_current_task_btf();
    long bytes;

    if (!sum || !stack || (__u32)task->tgid != target)
        return 0;
    bytes = bpf_get_stack(ctx, stack, MAX_FRAMES * sizeof(__u64), BPF_F_USER_STACK);
    sum->ns += bpf_ktime_get_ns() - begin;
    sum->samples++;
    if (bytes > 0)
        sum->frames += bytes / sizeof(__u64);
    return 0;
}
