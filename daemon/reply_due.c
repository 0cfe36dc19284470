/* The clients' limits (http-contract), less what a finished body still takes on its way to them. */
#include "daemon/reply_due.h"

#include <sys/random.h>

#include "daemon/collector.h"
#include "util/clock.h"

#define REPLY_WITHIN_NS (3 * NSEC_PER_SEC)
/* From the deadline to the client: the body is made by then. */
#define REPLY_MARGIN_NS (200 * NSEC_PER_MSEC)
#define REPLY_MARGIN_SHORT_NS (100 * NSEC_PER_MSEC)
/* Also where the window began late. */
#define REPLY_LEAST_NS (100 * NSEC_PER_MSEC)

uint64_t reply_due_ns(uint64_t request_ns, uint64_t duration_ns, uint64_t end_ns)
{
    uint64_t due_ns = end_ns + REPLY_WITHIN_NS - REPLY_MARGIN_NS;

    if (duration_ns > 0 && duration_ns % NSEC_PER_SEC == 0) {
        uint64_t by_pprof_ns = request_ns + duration_ns + duration_ns / 2 - REPLY_MARGIN_SHORT_NS;
        due_ns = by_pprof_ns < due_ns ? by_pprof_ns : due_ns;
    }
    return due_ns < end_ns + REPLY_LEAST_NS ? end_ns + REPLY_LEAST_NS : due_ns;
}

/* FNV-1a, salted: programs choose their paths, and must not choose to be taken for another. */
uint64_t reply_key(const struct collector_target *target)
{
    static uint64_t salt;
    if (salt == 0 && getrandom(&salt, sizeof(salt), GRND_NONBLOCK) < 0)
        salt = (uintptr_t)&salt ^ realtime_ns(); /* at boot, the layout's randomness is all there is */
    uint64_t hash = salt;

    for (size_t i = 0; i < sizeof(target->uid); i++)
        hash = (hash ^ (target->uid >> 8 * i & 0xff)) * 0x100000001b3ull;

    for (const char *c = target->exe; *c; c++)
        hash = (hash ^ (unsigned char)*c) * 0x100000001b3ull;
    return hash ? hash : 1;
}
