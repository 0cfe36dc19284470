/* The library that late_library.c loads: built without frame pointers, each function with a frame of its own. */
#include "program.h"

void late_outer(struct tally *tally, uint64_t ns);

static NOINLINE void late_inner(struct tally *tally, uint64_t ns)
{
    BURN(tally, ns);
}

static NOINLINE void late_middle(struct tally *tally, uint64_t ns)
{
    volatile char room[200] = {};

    late_inner(tally, ns);
    room[ns % sizeof(room)] = 1;
}

NOINLINE void late_outer(struct tally *tally, uint64_t ns)
{
    late_middle(tally, ns);
    __asm__ volatile("" ::: "memory"); /* the call is not the last thing that it does */
}
