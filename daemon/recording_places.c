/* Owns the files and their places. */
#include "daemon/recording_places.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/recording_impl.h"
#include "util/cleanup.h"

int recording_places_add(struct recording_places *p, uint32_t object, int fd, const struct role_place *places, size_t n)
{
    AUTO_FREE struct role_place *own = calloc(n + 1, sizeof(*own));

    if (p->n_files == RECORDING_MAX_FILES)
        return -ENOBUFS;
    if (!own)
        return -ENOMEM;
    memcpy(own, places, n * sizeof(*own));
    int own_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (own_fd < 0)
        return -errno;
    p->objects[p->n_files] = object;
    p->files[p->n_files++] = (struct role_file){.fd = own_fd, .places = TAKE_PTR(own), .n = n};
    return 0;
}

void recording_places_clear(struct recording_places *p)
{
    for (size_t i = 0; i < p->n_files; i++) {
        close_fd(&p->files[i].fd);
        free((void *)p->files[i].places);
    }
    p->n_files = 0;
}

int recording_places_need(struct recording *rec, const struct worker_message *need)
{
    struct collector_message m = {.type = COLLECTOR_FILE, .u.file = *need};

    if (rec->phase > PHASE_PLACING)
        return recording_ask_late(rec, &m);
    int r = child_send(rec->collector, &m, sizeof(m), NULL, 0);
    child_set_deadline(rec->collector, RECORDING_ANSWER_DEADLINE_NS);
    return r;
}

int recording_places_ask(struct recording *rec, uint32_t object)
{
    struct worker_message need = {.type = WORKER_NEED};

    need.u.need.kind = WORKER_FILE_OBJECT;
    need.u.need.object = object;
    return recording_places_need(rec, &need);
}
