/* Custom profiles: the functions that are left out at the leaf, as the program that adds a value wants it: functions as a reader sees them, inlined
 * ones too, so they are known once frames have names. One is left in any case. */
#include "daemon/render_frame.h"

/* The functions at the leaf of a sample that are to be left out. */
static void skip_functions(struct render_job *job, struct render_sample *sample)
{
    size_t left = sample->key->state;

    sample->hidden = 0;
    sample->hidden_lines = 0;
    while (left > 0 && sample->hidden + 1 < sample->stack->n_kernel + sample->n_user) {
        const struct frame *frame = render_own_frame(job, sample, sample->hidden);
        size_t lines = frame && frame->n_lines > 0 ? frame->n_lines : 1;
        if (!frame || !frame->lines || !frame->lines[0].filename) /* then nobody knows what was inlined there */
            facts_count(&job->facts, "custom.skipped_by_symbols", sample->value->samples);
        if (left < lines) {
            sample->hidden_lines = left;
            return;
        }
        left -= lines;
        sample->hidden++;
    }
}

void render_skip_functions(struct render_job *job)
{
    for (size_t i = 0; job->raw->params.custom && i < job->n_samples; i++)
        skip_functions(job, &job->samples[i]);
}

uint64_t frame_location_without(struct render_job *job, struct profile *p, struct frame *frame, size_t n_lines)
{
    uint64_t mapping = n_lines < frame->n_lines ? frame_mapping(job, p, frame) : 0;

    return mapping ? profile_location(p, mapping, frame_shown_address(frame), frame->lines + n_lines, frame->n_lines - n_lines) : 0;
}
