/* Spans are told to the loop as they were, not as they were meant: attaching may take long. Their lengths are random, so that in the long run no
 * program that does the same at regular times has its probes attached at the same part of that each time. */
#include "daemon/attacher_duty.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "bpf/sampler.h"
#include "daemon/attacher.h"
#include "daemon/attacher_locks.h"
#include "util/cleanup.h"
#include "util/clock.h"

/* For so long at most, of half a slice: what ticks cost falls on all of the host. */
#define DUTY_TICKS_NS (40 * NSEC_PER_MSEC)
/* For the memory locks of all of the host's processes: a slice that can't be had within that is left out. */
#define DUTY_LOCKS_NS (2 * NSEC_PER_SEC)

static void duty_resume(const struct attacher_request *q)
{
    struct session_ctl *ctl = &q->sampler->ctl[q->slot];

    __atomic_store_n(&ctl->slice, ctl->slice + 1, __ATOMIC_RELEASE);
    __atomic_store_n(&q->progress->attached_since_ns, monotonic_ns(), __ATOMIC_RELEASE);
    __atomic_store_n(&ctl->paused, 0, __ATOMIC_RELEASE);
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

uint64_t attacher_duty_span(uint64_t mean_ns, uint64_t random)
{
    return mean_ns / 2 + (mean_ns ? random % mean_ns : 0);
}

double attacher_duty_part(double duty_percent, uint64_t moving_ns)
{
    return duty_percent / 100 * (double)DUTY_CYCLE_NS / (double)(DUTY_CYCLE_NS + moving_ns);
}

static uint64_t duty_after(uint64_t mean_ns)
{
    uint64_t random, now_ns = monotonic_ns();

    if (getrandom(&random, sizeof(random), 0) != sizeof(random))
        random = now_ns; /* whose last digits nobody chose either */
    return now_ns + attacher_duty_span(mean_ns, random);
}

/* At the beginning of each slice, and before it, threads are told apart for a while. */
static uint64_t duty_ticks_ns(uint64_t span_ns)
{
    return span_ns / 2 < DUTY_TICKS_NS ? span_ns / 2 : DUTY_TICKS_NS;
}

/* Probes are there. */
static void duty_begin_slice(const struct attacher_request *q, struct attacher_duty *duty)
{
    uint64_t now_ns = monotonic_ns();

    duty_resume(q);
    duty->end_ns = duty_after(duty->on_ns);
    duty->step = DUTY_TICKS;
    duty->next_ns = duty->end_ns > now_ns ? now_ns + duty_ticks_ns(duty->end_ns - now_ns) : now_ns;
    attacher_work_tick(q, &duty->work);
}

static void duty_end_slice(const struct attacher_request *q, struct attacher_duty *duty, struct attachment *a)
{
    uint64_t began_ns = monotonic_ns();

    duty_pause(q);
    attach_pause(a);
    duty->moved_ns += monotonic_ns() - began_ns;
    duty->n_moves++;
    __atomic_store_n(&q->progress->moving_ns, duty->moved_ns / duty->n_moves, __ATOMIC_RELAXED);
    duty->step = DUTY_REST;
    duty->next_ns = duty_after(duty->off_ns - duty_ticks_ns(duty->off_ns < duty->on_ns ? duty->off_ns : duty->on_ns));
}

void attacher_duty_begin(const struct attacher_request *q, struct attacher_duty *ret)
{
    *ret = (struct attacher_duty){.next_ns = UINT64_MAX};
    if (q->params->duty == 0)
        return;
    ret->on_ns = 1 + (uint64_t)(q->params->duty / 100 * (double)DUTY_CYCLE_NS); /* 0 would be always */
    ret->off_ns = DUTY_CYCLE_NS - ret->on_ns;
    attacher_work_begin(q, &ret->work);
    duty_begin_slice(q, ret);
}

bool attacher_duty_is_on(const struct attacher_request *q, const struct attacher_duty *duty)
{
    return duty->on_ns == 0 || q->progress->attached_since_ns;
}

int attacher_duty_keep(struct attacher_duty *duty, const struct role_file *file)
{
    struct role_place *places;

    if (duty->on_ns == 0)
        return 0;
    if (duty->n_more == DUTY_MAX_MORE)
        return -ENOBUFS;
    attacher_work_more(&duty->work, file);
    AUTO_CLOSE int fd = fcntl(file->fd, F_DUPFD_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    places = calloc(file->n, sizeof(*places));
    if (!places)
        return -ENOMEM;
    memcpy(places, file->places, file->n * sizeof(*places));
    duty->more[duty->n_more++] = (struct role_file){.fd = TAKE_FD(fd), .places = places, .n = file->n};
    return 0;
}

static int duty_attach(const struct attacher_request *q, const struct attacher_duty *duty, struct attachment *a)
{
    int r = attacher_try_locks_within(q->progress, DUTY_LOCKS_NS);

    if (r == 0 && q->params->event != EVENT_HEAP)
        return attach_probes(q->sampler, q->slot, q->probe_fd, (uint32_t)q->pid, q->places, q->n_places, a);
    for (size_t i = 0; r == 0 && i < q->n_files + duty->n_more; i++)
        r = attach_heap(q->sampler, q->slot, (uint32_t)q->pid, i < q->n_files ? &q->files[i] : &duty->more[i - q->n_files], a);
    return r;
}

static int duty_next_slice(const struct attacher_request *q, struct attacher_duty *duty, struct attachment *a)
{
    attacher_work_ticked(q, &duty->work, false);
    uint64_t began_ns = monotonic_ns();
    int r = duty_attach(q, duty, a);
    if (r == 0) {
        duty->moved_ns += monotonic_ns() - began_ns;
        duty_begin_slice(q, duty); /* to attach takes long as well */
        return 0;
    }
    attach_pause(a);
    duty->step = DUTY_REST;
    duty->next_ns = duty_after(duty->off_ns);
    return r == -EBUSY || r == -EINTR || r == -ESRCH ? 0 : r; /* locks are not given; or the target has ended, which others tell */
}

int attacher_duty_turn(const struct attacher_request *q, struct attacher_duty *duty, struct attachment *a)
{
    switch (duty->step) {
    case DUTY_TICKS:
        attacher_work_ticked(q, &duty->work, true);
        attacher_work_count(q, &duty->work);
        duty->step = DUTY_COUNTS;
        duty->next_ns = duty->end_ns;
        return 0;
    case DUTY_COUNTS:
        attacher_work_counted(q, &duty->work);
        duty_end_slice(q, duty, a);
        return 0;
    case DUTY_REST:
        attacher_work_tick(q, &duty->work);
        duty->step = DUTY_BARE_TICKS;
        duty->next_ns = monotonic_ns() + duty_ticks_ns(duty->off_ns < duty->on_ns ? duty->off_ns : duty->on_ns);
        return 0;
    case DUTY_BARE_TICKS:
        break;
    }
    return duty_next_slice(q, duty, a);
}
