/* Threads that live for a known wait and no longer: each sleeps for wait_ms= (2) in short_wait and ends; lanes= (4) of them side by side, each
 * started by one that then waits for it in join_it. A thread's whole life is noted (wait_log.h) twice: as it saw it itself ("inner"), and from
 * before its start to behind its end ("outer"). */
#include <pthread.h>

#include "program.h"
#include "wait_log.h"

#define MAX_LANES 64

static struct tally tallies[] = { { .name = "short_wait" } };
static uint64_t wait_ns;

static NOINLINE void short_wait(void)
{
    LOGGED("sleep", "", program_sleep_until(program_clock_ns(CLOCK_MONOTONIC) + wait_ns));
    __atomic_fetch_add(&tallies[0].calls, 1, __ATOMIC_RELAXED);
}

static void *short_life(void *unused)
{
    uint32_t life = wait_begin("short_life", "inner", "");

    (void)unused;
    short_wait();
    wait_end(life);
    return NULL;
}

static NOINLINE void join_it(pthread_t thread)
{
    LOGGED("lock", "", pthread_join(thread, NULL));
}

static void *lane(void *unused)
{
    pthread_t thread;

    (void)unused;
    while (program_running()) {
        uint32_t life = wait_begin("short_life", "outer", "");

        if (pthread_create(&thread, NULL, short_life, NULL) != 0)
            program_cannot("start threads");
        join_it(thread);
        wait_end(life);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t threads[MAX_LANES];
    long lanes;

    wait_log_init();
    program_init(argc, argv, tallies, 1);
    wait_ns = (uint64_t)program_option("wait_ms", 2) * MS_NS;
    lanes = program_option("lanes", 4);
    for (long i = 0; i < lanes && i < MAX_LANES; i++)
        if (pthread_create(&threads[i], NULL, lane, NULL) != 0)
            program_cannot("start threads");
    program_ready();
    for (long i = 0; i < lanes && i < MAX_LANES; i++)
        pthread_join(threads[i], NULL);
    return program_end();
}
