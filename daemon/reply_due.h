/* When a reply has to leave, whatever is known by then, and to which worker it belongs. */
#pragma once

#include <stdint.h>

#include "daemon/worker_pool.h"

struct collector_target;

/* Of a profile whose window of duration_ns (0: none) ended at end_ns, for a request that came at request_ns (monotonic all). Parca gives up 3 s
 * after the window, go tool pprof at one and a half times whole seconds after it asked. */
uint64_t reply_due_ns(uint64_t request_ns, uint64_t duration_ns, uint64_t end_ns);
/* The same for all processes of one user that run one program. */
uint64_t reply_key(const struct collector_target *target);
