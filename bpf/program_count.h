/* One sample counted: in the session's table, its stack handed to the reader when it is new. Included by *.bpf.c, after their kernel
 * types. */
#pragma once

#include "bpf/control.h"
#include "bpf/shared_maps.h"

/* Wakes the reader once half of the ring is full: it need not look before the window ends otherwise. */
static __always_inline long emit(void *ring, void *record, __u64 size)
{
    __u64 half = bpf_ringbuf_query(ring, BPF_RB_RING_SIZE) / 2;
    __u64 flags = bpf_ringbuf_query(ring, BPF_RB_AVAIL_DATA) > half ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP;

    return bpf_ringbuf_output(ring, record, size, flags);
}

static __always_inline long emit_stack(void *ring, struct stack_walk *walk)
{
    __u64 n = walk->n;

    barrier_var(n); /* else a compiler may compare one copy and use another, whose bounds verifiers before Linux 6.2 don't know */
    if (n > STACK_WALK_FRAMES + LABELS_MAX_WORDS)
        return -1;
    return emit(ring, &walk->record, sizeof(walk->record) + n * sizeof(__u64));
}

/* Hands the stack in x->walk over to the reader, if it is new to the session. True; false: there is no room, and so many samples are
 * counted as lost. */
static __always_inline bool give_stack(struct session_ctl *s, void *table, void *ring, struct scratch *x, const struct sample_value *add,
                                       __u64 samples)
{
    long marked;

    /* The marker that this stack was handed over: a key that no thread has. */
    __builtin_memset(&x->seen, 0, sizeof(x->seen));
    x->seen.stack_hash[0] = x->walk.record.stack_hash[0];
    x->seen.stack_hash[1] = x->walk.record.stack_hash[1];
    marked = bpf_map_update_elem(table, &x->seen, add, BPF_NOEXIST);
    if (s->standing && marked && marked != -17 /* EEXIST */) {
        __sync_fetch_and_add(&s->lost_table, samples);
        return false;
    }
    if (marked != -17 && emit_stack(ring, &x->walk)) {
        bpf_map_delete_elem(table, &x->seen);
        __sync_fetch_and_add(&s->lost_ring, samples);
        return false;
    }
    if (marked != -17 && x->walk.record.label_words)
        __sync_fetch_and_add(&s->labels.stacks, 1);
    return true;
}

/* Counts in the session's table, under x->key: in value, where that is there already. */
static __always_inline void count_in(struct session_ctl *s, void *table, void *ring, struct scratch *x, struct sample_value *value,
                                     const struct sample_value *add)
{
    if (!value) {
        if (!bpf_map_update_elem(table, &x->key, add, BPF_NOEXIST))
            return;
        value = bpf_map_lookup_elem(table, &x->key);
    }
    if (value) {
        __sync_fetch_and_add(&value->samples, add->samples);
        __sync_fetch_and_add(&value->weight, add->weight);
        return;
    }
    if (s->standing) {
        __sync_fetch_and_add(&s->lost_table, add->samples);
        return;
    }
    __sync_fetch_and_add(&s->table_full, add->samples);
    x->overflow.type = RECORD_SAMPLE;
    x->overflow.pad = 0;
    x->overflow.key = x->key;
    x->overflow.value = *add;
    if (emit(ring, &x->overflow, sizeof(x->overflow)))
        __sync_fetch_and_add(&s->lost_ring, add->samples);
}

/* Counts the sample in the session's table, and hands a stack that is new over to the reader. */
static __always_inline void count_sample(struct session_ctl *s, void *table, void *ring, struct scratch *x,
                                         const struct sample_value *add)
{
    struct sample_value *value;

    if (s->standing) {
        x->key.tid = 0;
        __builtin_memset(x->key.comm, 0, sizeof(x->key.comm));
    }
    value = bpf_map_lookup_elem(table, &x->key);
    if (value || give_stack(s, table, ring, x, add, add->samples))
        count_in(s, table, ring, x, value, add);
}

/* To the session's account: what so many samples took each. */
static __always_inline void charge_spent(struct session_ctl *s, __u64 spent_ns, __u32 samples)
{
    __u32 bucket = cost_bucket(spent_ns);

    __sync_fetch_and_add(&s->overhead_ns, samples * spent_ns);
    barrier_var(bucket); /* else a compiler that knows its bounds leaves out the mask, by which verifiers before Linux 6.2 learn them */
    __sync_fetch_and_add(&s->costs[bucket & (COST_BUCKETS - 1)], samples);
}

static __always_inline void charge_cost(struct session_ctl *s, __u64 began_ns)
{
    charge_spent(s, bpf_ktime_get_ns() - began_ns, 1);
}
