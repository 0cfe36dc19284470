/* What a session says of itself, without the profile: the facts as JSON, and where stacks were cut short. */
#include "daemon/render_job.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "util/cleanup.h"

/* Samples whose walk ended early, by the function that it ended in: the outermost user frame seen. */
struct truncation {
    const char *object, *function;
    const char *reason;
    uint64_t samples;
};

static int truncation_compare_place(const void *a, const void *b)
{
    const struct truncation *x = a, *y = b;
    int c = strcmp(x->object, y->object);

    if (c == 0)
        c = strcmp(x->function, y->function);
    return c != 0 ? c : strcmp(x->reason, y->reason);
}

static int truncation_compare_samples(const void *a, const void *b)
{
    const struct truncation *x = a, *y = b;

    if (x->samples != y->samples)
        return x->samples > y->samples ? -1 : 1;
    return truncation_compare_place(a, b);
}

static struct truncation truncation_of(struct render_job *job, const struct render_sample *sample)
{
    size_t n = sample->stack->n_kernel + sample->n_user;
    struct frame *last = sample->n_user > 0 ? render_frame_at(job, sample, n - 1) : NULL;

    return (struct truncation){
        .object = last ? frame_object_name(job, last) : "",
        .function = last ? frame_outer_name(last) : "",
        .reason = render_end_name(sample->end),
        .samples = sample->value->samples,
    };
}

/* Equal places become one. Returns how many are left. */
static size_t truncations_merge(struct truncation *items, size_t n)
{
    size_t out = 0;

    qsort(items, n, sizeof(*items), truncation_compare_place);
    for (size_t i = 0; i < n; i++) {
        if (out > 0 && truncation_compare_place(&items[out - 1], &items[i]) == 0)
            items[out - 1].samples = render_plus(items[out - 1].samples, items[i].samples);
        else
            items[out++] = items[i];
    }
    qsort(items, out, sizeof(*items), truncation_compare_samples);
    return out;
}

static int truncations_collect(struct render_job *job, struct truncation **ret, size_t *ret_n)
{
    struct truncation *items = calloc(job->n_samples + 1, sizeof(*items));
    size_t n = 0;

    if (!items)
        return -ENOMEM;
    for (size_t i = 0; i < job->n_samples; i++) {
        const struct render_sample *sample = &job->samples[i];
        size_t own = sample->stack->n_kernel + sample->n_user;
        if (render_frame_count(sample) > own && render_focused(job, sample))
            items[n++] = truncation_of(job, sample);
    }
    *ret = items;
    *ret_n = truncations_merge(items, n);
    return 0;
}

static void truncations_to_json(const struct truncation *items, size_t n, FILE *out)
{
    fputs("\"truncated_by\": [", out);
    for (size_t i = 0; i < n; i++) {
        fputs(i ? ", {\"object\": " : "{\"object\": ", out);
        facts_json_string(out, items[i].object);
        fputs(", \"function\": ", out);
        facts_json_string(out, items[i].function);
        fprintf(out, ", \"reason\": \"%s\", \"samples\": %" PRIu64 "}", items[i].reason, items[i].samples);
    }
    fputc(']', out);
}

int render_quality(struct render_job *job, uint8_t **ret_data, size_t *ret_len)
{
    AUTO_FREE struct truncation *items = NULL;
    size_t n, len = 0;
    char *data = NULL;

    int r = truncations_collect(job, &items, &n);
    FILE *out = r == 0 ? open_memstream(&data, &len) : NULL;
    if (!out)
        return -ENOMEM;
    fputc('{', out);
    facts_to_json(&job->facts, out);
    fputs(job->facts.n > 0 ? ", " : "", out);
    truncations_to_json(items, n, out);
    fputs("}\n", out);
    bool failed = ferror(out) || job->facts.failed;
    if (fclose(out) != 0 || failed) {
        free(data);
        return -ENOMEM;
    }
    *ret_data = (uint8_t *)data;
    *ret_len = len;
    return 0;
}
