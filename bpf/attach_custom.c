/* Attaches the probes of a custom profile, and makes its maps. Owns nothing. */
#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>

#include "bpf/attach.h"
#include "bpf/attach_impl.h"
#include "bpf/custom.h"
#include "util/cleanup.h"

int attach_custom_maps(const struct sampler *s, uint32_t slot, struct attachment *ret)
{
    if (s->custom.prog < 0)
        return -EOPNOTSUPP;
    AUTO_CLOSE int live = bpf_map_create(BPF_MAP_TYPE_HASH, "cprofd_values", sizeof(uint64_t), sizeof(struct custom_value), CUSTOM_MAX_LIVE, NULL);
    if (live < 0 || bpf_map_update_elem(s->custom.live_map, &slot, &live, BPF_ANY) < 0)
        return -errno;
    ret->live_fd = TAKE_FD(live);
    return attach_own_map(s->custom.calls_map, slot, "cprofd_calls", sizeof(uint64_t), CUSTOM_MAX_CALLS);
}

/* Places where the same is done: one of these may stand where another does something else. */
struct custom_group {
    struct probe_place *places;
    uint64_t *cookies;
    size_t n;
};

static void custom_group_deinit(struct custom_group *g)
{
    free(g->places);
    free(g->cookies);
}

static int attach_custom_group(const struct sampler *s, uint32_t slot, uint32_t pid, const struct custom_file *file, enum custom_op op,
                               struct attachment *ret)
{
    CLEANUP(custom_group_deinit) struct custom_group g = {
        .places = calloc(file->n + 1, sizeof(*g.places)), .cookies = calloc(file->n + 1, sizeof(*g.cookies)),
    };

    if (!g.places || !g.cookies)
        return -ENOMEM;
    for (size_t i = 0; i < file->n; i++) {
        if (CUSTOM_ROLE_OP(file->places[i].role) != op)
            continue;
        g.places[g.n].offset = file->places[i].offset;
        g.cookies[g.n++] = COOKIE(slot, file->places[i].role, s->ctl[slot].instance);
    }
    const struct probe_set set = {.prog = s->custom.prog, .multi_prog = s->custom.multi_prog, .multi_type = ATTACH_TRACE_UPROBE_MULTI,
                                  .places = g.places, .cookies = g.cookies, .n = g.n};
    return g.n > 0 ? attach_probe_set(&set, file->fd, pid, ret) : 0;
}

/* What is seen to be added is seen to be removed. */
int attach_custom(const struct sampler *s, uint32_t slot, uint32_t pid, const struct custom_file *file, struct attachment *ret)
{
    int r = attach_custom_group(s, slot, pid, file, CUSTOM_REMOVE, ret);
    r = r < 0 ? r : attach_custom_group(s, slot, pid, file, CUSTOM_CALL, ret);
    return r < 0 ? r : attach_custom_group(s, slot, pid, file, CUSTOM_ADD, ret);
}
