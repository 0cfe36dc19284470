/* What a cycle is made of is told to the loop as it was, not as it was meant: attaching may take long. */
#include "daemon/attacher_duty.h"

#include <errno.h>
#include <sys/random.h>

#include "bpf/sampler.h"
#include "daemon/attacher.h"
#include "util/clock.h"

#define DUTY_CYCLE_NS NSEC_PER_SEC

static void duty_resume(const struct attacher_request *q)
{
    __atomic_store_n(&q->progress->attached_since_ns, monotonic_ns(), __ATOMIC_RELEASE);
    __atomic_store_n(&q->sampler->ctl[q->slot].paused, 0, __ATOMIC_RELEASE);
}

/* To detach may take long, and hits come until it is done: from here on they do not count. The sum is noted first: who reads between the
 * two counts the end of a span twice, and reads again (recorder_duty.c). */
static void duty_pause(const struct attacher_request *q)
{
    struct attacher_progress *progress = q->progress;

    __atomic_store_n(&q->sampler->ctl[q->slot].paused, 1, __ATOMIC_RELEASE);
    __atomic_store_n(&progress->attached_ns, progress->attached_ns + (monotonic_ns() - progress->attached_since_ns), __ATOMIC_RELEASE);
    __atomic_store_n(&progress->attached_since_ns, 0, __ATOMIC_RELEASE);
}

void attacher_duty_begin(const struct attacher_request *q, struct attacher_duty *ret)
{
    uint64_t random, now_ns = monotonic_ns();

    *ret = (struct attacher_duty){.next_ns = UINT64_MAX};
    if (q->params->duty == 0)
        return;
    if (getrandom(&random, sizeof(random), 0) != sizeof(random))
        random = now_ns; /* spans that begin at any time are as good */
    ret->on_ns = (uint64_t)(q->params->duty / 100 * (double)DUTY_CYCLE_NS);
    ret->began_ns = now_ns - random % DUTY_CYCLE_NS;
    ret->next_ns = now_ns + ret->on_ns;
    duty_resume(q);
}

int attacher_duty_turn(const struct attacher_request *q, struct attacher_duty *duty, struct attachment *a)
{
    if (q->progress->attached_since_ns) {
        duty_pause(q);
        attach_pause(a);
        do
            duty->began_ns += DUTY_CYCLE_NS;
        while (duty->began_ns <= monotonic_ns());
        duty->next_ns = duty->began_ns;
        return 0;
    }
    int r = attacher_probes(q, a);
    if (r == 0)
        duty_resume(q);
    duty->next_ns = monotonic_ns() + duty->on_ns; /* to attach takes long as well */
    return r;
}
