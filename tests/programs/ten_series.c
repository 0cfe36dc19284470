/* Ten functions of 1 : 2 : ... : 10 parts of the time, one after the other in one thread. A round takes 55
 * * unit_us of CPU, by default 5.5 ms: short against any window, and no multiple of a usual sampling
 * period. */
#include "program.h"

#define N_FUNCTIONS 10

static struct tally tallies[N_FUNCTIONS] = {
    { .name = "part1" }, { .name = "part2" }, { .name = "part3" }, { .name = "part4" }, { .name = "part5" },
    { .name = "part6" }, { .name = "part7" }, { .name = "part8" }, { .name = "part9" }, { .name = "part10" },
};
static uint64_t unit_ns;

#define PART(n)                                       \
    static NOINLINE void part##n(void)                \
    {                                                 \
        BURN(&tallies[n - 1], n * unit_ns);           \
    }

PART(1)
PART(2)
PART(3)
PART(4)
PART(5)
PART(6)
PART(7)
PART(8)
PART(9)
PART(10)

int main(int argc, char **argv)
{
    void (*const parts[N_FUNCTIONS])(void) = {
        part1, part2, part3, part4, part5, part6, part7, part8, part9, part10,
    };

    program_init(argc, argv, tallies, N_FUNCTIONS);
    unit_ns = (uint64_t)program_option("unit_us", 100) * 1000;
    program_ready();
    while (program_running())
        for (unsigned i = 0; i < N_FUNCTIONS; i++)
            parts[i]();
    return program_end();
}
