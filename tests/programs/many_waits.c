/* Idle until told: at "go", threads=7000 threads go to wait, each for a lock of its own, and once all sleep release_each wakes one after the
 * other. Its calls in the truth are those that it woke. The locks lie at random places: others fill a table by their addresses evenly. */
#include <linux/futex.h>
#include <pthread.h>
#include <stdlib.h>

#include "program.h"

static struct tally tallies[] = { { .name = "release_each" } };
#define SPREAD 256 /* words for each */

static uint32_t *words; /* 2: held, and waited for */
static uint32_t **locks;
static unsigned n_threads;

static void *wait_own(void *arg)
{
    uint32_t *lock = arg;

    while (__atomic_load_n(lock, __ATOMIC_ACQUIRE) == 2)
        syscall(SYS_futex, lock, FUTEX_WAIT_PRIVATE, 2, NULL, NULL, 0);
    return NULL;
}

static NOINLINE bool release_each(uint32_t *lock)
{
    long woken;

    __atomic_store_n(lock, 0, __ATOMIC_RELEASE);
    woken = syscall(SYS_futex, lock, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    KEEP_FRAME();
    return woken == 1;
}

static void on_line(const char *line)
{
    pthread_t *threads = line[0] == 'g' ? calloc(n_threads, sizeof(*threads)) : NULL;
    pthread_attr_t attr;

    if (!threads)
        return;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, 64 << 10);
    for (unsigned i = 0; i < n_threads; i++) {
        *locks[i] = 2;
        if (pthread_create(&threads[i], &attr, wait_own, locks[i]) != 0)
            program_cannot("start threads");
    }
    program_sleep_until(program_clock_ns(CLOCK_MONOTONIC) + 500 * MS_NS);
    for (unsigned i = 0; i < n_threads; i++)
        tallies[0].calls += release_each(locks[i]);
    for (unsigned i = 0; i < n_threads; i++)
        pthread_join(threads[i], NULL);
    pthread_attr_destroy(&attr);
    free(threads);
}

int main(int argc, char **argv)
{
    program_on_line(on_line);
    program_init(argc, argv, tallies, 1);
    n_threads = (unsigned)program_option("threads", 7000);
    locks = calloc(n_threads, sizeof(*locks));
    words = calloc((size_t)n_threads * SPREAD, sizeof(*words));
    if (!locks || !words)
        program_cannot("have memory");
    for (unsigned i = 0; i < n_threads; i++)
        locks[i] = &words[(size_t)i * SPREAD + (unsigned)rand() % SPREAD];
    program_ready();
    while (program_running())
        program_sleep_until(program_clock_ns(CLOCK_MONOTONIC) + 1000 * MS_NS);
    return program_end();
}
