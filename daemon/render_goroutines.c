/* Goroutines as samples: one for each that Go's own profiles would show. Those that ran when they were listed have the stack that their
 * thread had when it was looked at, if that began in the same function; else nobody knows where they were. */
#include "daemon/render_job.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "symbolize/go_runtime.h"
#include "util/cleanup.h"

/* ---- samples */

static const struct sample_value one = {1, 1};
static const struct stack_record nowhere = {.type = RECORD_STACK, .end = STACK_END_RUNNING};

static int compare_tids(const void *a, const void *b)
{
    uint32_t x = (*(const struct raw_count *const *)a)->key.tid, y = (*(const struct raw_count *const *)b)->key.tid;

    return (x > y) - (x < y);
}

static int compare_tid(const void *tid, const void *count)
{
    uint32_t x = *(const uint32_t *)tid, y = (*(const struct raw_count *const *)count)->key.tid;

    return (x > y) - (x < y);
}

/* What a thread was in; NULL: not known. */
static const struct stack_record *thread_stack(const struct render_job *job, const struct raw_count **threads,
                                               const struct stack_index *index, uint32_t tid)
{
    const struct raw_count **found = tid ? bsearch(&tid, threads, job->raw->n_counts, sizeof(*threads), compare_tid) : NULL;

    return found ? stack_index_find(index, (const uint64_t *)(*found)->key.stack_hash) : NULL;
}

static int add_goroutine(struct render_job *job, const struct raw_count **threads, const struct stack_index *index,
                         const struct raw_goroutine *g)
{
    const struct stack_record *own = g->flags & RAW_GOROUTINE_STACK ? stack_index_find(index, g->stack_hash) : NULL;
    int r = render_add_stack(job, &job->goroutine_key, &one, own ? own : &nowhere);

    if (r < 0)
        return r;
    struct render_sample *sample = &job->samples[job->n_samples - 1];
    sample->goroutine = g;
    sample->on_thread = own ? NULL : thread_stack(job, threads, index, g->tid);
    return 0;
}

int render_join_goroutines(struct render_job *job, const struct stack_index *index)
{
    const struct raw_profile *raw = job->raw;
    AUTO_FREE const struct raw_count **threads = calloc(raw->n_counts + 1, sizeof(*threads));
    int r = 0;

    if (!threads)
        return -ENOMEM;
    for (size_t i = 0; i < raw->n_counts; i++)
        threads[i] = &raw->counts[i];
    qsort(threads, raw->n_counts, sizeof(*threads), compare_tids);
    job->goroutine_key = (struct sample_key){.tgid = raw->params.pid, .epoch = raw->goroutines[0].epoch};
    for (size_t i = 0; r == 0 && i < raw->n_goroutines; i++)
        r = add_goroutine(job, threads, index, &raw->goroutines[i]);
    return r;
}

/* ---- those that belong to Go's runtime */

static bool starts_with(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

static bool is_one_of(const char *name, const char *const *names)
{
    for (; *names; names++)
        if (strcmp(name, *names) == 0)
            return true;
    return false;
}

/* As isSystemGoroutine of src/runtime/traceback.go has it. Some of the runtime's own run the program's code, but not while they wait for
 * more of it. */
static bool is_system(const char *start, const struct raw_goroutine *g)
{
    static const char *const users[] = {"runtime.main", "runtime.corostart", "runtime.handleAsyncEvent", NULL};
    static const char *const both[] = {"runtime.runfinq", "runtime.runFinalizers", "runtime.runCleanups", NULL};
    const char *reason = go_wait_reason(g->reasons, (uint8_t)g->reason);

    if (!starts_with(start, "runtime.") || is_one_of(start, users))
        return false;
    if (is_one_of(start, both))
        return g->status != GO_WAITING || strcmp(reason, "finalizer wait") == 0 || strcmp(reason, "cleanup wait") == 0;
    return true;
}

/* ---- frames that are needed */

static struct frame *start_frame(struct render_job *job, const struct raw_goroutine *g)
{
    return g->start ? frame_user(job, g->start, g->epoch) : NULL;
}

struct frame *render_created_frame(struct render_job *job, const struct raw_goroutine *g)
{
    return g->created_at > 1 ? frame_user(job, g->created_at - 1, g->epoch) : NULL;
}

static int collect_frame(struct frame *frame, uint64_t address)
{
    if (!frame)
        return address > 1 ? -ENOMEM : 0;
    frame_add_weight(frame, 1);
    return 0;
}

/* Frames of threads' stacks, which may become samples'. */
static int collect_on_threads(struct render_job *job)
{
    for (size_t i = 0; i < job->n_samples; i++) {
        struct render_sample sample = job->samples[i];
        if (!sample.on_thread)
            continue;
        sample.stack = sample.on_thread;
        render_trim(job, &sample);
        for (size_t f = 0; f < render_frame_count(&sample); f++)
            if (collect_frame(render_frame_at(job, &sample, f), UINT64_MAX) < 0)
                return -ENOMEM;
    }
    return 0;
}

int render_collect_goroutines(struct render_job *job)
{
    for (size_t i = 0; i < job->raw->n_goroutines; i++) {
        const struct raw_goroutine *g = &job->raw->goroutines[i];
        int r = collect_frame(start_frame(job, g), g->start);
        if (r == 0)
            r = collect_frame(render_created_frame(job, g), g->created_at);
        if (r < 0)
            return r;
    }
    return collect_on_threads(job);
}

/* ---- once frames have names */

bool render_goroutine_is_shown(struct render_job *job, const struct raw_goroutine *g)
{
    struct frame *start = start_frame(job, g);

    return !start || !is_system(frame_function(start), g);
}

/* A stack that began in the function that the goroutine began in. What that was called by is no function of the program. */
static bool take_thread_stack(struct render_job *job, struct render_sample *sample)
{
    struct frame *start = start_frame(job, sample->goroutine), *outer = NULL;
    size_t n_kernel;

    sample->stack = sample->on_thread;
    render_trim(job, sample);
    n_kernel = sample->stack->n_kernel;
    if (!start || !frame_function(start)[0] || sample->n_user == 0 || sample->end != STACK_END_ROOT)
        return false;
    outer = render_frame_at(job, sample, n_kernel + sample->n_user - 1);
    if (outer && sample->n_user > 1 && strcmp(frame_function(outer), "runtime.goexit") == 0) {
        sample->n_user--;
        outer = render_frame_at(job, sample, n_kernel + sample->n_user - 1);
    }
    return outer && strcmp(frame_function(outer), frame_function(start)) == 0;
}

void render_settle_goroutines(struct render_job *job)
{
    for (size_t i = 0; i < job->n_samples; i++) {
        struct render_sample *sample = &job->samples[i];
        if (!sample->on_thread || take_thread_stack(job, sample))
            continue;
        sample->stack = &nowhere;
        render_trim(job, sample);
    }
}

/* ---- labels */

/* As many as a collector reads of one. */
#define MAX_LABELS 64

/* The profile's bytes as a string, in room that *at is moved along. */
static const char *text_at(struct raw_text text, char **at)
{
    char *start = *at;

    memcpy(start, text.bytes, text.len);
    start[text.len] = '\0';
    *at += text.len + 1;
    return start;
}

int render_put_goroutine(const struct render_job *job, struct profile *p, const struct render_sample *sample, const uint64_t *ids, size_t n)
{
    struct profile_label labels[MAX_LABELS + 1] = {{.key = "pid", .num = sample->key->tgid}};
    struct raw_labels set;
    struct raw_text key, value;
    size_t n_labels = 1, room = 0;
    const int64_t values[] = {1};

    raw_labels_begin(job->raw, sample->goroutine->labels, &set);
    for (struct raw_labels all = set; raw_labels_next(&all, &key, &value);)
        room += key.len + value.len + 2;
    AUTO_FREE char *texts = malloc(room + 1);
    if (!texts)
        return -ENOMEM;
    for (char *at = texts; n_labels <= MAX_LABELS && raw_labels_next(&set, &key, &value);) {
        if (key.len == 0)
            continue;
        labels[n_labels].key = text_at(key, &at);
        labels[n_labels++].str = text_at(value, &at);
    }
    return profile_sample(p, ids, n, values, labels, n_labels);
}
