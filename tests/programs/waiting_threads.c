/* Threads (threads=1000) that wait and do hardly anything else, in one of four ways by turns: wait_in_read (an empty pipe), wait_on_cond,
 * wait_in_sleep and wait_in_poll, under depth= frames (default 4). wake_ms= wakes each sleeper so often, and the threads of the other three
 * ways never; with all=1 all of them sleep so, each from a moment of its own on. 0, the default, is no wake at all: threads that never
 * switch. worker=1 adds a thread that burns CPU time in worker_work. clock=1 adds a thread with a clock of 1 kHz, which notes the longest gap
 * between two of its ticks since the last line of standard input (and how many ticks there were). The truth counts, for each way, the threads
 * that wait in it. */
#include <poll.h>
#include <pthread.h>
#include <sys/resource.h>

#include "program.h"

enum way { READ, COND, SLEEP, POLL, N_WAYS };

static struct tally tallies[N_WAYS + 1] = {
    { .name = "wait_in_read" }, { .name = "wait_on_cond" }, { .name = "wait_in_sleep" }, { .name = "wait_in_poll" }, { .name = "worker_work" },
};
static int never[2];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t never_signalled = PTHREAD_COND_INITIALIZER;
static uint64_t wake_ns, longest_ns, n_ticks;
static long depth;

static NOINLINE void wait_in_read(void)
{
    char byte;

    if (read(never[0], &byte, 1) != 0)
        program_cannot("wait for a pipe");
}

static NOINLINE void wait_on_cond(void)
{
    pthread_mutex_lock(&lock);
    for (;;)
        pthread_cond_wait(&never_signalled, &lock);
}

static NOINLINE void wait_in_sleep(uint64_t first_ns)
{
    if (wake_ns == 0)
        for (;;)
            sleep(1000000);
    for (uint64_t at_ns = program_clock_ns(CLOCK_MONOTONIC) + first_ns;; at_ns += wake_ns)
        program_sleep_until(at_ns);
}

static NOINLINE void wait_in_poll(void)
{
    struct pollfd one = { .fd = never[0], .events = POLLIN };

    poll(&one, 1, -1);
    program_cannot("wait for a pipe by poll");
}

static NOINLINE void descend(long left, enum way way, uint64_t first_ns)
{
    if (left > 0)
        descend(left - 1, way, first_ns);
    else if (way == READ)
        wait_in_read();
    else if (way == COND)
        wait_on_cond();
    else if (way == SLEEP)
        wait_in_sleep(first_ns);
    else
        wait_in_poll();
    KEEP_FRAME();
}

static void *waiter(void *arg)
{
    long i = (long)arg;
    enum way way = program_option("all", 0) ? SLEEP : (enum way)(i % N_WAYS);

    __atomic_fetch_add(&tallies[way].calls, 1, __ATOMIC_RELAXED);
    descend(depth, way, wake_ns / 997 * (uint64_t)(i % 997));
    return NULL;
}

static void *clock_thread(void *unused)
{
    uint64_t last_ns = program_clock_ns(CLOCK_MONOTONIC);

    (void)unused;
    for (uint64_t at_ns = last_ns + MS_NS;; at_ns += MS_NS) {
        uint64_t now_ns;

        program_sleep_until(at_ns);
        now_ns = program_clock_ns(CLOCK_MONOTONIC);
        if (now_ns - last_ns > __atomic_load_n(&longest_ns, __ATOMIC_RELAXED))
            __atomic_store_n(&longest_ns, now_ns - last_ns, __ATOMIC_RELAXED);
        __atomic_fetch_add(&n_ticks, 1, __ATOMIC_RELAXED);
        last_ns = now_ns;
    }
    return NULL;
}

static NOINLINE void worker_work(void)
{
    BURN(&tallies[N_WAYS], 10 * MS_NS);
}

static void *worker(void *unused)
{
    (void)unused;
    while (program_running())
        worker_work();
    return NULL;
}

static void note_gap(const char *line)
{
    (void)line;
    program_note("longest_gap_ns", __atomic_exchange_n(&longest_ns, 0, __ATOMIC_RELAXED));
    program_note("ticks", __atomic_exchange_n(&n_ticks, 0, __ATOMIC_RELAXED));
}

static void start(void *(*function)(void *), long arg)
{
    static pthread_attr_t attr;
    static bool ready;
    pthread_t id;

    if (!ready) {
        pthread_attr_init(&attr);
        pthread_attr_setstacksize(&attr, 64 * 1024);
        pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
        ready = true;
    }
    if (pthread_create(&id, &attr, function, (void *)arg) != 0)
        program_cannot("start threads");
}

int main(int argc, char **argv)
{
    uint64_t n_started;
    long n_threads;

    program_on_line(note_gap);
    program_init(argc, argv, tallies, N_WAYS + 1);
    wake_ns = (uint64_t)program_option("wake_ms", 0) * MS_NS;
    depth = program_option("depth", 4);
    n_threads = program_option("threads", 1000);
    if (pipe(never) < 0)
        program_cannot("make a pipe");
    for (long i = 0; i < n_threads; i++)
        start(waiter, i);
    do {
        program_sleep_until(program_clock_ns(CLOCK_MONOTONIC) + 50 * MS_NS);
        n_started = 0;
        for (unsigned i = 0; i < N_WAYS; i++)
            n_started += __atomic_load_n(&tallies[i].calls, __ATOMIC_RELAXED);
    } while (n_started < (uint64_t)n_threads);
    if (program_option("clock", 0))
        start(clock_thread, 0);
    if (program_option("worker", 0))
        start(worker, 0);
    program_ready();
    while (program_running())
        program_sleep_until(program_clock_ns(CLOCK_MONOTONIC) + 1000 * MS_NS);
    return program_end();
}
