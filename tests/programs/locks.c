/* Idle until told; a line names a way of waiting, which is then done for known times by functions with telling names:
 *
 *     convoy | barge | rwlock | condition | semaphore | barrier | timeout | pi | robust | shared | join | semop | flock | fcntl | sleeps | many N
 *
 * The truth of a function that waits (wait_*): cpu_ns is how long, calls how often. Of one that releases (release_*): cpu_ns is for how
 * much of that time its holds are to blame, from when it had the lock, calls how many of its holds others waited for. What passed between a
 * release and the next hold is handover_ns, for all releases together: a profile may take it for the next hold's. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/poll.h>
#include <sys/sem.h>
#include <sys/wait.h>

#include "program.h"

enum {
    WAIT_MUTEX, RELEASE_MUTEX, RELEASE_LONG, WAIT_READ, WAIT_WRITE, RELEASE_READ, RELEASE_WRITE, WAIT_CONDITION, SIGNAL_CONDITION,
    WAIT_SEMAPHORE, POST_SEMAPHORE, WAIT_BARRIER, WAIT_TIMED, WAIT_PI, RELEASE_PI, WAIT_ROBUST, RELEASE_BY_EXIT, WAIT_SHARED, WAIT_THREAD,
    WAIT_SEMOP, WAIT_FLOCK, WAIT_FCNTL, WAIT_NO_LOCK,
};
static struct tally tallies[] = {
    {.name = "wait_mutex"}, {.name = "release_mutex"}, {.name = "release_long"}, {.name = "wait_read"}, {.name = "wait_write"},
    {.name = "release_read"}, {.name = "release_write"}, {.name = "wait_condition"}, {.name = "signal_condition"}, {.name = "wait_semaphore"},
    {.name = "post_semaphore"}, {.name = "wait_barrier"}, {.name = "wait_timed"}, {.name = "wait_pi"}, {.name = "release_pi"},
    {.name = "wait_robust"}, {.name = "release_by_exit"}, {.name = "wait_shared"}, {.name = "wait_thread"}, {.name = "wait_semop"},
    {.name = "wait_flock"}, {.name = "wait_fcntl"}, {.name = "wait_no_lock"},
};

#define LANES 8
#define ROUNDS 20
#define SLIGHT_NS 30000 /* nobody waited, if it took less */

/* What threads do to a lock, told by themselves. */
struct account {
    uint64_t since_ns[64]; /* who waits: since when */
    uint64_t taken_ns, released_ns;
    uint64_t quit_ns;      /* what those waited in this hold who gave up */
};
static uint64_t handover_ns;

static uint64_t now(void)
{
    return program_clock_ns(CLOCK_MONOTONIC);
}

static uint64_t later(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static void pause_ns(uint64_t ns)
{
    program_sleep_until(now() + ns);
}

static void add(unsigned tally, uint64_t ns)
{
    __atomic_fetch_add(&tallies[tally].cpu_ns, ns, __ATOMIC_RELAXED);
    __atomic_fetch_add(&tallies[tally].calls, 1, __ATOMIC_RELAXED);
}

static void waited_since(unsigned tally, uint64_t began_ns)
{
    uint64_t ns = now() - began_ns;

    if (ns > SLIGHT_NS)
        add(tally, ns);
}

static uint64_t account_begin(struct account *a, unsigned who)
{
    uint64_t began_ns = now();

    __atomic_store_n(&a->since_ns[who], began_ns, __ATOMIC_SEQ_CST);
    return began_ns;
}

/* The lock is held. */
static void account_taken(struct account *a, unsigned who, unsigned tally, uint64_t began_ns)
{
    __atomic_store_n(&a->since_ns[who], 0, __ATOMIC_SEQ_CST);
    __atomic_store_n(&a->taken_ns, now(), __ATOMIC_SEQ_CST);
    waited_since(tally, began_ns);
}

/* The lock is about to be released, and still held. */
static void account_release(struct account *a, unsigned tally)
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

static void start(pthread_t *thread, void *(*run)(void *), uintptr_t who)
{
    if (pthread_create(thread, NULL, run, (void *)who) != 0)
        program_cannot("start a thread");
}

static void run_lanes(void *(*run)(void *), unsigned n)
{
    pthread_t threads[64];

    for (unsigned i = 0; i < n; i++)
        start(&threads[i], run, i);
    for (unsigned i = 0; i < n; i++)
        pthread_join(threads[i], NULL);
}

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

/* ---- signals, which are no releases */

static pthread_mutex_t condition_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static unsigned n_items;
static sem_t semaphore;

static NOINLINE void wait_condition(void)
{
    pthread_mutex_lock(&condition_mutex);
    while (n_items == 0) {
        uint64_t began_ns = now();
        pthread_cond_wait(&condition, &condition_mutex);
        waited_since(WAIT_CONDITION, began_ns);
    }
    n_items--;
    pthread_mutex_unlock(&condition_mutex);
}

/* With the lock, as is proper, or without: so that the waiter does not wait for it, too. */
static NOINLINE void signal_condition(void)
{
    pthread_mutex_lock(&condition_mutex);
    n_items++;
    pthread_mutex_unlock(&condition_mutex);
    pthread_cond_signal(&condition);
    tallies[SIGNAL_CONDITION].calls++;
}

static void *consume(void *unused)
{
    for (unsigned i = 0; i < ROUNDS; i++)
        wait_condition();
    return unused;
}

static void produce(void)
{
    pthread_t thread;

    start(&thread, consume, 0);
    for (unsigned i = 0; i < ROUNDS; i++) {
        pause_ns(4 * MS_NS);
        signal_condition();
    }
    pthread_join(thread, NULL);
}

static NOINLINE void wait_semaphore(void)
{
    uint64_t began_ns = now();

    sem_wait(&semaphore);
    waited_since(WAIT_SEMAPHORE, began_ns);
}

static NOINLINE void post_semaphore(void)
{
    sem_post(&semaphore);
    tallies[POST_SEMAPHORE].calls++;
}

static void *take(void *unused)
{
    for (unsigned i = 0; i < ROUNDS; i++)
        wait_semaphore();
    return unused;
}

static void give(void)
{
    pthread_t thread;

    sem_init(&semaphore, 0, 0);
    start(&thread, take, 0);
    for (unsigned i = 0; i < ROUNDS; i++) {
        pause_ns(4 * MS_NS);
        post_semaphore();
    }
    pthread_join(thread, NULL);
    sem_destroy(&semaphore);
}

static NOINLINE void wait_barrier(void)
{
    uint64_t began_ns = now();

    pthread_barrier_wait(&round_barrier);
    waited_since(WAIT_BARRIER, began_ns);
}

static void *meet(void *arg)
{
    for (unsigned i = 0; i < ROUNDS; i++) {
        if ((uintptr_t)arg == 0)
            pause_ns(4 * MS_NS);
        wait_barrier();
    }
    return NULL;
}

static void meet_all(void)
{
    pthread_barrier_init(&round_barrier, NULL, 4);
    run_lanes(meet, 4);
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

static void *end_late(void *unused)
{
    pause_ns(5 * MS_NS);
    return unused;
}

static NOINLINE void wait_thread(pthread_t thread)
{
    uint64_t began_ns = now();

    pthread_join(thread, NULL);
    waited_since(WAIT_THREAD, began_ns);
}

static void join_all(void)
{
    for (unsigned i = 0; i < ROUNDS; i++) {
        pthread_t thread;

        start(&thread, end_late, 0);
        wait_thread(thread);
    }
}

/* ---- what is no futex */

static int sem_id, lock_file;

static NOINLINE void wait_semop(void)
{
    struct sembuf take_one = {.sem_op = -1};
    uint64_t began_ns = now();

    semop(sem_id, &take_one, 1);
    waited_since(WAIT_SEMOP, began_ns);
}

static void *post_semop(void *unused)
{
    struct sembuf give_one = {.sem_op = 1};

    for (unsigned i = 0; i < ROUNDS; i++) {
        pause_ns(4 * MS_NS);
        semop(sem_id, &give_one, 1);
    }
    return unused;
}

static void wait_semops(void)
{
    pthread_t thread;

    sem_id = semget(IPC_PRIVATE, 1, 0600);
    if (sem_id < 0)
        program_cannot("make a semaphore");
    start(&thread, post_semop, 0);
    for (unsigned i = 0; i < ROUNDS; i++)
        wait_semop();
    pthread_join(thread, NULL);
    semctl(sem_id, 0, IPC_RMID);
}

static bool lock_whole_file(int fd, int type, bool by_fcntl)
{
    struct flock whole = {.l_type = (short)type, .l_whence = SEEK_SET};

    if (by_fcntl)
        return fcntl(fd, F_OFD_SETLKW, &whole) == 0;
    return flock(fd, type == F_WRLCK ? LOCK_EX : LOCK_UN) == 0;
}

static NOINLINE void wait_flock(int fd)
{
    uint64_t began_ns = now();

    lock_whole_file(fd, F_WRLCK, false);
    waited_since(WAIT_FLOCK, began_ns);
}

static NOINLINE void wait_fcntl(int fd)
{
    uint64_t began_ns = now();

    lock_whole_file(fd, F_WRLCK, true);
    waited_since(WAIT_FCNTL, began_ns);
}

static void *unlock_late(void *by_fcntl)
{
    pause_ns(4 * MS_NS);
    lock_whole_file(lock_file, F_UNLCK, by_fcntl != NULL);
    return NULL;
}

static void wait_files(bool by_fcntl)
{
    char path[] = "/tmp/locks-XXXXXX";
    int other;

    lock_file = mkstemp(path);
    other = open(path, O_RDWR | O_CLOEXEC);
    if (lock_file < 0 || other < 0)
        program_cannot("make a file");
    unlink(path);
    for (unsigned i = 0; i < ROUNDS; i++) {
        pthread_t thread;

        if (!lock_whole_file(lock_file, F_WRLCK, by_fcntl))
            program_cannot("lock a file");
        start(&thread, unlock_late, by_fcntl);
        if (by_fcntl)
            wait_fcntl(other);
        else
            wait_flock(other);
        pthread_join(thread, NULL);
        lock_whole_file(other, F_UNLCK, by_fcntl);
    }
    close(lock_file);
    close(other);
}

static NOINLINE void wait_no_lock(void)
{
    int pipes[2];
    uint64_t began_ns = now();

    if (pipe(pipes) < 0)
        program_cannot("make a pipe");
    struct pollfd polled = {.fd = pipes[0], .events = POLLIN};
    pause_ns(10 * MS_NS);
    poll(&polled, 1, 10);
    pid_t child = fork();
    if (child == 0) {
        pause_ns(10 * MS_NS);
        _exit(0);
    }
    waitpid(child, NULL, 0);
    close(pipes[0]);
    close(pipes[1]);
    waited_since(WAIT_NO_LOCK, began_ns);
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

static void on_line(const char *line)
{
    char what[32] = "";

    if (sscanf(line, "%31s", what) != 1)
        return;
    if (strcmp(what, "convoy") == 0)
        run_lanes(convoy, LANES);
    else if (strcmp(what, "barge") == 0)
        run_lanes(barge, 3);
    else if (strcmp(what, "rwlock") == 0)
        read_and_write_all();
    else if (strcmp(what, "condition") == 0)
        produce();
    else if (strcmp(what, "semaphore") == 0)
        give();
    else if (strcmp(what, "barrier") == 0)
        meet_all();
    else if (strcmp(what, "timeout") == 0)
        time_out();
    else if (strcmp(what, "pi") == 0)
        inherit_all();
    else if (strcmp(what, "robust") == 0)
        die_holding();
    else if (strcmp(what, "shared") == 0)
        wait_for_child();
    else if (strcmp(what, "join") == 0)
        join_all();
    else if (strcmp(what, "semop") == 0)
        wait_semops();
    else if (strcmp(what, "flock") == 0 || strcmp(what, "fcntl") == 0)
        wait_files(what[1] == 'c');
    else if (strcmp(what, "sleeps") == 0)
        wait_no_lock();
    else if (strcmp(what, "many") == 0)
        wait_many();
    program_note("handover_ns", handover_ns);
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
