/* Idle until told: a line with a number N makes it do N of each thing that an event can count, and then say
 * so. N calls of counted_function (a uprobe's), N hits of the probe cprofd_test:counted (USDT), N page
 * faults, N sleeps, each a context switch as a rule, N getppid system calls (a tracepoint's). */
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#ifdef HAVE_SDT
#include <sys/sdt.h>
#else
#define DTRACE_PROBE1(provider, name, argument) ((void)(argument))
#endif

#include "program.h"

static struct tally tallies[] = {
    { .name = "counted_function" },   { .name = "count_faults" }, { .name = "count_switches" },
    { .name = "count_system_calls" }, { .name = "count_probes" },
};
static volatile uint64_t sink;

static NOINLINE void counted_function(uint64_t i)
{
    sink += i;
    tallies[0].calls++;
}

static NOINLINE void count_faults(uint64_t n)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    volatile char *pages = mmap(NULL, n * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (pages == MAP_FAILED)
        program_cannot("map memory");
    madvise((void *)pages, n * page, MADV_NOHUGEPAGE);
    for (uint64_t i = 0; i < n; i++)
        pages[i * page] = 1;
    munmap((void *)pages, n * page);
    tallies[1].calls += n;
}

static uint64_t switches(void)
{
    struct rusage usage = {};

    program_syscall(SYS_getrusage, RUSAGE_THREAD, (long)&usage, 0);
    return (uint64_t)usage.ru_nvcsw + (uint64_t)usage.ru_nivcsw;
}

/* Its calls are the switches that there were: a sleep whose time is over before it begins makes none, and the thread may be
 * preempted. */
static NOINLINE void count_switches(uint64_t n)
{
    struct timespec shortest = { .tv_nsec = 1 };
    uint64_t before = switches();

    for (uint64_t i = 0; i < n; i++)
        program_syscall(SYS_nanosleep, (long)&shortest, 0, 0);
    tallies[2].calls += switches() - before;
}

static NOINLINE void count_system_calls(uint64_t n)
{
    for (uint64_t i = 0; i < n; i++)
        program_syscall(SYS_getppid, 0, 0, 0);
    tallies[3].calls += n;
}

static NOINLINE void count_probes(uint64_t n)
{
    for (uint64_t i = 0; i < n; i++)
        DTRACE_PROBE1(cprofd_test, counted, i);
    tallies[4].calls += n;
}

static void do_all(const char *line)
{
    uint64_t n = strtoull(line, NULL, 0);

    if (n == 0)
        return;
    for (uint64_t i = 0; i < n; i++)
        counted_function(i);
    count_faults(n);
    count_switches(n);
    count_system_calls(n);
    count_probes(n);
}

int main(int argc, char **argv)
{
    program_on_line(do_all);
    program_init(argc, argv, tallies, sizeof(tallies) / sizeof(tallies[0]));
    program_ready();
    while (program_running())
        program_sleep_until(program_clock_ns(CLOCK_MONOTONIC) + 1000 * MS_NS);
    return program_end();
}
