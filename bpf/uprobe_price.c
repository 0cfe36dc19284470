/* Two functions are called in short runs, of which the fastest one tells: others were interrupted. */
#include "bpf/uprobe_price.h"

#include <unistd.h>

#include "bpf/attach.h"
#include "bpf/sampler.h"
#include "bpf/uprobe_code.h"
#include "util/cleanup.h"
#include "util/clock.h"

#define RUN_CALLS 16
#define RUNS 24

static uint64_t price_run(const struct uprobe_code *code, size_t function)
{
    uint64_t least_ns = UINT64_MAX;

    for (int run = 0; run < RUNS; run++) {
        uint64_t began_ns = monotonic_ns();
        for (int i = 0; i < RUN_CALLS; i++)
            uprobe_code_call(code, function);
        uint64_t took_ns = monotonic_ns() - began_ns;
        least_ns = took_ns < least_ns ? took_ns : least_ns;
    }
    return least_ns / RUN_CALLS;
}

static void price_detach(struct attachment *a)
{
    attach_pause(a);
    free(TAKE_PTR(a->fds));
}

int uprobe_price_measure(const struct sampler *s, uint32_t slot, struct uprobe_price *ret)
{
    CLEANUP(uprobe_code_deinit) struct uprobe_code code = UPROBE_CODE_INIT;
    CLEANUP(price_detach) struct attachment a = ATTACHMENT_INIT;
    const struct probe_place places[] = {{.offset = UPROBE_CODE_EMULATED}, {.offset = UPROBE_CODE_STEPPED}};

    int r = uprobe_code_init(&code);
    if (r == 0)
        r = attach_probes(s, slot, code.fd, (uint32_t)getpid(), places, 2, &a);
    if (r < 0)
        return r;
    ret->emulated_ns = (uint32_t)price_run(&code, UPROBE_CODE_EMULATED);
    ret->stepped_ns = (uint32_t)price_run(&code, UPROBE_CODE_STEPPED);
    __atomic_store_n(&ret->known, 1, __ATOMIC_RELEASE);
    return 0;
}
