/* The worker role as an executable of its own, for tests of the pool. Linked with the daemon's own worker. */
#include "daemon/worker_pool.h"

int main(int argc, char **argv)
{
    return worker_main(argc, argv);
}
