/* The hot code is inlined two deep into hot_outer (hot_middle and hot_inner have no symbol of their own):
 * debug information alone knows their names. */
#include "program.h"

static struct tally tallies[] = { { .name = "hot_outer" } };
static volatile unsigned sink;

static inline __attribute__((always_inline)) unsigned hot_inner(unsigned x)
{
    for (unsigned i = 0; i < 20000; i++)
        x = x * 1664525u + 1013904223u;
    return x;
}

static inline __attribute__((always_inline)) unsigned hot_middle(unsigned x)
{
    return hot_inner(x) + 1;
}

static NOINLINE void hot_outer(void)
{
    uint64_t start_ns = program_clock_ns(CLOCK_THREAD_CPUTIME_ID);

    for (unsigned i = 0; i < 100; i++)
        sink = hot_middle(sink);
    tallies[0].cpu_ns += program_clock_ns(CLOCK_THREAD_CPUTIME_ID) - start_ns;
}

int main(int argc, char **argv)
{
    program_init(argc, argv, tallies, 1);
    program_ready();
    while (program_running())
        hot_outer();
    return program_end();
}
