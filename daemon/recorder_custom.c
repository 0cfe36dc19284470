/* What a recorder of a custom profile has otherwise: its counts are the values that are live, by stack. Owns nothing: the recorder does. */
#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bpf/custom.h"
#include "daemon/recorder_impl.h"
#include "util/cleanup.h"

/* Stacks of a window, too, have to be there for as long as a value of theirs: what finds no room is not live. */
void recorder_custom_fill(struct session_ctl *ctl)
{
    ctl->standing = 1;
    ctl->weight = 1;
}

size_t recorder_custom_keep(const struct sampler *s, int *ret)
{
    const int of_custom[] = {s->custom.prog, s->custom.multi_prog, s->custom.live_map, s->custom.calls_map};
    size_t n = 0;

    for (size_t i = 0; i < sizeof(of_custom) / sizeof(of_custom[0]); i++)
        if (of_custom[i] >= 0)
            ret[n++] = of_custom[i];
    return n;
}

static int compare_values(const void *va, const void *vb)
{
    const struct custom_value *a = va, *b = vb;
    int r = memcmp(a->stack_hash, b->stack_hash, sizeof(a->stack_hash));

    r = r ? r : (a->epoch > b->epoch) - (a->epoch < b->epoch);
    return r ? r : (a->skip > b->skip) - (a->skip < b->skip);
}

/* All values, in no order. Their number, or -errno. */
static ssize_t values_read(const struct recorder *r, uint64_t *keys, struct custom_value *values)
{
    uint32_t position = 0, n;
    size_t n_read = 0;
    bool first = true;
    int result;

    do {
        n = CUSTOM_MAX_LIVE - (uint32_t)n_read;
        result = n ? bpf_map_lookup_batch(r->live_fd, first ? NULL : &position, &position, keys + n_read, values + n_read, &n, NULL) : -ENOENT;
        if (result < 0 && result != -ENOENT)
            return result;
        n_read += n;
        first = false;
    } while (result == 0 && n > 0);
    return (ssize_t)n_read;
}

static void values_count(struct recorder *r, const struct custom_value *values, size_t n)
{
    const struct session_ctl *ctl = recorder_ctl(r);

    r->n_counts = 0;
    for (size_t i = 0; i < n; i++) {
        struct raw_count *count;
        if (values[i].epoch < ctl->exec_epoch)
            continue; /* of an image that is gone */
        if (r->n_counts == 0 || i == 0 || compare_values(&values[i - 1], &values[i]) != 0) {
            count = &r->counts[r->n_counts++];
            *count = (struct raw_count){.key = {.tgid = ctl->tgid, .epoch = values[i].epoch, .state = values[i].skip}};
            memcpy(count->key.stack_hash, values[i].stack_hash, sizeof(count->key.stack_hash));
        }
        count = &r->counts[r->n_counts - 1];
        uint64_t weight = values[i].weight > UINT64_MAX / (values[i].times ? values[i].times : 1) ? UINT64_MAX : values[i].weight * values[i].times;
        count->value.samples += values[i].times;
        count->value.weight = count->value.weight > UINT64_MAX - weight ? UINT64_MAX : count->value.weight + weight;
    }
}

int recorder_custom_read(struct recorder *r)
{
    AUTO_FREE uint64_t *keys = calloc(CUSTOM_MAX_LIVE, sizeof(*keys));
    AUTO_FREE struct custom_value *values = calloc(CUSTOM_MAX_LIVE, sizeof(*values));
    ssize_t n = keys && values ? values_read(r, keys, values) : -ENOMEM;

    if (n < 0)
        return (int)n;
    struct raw_count *counts = reallocarray(r->counts, (size_t)n + 1, sizeof(*counts));
    if (!counts)
        return -ENOMEM;
    r->counts = counts;
    qsort(values, (size_t)n, sizeof(*values), compare_values);
    values_count(r, values, (size_t)n);
    return 0;
}
