/* The sampler of tests that dump threads. */
#pragma once

#include <stdbool.h>
#include <stdio.h>

#include "bpf/sampler.h"

/* False: there is none here, or it can't dump, and it is said why. */
static inline bool dump_sampler_open(struct sampler *sampler)
{
    char error[1024];

    if (sampler_open(sampler, error, sizeof(error)) < 0) {
        (void)printf("skipped: %s\n", error);
        return false;
    }
    if (!sampler->dump.area) {
        (void)printf("skipped: %s\n", sampler->dump.error);
        sampler_close(sampler);
        return false;
    }
    return true;
}
