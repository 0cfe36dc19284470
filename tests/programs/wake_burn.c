/* Wakes every 10 ms (every_us=) and burns 1 ms (burn_us=): in step with a 100 Hz timer, which then sees all
 * or nothing. */
#include "program.h"

static struct tally tallies[] = { { .name = "woken_work" } };

static NOINLINE void woken_work(uint64_t ns)
{
    BURN(&tallies[0], ns);
    tallies[0].calls++;
}

int main(int argc, char **argv)
{
    uint64_t every_ns, burn_ns, next_ns;

    program_init(argc, argv, tallies, 1);
    every_ns = (uint64_t)program_option("every_us", 10000) * 1000;
    burn_ns = (uint64_t)program_option("burn_us", 1000) * 1000;
    program_ready();
    next_ns = program_clock_ns(CLOCK_MONOTONIC);
    while (program_running()) {
        uint64_t now_ns = program_clock_ns(CLOCK_MONOTONIC);

        while (next_ns <= now_ns)
            next_ns += every_ns;
        program_sleep_until(next_ns);
        woken_work(burn_ns);
    }
    return program_end();
}
