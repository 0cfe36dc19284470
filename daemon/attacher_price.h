/* Whether a target can bear its probes, before anything is profiled. */
#pragma once

#include <stdint.h>

struct attacher_price;
struct attacher_request;

/* Before they are attached: measures what a hit costs on this machine, once in the daemon's life. Where that can't be done it stays unknown. */
void attacher_price_learn(const struct attacher_request *q);
/* Once they are: counts their hits for a moment. 0; -EDQUOT: they cost more than the session may. */
int attacher_price_check(const struct attacher_request *q, struct attacher_price *ret);

/* A count of hits, and the target's CPU time before and after it was read: next to one another, as far as this process is let. */
struct attacher_look {
    uint64_t hits, before_ns, after_ns;
    uint64_t stepped; /* of those before the window, on instructions that the kernel single-steps */
};

/* 0 or -ESRCH. */
int attacher_look(const struct attacher_request *q, const uint64_t *hits, struct attacher_look *ret);
