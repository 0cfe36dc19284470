/* Probes that are attached for a part of each second (duty=). Runs in the attacher. */
#pragma once

#include <stdint.h>

struct attacher_request;
struct attachment;

struct attacher_duty {
    uint64_t next_ns;   /* monotonic: when to attach or to detach; UINT64_MAX: never */
    uint64_t began_ns;  /* of the cycle that now is */
    uint64_t on_ns;     /* of each */
};

/* They are attached. Begins at a random place of a cycle. */
void attacher_duty_begin(const struct attacher_request *q, struct attacher_duty *ret);
/* next_ns has come. 0 or -errno: they can't be attached again. */
int attacher_duty_turn(const struct attacher_request *q, struct attacher_duty *duty, struct attachment *a);
