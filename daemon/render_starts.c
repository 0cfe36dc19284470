/* What functions threads begin with: by the outermost frames of their stacks, where the C library's beginning of a thread has called them. */
#include "daemon/render_job.h"

#include <string.h>

/* Functions of languages' own libraries in which all their threads begin; they call the one that is meant. */
static bool is_wrapper(const char *symbol)
{
    static const char *const wrappers[] = {"execute_native_thread_routine", "_ZL19thread_native_entryP6Thread"};

    for (size_t i = 0; i < sizeof(wrappers) / sizeof(wrappers[0]); i++)
        if (strcmp(symbol, wrappers[i]) == 0)
            return true;
    return false;
}

static const char *symbol_at(struct render_job *job, const struct render_sample *sample, size_t i)
{
    const struct frame *frame = render_own_frame(job, sample, i);
    return frame ? frame_symbol(frame) : "";
}

static const char *object_at(struct render_job *job, const struct render_sample *sample, size_t i)
{
    const struct frame *frame = render_own_frame(job, sample, i);
    return frame ? frame_object_name(job, frame) : "";
}

/* The frame of the function that the thread began with. Where the C library's frames have no names, those are all in the outermost's file. */
static size_t start_of(struct render_job *job, const struct render_sample *sample)
{
    size_t leaf = sample->stack->n_kernel, outermost = leaf + sample->n_user - 1, at = outermost;
    const char *library = object_at(job, sample, outermost);

    while (at > leaf && render_is_start(symbol_at(job, sample, at)))
        at--;
    while (at > leaf && at + 2 > outermost && strcmp(object_at(job, sample, at), library) == 0)
        at--;
    if (at > leaf && is_wrapper(symbol_at(job, sample, at)))
        at--;
    return at;
}

void render_show_starts(struct render_job *job)
{
    for (size_t i = 0; i < job->n_samples; i++) {
        struct render_sample *sample = &job->samples[i];
        if (!sample->earlier)
            continue;
        /* Of a stack that was cut nobody knows how it began. */
        bool whole = sample->n_user > 0 && sample->end == STACK_END_ROOT;
        sample->first = whole ? start_of(job, sample) : (size_t)sample->stack->n_kernel + sample->n_user;
        sample->alike[0] = whole ? (uintptr_t)render_own_frame(job, sample, sample->first) : sample->end;
        sample->alike[1] = whole ? sample->n_user - (sample->first - sample->stack->n_kernel) : 0;
        sample->started = true;
    }
}
