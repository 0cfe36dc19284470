/* What programs share that wait for each other: how long each function waited, and for how much of that each release is to blame. Included
 * once by a program, after its tallies. */
#pragma once

#include <pthread.h>
#include <stdlib.h>

#include "program.h"

#define ROUNDS 20
#define SLIGHT_NS 30000 /* nobody waited, if it took less */

/* What threads do to a lock, told by themselves. */
struct account {
    uint64_t since_ns[64]; /* who waits: since when */
    uint64_t taken_ns, released_ns;
    uint64_t quit_ns;      /* what those waited in this hold who gave up */
};
static uint64_t delay_ns;    /* that threads waited for a CPU, in waits for others or between them */
static uint64_t handover_ns; /* between a release and the next hold, by all who waited */

static inline uint64_t now(void)
{
    return program_clock_ns(CLOCK_MONOTONIC);
}

static inline uint64_t later(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static inline void pause_ns(uint64_t ns)
{
    program_sleep_until(now() + ns);
}

static inline void add(unsigned tally, uint64_t ns)
{
    __atomic_fetch_add(&tallies[tally].cpu_ns, ns, __ATOMIC_RELAXED);
    __atomic_fetch_add(&tallies[tally].calls, 1, __ATOMIC_RELAXED);
}

static inline void waited_since(unsigned tally, uint64_t began_ns)
{
    uint64_t ns = now() - began_ns;

    if (ns > SLIGHT_NS)
        add(tally, ns);
    __atomic_fetch_add(&delay_ns, program_run_delay_ns(), __ATOMIC_RELAXED);
}

static inline uint64_t account_begin(struct account *a, unsigned who)
{
    uint64_t began_ns = now();

    __atomic_store_n(&a->since_ns[who], began_ns, __ATOMIC_SEQ_CST);
    return began_ns;
}

/* The lock is held. */
static inline void account_taken(struct account *a, unsigned who, unsigned tally, uint64_t began_ns)
{
    __atomic_store_n(&a->since_ns[who], 0, __ATOMIC_SEQ_CST);
    __atomic_store_n(&a->taken_ns, now(), __ATOMIC_SEQ_CST);
    waited_since(tally, began_ns);
}

/* The lock is about to be released, and still held. */
static inline void account_release(struct account *a, unsigned tally)
{
    uint64_t released_ns = now(), blame_ns = __atomic_exchange_n(&a->quit_ns, 0, __ATOMIC_SEQ_CST);

    for (unsigned i = 0; i < 64; i++) {
        uint64_t since_ns = __atomic_load_n(&a->since_ns[i], __ATOMIC_SEQ_CST);
        if (since_ns == 0 || since_ns + SLIGHT_NS > released_ns)
            continue;
        blame_ns += released_ns - later(since_ns, a->taken_ns);
        if (a->released_ns && since_ns < a->taken_ns)
            __atomic_fetch_add(&handover_ns, a->taken_ns - later(since_ns, a->released_ns), __ATOMIC_RELAXED);
    }
    a->released_ns = released_ns;
    if (blame_ns)
        add(tally, blame_ns);
}

static inline void start(pthread_t *thread, void *(*run)(void *), uintptr_t who)
{
    if (pthread_create(thread, NULL, run, (void *)who) != 0)
        program_cannot("start a thread");
}

static inline void run_lanes(void *(*run)(void *), unsigned n)
{
    pthread_t threads[64];

    for (unsigned i = 0; i < n; i++)
        start(&threads[i], run, i);
    for (unsigned i = 0; i < n; i++)
        pthread_join(threads[i], NULL);
}
