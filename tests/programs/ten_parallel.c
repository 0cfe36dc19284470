/* Ten equal functions in ten threads (golang/go#36821): a profiler that favours some threads shows unequal
 * shares. */
#include <pthread.h>

#include "program.h"

#define N_FUNCTIONS 10

static struct tally tallies[N_FUNCTIONS] = {
    { .name = "par0" }, { .name = "par1" }, { .name = "par2" }, { .name = "par3" }, { .name = "par4" },
    { .name = "par5" }, { .name = "par6" }, { .name = "par7" }, { .name = "par8" }, { .name = "par9" },
};

#define WORKER(n)                                                  \
    static NOINLINE void *par##n(void *unused)                     \
    {                                                              \
        (void)unused;                                              \
        while (program_running())                                  \
            BURN(&tallies[n], MS_NS);                              \
        return NULL;                                               \
    }

WORKER(0)
WORKER(1)
WORKER(2)
WORKER(3)
WORKER(4)
WORKER(5)
WORKER(6)
WORKER(7)
WORKER(8)
WORKER(9)

int main(int argc, char **argv)
{
    void *(*const workers[N_FUNCTIONS])(void *) = {
        par0, par1, par2, par3, par4, par5, par6, par7, par8, par9,
    };
    pthread_t threads[N_FUNCTIONS];

    program_init(argc, argv, tallies, N_FUNCTIONS);
    for (unsigned i = 0; i < N_FUNCTIONS; i++)
        if (pthread_create(&threads[i], NULL, workers[i], NULL) != 0)
            program_cannot("start threads");
    program_ready();
    for (unsigned i = 0; i < N_FUNCTIONS; i++)
        pthread_join(threads[i], NULL);
    return program_end();
}
