/* Attaches the probes of places that are told apart by what is done there: one of these may stand where another does something else. Owns
 * nothing. */
#include <errno.h>
#include <stdlib.h>

#include "bpf/attach.h"
#include "bpf/attach_impl.h"
#include "bpf/control.h"
#include "util/cleanup.h"

int attach_roles(const struct sampler *s, uint32_t slot, uint32_t pid, const struct role_file *file, uint32_t (*way_of)(uint32_t role), uint32_t way,
                 const struct probe_set *set, struct attachment *ret)
{
    AUTO_FREE struct probe_place *places = calloc(file->n + 1, sizeof(*places));
    AUTO_FREE uint64_t *cookies = calloc(file->n + 1, sizeof(*cookies));
    struct probe_set of_way = *set;

    if (!places || !cookies)
        return -ENOMEM;
    of_way.places = places;
    of_way.cookies = cookies;
    for (size_t i = 0; i < file->n; i++) {
        const struct role_place *place = &file->places[i];
        if (way_of(place->role) != way)
            continue;
        places[of_way.n] = (struct probe_place){place->offset, place->semaphore};
        cookies[of_way.n++] = COOKIE(slot, place->role, s->ctl[slot].instance);
    }
    return of_way.n > 0 ? attach_probe_set(&of_way, file->fd, pid, ret) : 0;
}
