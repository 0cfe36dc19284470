/* Two processes (or, threads=1, two threads) that pass a byte to and fro through two pipes: a context
 * switch for each byte, 100,000 and more a second, when both run on one CPU (cpu=, default 0; -1 leaves
 * them free). The truth counts round trips. depth= puts so many frames more under what passes the bytes, on both sides. Built with LABELS (as
 * labelled_pingpong) and with labels=1 the first has a label (cprofd/labels.h) all the time, with labels=2 a new one for each trip. */
#ifdef LABELS
#include "cprofd/labels.h"
#else
#define CPROFD_LABEL(name, key, value) (void)0
#endif
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "program.h"

static struct tally tallies[] = { { .name = "ping" } };
static int to_peer[2], from_peer[2];
static long depth, labels;

static NOINLINE void descend(long left, void (*bottom)(void))
{
    if (left <= 0)
        bottom();
    else
        descend(left - 1, bottom);
    KEEP_FRAME();
}

static NOINLINE void pong(void)
{
    char byte;

    while (read(to_peer[0], &byte, 1) == 1 && write(from_peer[1], &byte, 1) == 1)
        ;
}

static void *pong_thread(void *unused)
{
    (void)unused;
    descend(depth, pong);
    return NULL;
}

static void pass(void)
{
    char byte = 0;

    if (write(to_peer[1], &byte, 1) != 1 || read(from_peer[0], &byte, 1) != 1)
        program_cannot("pass a byte");
}

static void pass_labelled(void)
{
    CPROFD_LABEL(request, "request", "/trip");
    pass();
}

static NOINLINE void ping(void)
{
    uint64_t start_ns = program_clock_ns(CLOCK_THREAD_CPUTIME_ID);

    for (unsigned i = 0; i < 1000; i++)
        if (labels == 2)
            pass_labelled();
        else
            pass();
    tallies[0].calls += 1000;
    tallies[0].cpu_ns += program_clock_ns(CLOCK_THREAD_CPUTIME_ID) - start_ns;
}

static void start_peer(bool thread)
{
    pthread_t id;
    pid_t pid;

    if (thread) {
        if (pthread_create(&id, NULL, pong_thread, NULL) != 0)
            program_cannot("start a thread");
        pthread_detach(id);
        return;
    }
    pid = fork();
    if (pid < 0)
        program_cannot("fork");
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(to_peer[1]);
        pong_thread(NULL);
        _exit(0);
    }
    program_note("peer", (uint64_t)pid);
}

int main(int argc, char **argv)
{
    cpu_set_t cpus;
    long cpu;

    program_init(argc, argv, tallies, 1);
    cpu = program_option("cpu", 0);
    depth = program_option("depth", 0);
    labels = program_option("labels", 0);
    CPU_ZERO(&cpus);
    CPU_SET((size_t)(cpu < 0 ? 0 : cpu), &cpus);
    if ((cpu >= 0 && sched_setaffinity(0, sizeof(cpus), &cpus) < 0) || pipe(to_peer) < 0 || pipe(from_peer) < 0)
        program_cannot("pin or make pipes");
    start_peer(program_option("threads", 0));
    program_ready();
    if (labels == 1) {
        CPROFD_LABEL(request, "request", "/ping");
        while (program_running())
            descend(depth, ping);
    }
    while (program_running())
        descend(depth, ping);
    return program_end();
}
