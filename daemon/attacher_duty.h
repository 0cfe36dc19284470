/* Probes that are attached for a part of the time (duty=), in slices. Runs in the attacher. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bpf/attach.h"

struct attacher_request;

/* Files that a target maps in its window, and that are probed from then on. */
#define DUTY_MAX_MORE 16

struct attacher_duty {
    uint64_t next_ns;        /* monotonic: when to attach or to detach; UINT64_MAX: never */
    uint64_t on_ns, off_ns;  /* how long probes are attached, and how long they are not, on average; on_ns 0: they always are */
    struct role_file more[DUTY_MAX_MORE]; /* beside those of the request; owned, until the process ends */
    size_t n_more;
};

/* They are attached: the first slice begins. */
void attacher_duty_begin(const struct attacher_request *q, struct attacher_duty *ret);
/* next_ns has come. 0 or -errno: they can't be attached again. */
int attacher_duty_turn(const struct attacher_request *q, struct attacher_duty *duty, struct attachment *a);
/* Whether probes are attached now. */
bool attacher_duty_is_on(const struct attacher_request *q, const struct attacher_duty *duty);
/* From now on the file is probed in each slice, too, where there are some; what it has is copied. 0 or -errno. */
int attacher_duty_keep(struct attacher_duty *duty, const struct role_file *file);
/* Of so long on average: half to one and a half of it. random: 64 bits. */
uint64_t attacher_duty_span(uint64_t mean_ns, uint64_t random);
