/* The names of all frames of a job. Those that are in no file come first; then those in files, in two passes: first of all, from what is
 * cached and from symbol tables, the smallest file first; then of those that debug information is still to be asked for, the file first
 * that most samples are in, huge ones last. In between comes code that was made at run time, which its runtime tells of in files of its
 * own. A profile that is due before the end has what is there by then, and says what is to come. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/render_frame.h"

/* By what is cached, else by symbol tables. What debug information could add is pending then. */
static int frame_resolve_quickly(struct render_job *job, struct frame *frame, struct module *module)
{
    struct symbol_frame symbols[SYMBOL_MAX_INLINED];
    struct render_object *o = &job->objects[frame->key.owner];
    uint64_t offset = frame->key.offset;
    bool full = job->raw->params.symbolize == RAW_SYMBOLIZE_FULL;
    int known = module && full ? module_recall(module, offset, symbols) : -1;

    frame->tried = module != NULL && full;
    if (known < 0 && module) {
        known = (int)module_resolve(module, offset, SYMBOLIZE_FAST, symbols);
        frame->pending = full && !o->no_debug && job->message->u.job.spare != WORKER_SPARE_SPOILED && frame->weight > 0;
    }
    known = known > 0 ? (int)frame_elide(job, frame, symbols, (size_t)known) : known;
    if (frame->pending) {
        o->n_pending++;
        o->weight = render_plus(o->weight, frame->weight);
    }
    return frame_name_in(frame, module, symbols, known > 0 ? (size_t)known : 0, offset,
                         path_basename(frame_object_name(job, frame)));
}

static int frame_resolve_file(struct render_job *job, struct frame *frame)
{
    struct render_object *o = &job->objects[frame->key.owner];

    if (job->raw->params.symbolize == RAW_SYMBOLIZE_NONE && job->raw->objects[frame->key.owner].build_id_len > 0)
        return 0; /* that is all that is wanted of it */
    if (!o->tried && !render_is_cached(job, frame->key.owner)) {
        int r = render_draft_before(job, frame->key.owner);
        if (r < 0)
            return r;
    }
    struct module *module = render_module(job, frame->key.owner);
    frame_clear_name(frame);
    o->n_frames++;
    job->progress.news = true;
    if (job->raw->params.symbolize == RAW_SYMBOLIZE_NONE)
        return 0;
    if (module) /* it may be there since a copy was unwound by it */
        render_touch(job, frame->key.owner);
    return frame_resolve_quickly(job, frame, module);
}

static int frame_resolve_pending(struct render_job *job, struct frame *frame)
{
    struct render_object *o = &job->objects[frame->key.owner];

    frame_clear_name(frame);
    frame->pending = false;
    o->n_pending--;
    job->progress.news = true;
    return frame_resolve_in(job, frame, o->module, frame->key.offset, path_basename(frame_object_name(job, frame)));
}

static int frame_compare(const struct frame *a, const struct frame *b)
{
    const struct frame_key *x = &a->key, *y = &b->key;

    if (x->kind != y->kind)
        return x->kind < y->kind ? -1 : 1;
    if (x->owner != y->owner)
        return x->owner < y->owner ? -1 : 1;
    if (x->offset != y->offset)
        return x->offset < y->offset ? -1 : 1;
    return x->address < y->address ? -1 : x->address > y->address;
}

/* The cheapest file first. */
static int frame_compare_effort(const void *a, const void *b, void *arg)
{
    const struct frame *x = *(struct frame *const *)a, *y = *(struct frame *const *)b;
    const struct render_job *job = arg;
    uint64_t x_effort = job->objects[x->key.owner].effort, y_effort = job->objects[y->key.owner].effort;

    if (x_effort != y_effort)
        return x_effort < y_effort ? -1 : 1;
    return frame_compare(x, y);
}

/* A file that may take until the deadline: it comes after those that surely don't. */
#define FRAMES_LARGE_FILE_BYTES (32u << 20)

static bool frame_in_large_file(const struct render_job *job, const struct frame *frame)
{
    return job->raw->objects[frame->key.owner].id.size >= FRAMES_LARGE_FILE_BYTES;
}

/* The heaviest file first, and in it the heaviest frame. */
static int frame_compare_weight(const void *a, const void *b, void *arg)
{
    const struct frame *x = *(struct frame *const *)a, *y = *(struct frame *const *)b;
    const struct render_job *job = arg;
    uint64_t x_file = job->objects[x->key.owner].weight, y_file = job->objects[y->key.owner].weight;
    bool x_large = frame_in_large_file(job, x), y_large = frame_in_large_file(job, y);

    if (x_large != y_large)
        return x_large ? 1 : -1;
    if (x_file != y_file)
        return x_file > y_file ? -1 : 1;
    if (x->key.owner != y->key.owner || x->weight == y->weight)
        return frame_compare(x, y);
    return x->weight > y->weight ? -1 : 1;
}

/* Those in no file; the others are listed. What they need is the kernel's, and soon there. */
static int frames_resolve_others(struct render_job *job)
{
    struct frame_table *t = job->frames;
    struct frame *frame, *next;

    t->in_files = calloc(HASH_COUNT(t->by_key) + 1, sizeof(struct frame *));
    if (!t->in_files)
        return -ENOMEM;
    HASH_SORT(t->by_key, frame_compare);
    HASH_ITER(hh, t->by_key, frame, next) {
        if (frame_in_file(frame)) {
            t->in_files[t->n_in_files++] = frame;
            continue;
        }
        int r = frame_resolve_elsewhere(job, frame);
        if (r < 0)
            return r;
    }
    return 0;
}

static int frames_resolve_files(struct render_job *job)
{
    struct frame_table *t = job->frames;
    int r = 0;

    for (uint32_t i = 0; i < job->raw->n_objects; i++)
        job->objects[i].effort = render_is_cached(job, i) ? 0 : job->raw->objects[i].id.size;
    qsort_r(t->in_files, t->n_in_files, sizeof(struct frame *), frame_compare_effort, job);
    for (size_t i = 0; r == 0 && i < t->n_in_files; i++) {
        r = frame_resolve_file(job, t->in_files[i]);
        if (job->renderer->cancelled)
            r = -ECANCELED;
    }
    return r;
}

static int frames_resolve_pending(struct render_job *job)
{
    struct frame_table *t = job->frames;
    uint32_t owner = RAW_NO_OBJECT;
    int r = 0;

    if (job->message->u.job.spare == WORKER_SPARE_ELSEWHERE)
        return 0;
    qsort_r(t->in_files, t->n_in_files, sizeof(struct frame *), frame_compare_weight, job);
    for (size_t i = 0; r == 0 && i < t->n_in_files; i++) {
        struct frame *frame = t->in_files[i];
        if (!frame->pending)
            continue;
        if (frame->key.owner != owner) {
            r = owner == RAW_NO_OBJECT ? render_draft(job, DRAFT_BEFORE_DEBUG) : render_draft_before(job, frame->key.owner);
            owner = frame->key.owner;
            (void)render_module(job, owner);
            render_touch(job, owner);
        } else {
            r = render_draft(job, DRAFT_BY_TIME);
        }
        r = r ? r : frame_resolve_pending(job, frame);
        if (job->renderer->cancelled)
            r = -ECANCELED;
    }
    return r;
}

int frames_resolve(struct render_job *job)
{
    job->n_touches = 0;
    int r = frames_resolve_others(job);
    if (r == 0 && job->renderer->cancelled)
        r = -ECANCELED;
    if (r == 0)
        r = frames_resolve_files(job);
    if (r == 0)
        r = frames_resolve_jit(job);
    if (r == 0)
        r = frames_resolve_pending(job);
    render_touch(job, WORKER_TOUCH_NONE);
    return r;
}

int frames_name_unread(struct render_job *job)
{
    struct frame_table *t = job->frames;

    if (job->raw->params.symbolize == RAW_SYMBOLIZE_NONE)
        return 0;
    for (size_t i = 0; i < t->n_in_files; i++) {
        struct frame *frame = t->in_files[i];
        if (frame->lines)
            continue;
        frame->unread = true;
        int r = frame_set_name(frame, "%s+0x%" PRIx64, path_basename(frame_object_name(job, frame)), frame->key.offset);
        if (r < 0)
            return r;
    }
    return 0;
}

void frames_note_pending(struct render_job *job)
{
    const struct frame_table *t = job->frames;
    uint64_t pending = 0;

    for (size_t i = 0; i < t->n_in_files; i++)
        pending += t->in_files[i]->pending || t->in_files[i]->unread;
    size_t n_made = frames_count_untold(job);
    if (pending + n_made == 0)
        return;
    facts_count(&job->facts, "symbols.pending", pending + n_made);
    if (n_made > 0)
        facts_note(&job->facts, "symbols.pending_in", "code that was made at run time: all names");
    for (size_t i = 0; i < job->raw->n_objects; i++) {
        const struct render_object *o = &job->objects[i];
        if (o->n_pending > 0)
            facts_note(&job->facts, "symbols.pending_in", "%s: files, lines and inlined calls of %zu of %zu addresses",
                       raw_profile_string(job->raw, job->raw->objects[i].path), o->n_pending, o->n_frames);
    }
    for (size_t i = 0; i < t->n_in_files; i++)
        if (t->in_files[i]->unread && (i == 0 || t->in_files[i - 1]->key.owner != t->in_files[i]->key.owner))
            facts_note(&job->facts, "symbols.pending_in", "%s: all names", frame_object_name(job, t->in_files[i]));
    facts_note(&job->facts, "warning", "the reply was due before all names were there: the next profile of this process will have them");
}
