/* Has count=100000 mappings, every other page of one region protected otherwise, and burns in mapped_work.
 * Reading its maps takes long. exec=1 makes every second mapping executable. The kernel's vm.max_map_count
 * must allow it. */
#include <sys/mman.h>
#include <unistd.h>

#include "program.h"

static struct tally tallies[] = { { .name = "mapped_work" } };

static NOINLINE void mapped_work(void)
{
    BURN(&tallies[0], MS_NS);
}

static long make_mappings(long count, int prot)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *region = mmap(NULL, page * (size_t)count, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    long made = 0;

    if (region == MAP_FAILED)
        program_cannot("map memory");
    while (made + 2 <= count && mprotect(region + (size_t)made * page, page, prot) == 0)
        made += 2;
    return made;
}

int main(int argc, char **argv)
{
    long count;
    int prot;

    program_init(argc, argv, tallies, 1);
    count = program_option("count", 100000);
    prot = program_option("exec", 0) ? PROT_READ | PROT_EXEC : PROT_NONE;
    program_note("mappings", (uint64_t)make_mappings(count, prot));
    program_ready();
    while (program_running())
        mapped_work();
    return program_end();
}
