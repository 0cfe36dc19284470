/* Allocates and frees without end: for each line "N" of standard input N times in each of threads= (2) threads, in which blocks= (1000) blocks of
 * random sizes of up to 4096 bytes are live at any time, each freed by whichever thread comes by. The truth has what is live then. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "program.h"

#define MAX_BLOCKS 65536
#define MAX_THREADS 16
#define MAX_BYTES 4096

struct block {
    size_t bytes; /* at its beginning, so that who frees it knows */
};

static struct tally tallies[] = { { .name = "churn" } };
static struct block *blocks[MAX_BLOCKS];
static size_t n_blocks, n_threads;
static uint64_t n_allocated, allocated_bytes;

static NOINLINE struct block *churn(size_t bytes)
{
    struct block *b = malloc(bytes);

    if (!b)
        program_cannot("allocate");
    b->bytes = bytes;
    return b;
}

static uint32_t next_random(uint32_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

struct share {
    pthread_t thread;
    uint32_t seed;
    long n;
};

static void *work(void *arg)
{
    struct share *s = arg;
    uint64_t bytes = 0;

    for (long i = 0; i < s->n; i++) {
        uint32_t r = next_random(&s->seed);
        size_t size = sizeof(struct block) + (r >> 16) % (MAX_BYTES - sizeof(struct block));
        struct block *fresh = churn(size);
        bytes += size;
        free(__atomic_exchange_n(&blocks[r % n_blocks], fresh, __ATOMIC_ACQ_REL));
    }
    __atomic_fetch_add(&n_allocated, (uint64_t)s->n, __ATOMIC_RELAXED);
    __atomic_fetch_add(&allocated_bytes, bytes, __ATOMIC_RELAXED);
    return NULL;
}

static void on_line(const char *line)
{
    static uint32_t seed = 12345;
    struct share shares[MAX_THREADS];

    for (size_t i = 0; i < n_threads; i++) {
        shares[i] = (struct share){ .seed = seed += 7919, .n = atol(line) };
        if (pthread_create(&shares[i].thread, NULL, work, &shares[i]) != 0)
            program_cannot("start a thread");
    }
    for (size_t i = 0; i < n_threads; i++)
        (void)pthread_join(shares[i].thread, NULL);
}

static void on_truth(void)
{
    uint64_t live = 0, bytes = 0;

    for (size_t i = 0; i < n_blocks; i++) {
        live += blocks[i] != NULL;
        bytes += blocks[i] ? blocks[i]->bytes : 0;
    }
    printf(", \"allocated\": [%llu, %llu], \"live\": [%llu, %llu]", (unsigned long long)n_allocated, (unsigned long long)allocated_bytes,
           (unsigned long long)live, (unsigned long long)bytes);
}

int main(int argc, char **argv)
{
    program_on_line(on_line);
    program_on_truth(on_truth);
    program_init(argc, argv, tallies, 1);
    n_blocks = (size_t)program_option("blocks", 1000);
    n_threads = (size_t)program_option("threads", 2);
    if (n_blocks == 0 || n_blocks > MAX_BLOCKS || n_threads > MAX_THREADS)
        program_cannot("keep so many");
    program_ready();
    while (program_running())
        program_sleep_until(program_clock_ns(CLOCK_MONOTONIC) + 50 * MS_NS);
    return program_end();
}
