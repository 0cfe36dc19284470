/* Attaches the probes of a custom profile, and makes its maps. Owns nothing. */
#include <bpf/bpf.h>
#include <errno.h>

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

static uint32_t custom_op_of(uint32_t role)
{
    return CUSTOM_ROLE_OP(role);
}

/* What is seen to be added is seen to be removed. */
int attach_custom(const struct sampler *s, uint32_t slot, uint32_t pid, const struct role_file *file, struct attachment *ret)
{
    static const enum custom_op order[] = {CUSTOM_REMOVE, CUSTOM_CALL, CUSTOM_ADD};
    const struct probe_set set = {.prog = s->custom.prog, .multi_prog = s->custom.multi_prog, .multi_type = ATTACH_TRACE_UPROBE_MULTI};
    int r = 0;

    for (size_t i = 0; r == 0 && i < sizeof(order) / sizeof(order[0]); i++)
        r = attach_roles(s, slot, pid, file, custom_op_of, order[i], &set, ret);
    return r;
}
