/* Allocates by every function of the family, in threads= (4) threads that free each other's memory, rounds= (20000) times each; leaves keep= (1000)
 * blocks live in all. Prints what it allocated as JSON: how often, how many bytes, and what is live at the end. All sizes are 7 mod 16 (record.c).
 * fork=1: a child goes on with the same, and tells of itself alone what it did. signals=1: a timer interrupts with handlers that do nothing.
 * fail=1: with each round a realloc that can't be granted. */
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define SHARED 512
#define MAX_THREADS 64
#define MAX_KEPT 100000

struct block {
    struct block *next;
    size_t bytes;
};

struct tally {
    uint64_t allocs, bytes;
    int64_t live, live_bytes;
};

static struct block *shared[SHARED];
static struct tally total;
static unsigned long rounds = 20000, keep = 1000, threads_n = 4;
static int with_fork, with_signals, with_failures;

__attribute__((weak)) void heap_record_begin(void); /* of a shim that records, if it is one */

static void *fail(const char *why)
{
    fprintf(stderr, "churn: %s\n", why);
    abort();
}

/* 7 mod 16, of many magnitudes. */
static size_t some_size(uint64_t random)
{
    size_t most = (size_t)1 << (6 + random % 11);
    return (random >> 8) % most / 16 * 16 + 32 + 7;
}

static void note(struct tally *tally, size_t bytes, int64_t times)
{
    if (times > 0) {
        tally->allocs++;
        tally->bytes += bytes;
    }
    tally->live += times;
    tally->live_bytes += times * (int64_t)bytes;
}

static struct block *allocate(struct tally *tally, uint64_t random)
{
    size_t bytes = some_size(random);
    void *block = NULL;
    switch (random >> 40 & 7) {
    case 0:
        block = calloc(1, bytes);
        for (size_t i = 0; block && i < bytes; i++)
            if (((char *)block)[i])
                fail("calloc gave what was used");
        break;
    case 1:
        if (posix_memalign(&block, 64, bytes) != 0 || (uintptr_t)block % 64)
            fail("posix_memalign");
        break;
    case 2:
        block = aligned_alloc(32, bytes);
        break;
    case 3:
        block = memalign(128, bytes);
        break;
    case 4:
        block = malloc(bytes);
        note(tally, bytes, 1);
        note(tally, bytes, -1);
        block = realloc(block, bytes += 160);
        break;
    case 5:
        block = reallocarray(NULL, 1, bytes);
        break;
    case 6:
        block = realloc(NULL, bytes);
        break;
    default:
        block = malloc(bytes);
        break;
    }
    if (!block)
        fail("no memory");
    if (malloc_usable_size(block) < bytes)
        fail("less than asked for");
    memset(block, 0x5a, bytes);
    note(tally, bytes, 1);
    ((struct block *)block)->bytes = bytes;
    return block;
}

static void release(struct tally *tally, struct block *block)
{
    if (!block)
        return;
    note(tally, block->bytes, -1);
    if (with_failures && realloc(block, PTRDIFF_MAX) != NULL)
        fail("more than there is");
    free(block);
}

static void *churn(void *seed)
{
    struct tally tally = {0};
    struct block *kept = NULL;
    uint64_t random = (uintptr_t)seed * 0x9e3779b97f4a7c15ull + 1;
    for (unsigned long i = 0; i < rounds; i++) {
        random ^= random << 13, random ^= random >> 7, random ^= random << 17;
        struct block *block = allocate(&tally, random);
        if (i < keep / threads_n) {
            block->next = kept;
            kept = block;
        } else {
            release(&tally, __atomic_exchange_n(&shared[random >> 20 & (SHARED - 1)], block, __ATOMIC_ACQ_REL));
        }
    }
    __atomic_fetch_add(&total.allocs, tally.allocs, __ATOMIC_RELAXED);
    __atomic_fetch_add(&total.bytes, tally.bytes, __ATOMIC_RELAXED);
    __atomic_fetch_add(&total.live, tally.live, __ATOMIC_RELAXED);
    __atomic_fetch_add(&total.live_bytes, tally.live_bytes, __ATOMIC_RELAXED);
    return kept;
}

static void run_all(void)
{
    pthread_t threads[MAX_THREADS];
    for (unsigned long i = 0; i < threads_n; i++)
        if (pthread_create(&threads[i], NULL, churn, (void *)(uintptr_t)(i + (unsigned long)getpid())) != 0)
            fail("no thread");
    for (unsigned long i = 0; i < threads_n; i++)
        pthread_join(threads[i], NULL);
}

static void on_tick(int number)
{
    (void)number;
}

static void tick(void)
{
    struct itimerval every = {{0, 500}, {0, 500}};
    struct sigaction action = {.sa_handler = on_tick, .sa_flags = SA_RESTART};
    if (sigaction(SIGPROF, &action, NULL) < 0 || setitimer(ITIMER_PROF, &every, NULL) < 0)
        fail("no timer");
}

static void print(void)
{
    printf("{\"pid\": %d, \"allocs\": %lu, \"bytes\": %lu, \"live\": %ld, \"live_bytes\": %ld}\n", (int)getpid(), total.allocs, total.bytes,
           total.live, total.live_bytes);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    if (heap_record_begin)
        heap_record_begin();
    for (int i = 1; i < argc; i++) {
        (void)sscanf(argv[i], "rounds=%lu", &rounds);
        (void)sscanf(argv[i], "keep=%lu", &keep);
        (void)sscanf(argv[i], "threads=%lu", &threads_n);
        (void)sscanf(argv[i], "fork=%d", &with_fork);
        (void)sscanf(argv[i], "signals=%d", &with_signals);
        (void)sscanf(argv[i], "fail=%d", &with_failures);
    }
    if (threads_n < 1 || threads_n > MAX_THREADS || keep > MAX_KEPT)
        fail("too many");
    if (with_signals)
        tick();
    run_all();
    if (with_fork) {
        pid_t child = fork();
        if (child == 0) {
            run_all();
            print();
            return 0;
        }
        int status;
        if (waitpid(child, &status, 0) != child || status != 0)
            fail("the child failed");
    }
    print();
    return 0;
}
