/* One thread for each way to wait, in a function of its own, for a few milliseconds again and again; in_* are those that wait, and what wakes
 * them sleeps in makes_*. Three threads wait without an end: never_*. only=NAME,... leaves the others out. file= is the file that disk reads
 * are from (made where it is not there). Each wait is noted (wait_log.h) with the state that a profile should show it in. */
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>

#include "program.h"
#include "wait_log.h"

#define DISK_BYTES (8 << 20)

static struct tally tallies[] = { { .name = "waits" } };
static const char *file_path;

static NOINLINE void in_nanosleep(void)
{
    struct timespec ts = { .tv_nsec = 3 * MS_NS };

    LOGGED("sleep", "", nanosleep(&ts, NULL));
}

static NOINLINE void in_clock_nanosleep(void)
{
    LOGGED("sleep", "", program_sleep_until(program_clock_ns(CLOCK_MONOTONIC) + 11 * MS_NS));
}

static NOINLINE void in_poll(void)
{
    LOGGED("sleep", "", poll(NULL, 0, 4));
}

static NOINLINE void in_select(void)
{
    struct timeval tv = { .tv_usec = 7000 };

    LOGGED("sleep", "", select(0, NULL, NULL, NULL, &tv));
}

/* A partner that writes a few bytes to an fd every so often. */
struct writer {
    int fd;
    unsigned every_ms;
};

static NOINLINE void *makes_bytes(void *arg)
{
    struct writer *w = arg;
    uint64_t one = 1;

    while (program_running()) {
        LOGGED("sleep", "", program_sleep_until(program_clock_ns(CLOCK_MONOTONIC) + w->every_ms * MS_NS));
        if (write(w->fd, &one, sizeof(one)) != sizeof(one))
            program_cannot("write");
    }
    return NULL;
}

static void start(void *(*function)(void *), void *arg)
{
    pthread_t thread;

    if (pthread_create(&thread, NULL, function, arg) != 0)
        program_cannot("start threads");
    pthread_detach(thread);
}

static void start_writer(struct writer *w, int fd, unsigned every_ms)
{
    w->fd = fd;
    w->every_ms = every_ms;
    start(makes_bytes, w);
}

static NOINLINE void in_epoll(void)
{
    static struct writer w;
    static int epoll_fd = -1, event_fd;
    struct epoll_event event = { .events = EPOLLIN };
    uint64_t count;

    if (epoll_fd < 0) {
        epoll_fd = epoll_create1(0);
        event_fd = eventfd(0, 0);
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, event_fd, &event);
        start_writer(&w, event_fd, 5);
    }
    LOGGED("sleep", "", epoll_wait(epoll_fd, &event, 1, -1));
    if (read(event_fd, &count, sizeof(count)) != sizeof(count))
        program_cannot("read an eventfd");
}

static NOINLINE void in_pipe_read(void)
{
    static struct writer w;
    static int fds[2] = { -1 };
    uint64_t bytes;

    if (fds[0] < 0) {
        if (pipe(fds) < 0)
            program_cannot("make a pipe");
        start_writer(&w, fds[1], 6);
    }
    LOGGED("io", "", if (read(fds[0], &bytes, sizeof(bytes)) < 0) program_cannot("read"));
}

static NOINLINE void in_socket_read(void)
{
    static struct writer w;
    static int fds[2] = { -1 };
    uint64_t bytes;

    if (fds[0] < 0) {
        if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) < 0)
            program_cannot("make sockets");
        start_writer(&w, fds[1], 9);
    }
    LOGGED("io", "", if (recv(fds[0], &bytes, sizeof(bytes), 0) < 0) program_cannot("receive"));
}

static int open_disk(int flags)
{
    static char block[1 << 20];
    int fd = open(file_path, O_RDWR | O_CREAT | flags, 0600);

    if (fd < 0 || lseek(fd, 0, SEEK_END) >= DISK_BYTES)
        return fd;
    close(fd);
    fd = open(file_path, O_RDWR);
    memset(block, 'x', sizeof(block));
    for (long at = 0; at < DISK_BYTES; at += (long)sizeof(block))
        if (pwrite(fd, block, sizeof(block), at) != sizeof(block))
            program_cannot("write a file");
    fsync(fd);
    close(fd);
    return open(file_path, O_RDWR | flags);
}

/* A read from the disk itself. Few: each is some 100 us, on what this machine has for a disk. */
static NOINLINE void in_disk_read(void)
{
    static int fd = -1;
    static void *buffer;
    static uint64_t at;

    if (fd < 0) {
        fd = open_disk(O_DIRECT);
        if (fd < 0 || posix_memalign(&buffer, 4096, 1 << 20) != 0)
            program_cannot("read a file directly");
    }
    LOGGED("io", "", if (pread(fd, buffer, 1 << 20, (long)at) < 0) program_cannot("read from a disk"));
    at = (at + (1 << 20)) % DISK_BYTES;
    program_sleep_until(program_clock_ns(CLOCK_MONOTONIC) + 5 * MS_NS);
}

static NOINLINE void in_page_fault(volatile char *mapped)
{
    for (long at = 0; at < DISK_BYTES; at += DISK_BYTES / 8)
        LOGGED("io", "", (void)mapped[at]);
}

/* Apart from the faults, since these calls wait, too, and not for a disk: that which drops a file for other CPUs to let go of its pages, the others
 * for the lock of the mappings. */
static NOINLINE void faults(void)
{
    static int fd = -1;
    volatile char *mapped;

    if (fd < 0)
        fd = open_disk(0);
    if (fd < 0 || posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) != 0)
        program_cannot("drop a file from memory");
    mapped = mmap(NULL, DISK_BYTES, PROT_READ, MAP_SHARED, fd, 0);
    if (mapped == MAP_FAILED)
        program_cannot("map a file");
    madvise((void *)mapped, DISK_BYTES, MADV_RANDOM);
    in_page_fault(mapped);
    munmap((void *)mapped, DISK_BYTES);
    program_sleep_until(program_clock_ns(CLOCK_MONOTONIC) + 5 * MS_NS);
}

static NOINLINE void *makes_end(void *unused)
{
    (void)unused;
    LOGGED("sleep", "", program_sleep_until(program_clock_ns(CLOCK_MONOTONIC) + 8 * MS_NS));
    return NULL;
}

static NOINLINE void in_join(void)
{
    pthread_t thread;

    if (pthread_create(&thread, NULL, makes_end, NULL) != 0)
        program_cannot("start threads");
    LOGGED("lock", "", pthread_join(thread, NULL));
}

static sem_t semaphore;

static NOINLINE void *makes_posts(void *unused)
{
    (void)unused;
    while (program_running()) {
        LOGGED("sleep", "", program_sleep_until(program_clock_ns(CLOCK_MONOTONIC) + 5 * MS_NS));
        sem_post(&semaphore);
    }
    return NULL;
}

static NOINLINE void in_sem_wait(void)
{
    static bool ready;

    if (!ready) {
        ready = true;
        sem_init(&semaphore, 0, 0);
        start(makes_posts, NULL);
    }
    LOGGED("lock", "", while (sem_wait(&semaphore) < 0 && errno == EINTR) continue);
}

static pthread_mutex_t cond_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static unsigned n_signalled;

static NOINLINE void *makes_signals(void *unused)
{
    (void)unused;
    while (program_running()) {
        LOGGED("sleep", "", program_sleep_until(program_clock_ns(CLOCK_MONOTONIC) + 7 * MS_NS));
        pthread_mutex_lock(&cond_lock);
        n_signalled++;
        pthread_cond_signal(&cond);
        pthread_mutex_unlock(&cond_lock);
    }
    return NULL;
}

static NOINLINE void in_cond_wait(void)
{
    static bool ready;

    if (!ready) {
        ready = true;
        start(makes_signals, NULL);
    }
    pthread_mutex_lock(&cond_lock);
    LOGGED("lock", "", while (n_signalled == 0) pthread_cond_wait(&cond, &cond_lock));
    n_signalled = 0;
    pthread_mutex_unlock(&cond_lock);
}

static int semop_id;

static NOINLINE void *makes_semops(void *unused)
{
    struct sembuf up = { .sem_op = 1 };

    (void)unused;
    while (program_running()) {
        LOGGED("sleep", "", program_sleep_until(program_clock_ns(CLOCK_MONOTONIC) + 6 * MS_NS));
        semop(semop_id, &up, 1);
    }
    return NULL;
}

static NOINLINE void in_semop(void)
{
    static bool ready;
    struct sembuf down = { .sem_op = -1 };

    if (!ready) {
        ready = true;
        semop_id = semget(IPC_PRIVATE, 1, 0600);
        if (semop_id < 0)
            program_cannot("make a semaphore");
        start(makes_semops, NULL);
    }
    LOGGED("lock", "", semop(semop_id, &down, 1));
}

static NOINLINE void in_futex(void)
{
    static int word;
    struct timespec ts = { .tv_nsec = 6 * MS_NS };

    LOGGED("lock", "", syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &ts, NULL, 0));
}

static NOINLINE void never_read(void)
{
    int fds[2];
    char byte;

    if (pipe(fds) < 0)
        program_cannot("make a pipe");
    LOGGED("io", "", if (read(fds[0], &byte, 1) < 0) program_cannot("read"));
}

static NOINLINE void never_cond(void)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static pthread_cond_t never = PTHREAD_COND_INITIALIZER;

    pthread_mutex_lock(&lock);
    LOGGED("lock", "", for (;;) pthread_cond_wait(&never, &lock));
}

static NOINLINE void never_sleep(void)
{
    LOGGED("sleep", "", poll(NULL, 0, -1));
}

static const struct {
    const char *name;
    void (*function)(void);
} ways[] = {
#define WAY(function) { #function, function }
    WAY(in_nanosleep), WAY(in_clock_nanosleep), WAY(in_poll), WAY(in_select), WAY(in_epoll), WAY(in_pipe_read), WAY(in_socket_read),
    WAY(in_disk_read), { "in_page_fault", faults }, WAY(in_join), WAY(in_sem_wait), WAY(in_cond_wait), WAY(in_semop), WAY(in_futex),
    WAY(never_read), WAY(never_cond), WAY(never_sleep),
};

static void *repeat(void *arg)
{
    while (program_running())
        ways[(long)arg].function();
    return NULL;
}

int main(int argc, char **argv)
{
    wait_log_init();
    program_init(argc, argv, tallies, 1);
    file_path = program_option_text("file", "/var/tmp/cprofd-waits");
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++)
        if (program_chooses(ways[i].name))
            start(repeat, (void *)i);
    program_sleep_until(program_clock_ns(CLOCK_MONOTONIC) + 100 * MS_NS);
    program_ready();
    while (program_running())
        program_sleep_until(program_clock_ns(CLOCK_MONOTONIC) + 1000 * MS_NS);
    if (semop_id > 0)
        semctl(semop_id, 0, IPC_RMID);
    return program_end();
}
