/* Makes threads=2000 threads wait_ms= after it is ready, all alive at once; each burns a little in
 * thread_work, then sleeps until the end. Meanwhile the main thread burns in main_work. */
#include <pthread.h>

#include "program.h"

static struct tally tallies[] = { { .name = "main_work" }, { .name = "thread_work" } };

static NOINLINE void main_work(void)
{
    BURN(&tallies[0], MS_NS);
}

static NOINLINE void thread_work(void)
{
    BURN(&tallies[1], MS_NS / 2);
    __atomic_fetch_add(&tallies[1].calls, 1, __ATOMIC_RELAXED);
}

static void *thread_main(void *unused)
{
    (void)unused;
    thread_work();
    while (program_running())
        program_sleep_until(program_clock_ns(CLOCK_MONOTONIC) + 100 * MS_NS);
    return NULL;
}

static void start_threads(long n_threads)
{
    pthread_attr_t attr;
    pthread_t thread;

    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, 64 * 1024);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    for (long i = 0; i < n_threads; i++)
        if (pthread_create(&thread, &attr, thread_main, NULL) != 0)
            program_cannot("start threads");
    pthread_attr_destroy(&attr);
}

int main(int argc, char **argv)
{
    uint64_t start_ns;
    bool started = false;

    program_init(argc, argv, tallies, 2);
    start_ns = program_clock_ns(CLOCK_MONOTONIC) + (uint64_t)program_option("wait_ms", 200) * MS_NS;
    program_ready();
    while (program_running()) {
        main_work();
        if (!started && program_clock_ns(CLOCK_MONOTONIC) >= start_ns) {
            start_threads(program_option("threads", 2000));
            started = true;
        }
    }
    return program_end();
}
