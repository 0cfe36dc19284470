/* What a cycle is made of is told to the loop as it was, not as it was meant: attaching may take long. */
#include "daemon/attacher_duty.h"

#include <errno.h>
#include <sys/random.h>

#include "daemon/attacher.h"
#include "util/clock.h"

#define DUTY_CYCLE_NS NSEC_PER_SEC

static void duty_note_attached(struct attacher_progress *progress)
{
    __atomic_store_n(&progress->attached_since_ns, monotonic_ns(), __ATOMIC_RELEASE);
}

/* The sum first: who reads between the two counts the end of a span twice, and reads again (recorder_attached_ns). */
static void duty_note_detached(struct attacher_progress *progress)
{
    uint64_t since_ns = progress->attached_since_ns;

    __atomic_store_n(&progress->attached_ns, progress->attached_ns + (monotonic_ns() - since_ns), __ATOMIC_RELEASE);
    __atomic_store_n(&progress->attached_since_ns, 0, __ATOMIC_RELEASE);
}

void attacher_duty_begin(const struct attacher_request *q, struct attacher_duty *ret)
{
    uint64_t random = 0, now_ns = monotonic_ns();

    *ret = (struct attacher_duty){.next_ns = UINT64_MAX};
    if (q->params->duty == 0)
        return;
    (void)getrandom(&random, sizeof(random), 0);
    ret->on_ns = (uint64_t)(q->params->duty / 100 * (double)DUTY_CYCLE_NS);
    ret->began_ns = now_ns - random % DUTY_CYCLE_NS;
    ret->next_ns = ret->began_ns + ret->on_ns;
    duty_note_attached(q->progress);
}

int attacher_duty_turn(const struct attacher_request *q, struct attacher_duty *duty, struct attachment *a)
{
    uint64_t now_ns = monotonic_ns();

    if (q->progress->attached_since_ns) {
        attach_pause(a);
        duty_note_detached(q->progress);
    }
    while (duty->began_ns + DUTY_CYCLE_NS <= now_ns)
        duty->began_ns += DUTY_CYCLE_NS;
    if (now_ns >= duty->began_ns + duty->on_ns) {
        duty->next_ns = duty->began_ns + DUTY_CYCLE_NS;
        return 0;
    }
    int r = attacher_probes(q, a);
    duty_note_attached(q->progress);
    duty->next_ns = duty->began_ns + duty->on_ns;
    return r;
}
