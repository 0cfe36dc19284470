/* Asks the time in a loop: most of it is spent in the vdso, which is a file of its own without a path. */
#include "program.h"

static struct tally tallies[] = { { .name = "ask_time" } };
static volatile uint64_t sink;

static NOINLINE void ask_time(void)
{
    uint64_t start_ns = program_clock_ns(CLOCK_THREAD_CPUTIME_ID);

    for (unsigned i = 0; i < 10000; i++)
        sink += program_clock_ns(CLOCK_MONOTONIC);
    tallies[0].cpu_ns += program_clock_ns(CLOCK_THREAD_CPUTIME_ID) - start_ns;
}

int main(int argc, char **argv)
{
    program_init(argc, argv, tallies, 1);
    program_ready();
    while (program_running())
        ask_time();
    return program_end();
}
