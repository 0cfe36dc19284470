/* Reads a process's CPU clock. Owns nothing. */
#include "daemon/cpu_clock.h"

#include <errno.h>
#include <time.h>

#include "util/clock.h"

int process_cpu_ns(pid_t pid, uint64_t *ret_ns)
{
    clockid_t id;
    struct timespec ts;

    if (clock_getcpuclockid(pid, &id) != 0 || clock_gettime(id, &ts) < 0)
        return -ESRCH;
    *ret_ns = (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
    return 0;
}
