/* Some kernels take the way back from a return probe for a system call of the program's. What this one does is tried once, when the first target
 * under seccomp is to be probed so. Runs in the attacher. */
#include "daemon/attacher_returns.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>

#include "bpf/sampler.h"
#include "bpf/uprobe_price.h"
#include "bpf/uprobe_returns.h"
#include "daemon/attacher.h"
#include "util/cleanup.h"

/* Where that can't be read it counts as so. */
static bool returns_is_shut_in(pid_t pid)
{
    char path[64], line[256];
    int mode = 1;

    (void)snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
    AUTO_FCLOSE FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof(line), f))
        if (sscanf(line, "Seccomp: %d", &mode) == 1)
            return mode != 0;
    return true;
}

int attacher_returns_check(const struct attacher_request *q)
{
    uint32_t *known = &q->sampler->price->returns, is = __atomic_load_n(known, __ATOMIC_ACQUIRE);
    bool survive = false;

    if (!returns_is_shut_in(q->pid))
        return 0;
    if (is == UPROBE_RETURNS_UNKNOWN) {
        is = uprobe_returns_try(&survive) == 0 && survive ? UPROBE_RETURNS_SURVIVE : UPROBE_RETURNS_KILL;
        __atomic_store_n(known, is, __ATOMIC_RELEASE);
    }
    return is == UPROBE_RETURNS_SURVIVE ? 0 : -EUCLEAN;
}
