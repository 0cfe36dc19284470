/* Samples of a profile: stacks with labels, merged where both are equal. */
#include <assert.h>

#include "pprof/hash.h"
#include "pprof/model.h"
#include "pprof/profile.h"

static bool label_equal(const struct label *a, const struct label *b)
{
    return a->key == b->key && a->str == b->str && a->num == b->num && a->unit == b->unit;
}

static bool label_before(const struct label *a, const struct label *b)
{
    if (a->key != b->key)
        return a->key < b->key;
    if (a->str != b->str)
        return a->str < b->str;
    return a->num != b->num ? a->num < b->num : a->unit < b->unit;
}

/* Whether the label says anything: for readers, "" is the same as no label. */
static int label_intern(struct profile *p, const struct profile_label *label, struct label *ret,
                        bool *ret_empty)
{
    struct label interned = {0};
    assert(label->key && *label->key);
    *ret_empty = label->str && !*label->str;
    if (*ret_empty)
        return 0;
    if (!label->str) {
        /* A number 0 without a unit reads as no label at all; pprof takes the key for a missing unit. */
        bool has_unit = label->unit && *label->unit;
        const char *unit = has_unit ? label->unit : label->num == 0 ? label->key : NULL;
        interned.num = label->num;
        if (strings_intern(&p->strings, unit, &interned.unit) < 0)
            return -ENOMEM;
    }
    if (strings_intern(&p->strings, label->key, &interned.key) < 0 ||
        strings_intern(&p->strings, label->str, &interned.str) < 0)
        return -ENOMEM;
    *ret = interned;
    return 0;
}

/* Adds labels at the end of profile.labels, sorted: their order means nothing. */
static int labels_push(struct profile *p, const struct profile_label *labels, size_t n_labels)
{
    size_t first = p->labels.n;
    if (vec_reserve(&p->labels, n_labels) < 0)
        return -ENOMEM;
    for (size_t i = 0; i < n_labels; i++) {
        struct label label;
        bool empty;
        if (label_intern(p, &labels[i], &label, &empty) < 0)
            return -ENOMEM;
        if (empty)
            continue;
        size_t at = p->labels.n++;
        for (; at > first && label_before(&label, &p->labels.items[at - 1]); at--)
            p->labels.items[at] = p->labels.items[at - 1];
        p->labels.items[at] = label;
    }
    return 0;
}

static int stack_push(struct profile *p, const uint64_t *location_ids, size_t n_ids)
{
    for (size_t i = 0; i < n_ids; i++)
        if (location_ids[i] == 0 || location_ids[i] > p->locations.n)
            return -EINVAL;
    if (n_ids > UINT32_MAX || vec_reserve(&p->stacks, n_ids) < 0)
        return -ENOMEM;
    for (size_t i = 0; i < n_ids; i++)
        vec_push(&p->stacks, (uint32_t)location_ids[i]);
    return 0;
}

static bool sample_equal(const void *owner, uint32_t id, const void *key)
{
    const struct profile *p = owner;
    const struct sample *a = &p->samples.items[id - 1], *b = key;
    if (a->n_locations != b->n_locations || a->n_labels != b->n_labels)
        return false;
    for (size_t i = 0; i < a->n_locations; i++)
        if (p->stacks.items[a->first_location + i] != p->stacks.items[b->first_location + i])
            return false;
    for (size_t i = 0; i < a->n_labels; i++)
        if (!label_equal(&p->labels.items[a->first_label + i], &p->labels.items[b->first_label + i]))
            return false;
    return true;
}

static uint64_t sample_hash(const struct profile *p, const struct sample *s)
{
    uint64_t hash = p->hash_key;
    if (s->n_locations)
        hash = hash_bytes(hash, p->stacks.items + s->first_location, s->n_locations * sizeof(uint32_t));
    for (size_t i = 0; i < s->n_labels; i++) {
        const struct label *label = &p->labels.items[s->first_label + i];
        hash = hash_u64(hash, (uint64_t)label->key << 32 | label->str);
        hash = hash_u64(hash, label->unit);
        hash = hash_u64(hash, (uint64_t)label->num);
    }
    return hash;
}

/* A sum that would not fit stays at the bound. */
static int64_t add_saturated(int64_t a, int64_t b)
{
    int64_t sum;
    if (!__builtin_add_overflow(a, b, &sum))
        return sum;
    return a < 0 ? INT64_MIN : INT64_MAX;
}

/* The locations and labels of s are at the end of their arrays. */
static int sample_merge_or_add(struct profile *p, const struct sample *s, const int64_t *values)
{
    size_t n_values = p->sample_types.n;
    uint64_t hash = sample_hash(p, s);
    uint32_t id = table_find(&p->sample_index, hash, sample_equal, p, s);
    if (id != TABLE_NONE) {
        int64_t *sums = &p->values.items[(id - 1) * n_values];
        for (size_t i = 0; i < n_values; i++)
            sums[i] = add_saturated(sums[i], values[i]);
        p->stacks.n = s->first_location;
        p->labels.n = s->first_label;
        return 0;
    }
    if (table_reserve(&p->sample_index) < 0 || vec_reserve(&p->samples, 1) < 0 ||
        vec_reserve(&p->values, n_values) < 0)
        return -ENOMEM;
    for (size_t i = 0; i < n_values; i++)
        vec_push(&p->values, values[i]);
    vec_push(&p->samples, *s);
    table_insert(&p->sample_index, hash, (uint32_t)p->samples.n);
    return 0;
}

int profile_sample(struct profile *p, const uint64_t *location_ids, size_t n_ids, const int64_t *values,
                   const struct profile_label *labels, size_t n_labels)
{
    struct sample s = {.first_location = p->stacks.n, .first_label = p->labels.n};
    int r = stack_push(p, location_ids, n_ids);
    if (r == 0)
        r = labels_push(p, labels, n_labels);
    if (r == 0) {
        s.n_locations = (uint32_t)n_ids;
        s.n_labels = (uint32_t)(p->labels.n - s.first_label);
        r = sample_merge_or_add(p, &s, values);
    }
    if (r < 0) {
        p->stacks.n = s.first_location;
        p->labels.n = s.first_label;
    }
    return r == -EINVAL ? r : profile_keep_error(p, r);
}
