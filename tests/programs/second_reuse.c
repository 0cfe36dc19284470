/* One of the two libraries that library_reuse.c loads in turn. */
#include "program.h"

void second_library_work(struct tally *tally, uint64_t ns);

NOINLINE void second_library_work(struct tally *tally, uint64_t ns)
{
    BURN(tally, ns);
}
