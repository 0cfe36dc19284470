/* What a uprobe's hit costs here: it differs by a factor of 20 between machines that run on the metal and those that do not, so it is measured. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct sampler;

enum uprobe_returns { UPROBE_RETURNS_UNKNOWN, UPROBE_RETURNS_SURVIVE, UPROBE_RETURNS_KILL };

struct uprobe_price {
    uint32_t known;       /* 1: what follows was measured */
    uint32_t emulated_ns; /* a hit on an instruction that the kernel emulates, with the program that looks up its session, and takes no sample */
    uint32_t stepped_ns;  /* on one that it single-steps */
    uint32_t returns;     /* enum uprobe_returns: apart, once somebody asks */
};

/* What one on an instruction that is single-stepped costs more than on another. */
static inline uint64_t uprobe_price_of_step_ns(const struct uprobe_price *price)
{
    return price->stepped_ns > price->emulated_ns ? price->stepped_ns - price->emulated_ns : 0;
}

/* Probes code of its own in this process, for a session that is armed and whose target is another one: none of the hits counts. To be called
 * in a child: about 20 ms. 0, or -errno as attach_probes. */
int uprobe_price_measure(const struct sampler *s, uint32_t slot, struct uprobe_price *ret);
