/* Threads that live for 1 ms of CPU each (work_us=), born all the time, lanes= of them side by side. Events
 * that are bound to threads never see them, since each new thread starts a whole new period. With wait_us= each first waits, once: every
 * other one of a lane so long in wait_short, the others three times as long in wait_long. Their calls are the ns that it took. */
#include <pthread.h>

#include "program.h"

#define MAX_LANES 64

static struct tally tallies[] = { { .name = "short_work" }, { .name = "wait_short" }, { .name = "wait_long" } };
static uint64_t work_ns, wait_ns;

static void wait_for(struct tally *tally, uint64_t ns)
{
    uint64_t began_ns = program_clock_ns(CLOCK_MONOTONIC);

    program_sleep_until(began_ns + ns);
    __atomic_fetch_add(&tally->calls, program_clock_ns(CLOCK_MONOTONIC) - began_ns, __ATOMIC_RELAXED);
}

static NOINLINE void wait_short(void)
{
    wait_for(&tallies[1], wait_ns);
    KEEP_FRAME();
}

static NOINLINE void wait_long(void)
{
    wait_for(&tallies[2], 3 * wait_ns);
    KEEP_FRAME();
}

static NOINLINE void short_work(void)
{
    BURN(&tallies[0], work_ns);
    __atomic_fetch_add(&tallies[0].calls, 1, __ATOMIC_RELAXED);
}

static void *short_life(void *is_long)
{
    if (wait_ns && is_long)
        wait_long();
    else if (wait_ns)
        wait_short();
    short_work();
    return NULL;
}

static void *lane(void *unused)
{
    pthread_t thread;
    bool is_long = false;

    (void)unused;
    for (; program_running(); is_long = !is_long)
        if (pthread_create(&thread, NULL, short_life, is_long ? &tallies[2] : NULL) == 0)
            pthread_join(thread, NULL);
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t threads[MAX_LANES];
    long lanes;

    program_init(argc, argv, tallies, 3);
    work_ns = (uint64_t)program_option("work_us", 1000) * 1000;
    wait_ns = (uint64_t)program_option("wait_us", 0) * 1000;
    lanes = program_option("lanes", 1);
    for (long i = 0; i < lanes && i < MAX_LANES; i++)
        if (pthread_create(&threads[i], NULL, lane, NULL) != 0)
            program_cannot("start threads");
    program_ready();
    for (long i = 0; i < lanes && i < MAX_LANES; i++)
        pthread_join(threads[i], NULL);
    return program_end();
}
