/* The binary's roles: the daemon's loop, and (started by it) a worker. */
#include <stdio.h>

int main(void)
{
    puts("cprofd " CPROFD_VERSION);
    return 0;
}
