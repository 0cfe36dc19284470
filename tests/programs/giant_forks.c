/* A process of mb=1024 MiB that forks all the time: while its page tables are copied its mmap_lock is held
 * for writing, and whoever reads its cmdline or maps waits that long, again and again. */
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "program.h"

static struct tally tallies[] = { { .name = "fork_once" } };

static NOINLINE void fork_once(void)
{
    uint64_t start_ns = program_clock_ns(CLOCK_THREAD_CPUTIME_ID);
    pid_t pid = fork();

    if (pid < 0)
        program_cannot("fork");
    if (pid == 0)
        _exit(0);
    waitpid(pid, NULL, 0);
    tallies[0].calls++;
    tallies[0].cpu_ns += program_clock_ns(CLOCK_THREAD_CPUTIME_ID) - start_ns;
}

int main(int argc, char **argv)
{
    size_t bytes;
    char *memory;

    program_init(argc, argv, tallies, 1);
    bytes = (size_t)program_option("mb", 1024) << 20;
    memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        program_cannot("map memory");
    madvise(memory, bytes, MADV_NOHUGEPAGE);
    for (size_t i = 0; i < bytes; i += 4096)
        memory[i] = 1;
    program_ready();
    while (program_running())
        fork_once();
    return program_end();
}
