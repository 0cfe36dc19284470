/* Recursion of depth= frames (default 100), then the work in bottom_work, again and again: stacks deeper
 * than a walker's bound must say that they were cut. */
#include "program.h"

static struct tally tallies[] = { { .name = "bottom_work" } };

static NOINLINE void bottom_work(void)
{
    BURN(&tallies[0], 20 * MS_NS);
}

static NOINLINE unsigned descend(long depth)
{
    volatile unsigned keeps_the_frame = (unsigned)depth;

    if (depth <= 0)
        bottom_work();
    else
        keeps_the_frame += descend(depth - 1);
    return keeps_the_frame;
}

int main(int argc, char **argv)
{
    long depth;

    program_init(argc, argv, tallies, 1);
    depth = program_option("depth", 100);
    program_ready();
    while (program_running())
        descend(depth);
    return program_end();
}
