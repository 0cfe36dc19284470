/* What goes wrong here costs that file alone: the probes that were attached before stay. Of a file all are attached or none: one that shows what is
 * allocated there, and not what is freed, would have all of it live. */
#include "daemon/attacher_more.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "daemon/attacher.h"
#include "daemon/attacher_duty.h"
#include "daemon/attacher_locks.h"
#include "daemon/attacher_returns.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/fdmsg.h"

/* For all of the host's processes. */
#define MORE_LOCKS_NS (2 * NSEC_PER_SEC)

/* Between two slices it is tried alone. */
static int more_attach(const struct attacher_request *q, const struct role_file *file, struct attacher_duty *duty, struct attachment *a)
{
    struct attacher_request of_file = *q;
    bool heap = q->params->event == EVENT_HEAP;
    size_t n_before = a->n_fds;

    of_file.files = file;
    of_file.n_files = 1;
    int r = attacher_try_locks_within(q->progress, MORE_LOCKS_NS);
    r = r < 0 || !heap ? r : attacher_returns_check(&of_file);
    r = r < 0 ? r : (heap ? attach_heap : attach_custom)(q->sampler, q->slot, (uint32_t)q->pid, file, a);
    r = r < 0 ? r : attacher_duty_keep(duty, file);
    if (r < 0 || !attacher_duty_is_on(q, duty))
        attach_drop(a, n_before);
    return r;
}

static int more_take(const struct attacher_request *q, const struct attacher_message *m, int fds[2], struct attacher_duty *duty, struct attachment *a)
{
    AUTO_FREE struct role_place *places = calloc(m->n_places, sizeof(*places));
    size_t len = m->n_places * sizeof(*places);

    if (!places)
        return -ENOMEM;
    if (fds[0] < 0 || fds[1] < 0 || pread(fds[1], places, len, 0) != (ssize_t)len)
        return -EIO;
    return more_attach(q, &(struct role_file){.fd = fds[0], .places = places, .n = m->n_places}, duty, a);
}

int attacher_more(int sock, const struct attacher_request *q, const struct attacher_message *m, int fds[2], struct attacher_duty *duty,
                  struct attachment *a)
{
    struct attacher_message answer = {.type = ATTACHER_MORE, .error = more_take(q, m, fds, duty, a)};

    return fdmsg_send(sock, &answer, sizeof(answer), NULL, 0);
}
