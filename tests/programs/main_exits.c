/* The main thread ends while another burns on: the process lives, but its leader is a zombie, whose maps
 * and exe can't be read any more. */
#include <pthread.h>
#include <stdlib.h>

#include "program.h"

static struct tally tallies[] = { { .name = "survivor_work" } };

static NOINLINE void survivor_work(void)
{
    BURN(&tallies[0], MS_NS);
}

static void *survivor(void *unused)
{
    (void)unused;
    program_ready();
    while (program_running())
        survivor_work();
    exit(program_end());
}

int main(int argc, char **argv)
{
    pthread_t thread;

    program_init(argc, argv, tallies, 1);
    if (pthread_create(&thread, NULL, survivor, NULL) != 0)
        program_cannot("start a thread");
    pthread_exit(NULL);
}
