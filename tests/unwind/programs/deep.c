/* Deeper than a walk goes: recursion of 1,100 frames, and a return to the top. */
#include <stdint.h>

static volatile uint64_t sink;

__attribute__((noinline)) uint64_t dive(unsigned depth)
{
    uint64_t below = depth ? dive(depth - 1) : sink;

    sink += below;
    return below + depth;
}

int main(void)
{
    return (int)dive(1100) & 0;
}
