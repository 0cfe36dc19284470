/* The samples of an allocator's recording: what a stack allocated, and what of that is live, out of the counts of either. Where frames have
 * names, the allocator's own are left out: a stack begins with who allocates, as Go's do. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bpf/heap.h"
#include "daemon/render_job.h"
#include "util/cleanup.h"

/* ---- counts */

static int compare_counts(const void *va, const void *vb)
{
    const struct sample_key *a = &(*(const struct raw_count *const *)va)->key, *b = &(*(const struct raw_count *const *)vb)->key;

    int r = memcmp(a->stack_hash, b->stack_hash, sizeof(a->stack_hash));
    return r ? r : (a->epoch > b->epoch) - (a->epoch < b->epoch);
}

/* Whole numbers, of all of the window. */
static uint64_t heap_estimate(const struct render_job *job, uint64_t counted)
{
    uint64_t scaled = render_times(counted, job->raw->params.scale);

    return scaled > UINT64_MAX / 2 ? scaled >> HEAP_FRACTION_BITS : HEAP_ROUND(scaled);
}

/* Of one stack, n of them. */
static void heap_sum(const struct render_job *job, const struct raw_count *const *counts, size_t n, struct render_heap *ret)
{
    struct sample_value allocated = {0}, freed = {0};

    for (size_t i = 0; i < n; i++) {
        struct sample_value *sum = counts[i]->key.state == HEAP_COUNT_FREE ? &freed : &allocated;
        sum->samples = render_plus(sum->samples, counts[i]->value.samples);
        sum->weight = render_plus(sum->weight, counts[i]->value.weight);
    }
    if (counts[0]->key.epoch < job->raw->params.exec_epoch) /* the exec took it along */
        freed = allocated;
    *ret = (struct render_heap){
        .value = {heap_estimate(job, allocated.samples), heap_estimate(job, allocated.weight)},
        .live_objects = allocated.samples > freed.samples ? HEAP_ROUND(allocated.samples - freed.samples) : 0,
        .live_bytes = allocated.weight > freed.weight ? HEAP_ROUND(allocated.weight - freed.weight) : 0,
    };
}

static int heap_add(struct render_job *job, const struct stack_index *index, const struct raw_count *first, struct render_heap *heap)
{
    const struct stack_record *stack = stack_index_find(index, (const uint64_t *)first->key.stack_hash);

    if (!stack) {
        facts_count(&job->facts, "lost.stack", heap->value.samples);
        return 0;
    }
    int r = render_add_stack(job, &first->key, &heap->value, stack);
    if (r < 0)
        return r;
    struct render_sample *sample = &job->samples[job->n_samples - 1];
    sample->heap = heap;
    sample->hidden = stack->n_kernel == 0 && sample->n_user > 1;
    return 0;
}

int render_join_heap(struct render_job *job, const struct stack_index *index)
{
    const struct raw_profile *raw = job->raw;
    AUTO_FREE const struct raw_count **counts = calloc(raw->n_counts + 1, sizeof(*counts));
    size_t n = 0, n_heaps = 0;
    int r = 0;

    job->heaps = calloc(raw->n_counts + 1, sizeof(*job->heaps));
    if (!counts || !job->heaps)
        return -ENOMEM;
    for (size_t i = 0; i < raw->n_counts; i++)
        counts[i] = &raw->counts[i];
    qsort(counts, raw->n_counts, sizeof(*counts), compare_counts);
    for (size_t i = 0; r == 0 && i < raw->n_counts; i += n) {
        struct render_heap *heap = &job->heaps[n_heaps++];
        for (n = 1; i + n < raw->n_counts && compare_counts(&counts[i], &counts[i + n]) == 0;)
            n++;
        heap_sum(job, counts + i, n, heap);
        if (heap->value.samples > 0)
            r = heap_add(job, index, counts[i], heap);
    }
    return r;
}

/* ---- frames */

static bool is_operator_new(const char *symbol)
{
    return strncmp(symbol, "_Znw", 4) == 0 || strncmp(symbol, "_Zna", 4) == 0;
}

void render_hide_allocators(struct render_job *job)
{
    for (size_t i = 0; i < job->n_samples; i++) {
        struct render_sample *sample = &job->samples[i];
        while (sample->heap && sample->hidden > 0 && sample->hidden + 1 < sample->n_user) {
            const struct frame *frame = render_own_frame(job, sample, sample->hidden);
            if (!frame || !is_operator_new(frame_symbol(frame)))
                break;
            sample->hidden++;
        }
    }
}
