/* A parent that burns in parent_work and has children= others burn in child_work, each a fork without exec:
 * the children's time is not the parent's. They are replaced every 50 ms, and end with their parent. */
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "program.h"

#define MAX_CHILDREN 16

static struct tally tallies[] = { { .name = "parent_work" }, { .name = "child_work" } };

static NOINLINE void parent_work(uint64_t ns)
{
    BURN(&tallies[0], ns);
}

static NOINLINE void child_work(uint64_t ns)
{
    BURN(&tallies[1], ns);
}

static pid_t start_child(void)
{
    pid_t parent = getpid(), pid = fork();

    if (pid != 0)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() == parent)
        child_work(50 * MS_NS);
    _exit(0);
}

int main(int argc, char **argv)
{
    pid_t children[MAX_CHILDREN] = {};
    long n_children;

    program_init(argc, argv, tallies, 1);
    n_children = program_option("children", 1);
    program_ready();
    while (program_running()) {
        for (long i = 0; i < n_children && i < MAX_CHILDREN; i++)
            if (children[i] <= 0 || waitpid(children[i], NULL, WNOHANG) == children[i])
                children[i] = start_child();
        parent_work(5 * MS_NS);
    }
    for (long i = 0; i < n_children && i < MAX_CHILDREN; i++)
        if (children[i] > 0)
            waitpid(children[i], NULL, 0);
    return program_end();
}
