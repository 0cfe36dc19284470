/* Idle until told; a line names a way of waiting for locks, which is then done for known times by functions with telling names:
 *
 *     convoy | barge | rwlock | timeout | pi | robust | shared | many
 *
 * The truth of a function that waits (wait_*): cpu_ns is how long, calls how often. Of one that releases (release_*): cpu_ns is for how
 * much of that time its holds are to blame, from when it had the lock, calls how many of its holds others waited for. What passed between a
 * release and the next hold is handover_ns, for all releases together: a profile may take it for the next hold's. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "program.h"

enum {
    WAIT_MUTEX, RELEASE_MUTEX, RELEASE_LONG, WAIT_READ, WAIT_WRITE, RELEASE_READ, RELEASE_WRITE, WAIT_TIMED, WAIT_PI, RELEASE_PI,
    WAIT_ROBUST, RELEASE_BY_EXIT, WAIT_SHARED,
};
static struct tally tallies[] = {
    {.name = "wait_mutex"}, {.name = "release_mutex"}, {.name = "release_long"}, {.name = "wait_read"}, {.name = "wait_write"},
    {.name = "release_read"}, {.name = "release_write"}, {.name = "wait_timed"}, {.name = "wait_pi"}, {.name = "release_pi"},
    {.name = "wait_robust"}, {.name = "release_by_exit"}, {.name = "wait_shared"},
};

#include "waits.h"

#define LANES 8
/* ---- a mutex that all want: each holds it for 2 ms, one for 6 */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct account mutex_account;

static NOINLINE void wait_mutex(unsigned who)
{
    uint64_t began_ns = account_begin(&mutex_account, who);

    pthread_mutex_lock(&mutex);
    account_taken(&mutex_account, who, WAIT_MUTEX, began_ns);
}

static NOINLINE void release_mutex(void)
{
    account_release(&mutex_account, RELEASE_MUTEX);
    pthread_mutex_unlock(&mutex);
    __asm__ volatile("");
}

static NOINLINE void release_long(void)
{
    account_release(&mutex_account, RELEASE_LONG);
    pthread_mutex_unlock(&mutex);
    __asm__ volatile("");
}

static void *convoy(void *arg)
{
    unsigned who = (uintptr_t)arg;

    for (unsigned i = 0; i < ROUNDS; i++) {
        wait_mutex(who);
        pause_ns(who == 0 ? 6 * MS_NS : 2 * MS_NS);
        if (who == 0)
            release_long();
        else
            release_mutex();
        pause_ns(MS_NS);
    }
    return NULL;
}

/* One takes the lock again at once, before the thread that it woke has run. */
static void *barge(void *arg)
{
    unsigned who = (uintptr_t)arg;

    for (unsigned i = 0; i < ROUNDS; i++) {
        wait_mutex(who);
        pause_ns(3 * MS_NS);
        release_mutex();
    }
    return NULL;
}

/* ---- readers and writers */

static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static struct account write_account;
static pthread_barrier_t round_barrier;

static NOINLINE void wait_read(unsigned who)
{
    uint64_t began_ns = account_begin(&write_account, who);

    pthread_rwlock_rdlock(&rwlock);
    __atomic_store_n(&write_account.since_ns[who], 0, __ATOMIC_SEQ_CST);
    waited_since(WAIT_READ, began_ns);
}

static NOINLINE void wait_write(unsigned who)
{
    uint64_t began_ns = account_begin(&write_account, who);

    pthread_rwlock_wrlock(&rwlock);
    account_taken(&write_account, who, WAIT_WRITE, began_ns);
}

static NOINLINE void release_write(void)
{
    account_release(&write_account, RELEASE_WRITE);
    pthread_rwlock_unlock(&rwlock);
    __asm__ volatile("");
}

static NOINLINE void release_read(bool last)
{
    if (last)
        account_release(&write_account, RELEASE_READ);
    pthread_rwlock_unlock(&rwlock);
    __asm__ volatile("");
}

/* A writer holds it for 5 ms while readers wait; then all of them for 4 ms while the writer waits, the last one a little longer. */
static void *read_and_write(void *arg)
{
    unsigned who = (uintptr_t)arg;

    for (unsigned i = 0; i < ROUNDS; i++) {
        if (who == 0) {
            wait_write(0);
            pthread_barrier_wait(&round_barrier);
            pause_ns(5 * MS_NS);
            release_write();
            pause_ns(2 * MS_NS);
            wait_write(0);
            write_account.released_ns = 0;
            pthread_rwlock_unlock(&rwlock);
        } else {
            pthread_barrier_wait(&round_barrier);
            wait_read(who);
            if (who == 1)
                write_account.taken_ns = now();
            pause_ns(who == 1 ? 5 * MS_NS : 4 * MS_NS);
            release_read(who == 1);
        }
        pthread_barrier_wait(&round_barrier);
    }
    return NULL;
}

static void read_and_write_all(void)
{
    pthread_barrier_init(&round_barrier, NULL, 4);
    run_lanes(read_and_write, 4);
    pthread_barrier_destroy(&round_barrier);
}

/* ---- other locks, and other ends of waits */

static NOINLINE void wait_timed(unsigned who)
{
    uint64_t began_ns = account_begin(&mutex_account, who);
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += 5 * (long)MS_NS;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    if (pthread_mutex_timedlock(&mutex, &until) != ETIMEDOUT)
        program_cannot("wait in vain");
    __atomic_store_n(&mutex_account.since_ns[who], 0, __ATOMIC_SEQ_CST);
    mutex_account.quit_ns += now() - began_ns;
    waited_since(WAIT_TIMED, began_ns);
}

static void *give_up(void *arg)
{
    unsigned who = (uintptr_t)arg;

    if (who == 0) {
        wait_mutex(who);
        pthread_mutex_unlock(&mutex);
    } else {
        wait_timed(who);
    }
    return NULL;
}

/* Of two that wait for a hold of 20 ms, one gives up after 5: it is charged all the same. */
static void time_out(void)
{
    for (unsigned i = 0; i < ROUNDS; i++) {
        pthread_t waits, quits;

        wait_mutex(2);
        start(&waits, give_up, 0);
        start(&quits, give_up, 1);
        pause_ns(20 * MS_NS);
        pthread_join(quits, NULL);
        release_long();
        pthread_join(waits, NULL);
    }
}

static pthread_mutex_t special;
static struct account special_account;

static NOINLINE void wait_pi(unsigned who)
{
    uint64_t began_ns = account_begin(&special_account, who);

    pthread_mutex_lock(&special);
    account_taken(&special_account, who, WAIT_PI, began_ns);
}

static NOINLINE void release_pi(void)
{
    account_release(&special_account, RELEASE_PI);
    pthread_mutex_unlock(&special);
    __asm__ volatile("");
}

static void *inherit(void *arg)
{
    for (unsigned i = 0; i < ROUNDS; i++) {
        wait_pi((uintptr_t)arg);
        pause_ns(2 * MS_NS);
        release_pi();
    }
    return NULL;
}

static void special_init(int protocol, int robust, int shared, pthread_mutex_t *ret)
{
    pthread_mutexattr_t attr;

    pthread_mutexattr_init(&attr);
    if (pthread_mutexattr_setprotocol(&attr, protocol) != 0 || pthread_mutexattr_setrobust(&attr, robust) != 0 ||
        pthread_mutexattr_setpshared(&attr, shared) != 0)
        program_cannot("make that mutex");
    pthread_mutex_init(ret, &attr);
}

static void inherit_all(void)
{
    special_init(PTHREAD_PRIO_INHERIT, PTHREAD_MUTEX_STALLED, PTHREAD_PROCESS_PRIVATE, &special);
    memset(&special_account, 0, sizeof(special_account));
    run_lanes(inherit, 4);
}

static NOINLINE void wait_robust(void)
{
    uint64_t began_ns = now();

    if (pthread_mutex_lock(&special) == EOWNERDEAD)
        pthread_mutex_consistent(&special);
    waited_since(WAIT_ROBUST, began_ns);
    pthread_mutex_unlock(&special);
}

static NOINLINE void release_by_exit(void)
{
    uint64_t began_ns = now();

    pause_ns(10 * MS_NS);
    add(RELEASE_BY_EXIT, now() - began_ns);
    program_syscall(SYS_exit, 0, 0, 0);
}

static void *die(void *unused)
{
    pthread_mutex_lock(&special);
    pthread_barrier_wait(&round_barrier);
    release_by_exit();
    return unused;
}

static void die_holding(void)
{
    special_init(PTHREAD_PRIO_NONE, PTHREAD_MUTEX_ROBUST, PTHREAD_PROCESS_PRIVATE, &special);
    pthread_barrier_init(&round_barrier, NULL, 2);
    for (unsigned i = 0; i < ROUNDS; i++) {
        pthread_t thread;

        start(&thread, die, 0);
        pthread_barrier_wait(&round_barrier);
        wait_robust();
        pthread_join(thread, NULL);
    }
    pthread_barrier_destroy(&round_barrier);
}

static NOINLINE void wait_shared(pthread_mutex_t *shared)
{
    uint64_t began_ns = now();

    pthread_mutex_lock(shared);
    waited_since(WAIT_SHARED, began_ns);
    pthread_mutex_unlock(shared);
}

/* Another process holds it. */
static void wait_for_child(void)
{
    pthread_mutex_t *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (shared == MAP_FAILED)
        program_cannot("share memory");
    special_init(PTHREAD_PRIO_NONE, PTHREAD_MUTEX_STALLED, PTHREAD_PROCESS_SHARED, shared);
    for (unsigned i = 0; i < ROUNDS; i++) {
        int pipes[2];
        char byte;

        if (pipe(pipes) < 0)
            program_cannot("make a pipe");
        pid_t child = fork();
        if (child == 0) {
            pthread_mutex_lock(shared);
            if (write(pipes[1], "", 1) == 1)
                pause_ns(8 * MS_NS);
            pthread_mutex_unlock(shared);
            _exit(0);
        }
        if (child < 0 || read(pipes[0], &byte, 1) != 1)
            program_cannot("fork");
        wait_shared(shared);
        waitpid(child, NULL, 0);
        close(pipes[0]);
        close(pipes[1]);
    }
    munmap(shared, 4096);
}

/* ---- many locks, each with its holder and its waiter */

#define MANY 512
static pthread_mutex_t many_mutexes[MANY];
static struct account many_accounts[MANY];

static NOINLINE void hold_many(unsigned which)
{
    pthread_mutex_lock(&many_mutexes[which]);
    many_accounts[which].taken_ns = now();
}

static void *wait_one(void *arg)
{
    unsigned which = (uintptr_t)arg;
    uint64_t began_ns = account_begin(&many_accounts[which], 0);

    pthread_mutex_lock(&many_mutexes[which]);
    account_taken(&many_accounts[which], 0, WAIT_MUTEX, began_ns);
    pthread_mutex_unlock(&many_mutexes[which]);
    return NULL;
}

static NOINLINE void release_many(unsigned which)
{
    account_release(&many_accounts[which], RELEASE_MUTEX);
    pthread_mutex_unlock(&many_mutexes[which]);
    __asm__ volatile("");
}

static void wait_many(void)
{
    static pthread_t threads[MANY];

    for (unsigned i = 0; i < MANY; i++) {
        pthread_mutex_init(&many_mutexes[i], NULL);
        hold_many(i);
        start(&threads[i], wait_one, i);
    }
    pause_ns(300 * MS_NS);
    for (unsigned i = 0; i < MANY; i++)
        release_many(i);
    for (unsigned i = 0; i < MANY; i++)
        pthread_join(threads[i], NULL);
}

static void convoy_all(void)
{
    run_lanes(convoy, LANES);
}

static void barge_all(void)
{
    run_lanes(barge, 3);
}

static void on_line(const char *line)
{
    static const struct program_way ways[] = {
        {"convoy", convoy_all}, {"barge", barge_all},   {"rwlock", read_and_write_all}, {"timeout", time_out},
        {"pi", inherit_all},    {"robust", die_holding}, {"shared", wait_for_child},    {"many", wait_many},
    };

    program_run_way(line, ways, sizeof(ways) / sizeof(ways[0]));
    program_note("handover_ns", handover_ns);
    program_note("delay_ns", delay_ns);
}

int main(int argc, char **argv)
{
    program_on_line(on_line);
    program_init(argc, argv, tallies, sizeof(tallies) / sizeof(tallies[0]));
    program_ready();
    while (program_running())
        program_sleep_until(now() + 1000 * MS_NS);
    return program_end();
}
