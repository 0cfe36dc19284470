/* Half a period in one function, half in the other (half_us=5000): a sampler of exactly that period sees
 * only one of them. clock=cpu (default) makes the halves equal in CPU time, whatever else runs; clock=wall
 * keeps them in step with a timer on a busy machine too, where their CPU times differ: the tally says which
 * they were. */
#include <string.h>

#include "program.h"

static struct tally tallies[] = { { .name = "first_half" }, { .name = "second_half" } };
static clockid_t half_clock = CLOCK_THREAD_CPUTIME_ID;
static uint64_t half_ns;

static NOINLINE void first_half(void)
{
    BURN_BY(half_clock, &tallies[0], half_ns);
}

static NOINLINE void second_half(void)
{
    BURN_BY(half_clock, &tallies[1], half_ns);
}

int main(int argc, char **argv)
{
    program_init(argc, argv, tallies, 2);
    half_ns = (uint64_t)program_option("half_us", 5000) * 1000;
    if (strcmp(program_option_text("clock", "cpu"), "wall") == 0)
        half_clock = CLOCK_MONOTONIC;
    program_ready();
    while (program_running()) {
        first_half();
        second_half();
    }
    return program_end();
}
