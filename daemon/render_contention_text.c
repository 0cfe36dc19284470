/* Text in the layout of Go's runtime/pprof for profiles of contentions (debug=1 of block and mutex): for each stack how long and how often,
 * the longest first. Cycles are nanoseconds here. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/render_text.h"
#include "util/cleanup.h"

bool text_has_contentions(const struct render_job *job)
{
    return strcmp(job->raw->params.types.type[0], "contentions") == 0;
}

/* A stack, whoever had it. */
struct contention {
    const struct render_sample *sample;
    uint64_t ns, n;
};

static int compare_stacks(const void *va, const void *vb)
{
    const struct render_sample *a = *(const struct render_sample *const *)va, *b = *(const struct render_sample *const *)vb;

    int r = memcmp(a->key->stack_hash, b->key->stack_hash, sizeof(a->key->stack_hash));
    return r ? r : (a->key->epoch > b->key->epoch) - (a->key->epoch < b->key->epoch);
}

static int compare_contentions(const void *va, const void *vb)
{
    const struct contention *a = va, *b = vb;

    if (a->ns != b->ns)
        return a->ns < b->ns ? 1 : -1;
    return compare_stacks(&a->sample, &b->sample);
}

static size_t contentions_make(const struct render_sample **samples, size_t n, struct contention *ret)
{
    size_t n_contentions = 0;

    qsort(samples, n, sizeof(*samples), compare_stacks);
    for (size_t i = 0; i < n; i++) {
        if (i == 0 || compare_stacks(&samples[i - 1], &samples[i]) != 0)
            ret[n_contentions++] = (struct contention){.sample = samples[i]};
        struct contention *c = &ret[n_contentions - 1];
        c->ns = render_plus(c->ns, samples[i]->value->weight);
        c->n = render_plus(c->n, samples[i]->value->samples);
    }
    qsort(ret, n_contentions, sizeof(*ret), compare_contentions);
    return n_contentions;
}

static int text_contention(FILE *out, struct render_job *job, const struct contention *c)
{
    fprintf(out, "%" PRIu64 " %" PRIu64 " @", c->ns, c->n);
    return text_stack(out, job, c->sample);
}

int text_contentions(FILE *out, struct render_job *job, const struct render_sample **samples, size_t n)
{
    AUTO_FREE struct contention *contentions = calloc(n + 1, sizeof(*contentions));
    size_t n_kept = 0;
    int r = 0;

    if (!contentions)
        return -ENOMEM;
    for (size_t i = 0; i < n; i++)
        if (!render_is_signal(job, samples[i]))
            samples[n_kept++] = samples[i];
    size_t n_contentions = contentions_make(samples, n_kept, contentions);
    fputs(job->raw->params.releases ? "--- mutex:\ncycles/second=1000000000\nsampling period=1\n"
                                    : "--- contention:\ncycles/second=1000000000\n", out);
    for (size_t i = 0; r == 0 && i < n_contentions; i++)
        r = text_contention(out, job, &contentions[i]);
    r = r ? r : text_facts(out, &job->facts);
    return r ? r : text_mappings(out, job->raw);
}
