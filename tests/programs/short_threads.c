/* Threads that live for 1 ms of CPU each (work_us=), born all the time, lanes= of them side by side. Events
 * that are bound to threads never see them, since each new thread starts a whole new period. */
#include <pthread.h>

#include "program.h"

#define MAX_LANES 64

static struct tally tallies[] = { { .name = "short_work" } };
static uint64_t work_ns;

static NOINLINE void short_work(void)
{
    BURN(&tallies[0], work_ns);
    __atomic_fetch_add(&tallies[0].calls, 1, __ATOMIC_RELAXED);
}

static void *short_life(void *unused)
{
    (void)unused;
    short_work();
    return NULL;
}

static void *lane(void *unused)
{
    pthread_t thread;

    (void)unused;
    while (program_running())
        if (pthread_create(&thread, NULL, short_life, NULL) == 0)
            pthread_join(thread, NULL);
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t threads[MAX_LANES];
    long lanes;

    program_init(argc, argv, tallies, 1);
    work_ns = (uint64_t)program_option("work_us", 1000) * 1000;
    lanes = program_option("lanes", 1);
    for (long i = 0; i < lanes && i < MAX_LANES; i++)
        if (pthread_create(&threads[i], NULL, lane, NULL) != 0)
            program_cannot("start threads");
    program_ready();
    for (long i = 0; i < lanes && i < MAX_LANES; i++)
        pthread_join(threads[i], NULL);
    return program_end();
}
