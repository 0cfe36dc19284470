/* Makes threads in known places. Three that begin in old_start are there before it is ready; for each line "N" of standard input make_first makes
 * N and make_second 2 N more, which begin in brief_start and end at once. At the same time each makes a process, which is no thread. The
 * truth counts the threads that were made. */
#include <pthread.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "program.h"

#define OLD 3

static struct tally tallies[] = { { .name = "make_first" }, { .name = "make_second" }, { .name = "old_start" } };

static void *old_start(void *unused)
{
    while (program_running())
        program_sleep_until(program_clock_ns(CLOCK_MONOTONIC) + 50 * MS_NS);
    return unused;
}

static void *brief_start(void *unused)
{
    return unused;
}

static void make(void)
{
    pthread_t thread;

    if (pthread_create(&thread, NULL, brief_start, NULL) != 0)
        program_cannot("start a thread");
    (void)pthread_join(thread, NULL);
}

static NOINLINE void make_first(void)
{
    make();
    __atomic_fetch_add(&tallies[0].calls, 1, __ATOMIC_RELAXED);
}

static NOINLINE void make_second(void)
{
    make();
    __atomic_fetch_add(&tallies[1].calls, 1, __ATOMIC_RELAXED);
}

static void make_process(void)
{
    pid_t pid = fork();

    if (pid == 0)
        _exit(0);
    (void)waitpid(pid, NULL, 0);
}

static void on_line(const char *line)
{
    for (int i = 0; i < atoi(line); i++) {
        make_first();
        make_second();
        make_second();
        make_process();
    }
}

int main(int argc, char **argv)
{
    pthread_t thread;

    program_on_line(on_line);
    program_init(argc, argv, tallies, sizeof(tallies) / sizeof(tallies[0]));
    for (int i = 0; i < OLD; i++)
        if (pthread_create(&thread, NULL, old_start, NULL) != 0)
            program_cannot("start a thread");
    tallies[2].calls = OLD;
    program_ready();
    while (program_running())
        program_sleep_until(program_clock_ns(CLOCK_MONOTONIC) + 50 * MS_NS);
    return program_end();
}
