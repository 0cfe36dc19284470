/* Threads that are older than a watch of new ones, or than a trace: dumped once, as it begins, and in its counts from then on. In a trace's,
 * the weight is the time (monotonic) at which they had been dumped. Owns the dumper meanwhile, and their counts. */
#include "daemon/recorder_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/child.h"
#include "daemon/dumper.h"
#include "util/clock.h"

#define ELDERS_DEADLINE_NS (5 * NSEC_PER_SEC)

static int elders_take(struct recorder *r, int fd)
{
    struct raw_profile dump;

    int e = raw_table_open(fd, &dump);
    if (e < 0)
        return e;
    size_t bytes = dump.n_counts * sizeof(*r->elders), len = dump.n_records > 0 ? dump.records[0]->len : 0;
    void *records = len > 0 ? recorder_reserve(r, len) : NULL;
    r->elders = bytes > 0 && records ? malloc(bytes) : NULL;
    if (r->elders) {
        memcpy(records, dump.records[0] + 1, len);
        memcpy(r->elders, dump.counts, bytes);
        for (size_t i = 0; i < dump.n_counts && recorder_is_trace(r); i++)
            r->elders[i].value.weight = monotonic_ns();
        r->n_elders = dump.n_counts;
        free(r->counts); /* too small now */
        r->counts = NULL;
        r->n_counts = 0;
    }
    e = dump.n_counts > 0 && !r->elders ? -ENOMEM : 0;
    raw_profile_close(&dump);
    return e;
}

static void elders_on_message(struct child *c, const void *data, size_t len, int *fds, size_t n_fds, void *userdata)
{
    struct recorder *r = userdata;
    const struct attacher_message *m = data;
    struct attacher_message open = {.type = ATTACHER_OPEN};

    if (len == sizeof(*m) && m->type == ATTACHER_READY)
        (void)child_send(c, &open, sizeof(open), NULL, 0); /* where it is gone, its end is told */
    if (len == sizeof(*m) && m->type == ATTACHER_DUMPED && n_fds == 1 && r->n_elders == 0) {
        r->elders_missing = elders_take(r, fds[0]) < 0;
        child_kill(r->elders_dumper);
        r->elders_dumper = NULL;
    }
    for (size_t i = 0; i < n_fds; i++)
        (void)close(fds[i]);
}

static void elders_on_ended(struct child *c, bool timed_out, uint64_t cpu_ns, void *userdata)
{
    struct recorder *r = userdata;

    r->elders_dumper = NULL;
    r->attacher_cpu_ns += cpu_ns;
}

void recorder_elders_begin(struct recorder *r)
{
    static const struct child_ops ops = {.message = elders_on_message, .ended = elders_on_ended};
    const struct dump_programs *d = &r->sampler->dump;
    bool starts = !recorder_is_trace(r);
    struct dumper_request request = {.programs = d, .slot = r->slot, .pid = r->pid, .starts = starts, .anonymous = starts,
                                     .kernel = r->params.kernel, .before_ns = starts ? r->sampler->ctl[r->slot].opened_ns : 0};
    const int keep[] = {d->thread_prog, d->cpu_prog, d->clock_prog, d->lock_fd};

    r->elders_missing = true; /* until they are here */
    if (d->area)
        (void)child_spawn(r->base, dumper_main, &request, keep, sizeof(keep) / sizeof(keep[0]), ELDERS_DEADLINE_NS, &ops, r,
                          &r->elders_dumper);
}

void recorder_elders_end(struct recorder *r)
{
    child_kill(r->elders_dumper);
    r->elders_dumper = NULL;
    free(r->elders);
    r->elders = NULL;
    r->n_elders = 0;
}
