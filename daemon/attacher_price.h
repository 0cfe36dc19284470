/* Whether a target can bear its probes, before anything is profiled. */
#pragma once

struct attacher_price;
struct attacher_request;

/* Before they are attached: measures what a hit costs on this machine, once in the daemon's life. Where that can't be done it stays unknown. */
void attacher_price_learn(const struct attacher_request *q);
/* Once they are: counts their hits for a moment. 0; -EDQUOT: they cost more than the session may. */
int attacher_price_check(const struct attacher_request *q, struct attacher_price *ret);
