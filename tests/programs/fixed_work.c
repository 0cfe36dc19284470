/* For each line read: a fixed amount of work (rounds=), below depth= calls; the truth has its CPU time.
 * Whatever else the CPU does in this thread's name meanwhile, such as a profiler's interrupts, makes it
 * longer. */
#include "program.h"

static struct tally tallies[] = { { .name = "fixed_work" } };
static volatile uint64_t sink;

static NOINLINE uint64_t work_at(long depth, uint64_t rounds)
{
    uint64_t x = 1;

    if (depth > 0)
        return work_at(depth - 1, rounds) + (uint64_t)depth;
    for (uint64_t i = 0; i < rounds; i++)
        x = x * 6364136223846793005ull + 1442695040888963407ull;
    return x;
}

static void work(const char *line)
{
    uint64_t start_ns = program_clock_ns(CLOCK_THREAD_CPUTIME_ID);

    (void)line;
    sink += work_at(program_option("depth", 10), (uint64_t)program_option("rounds", 1000000000));
    tallies[0].cpu_ns += program_clock_ns(CLOCK_THREAD_CPUTIME_ID) - start_ns;
    tallies[0].calls++;
}

int main(int argc, char **argv)
{
    program_on_line(work);
    program_init(argc, argv, tallies, 1);
    program_ready();
    while (program_running())
        program_sleep_until(program_clock_ns(CLOCK_MONOTONIC) + 1000 * MS_NS);
    return program_end();
}
