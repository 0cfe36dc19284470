/* Locks of seven sorts, each wanted by threads=4 threads that hold it in turn and sleep meanwhile: the first one for long_ms= (6), the others for
 * short_ms= (2), each pausing for pause_ms= (1) between. They wait in take_SORT and let go in release_SORT_long and release_SORT_short. All waits and
 * holds are noted (wait_log.h), with the lock's sort as the object: how much of a wait falls into which hold can be told exactly. only=SORT,...
 * leaves the others out. Of rwlock the first thread is the one writer; the others read, together,
 * and begin no new hold while it waits: else three readers in step keep it waiting for seconds. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/ipc.h>
#include <sys/sem.h>

#include "program.h"
#include "wait_log.h"

static struct tally tallies[] = { { .name = "held_locks" } };
static uint64_t long_ns, short_ns, pause_ns;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t inherit;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;
static sem_t semaphore;
static int semop_id = -1;
static char file_name[] = "/tmp/cprofd-held-XXXXXX";

/* A file lock belongs to an open file (flock), or to a process (fcntl; F_OFD: to an open file too). */
static __thread int fd = -1;

static int thread_fd(void)
{
    if (fd < 0 && (fd = open(file_name, O_RDWR | O_CLOEXEC)) < 0)
        program_cannot("open a file to lock");
    return fd;
}

static int fcntl_lock(short type)
{
    struct flock whole = { .l_type = type, .l_whence = SEEK_SET };

    return fcntl(thread_fd(), F_OFD_SETLKW, &whole);
}

static int semop_by(short by)
{
    struct sembuf change = { .sem_op = by };

    return semop(semop_id, &change, 1);
}

/* take and release are to succeed: 0. What is held is noted until just before the release. */
#define SORT(name, take, release)                                                                       \
    static NOINLINE uint32_t take_##name(bool is_long)                                                  \
    {                                                                                                   \
        LOGGED("lock", #name, if ((take) != 0) program_cannot("take " #name));                          \
        return wait_begin(is_long ? "release_" #name "_long" : "release_" #name "_short", "hold", #name); \
    }                                                                                                   \
    static NOINLINE void release_##name##_long(uint32_t hold)                                           \
    {                                                                                                   \
        wait_end(hold);                                                                                 \
        if ((release) != 0)                                                                             \
            program_cannot("release " #name);                                                           \
        KEEP_FRAME();                                                                                   \
    }                                                                                                   \
    static NOINLINE void release_##name##_short(uint32_t hold)                                          \
    {                                                                                                   \
        wait_end(hold);                                                                                 \
        if ((release) != 0)                                                                             \
            program_cannot("release " #name);                                                           \
        KEEP_FRAME();                                                                                   \
    }

SORT(mutex, pthread_mutex_lock(&mutex), pthread_mutex_unlock(&mutex))
SORT(inherit, pthread_mutex_lock(&inherit), pthread_mutex_unlock(&inherit))
SORT(rwlock, is_long ? pthread_rwlock_wrlock(&rwlock) : pthread_rwlock_rdlock(&rwlock), pthread_rwlock_unlock(&rwlock))
SORT(semaphore, sem_wait(&semaphore), sem_post(&semaphore))
SORT(flock, flock(thread_fd(), LOCK_EX), flock(thread_fd(), LOCK_UN))
SORT(fcntl, fcntl_lock(F_WRLCK), fcntl_lock(F_UNLCK))
SORT(semop, semop_by(-1), semop_by(1))

static const struct sort {
    const char *name;
    uint32_t (*take)(bool is_long);
    void (*release_long)(uint32_t hold), (*release_short)(uint32_t hold);
} sorts[] = {
#define ENTRY(name) { #name, take_##name, release_##name##_long, release_##name##_short }
    ENTRY(mutex), ENTRY(inherit), ENTRY(rwlock), ENTRY(semaphore), ENTRY(flock), ENTRY(fcntl), ENTRY(semop),
};
#define N_SORTS (sizeof(sorts) / sizeof(sorts[0]))

static NOINLINE void hold(uint64_t ns)
{
    LOGGED("sleep", "", program_sleep_until(program_clock_ns(CLOCK_MONOTONIC) + ns));
}

static NOINLINE void pause_between(void)
{
    LOGGED("sleep", "", program_sleep_until(program_clock_ns(CLOCK_MONOTONIC) + pause_ns));
}

static void *want(void *arg)
{
    unsigned long i = (unsigned long)arg;
    const struct sort *sort = &sorts[i % N_SORTS];
    bool is_long = i / N_SORTS == 0;

    while (program_running()) {
        uint32_t held = sort->take(is_long);

        hold(is_long ? long_ns : short_ns);
        if (is_long)
            sort->release_long(held);
        else
            sort->release_short(held);
        if (pause_ns)
            pause_between();
    }
    return NULL;
}

static void make_locks(void)
{
    pthread_mutexattr_t attr;
    int file = mkstemp(file_name);

    semop_id = semget(IPC_PRIVATE, 1, 0600);
    if (file < 0 || semop_id < 0 || semop_by(1) < 0)
        program_cannot("make locks");
    close(file);
    sem_init(&semaphore, 0, 1);
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_setprotocol(&attr, PTHREAD_PRIO_INHERIT);
    pthread_mutex_init(&inherit, &attr);
}

int main(int argc, char **argv)
{
    pthread_t thread;
    unsigned long n_threads;

    wait_log_init();
    program_init(argc, argv, tallies, 1);
    long_ns = (uint64_t)program_option("long_ms", 6) * MS_NS;
    short_ns = (uint64_t)program_option("short_ms", 2) * MS_NS;
    pause_ns = (uint64_t)program_option("pause_ms", 1) * MS_NS;
    n_threads = (unsigned long)program_option("threads", 4);
    make_locks();
    for (unsigned long i = 0; i < n_threads * N_SORTS; i++)
        if (program_chooses(sorts[i % N_SORTS].name) && pthread_create(&thread, NULL, want, (void *)i) != 0)
            program_cannot("start threads");
    program_sleep_until(program_clock_ns(CLOCK_MONOTONIC) + 100 * MS_NS);
    program_ready();
    while (program_running())
        program_sleep_until(program_clock_ns(CLOCK_MONOTONIC) + 1000 * MS_NS);
    unlink(file_name);
    semctl(semop_id, 0, IPC_RMID); /* who still waits at it ends the program */
    return program_end();
}
