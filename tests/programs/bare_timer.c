/* A timer event on each CPU (hz=999) whose samples go nowhere: no program, no buffer. What it costs a
 * target is the price of the interrupt itself, which every profiler pays. For benchmarks; needs root. */
#include <linux/perf_event.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "program.h"

static int open_on(int cpu, uint64_t period_ns)
{
    struct perf_event_attr attr = {
        .type = PERF_TYPE_SOFTWARE,
        .config = PERF_COUNT_SW_CPU_CLOCK,
        .size = sizeof(attr),
        .sample_period = period_ns,
    };

    return (int)syscall(SYS_perf_event_open, &attr, -1, cpu, -1, PERF_FLAG_FD_CLOEXEC);
}

int main(int argc, char **argv)
{
    long n_cpus = sysconf(_SC_NPROCESSORS_ONLN);

    program_init(argc, argv, NULL, 0);
    for (int cpu = 0; cpu < n_cpus; cpu++)
        if (open_on(cpu, 1000000000ull / (uint64_t)program_option("hz", 999)) < 0)
            program_cannot("open a timer event");
    program_ready();
    while (program_running())
        program_sleep_until(program_clock_ns(CLOCK_MONOTONIC) + 1000 * MS_NS);
    return program_end();
}
