/* Text in the layout of Go's runtime/pprof for heap and allocs (debug=1): for each stack what is live of it, and what was allocated, those with
 * the most first. The values stand for all allocations: readers must not scale them, which a rate of 1 tells (twice that is what is printed). */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/render_text.h"
#include "util/cleanup.h"

/* A stack, in whatever epochs it allocated. */
struct text_heap {
    const struct render_sample *sample;
    struct render_heap sum;
};

static void heap_add(struct render_heap *sum, const struct render_heap *h)
{
    sum->value.samples = render_plus(sum->value.samples, h->value.samples);
    sum->value.weight = render_plus(sum->value.weight, h->value.weight);
    sum->live_objects = render_plus(sum->live_objects, h->live_objects);
    sum->live_bytes = render_plus(sum->live_bytes, h->live_bytes);
}

static int compare_heaps(const void *va, const void *vb)
{
    const struct text_heap *x = va, *y = vb;

    if (x->sum.live_bytes != y->sum.live_bytes)
        return x->sum.live_bytes < y->sum.live_bytes ? 1 : -1;
    if (x->sum.value.weight != y->sum.value.weight)
        return x->sum.value.weight < y->sum.value.weight ? 1 : -1;
    return memcmp(x->sample->key->stack_hash, y->sample->key->stack_hash, sizeof(x->sample->key->stack_hash));
}

static int compare_stacks(const void *va, const void *vb)
{
    const struct render_sample *a = *(const struct render_sample *const *)va, *b = *(const struct render_sample *const *)vb;

    return memcmp(a->key->stack_hash, b->key->stack_hash, sizeof(a->key->stack_hash));
}

/* The same addresses, and what is there is the same in either's epoch. */
static bool is_same_stack(struct render_job *job, const struct render_sample *a, const struct render_sample *b)
{
    size_t n = render_frame_count(a);

    if (compare_stacks(&a, &b) != 0 || n != render_frame_count(b))
        return false;
    for (size_t i = 0; i < n; i++)
        if (render_frame_at(job, a, i) != render_frame_at(job, b, i))
            return false;
    return true;
}

static size_t heaps_make(struct render_job *job, const struct render_sample **samples, size_t n, struct text_heap *ret)
{
    size_t n_heaps = 0;

    qsort(samples, n, sizeof(*samples), compare_stacks);
    for (size_t i = 0; i < n; i++) {
        if (i == 0 || !is_same_stack(job, ret[n_heaps - 1].sample, samples[i]))
            ret[n_heaps++].sample = samples[i];
        heap_add(&ret[n_heaps - 1].sum, samples[i]->heap);
    }
    qsort(ret, n_heaps, sizeof(*ret), compare_heaps);
    return n_heaps;
}

static void text_heap_values(FILE *out, const struct render_heap *h)
{
    fprintf(out, "%" PRIu64 ": %" PRIu64 " [%" PRIu64 ": %" PRIu64 "] @", h->live_objects, h->live_bytes, (uint64_t)h->value.samples,
            (uint64_t)h->value.weight);
}

static int text_heap(FILE *out, struct render_job *job, const struct text_heap *heap)
{
    text_heap_values(out, &heap->sum);
    return text_stack(out, job, heap->sample);
}

int text_heaps(FILE *out, struct render_job *job, const struct render_sample **samples, size_t n)
{
    AUTO_FREE struct text_heap *heaps = calloc(n + 1, sizeof(*heaps));
    struct render_heap total = {0};
    int r = 0;

    if (!heaps)
        return -ENOMEM;
    size_t n_heaps = heaps_make(job, samples, n, heaps);
    for (size_t i = 0; i < n_heaps; i++)
        heap_add(&total, &heaps[i].sum);
    fputs("heap profile: ", out);
    text_heap_values(out, &total);
    fputs(" heap/2\n", out);
    for (size_t i = 0; r == 0 && i < n_heaps; i++)
        r = text_heap(out, job, &heaps[i]);
    r = r ? r : text_facts(out, &job->facts);
    return r ? r : text_mappings(out, job->raw);
}
