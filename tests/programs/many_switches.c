/* Pairs of threads (pairs=, default 50) that pass a byte to and fro through two pipes, with some work (work_us=, default 15) in between: 100,000
 * switches a second and more on two CPUs. The truth has each thread's round trips. Threads are called "ping N" and "pong N". */
#include <pthread.h>
#include <stdio.h>
#include <sys/prctl.h>

#include "program.h"

#define MAX_PAIRS 500

static struct tally tallies[] = { { .name = "works" } };
static int to_pong[MAX_PAIRS][2], to_ping[MAX_PAIRS][2];
static uint64_t work_ns;

static NOINLINE void works(void)
{
    uint64_t end_ns = program_clock_ns(CLOCK_THREAD_CPUTIME_ID) + work_ns;

    while (program_clock_ns(CLOCK_THREAD_CPUTIME_ID) < end_ns)
        ;
    KEEP_FRAME();
}

static NOINLINE void pass_byte(int from, int to)
{
    char byte;

    if (read(from, &byte, 1) != 1)
        program_cannot("read a byte");
    works();
    if (write(to, &byte, 1) != 1)
        program_cannot("write a byte");
    KEEP_FRAME();
}

static void name_thread(const char *what, long pair)
{
    char name[16];

    (void)snprintf(name, sizeof(name), "%s %ld", what, pair);
    (void)prctl(PR_SET_NAME, name);
}

static void *ping_thread(void *arg)
{
    long pair = (long)arg;
    char byte = 0;

    name_thread("ping", pair);
    if (write(to_pong[pair][1], &byte, 1) != 1)
        program_cannot("write a byte");
    while (program_running()) {
        pass_byte(to_ping[pair][0], to_pong[pair][1]);
        __atomic_fetch_add(&tallies[0].calls, 1, __ATOMIC_RELAXED);
    }
    return NULL;
}

static void *pong_thread(void *arg)
{
    long pair = (long)arg;

    name_thread("pong", pair);
    while (program_running())
        pass_byte(to_pong[pair][0], to_ping[pair][1]);
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t thread;

    program_init(argc, argv, tallies, 1);
    long pairs = program_option("pairs", 50);
    work_ns = (uint64_t)program_option("work_us", 15) * 1000;
    for (long i = 0; i < pairs && i < MAX_PAIRS; i++)
        if (pipe(to_pong[i]) != 0 || pipe(to_ping[i]) != 0 || pthread_create(&thread, NULL, pong_thread, (void *)i) != 0 ||
            pthread_create(&thread, NULL, ping_thread, (void *)i) != 0)
            program_cannot("start threads");
    program_ready();
    while (program_running())
        (void)sleep(1);
    return program_end();
}
