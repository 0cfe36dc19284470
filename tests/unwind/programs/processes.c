/* Children: vfork, whose return address is in a register for a while, fork, posix_spawn; and the vDSO. */
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <sched.h>
#include <time.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline))

static volatile uint64_t sink;

NOINLINE void by_vfork(void)
{
    int status;
    pid_t pid = vfork();

    if (pid == 0) {
        (void)execl("/bin/true", "true", (char *)NULL);
        _exit(1);
    }
    (void)waitpid(pid, &status, 0);
    sink += (uint64_t)status;
}

NOINLINE void by_fork(void)
{
    int status;
    pid_t pid = fork();

    if (pid == 0)
        _exit(0);
    (void)waitpid(pid, &status, 0);
    sink += (uint64_t)status;
}

NOINLINE void by_spawn(void)
{
    char *arguments[] = {"true", NULL}, *environment[] = {NULL};
    pid_t pid;
    int status;

    if (posix_spawn(&pid, "/bin/true", NULL, NULL, arguments, environment))
        abort();
    (void)waitpid(pid, &status, 0);
    sink += (uint64_t)status;
}

NOINLINE void clocks(void)
{
    static const clockid_t ids[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_REALTIME_COARSE, CLOCK_MONOTONIC_COARSE, CLOCK_MONOTONIC_RAW,
                                    CLOCK_BOOTTIME, CLOCK_TAI, CLOCK_PROCESS_CPUTIME_ID};
    struct timespec time_now;
    struct timeval value;
    struct timezone zone;

    for (unsigned i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
        (void)clock_gettime(ids[i], &time_now);
        (void)clock_getres(ids[i], &time_now);
        sink += (uint64_t)time_now.tv_nsec;
    }
    (void)gettimeofday(&value, &zone);
    sink += (uint64_t)value.tv_usec + (uint64_t)time(NULL) + (uint64_t)sched_getcpu();
}

int main(void)
{
    by_vfork();
    by_fork();
    by_spawn();
    clocks();
    return 0;
}
