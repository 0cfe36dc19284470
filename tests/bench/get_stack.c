/* get_stack PID SECONDS PERIOD_NS: samples a process with bpf_get_stack, and says what that cost: "SAMPLES FRAMES NS". */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "get_stack.skel.h"
#include "tests/bench/get_stack.h"

#define MAX_CPUS 1024

static int attach_all(struct get_stack_bpf *object, uint64_t period_ns)
{
    for (int cpu = 0; cpu < libbpf_num_possible_cpus(); cpu++) {
        struct perf_event_attr attr = {
            .type = PERF_TYPE_SOFTWARE, .size = sizeof(attr), .config = PERF_COUNT_SW_CPU_CLOCK, .sample_period = period_ns,
        };
        int fd = (int)syscall(SYS_perf_event_open, &attr, -1, cpu, -1, PERF_FLAG_FD_CLOEXEC);
        if (fd >= 0 && !bpf_program__attach_perf_event(object->progs.on_tick, fd))
            return -1;
    }
    return 0;
}

int main(int argc, char **argv)
{
    static struct get_stack_sum sums[MAX_CPUS];
    struct get_stack_sum all = {0};
    uint32_t zero = 0;

    struct get_stack_bpf *object = argc == 4 ? get_stack_bpf__open() : NULL;
    if (!object)
        return 2;
    object->rodata->target = (uint32_t)atoi(argv[1]);
    if (get_stack_bpf__load(object) < 0 || attach_all(object, strtoull(argv[3], NULL, 10)) < 0)
        return 1;
    (void)usleep((useconds_t)(atof(argv[2]) * 1e6));
    if (libbpf_num_possible_cpus() > MAX_CPUS || bpf_map_lookup_elem(bpf_map__fd(object->maps.sums), &zero, sums) < 0)
        return 1;
    for (int cpu = 0; cpu < libbpf_num_possible_cpus(); cpu++) {
        all.samples += sums[cpu].samples;
        all.frames += sums[cpu].frames;
        all.ns += sums[cpu].ns;
    }
    printf("%llu %llu %llu\n", all.samples, all.frames, all.ns);
    get_stack_bpf__destroy(object);
    return 0;
}
