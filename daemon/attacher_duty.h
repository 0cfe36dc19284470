/* Probes that are attached for a part of the time (duty=), in slices. Runs in the attacher. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bpf/attach.h"
#include "daemon/attacher_work.h"
#include "util/clock.h"

struct attacher_request;

/* Files that a target maps in its window, and that are probed from then on. */
#define DUTY_MAX_MORE 16

/* A slice and the pause behind it, on average. To attach takes the target's memory lock and some milliseconds, so that more of them would cost more;
 * with fewer a short window would have none (DUTY_LEAST_NS, daemon/session_params.h). */
#define DUTY_CYCLE_NS NSEC_PER_SEC

/* In the order in which they come. What probes cost is measured beside what they show (daemon/attacher_work.h). */
enum duty_step { DUTY_TICKS /* a slice has begun */, DUTY_COUNTS /* and goes on */, DUTY_REST /* without probes */, DUTY_BARE_TICKS /* the same */ };

struct attacher_duty {
    uint64_t next_ns;        /* monotonic: when the next step is due; UINT64_MAX: never */
    uint64_t end_ns;         /* of the slice */
    enum duty_step step;
    struct attacher_work work;
    uint64_t moved_ns;       /* how long it took to attach probes and to detach them, */
    uint32_t n_moves;        /* for so many slices */
    uint64_t on_ns, off_ns;  /* how long probes are attached, and how long they are not, on average; on_ns 0: they always are */
    struct role_file more[DUTY_MAX_MORE]; /* beside those of the request; owned, until the process ends */
    size_t n_more;
};

/* They are attached: the first slice begins. */
void attacher_duty_begin(const struct attacher_request *q, struct attacher_duty *ret);
/* next_ns has come: the next step. 0 or -errno: they can't be attached again. */
int attacher_duty_turn(const struct attacher_request *q, struct attacher_duty *duty, struct attachment *a);
/* Whether probes are attached now. */
bool attacher_duty_is_on(const struct attacher_request *q, const struct attacher_duty *duty);
/* From now on the file is probed in each slice, too, where there are some; what it has is copied. 0 or -errno. */
int attacher_duty_keep(struct attacher_duty *duty, const struct role_file *file);
/* For which part of the time probes are attached on average, where a slice takes so long to come and to go. */
double attacher_duty_part(double duty_percent, uint64_t moving_ns);
/* Of so long on average: half to one and a half of it. random: 64 bits. */
uint64_t attacher_duty_span(uint64_t mean_ns, uint64_t random);
