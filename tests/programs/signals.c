/* Idle until told; a line names a way of waiting for something that is no lock's release, which is then done for known times by functions with
 * telling names:
 *
 *     condition | semaphore | barrier | join | semop | several | flock | fcntl | sleeps
 *
 * The truth of a function that waits (wait_*): cpu_ns is how long, calls how often. */
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <string.h>
#include <sys/file.h>
#include <sys/poll.h>
#include <sys/sem.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "program.h"

enum {
    WAIT_CONDITION, SIGNAL_CONDITION, WAIT_SEMAPHORE, POST_SEMAPHORE, WAIT_BARRIER, WAIT_THREAD, WAIT_SEMOP, WAIT_FLOCK, WAIT_FCNTL,
    WAIT_NO_LOCK, WAIT_SEVERAL,
};
static struct tally tallies[] = {
    {.name = "wait_condition"}, {.name = "signal_condition"}, {.name = "wait_semaphore"}, {.name = "post_semaphore"},
    {.name = "wait_barrier"}, {.name = "wait_thread"}, {.name = "wait_semop"}, {.name = "wait_flock"}, {.name = "wait_fcntl"},
    {.name = "wait_no_lock"}, {.name = "wait_several"},
};

#include "waits.h"

/* ---- signals, which are no releases */

static pthread_barrier_t round_barrier;
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

/* futex_waitv(2): for any of several words to change. The headers of some C libraries lack it. */
#define SYS_FUTEX_WAITV 449
#define SEVERAL 3
static struct futex_word {
    uint64_t value, address;
    uint32_t flags, reserved;
} words[SEVERAL];
static uint32_t word_values[SEVERAL];

static NOINLINE void wait_several(void)
{
    uint64_t began_ns = now();

    if (syscall(SYS_FUTEX_WAITV, words, SEVERAL, 0, NULL, 0) >= 0)
        waited_since(WAIT_SEVERAL, began_ns);
}

static void *wake_several(void *unused)
{
    for (unsigned i = 0; i < ROUNDS; i++) {
        pause_ns(4 * MS_NS);
        __atomic_add_fetch(&word_values[i % SEVERAL], 1, __ATOMIC_SEQ_CST);
        syscall(SYS_futex, &word_values[i % SEVERAL], 1 | 128 /* FUTEX_WAKE, private */, 1, NULL, NULL, 0);
    }
    return unused;
}

static void wait_for_several(void)
{
    pthread_t thread;

    start(&thread, wake_several, 0);
    for (unsigned i = 0; i < ROUNDS; i++) {
        for (unsigned j = 0; j < SEVERAL; j++)
            words[j] = (struct futex_word){.value = i / SEVERAL + (j < i % SEVERAL), .address = (uint64_t)&word_values[j], .flags = 2 | 128};
        wait_several();
    }
    pthread_join(thread, NULL);
    memset(word_values, 0, sizeof(word_values));
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

static void wait_flocks(void)
{
    wait_files(false);
}

static void wait_fcntls(void)
{
    wait_files(true);
}

static void on_line(const char *line)
{
    static const struct program_way ways[] = {
        {"condition", produce}, {"semaphore", give},    {"barrier", meet_all},  {"join", join_all},
        {"semop", wait_semops}, {"flock", wait_flocks}, {"fcntl", wait_fcntls}, {"sleeps", wait_no_lock},
        {"several", wait_for_several},
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
