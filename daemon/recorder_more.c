/* Files that a recorder's target maps once its probes are attached. Owns nothing: the recorder does. */
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/child.h"
#include "daemon/recorder_impl.h"
#include "util/cleanup.h"
#include "util/clock.h"

/* For locks and probes of one file. */
#define RECORDER_MORE_DEADLINE_NS (10 * NSEC_PER_SEC)

int recorder_more(struct recorder *r, const struct role_file *file)
{
    struct attacher_message m = {.type = ATTACHER_MORE, .n_places = file->n};
    ssize_t len = (ssize_t)(file->n * sizeof(*file->places));
    AUTO_CLOSE int places = memfd_create("cprofd-places", MFD_CLOEXEC);

    if (places < 0)
        return -errno;
    if (write(places, file->places, (size_t)len) != len)
        return -EIO;
    if (!r->attacher || r->ending)
        return -ESRCH;
    int e = child_send(r->attacher, &m, sizeof(m), (int[]){file->fd, places}, 2);
    if (e < 0)
        return e;
    r->n_more++;
    child_set_deadline(r->attacher, r->n_more * RECORDER_MORE_DEADLINE_NS);
    return 0;
}

void recorder_on_more(struct recorder *r, int error)
{
    if (r->n_more == 0 || r->orphaned)
        return;
    r->n_more--;
    if (!r->ending)
        child_set_deadline(r->attacher, r->n_more * RECORDER_MORE_DEADLINE_NS);
    r->ops.more(r, error, r->userdata);
}
