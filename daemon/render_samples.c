/* Counts joined with the stacks that they stand for, filters, and what becomes a sample of the profile. */
#include "daemon/render_job.h"
#include "daemon/render_labels.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "util/cleanup.h"

#define MAX_STACK (CPROFD_MAX_KERNEL_FRAMES + CPROFD_MAX_FRAMES + 1)

uint64_t render_plus(uint64_t a, uint64_t b)
{
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

uint64_t render_times(uint64_t value, uint32_t scale)
{
    if (scale == 0)
        return value;
    if (value / 1000 > UINT64_MAX / scale - 1)
        return UINT64_MAX;
    return render_plus(value / 1000 * scale, value % 1000 * scale / 1000);
}

/* ---- stacks by their hash */

struct stack_entry {
    const struct stack_record *stack;
    UT_hash_handle hh;
};

struct stack_index {
    struct stack_entry *by_hash;
};

static void stack_index_deinit(struct stack_index *index)
{
    struct stack_entry *entry, *next;

    HASH_ITER(hh, index->by_hash, entry, next) {
        HASH_DEL(index->by_hash, entry);
        free(entry);
    }
}

const struct stack_record *stack_index_find(const struct stack_index *index, const uint64_t hash[2])
{
    struct stack_entry *entry;

    HASH_FIND(hh, index->by_hash, hash, sizeof(entry->stack->stack_hash), entry);
    return entry ? entry->stack : NULL;
}

static int stack_index_add(struct stack_index *index, const struct stack_record *stack)
{
    if (stack_index_find(index, (const uint64_t *)stack->stack_hash))
        return 0; /* two CPUs may both have been the first to see a stack */
    struct stack_entry *entry = calloc(1, sizeof(*entry));
    if (!entry)
        return -ENOMEM;
    entry->stack = stack;
    HASH_ADD_KEYPTR(hh, index->by_hash, stack->stack_hash, sizeof(stack->stack_hash), entry);
    if (!entry->hh.tbl) {
        free(entry);
        return -ENOMEM;
    }
    return 0;
}

static int stack_index_fill(struct stack_index *index, const struct raw_profile *raw)
{
    for (size_t i = 0; i < raw->n_records; i++) {
        const struct stack_record *record;
        for (size_t pos = 0; (record = raw_record_next(raw->records[i], &pos));)
            if (record->type == RECORD_STACK && stack_index_add(index, record) < 0)
                return -ENOMEM;
    }
    return 0;
}

/* ---- counts */

static bool render_wants_key(const struct render_job *job, const struct sample_key *key)
{
    char comm[CPROFD_COMM_LEN + 1] = "";

    if (job->raw->params.states != 0 && !(job->raw->params.states >> (key->state & 31) & 1))
        return false;
    if (job->raw->params.tid != 0 && key->tid != job->raw->params.tid)
        return false;
    memcpy(comm, key->comm, CPROFD_COMM_LEN);
    return !job->has_thread || regexec(&job->thread, comm, 0, NULL, 0) == 0;
}

/* Where a user frame's code stood: of a return address that is the call before it. */
static uint64_t user_code_address(const struct stack_record *stack, size_t i)
{
    uint64_t frame = stack->frames[i], address = STACK_FRAME_ADDRESS(frame);

    return i == stack->n_kernel || (frame & STACK_FRAME_EXACT) || address == 0 ? address : address - 1;
}

/* Where a walk follows something that is no frame pointer, it ends in what are no return addresses: those at
 * the root end that lie in no executable mapping are left out, and the stack is shown as cut there. The leaf
 * is where the thread was, mapped or not. */
void render_trim(const struct render_job *job, struct render_sample *sample)
{
    const struct stack_record *stack = sample->stack;
    size_t n = stack->n_user;

    sample->n_user = n;
    /* A stack without a frame has no user part either, whatever its record says: unless nobody could look at it. */
    bool looked_at = stack->end != STACK_END_RUNNING && stack->end != STACK_END_UNSEEN && stack->end != STACK_END_UNSAMPLED;
    sample->end = stack->n_kernel + n == 0 && looked_at ? STACK_END_NO_USER : (enum stack_end)stack->end;
    sample->earlier = stack->end == STACK_END_EARLIER;
    if (sample->end == STACK_END_EARLIER)
        sample->end = STACK_END_ROOT;
    if (job->map.n == 0)
        return; /* the mappings are not known */
    while (n > 1 &&
           address_map_find(&job->map, user_code_address(stack, stack->n_kernel + n - 1), sample->key->epoch) == ADDRESS_MAP_NONE)
        n--;
    if (n == sample->n_user)
        return;
    sample->n_user = n;
    sample->end = STACK_END_NO_CODE;
}

int render_add_stack(struct render_job *job, const struct sample_key *key, const struct sample_value *value,
                     const struct stack_record *stack)
{
    if (job->n_samples == job->room_samples) {
        size_t room = job->room_samples ? 2 * job->room_samples : 1024;
        struct render_sample *grown = reallocarray(job->samples, room, sizeof(*grown));
        if (!grown)
            return -ENOMEM;
        job->samples = grown;
        job->room_samples = room;
    }
    struct render_sample *sample = &job->samples[job->n_samples++];
    *sample = (struct render_sample){.key = key, .value = value, .stack = stack, .alike = {key->stack_hash[0], key->stack_hash[1]}};
    render_trim(job, sample);
    render_labels_count(job, stack, value->samples);
    return 0;
}

/* Whether a count is to be shown. Each is asked for once, since it is counted here. */
static bool render_wants_count(struct render_job *job, const struct sample_key *key, const struct sample_value *value)
{
    bool wanted = render_wants_key(job, key);

    job->cpu_sampled = render_plus(job->cpu_sampled, value->weight);
    if (!wanted)
        job->filtered = render_plus(job->filtered, value->samples);
    return wanted;
}

static int render_add_count(struct render_job *job, const struct stack_index *index,
                            const struct sample_key *key, const struct sample_value *value)
{
    if (!render_wants_count(job, key, value))
        return 0;
    const struct stack_record *stack = stack_index_find(index, (const uint64_t *)key->stack_hash);
    if (raw_format_is_trace(job->raw->params.format))
        return render_trace_add_thread(job, key, value, stack);
    if (!stack) {
        facts_count(&job->facts, "lost.stack", value->samples);
        return 0;
    }
    return render_add_stack(job, key, value, stack);
}

static int render_add_copy(struct render_job *job, const struct stack_index *index, const struct copy_record *copy)
{
    const struct stack_record *stack;

    if (copy->value.samples == 0) {
        stack = stack_index_find(index, (const uint64_t *)copy->key.stack_hash);
        return stack && render_wants_key(job, &copy->key) ? render_audit(job, copy, stack) : 0;
    }
    if (!render_wants_count(job, &copy->key, &copy->value))
        return 0;
    int r = render_unwind_copy(job, copy, &stack);
    return r < 0 ? r : render_add_stack(job, &copy->key, &copy->value, stack);
}

static int render_add_event(struct render_job *job, const struct stack_index *index, const struct trace_record *event)
{
    const struct stack_record *stack = NULL;

    if (!raw_format_is_trace(job->raw->params.format))
        return 0;
    if (event->stack_hash[0] || event->stack_hash[1]) {
        stack = stack_index_find(index, (const uint64_t *)event->stack_hash);
        if (!stack)
            facts_count(&job->facts, "stacks_lost", 1);
    }
    return render_trace_add(job, event, stack);
}

static int render_add_record(struct render_job *job, const struct stack_index *index, const void *record)
{
    const struct sample_record *sample = record;

    switch (sample->type) {
    case RECORD_SAMPLE:
        return render_add_count(job, index, &sample->key, &sample->value);
    case RECORD_COPY:
        return render_add_copy(job, index, record);
    case RECORD_TRACE:
        return render_add_event(job, index, record);
    default:
        return 0;
    }
}

static int render_join_with(struct render_job *job, const struct stack_index *index)
{
    const struct raw_profile *raw = job->raw;
    int r = 0;

    if (raw->n_goroutines > 0)
        return render_join_goroutines(job, index);
    if (raw->params.heap)
        return render_join_heap(job, index);
    for (size_t i = 0; r == 0 && i < raw->n_counts; i++)
        r = render_add_count(job, index, &raw->counts[i].key, &raw->counts[i].value);
    for (size_t i = 0; r == 0 && i < raw->n_records; i++) {
        const void *record;
        for (size_t pos = 0; r == 0 && (record = raw_record_next(raw->records[i], &pos));)
            r = render_add_record(job, index, record);
    }
    return r;
}

int render_join(struct render_job *job)
{
    CLEANUP(stack_index_deinit) struct stack_index index = {0};

    int r = stack_index_fill(&index, job->raw);
    return r < 0 ? r : render_join_with(job, &index);
}

/* ---- frames of a stack */

const char *render_end_name(enum stack_end end)
{
    static const char *const names[STACK_END_COUNT] = {
        [STACK_END_ROOT] = "root",         [STACK_END_UNPROVEN] = "unproven",
        [STACK_END_BAD_FP] = "bad_fp",     [STACK_END_UNREADABLE] = "unreadable",
        [STACK_END_TOO_DEEP] = "too_deep", [STACK_END_NO_USER] = "no_user",
        [STACK_END_NO_CODE] = "no_code",   [STACK_END_NEW_CODE] = "new_code",
        [STACK_END_NO_CFI] = "no_cfi",     [STACK_END_UNSUPPORTED] = "unsupported",
        [STACK_END_BAD_CFA] = "bad_cfa",   [STACK_END_NO_TIME] = "no_time",
        [STACK_END_RUNNING] = "running",   [STACK_END_EARLIER] = "earlier",
        [STACK_END_UNSEEN] = "unseen",     [STACK_END_UNSAMPLED] = "unsampled",
        [STACK_END_WOKEN] = "woken",
        [STACK_END_WOKEN_FROM_OUTSIDE] = "woken_from_outside",
        [STACK_END_PAIR] = "pair",
    };
    return names[end];
}

static size_t whole_frame_count(const struct render_sample *sample)
{
    return sample->stack->n_kernel + sample->n_user - sample->hidden + (sample->end != STACK_END_ROOT);
}

size_t render_frame_count(const struct render_sample *sample)
{
    return sample->started ? whole_frame_count(sample) - sample->first + 1 : whole_frame_count(sample);
}

ptrdiff_t render_frame_index(const struct render_sample *sample, size_t i)
{
    size_t own = sample->started ? i + sample->first - 1 : i + sample->hidden;

    if ((sample->started && i == 0) || own >= sample->stack->n_kernel + sample->n_user)
        return -1;
    return (ptrdiff_t)own;
}

struct frame *render_own_frame(struct render_job *job, const struct render_sample *sample, size_t own)
{
    const struct stack_record *stack = sample->stack;

    if (own >= stack->n_kernel && stack->frames[own] == STACK_FRAME_WOKEN)
        return frame_end(job, STACK_END_WOKEN, NULL);
    if (own >= stack->n_kernel && stack->frames[own] == STACK_FRAME_WOKEN_FROM_OUTSIDE)
        return frame_end(job, STACK_END_WOKEN_FROM_OUTSIDE, NULL);
    if (own >= stack->n_kernel)
        return frame_user(job, user_code_address(stack, own), sample->key->epoch);
    uint64_t address = stack->frames[own];
    if (own != 0 && address != 0)
        address--; /* a return address: the call stands before it */
    return frame_kernel(job, address);
}

struct frame *render_frame_at(struct render_job *job, const struct render_sample *sample, size_t i)
{
    const struct stack_record *stack = sample->stack;
    ptrdiff_t own = render_frame_index(sample, i);

    if (own < 0 && sample->started && i == 0)
        return frame_end(job, STACK_END_EARLIER, NULL);
    if (own < 0)
        return frame_end(job, sample->end, sample->n_user > 0 ? render_own_frame(job, sample, stack->n_kernel + sample->n_user - 1) : NULL);
    return render_own_frame(job, sample, (size_t)own);
}

int render_collect(struct render_job *job)
{
    for (size_t s = 0; s < job->n_samples; s++) {
        const struct render_sample *sample = &job->samples[s];
        if (sample->earlier && !frame_end(job, STACK_END_EARLIER, NULL))
            return -ENOMEM;
        for (size_t i = 0; i < render_frame_count(sample); i++) {
            struct frame *frame = render_frame_at(job, sample, i);
            if (!frame)
                return -ENOMEM;
            frame_add_weight(frame, sample->value->weight > 0 ? sample->value->weight : 1); /* values of custom profiles may have none */
        }
    }
    return render_collect_goroutines(job);
}

/* ---- samples */

bool render_focused(struct render_job *job, const struct render_sample *sample)
{
    if (!job->has_focus)
        return true;
    for (size_t i = 0; i < render_frame_count(sample); i++) {
        struct frame *frame = render_frame_at(job, sample, i);
        if (frame && frame_matches(frame, &job->focus))
            return true;
    }
    return false;
}

bool render_is_shown(struct render_job *job, const struct render_sample *sample)
{
    return (!sample->goroutine || render_goroutine_is_shown(job, sample->goroutine)) && render_focused(job, sample);
}

static int64_t render_value(uint64_t value)
{
    return value > INT64_MAX ? INT64_MAX : (int64_t)value;
}

/* In whole numbers, what is left over goes to the next, so that their sum is right. */
static uint64_t render_scaled(struct render_job *job, uint64_t weight)
{
    uint64_t scale = job->raw->params.scale;

    if (scale == 0 || weight > (UINT64_MAX - 1000) / scale)
        return render_times(weight, (uint32_t)scale);
    weight = weight * scale + job->unscaled;
    job->unscaled = weight % 1000;
    return weight / 1000;
}

static int render_put_sample(struct render_job *job, struct profile *p, const struct render_sample *sample, const uint64_t *ids,
                             size_t n)
{
    char comm[CPROFD_COMM_LEN + 1] = "";
    uint32_t state = job->raw->params.releases || job->raw->params.custom || sample->heap ? SAMPLE_STATE_NONE : sample->key->state;
    const struct render_heap *heap = sample->heap;
    uint64_t weight = heap ? heap->value.weight : render_scaled(job, sample->value->weight);
    const int64_t values[RAW_MAX_TYPES] = {render_value(sample->value->samples), render_value(weight),
                                           heap ? render_value(heap->live_objects) : 0, heap ? render_value(heap->live_bytes) : 0};

    memcpy(comm, sample->key->comm, CPROFD_COMM_LEN);
    struct render_labels own;
    render_labels_read(job, sample->stack, &own);
    struct profile_label labels[RENDER_MAX_LABELS + 5];
    memcpy(labels, own.list, own.n * sizeof(*labels));
    size_t n_labels = own.n;
    labels[n_labels++] = (struct profile_label){.key = "pid", .num = sample->key->tgid};
    if (sample->key->tid) { /* not where threads are not told apart */
        labels[n_labels++] = (struct profile_label){.key = "tid", .num = sample->key->tid};
        labels[n_labels++] = (struct profile_label){.key = "thread", .str = comm};
    }
    if (state != SAMPLE_STATE_NONE)
        labels[n_labels++] = (struct profile_label){.key = "state", .str = sample_state_name(state)};
    return profile_sample(p, ids, n, values, labels, n_labels);
}

static int render_add_sample(struct render_job *job, struct profile *p, const struct render_sample *sample)
{
    uint64_t ids[MAX_STACK];
    size_t n = render_frame_count(sample), n_ids = 0;
    bool unmapped = false;

    if (sample->goroutine && !render_goroutine_is_shown(job, sample->goroutine))
        return 0;
    if (!render_focused(job, sample)) {
        job->filtered = render_plus(job->filtered, sample->value->samples);
        return 0;
    }
    if (render_is_signal(job, sample)) {
        job->signals = render_plus(job->signals, sample->value->samples);
        return 0;
    }
    for (size_t i = 0; i < n; i++) {
        struct frame *frame = render_frame_at(job, sample, i);
        if (frame && frame_is_elided(frame))
            continue;
        ids[n_ids] = !frame ? 0 : i == 0 && sample->hidden_lines ? frame_location_without(job, p, frame, sample->hidden_lines)
                                                                  : frame_location(job, p, frame);
        if (ids[n_ids++] == 0)
            return -ENOMEM;
        unmapped = unmapped || frame_is_unmapped(frame);
    }
    render_judge(job, sample, unmapped);
    return sample->goroutine ? render_put_goroutine(job, p, sample, ids, n_ids) : render_put_sample(job, p, sample, ids, n_ids);
}

int render_add_samples(struct render_job *job, struct profile *p)
{
    int r = 0;

    for (size_t i = 0; r == 0 && i < job->n_samples; i++)
        r = render_add_sample(job, p, &job->samples[i]);
    return r;
}
