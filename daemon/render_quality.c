/* What a session says of itself, without the profile: the facts as JSON, and where stacks were cut short. */
#include "daemon/render_job.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "util/cleanup.h"

#define QUALITY_MAX_NOTES 8

/* Samples whose walk ended early, by the function that it ended in: the outermost user frame seen; or whose walk had to guess, by the
 * function whose caller was guessed. */
struct place {
    const char *object, *function;
    const char *reason;
    uint64_t samples;
};

struct places {
    struct place *items;
    size_t n, room;
};

static int place_compare(const void *a, const void *b)
{
    const struct place *x = a, *y = b;
    int c = strcmp(x->object, y->object);

    if (c == 0)
        c = strcmp(x->function, y->function);
    return c != 0 ? c : strcmp(x->reason, y->reason);
}

static int place_compare_samples(const void *a, const void *b)
{
    const struct place *x = a, *y = b;

    if (x->samples != y->samples)
        return x->samples > y->samples ? -1 : 1;
    return place_compare(a, b);
}

static int places_add(struct render_job *job, struct places *places, const struct frame *frame, const char *reason, uint64_t samples)
{
    if (places->n == places->room) {
        size_t room = places->room ? 2 * places->room : 256;
        struct place *items = reallocarray(places->items, room, sizeof(*items));
        if (!items)
            return -ENOMEM;
        places->items = items;
        places->room = room;
    }
    places->items[places->n++] = (struct place){
        .object = frame ? frame_object_name(job, frame) : "",
        .function = frame ? frame_outer_name(frame) : "",
        .reason = reason,
        .samples = samples,
    };
    return 0;
}

/* Equal places become one. */
static void places_merge(struct places *places)
{
    struct place *items = places->items;
    size_t out = 0;

    if (places->n == 0)
        return;
    qsort(items, places->n, sizeof(*items), place_compare);
    for (size_t i = 0; i < places->n; i++) {
        if (out > 0 && place_compare(&items[out - 1], &items[i]) == 0)
            items[out - 1].samples = render_plus(items[out - 1].samples, items[i].samples);
        else
            items[out++] = items[i];
    }
    qsort(items, out, sizeof(*items), place_compare_samples);
    places->n = out;
}

static int places_of_ends(struct render_job *job, struct places *ret)
{
    int r = 0;

    for (size_t i = 0; r == 0 && i < job->n_samples; i++) {
        const struct render_sample *sample = &job->samples[i];
        size_t own = sample->stack->n_kernel + sample->n_user;
        if (sample->end == STACK_END_ROOT || sample->value->samples == 0 || !render_focused(job, sample))
            continue;
        const struct frame *last = sample->n_user > 0 ? render_own_frame(job, sample, own - 1) : NULL;
        r = places_add(job, ret, last, render_end_name(sample->end), sample->value->samples);
    }
    places_merge(ret);
    return r;
}

static int places_of_guesses(struct render_job *job, struct places *ret)
{
    int r = 0;

    for (size_t i = 0; r == 0 && i < job->n_samples; i++) {
        const struct render_sample *sample = &job->samples[i];
        const __u64 *frames = sample->stack->frames + sample->stack->n_kernel;
        if (!render_focused(job, sample))
            continue;
        for (size_t j = 1; r == 0 && j < sample->n_user; j++)
            if (frames[j] & STACK_FRAME_GUESSED)
                r = places_add(job, ret, render_own_frame(job, sample, sample->stack->n_kernel + j - 1), "guessed", sample->value->samples);
    }
    places_merge(ret);
    return r;
}

static int places_of_differences(struct render_job *job, struct places *ret)
{
    int r = 0;

    for (size_t i = 0; r == 0 && i < job->n_differences; i++) {
        const struct audit_difference *d = &job->differences[i];
        bool there = d->frame < d->sample.stack->n_kernel + d->sample.n_user;
        r = places_add(job, ret, there ? render_own_frame(job, &d->sample, d->frame) : NULL, "audit", 1);
    }
    places_merge(ret);
    return r;
}

static void places_to_json(const struct places *places, const char *key, bool reasons, FILE *out)
{
    fprintf(out, "\"%s\": [", key);
    for (size_t i = 0; i < places->n; i++) {
        const struct place *p = &places->items[i];
        fputs(i ? ", {\"object\": " : "{\"object\": ", out);
        (void)facts_json_string(out, p->object);
        fputs(", \"function\": ", out);
        (void)facts_json_string(out, p->function);
        if (reasons)
            fprintf(out, ", \"reason\": \"%s\"", p->reason);
        fprintf(out, ", \"samples\": %" PRIu64 "}", p->samples);
    }
    fputc(']', out);
}

/* The worst places, for readers of comments. */
static void places_to_facts(const struct places *places, const char *key, struct facts *facts)
{
    for (size_t i = 0; i < places->n && i < QUALITY_MAX_NOTES; i++) {
        const struct place *p = &places->items[i];
        facts_note(facts, key, "%s in %s: %s, %" PRIu64 " samples", p->function[0] ? p->function : "?", p->object[0] ? p->object : "?", p->reason,
                   p->samples);
    }
}

static void places_deinit(struct places *places)
{
    free(places->items);
}

int render_note_places(struct render_job *job)
{
    CLEANUP(places_deinit) struct places ends = {0};
    CLEANUP(places_deinit) struct places guesses = {0};
    CLEANUP(places_deinit) struct places differences = {0};

    int r = places_of_ends(job, &ends);
    if (r == 0)
        r = places_of_guesses(job, &guesses);
    if (r == 0)
        r = places_of_differences(job, &differences);
    if (r < 0)
        return r;
    places_to_facts(&ends, "truncated_at", &job->facts);
    places_to_facts(&guesses, "guessed_at", &job->facts);
    places_to_facts(&differences, "differs_at", &job->facts);
    return 0;
}

int render_quality(struct render_job *job, uint8_t **ret_data, size_t *ret_len)
{
    CLEANUP(places_deinit) struct places ends = {0};
    CLEANUP(places_deinit) struct places guesses = {0};
    CLEANUP(places_deinit) struct places differences = {0};
    uint64_t audited;
    size_t len = 0;
    char *data = NULL;

    int r = places_of_ends(job, &ends);
    if (r == 0)
        r = places_of_guesses(job, &guesses);
    if (r == 0)
        r = places_of_differences(job, &differences);
    FILE *out = r == 0 ? open_memstream(&data, &len) : NULL;
    if (!out)
        return -ENOMEM;
    fputc('{', out);
    facts_to_json(&job->facts, out);
    fputs(job->facts.n > 0 ? ", " : "", out);
    places_to_json(&ends, "truncated_by", true, out);
    fputs(", ", out);
    places_to_json(&guesses, "guessed_by", false, out);
    if (facts_number(&job->facts, "audited", &audited)) {
        fputs(", ", out);
        places_to_json(&differences, "differs_by", false, out);
    }
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
