/* A thread waits in wait_in_vfork for a child, which shares its memory and stack and neither ends nor executes anything. The child ends with
 * the program. */
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>

#include "program.h"

static struct tally tallies[] = { { .name = "wait_in_vfork" } };

static NOINLINE void wait_in_vfork(void)
{
    pid_t pid = vfork();

    if (pid == 0) {
        (void)program_syscall(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0);
        for (;;)
            (void)program_syscall(SYS_rt_sigtimedwait, 0, 0, 0), (void)program_syscall(SYS_ppoll, 0, 0, 0);
    }
    KEEP_FRAME();
}

static void *parent(void *unused)
{
    wait_in_vfork();
    return unused;
}

int main(int argc, char **argv)
{
    pthread_t thread;

    program_init(argc, argv, tallies, 1);
    if (pthread_create(&thread, NULL, parent, NULL) != 0)
        program_cannot("start a thread");
    program_sleep_until(program_clock_ns(CLOCK_MONOTONIC) + 100 * MS_NS);
    program_ready();
    while (program_running())
        program_sleep_until(program_clock_ns(CLOCK_MONOTONIC) + 10 * MS_NS);
    return program_end();
}
