/* Text in the layouts of Go's runtime/pprof: stacks by how often (debug=1 of goroutine and threadcreate), and a stack for each thread (debug=2 of
 * goroutine). Frames have the addresses that were on the stack, as Go's have: a caller's is its return address. */
#include "daemon/render_text.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "pprof/utf8.h"
#include "daemon/render_labels.h"
#include "util/cleanup.h"
#include "util/clock.h"

/* ---- pieces */

static bool text_is_plain(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)text[i] < 0x20 || (unsigned char)text[i] >= 0x7f)
            return false;
    return true;
}

/* One line of UTF-8: names and paths are hostile. 0 or -ENOMEM. */
int text_line_part(FILE *out, const char *text)
{
    size_t len = strlen(text);

    if (text_is_plain(text, len)) {
        (void)fwrite(text, 1, len, out);
        return 0;
    }
    AUTO_FREE char *clean = malloc(UTF8_SANITIZED_BYTES(len) + 1);

    if (!clean)
        return -ENOMEM;
    len = utf8_sanitize(text, len, clean);
    for (size_t i = 0; i < len; i++)
        fputc((unsigned char)clean[i] < 0x20 || clean[i] == 0x7f ? '?' : clean[i], out);
    return 0;
}

static void comm_of(const struct render_sample *sample, char ret[CPROFD_COMM_LEN + 1])
{
    memcpy(ret, sample->key->comm, CPROFD_COMM_LEN);
    ret[CPROFD_COMM_LEN] = '\0';
}

/* The address of a stack's i-th frame as it was found there. */
static uint64_t frame_address(const struct render_sample *sample, const struct frame *frame, size_t i)
{
    ptrdiff_t own = render_frame_index(sample, i);

    if (own < 0)
        return frame_shown_address(frame);
    uint64_t raw = sample->stack->frames[own];
    return own < sample->stack->n_kernel ? raw : STACK_FRAME_ADDRESS(raw);
}

int text_frame_get(struct render_job *job, const struct render_sample *sample, size_t i, struct text_frame *ret)
{
    struct frame *frame = render_frame_at(job, sample, i);

    if (!frame)
        return -ENOMEM;
    uint64_t address = frame_address(sample, frame, i);
    *ret = (struct text_frame){frame, address, frame_function_offset(job, frame, address), i == 0 ? sample->hidden_lines : 0};
    return 0;
}

/* ---- stacks by how often */

static int compare_alike(const void *va, const void *vb)
{
    const struct render_sample *a = *(const struct render_sample *const *)va, *b = *(const struct render_sample *const *)vb;

    if (a->goroutine)
        return text_compare_goroutines(a, b);
    int r = memcmp(a->alike, b->alike, sizeof(a->alike));
    r = r ? r : (a->key->epoch > b->key->epoch) - (a->key->epoch < b->key->epoch);
    r = r ? r : (a->key->state > b->key->state) - (a->key->state < b->key->state);
    return r ? r : memcmp(a->key->comm, b->key->comm, sizeof(a->key->comm));
}

static int compare_alike_tid(const void *va, const void *vb)
{
    const struct render_sample *a = *(const struct render_sample *const *)va, *b = *(const struct render_sample *const *)vb;
    int r = compare_alike(va, vb);

    return r ? r : (a->key->tid > b->key->tid) - (a->key->tid < b->key->tid);
}

/* Samples that say the same: of one stack, one state and one name. */
struct text_group {
    const struct render_sample **samples;
    size_t n;
    uint64_t count;
};

static int compare_groups(const void *va, const void *vb)
{
    const struct text_group *a = va, *b = vb;

    if (a->count != b->count)
        return a->count < b->count ? 1 : -1;
    return a->samples < b->samples ? -1 : 1;
}

static size_t groups_make(const struct render_sample **samples, size_t n, struct text_group *groups)
{
    size_t n_groups = 0;

    for (size_t i = 0; i < n; i++) {
        if (i == 0 || compare_alike(&samples[i - 1], &samples[i]) != 0)
            groups[n_groups++] = (struct text_group){.samples = &samples[i]};
        groups[n_groups - 1].n++;
        groups[n_groups - 1].count = render_plus(groups[n_groups - 1].count, samples[i]->value->samples);
    }
    qsort(groups, n_groups, sizeof(*groups), compare_groups);
    return n_groups;
}

#define TIDS_A_LINE 1000

/* Those that the threads had given themselves. */
static int text_own_labels(FILE *out, const struct render_job *job, const struct render_sample *sample)
{
    struct render_labels labels;
    int r = 0;

    render_labels_read(job, sample->stack, &labels);
    for (size_t i = 0; r == 0 && i < labels.n; i++) {
        fputs(", ", out);
        r = facts_json_string(out, labels.list[i].key);
        fputc(':', out);
        r = r ? r : facts_json_string(out, labels.list[i].str);
    }
    return r;
}

static int text_labels(FILE *out, const struct render_job *job, const struct text_group *g)
{
    char comm[CPROFD_COMM_LEN + 1];

    if (g->samples[0]->key->tid == 0)
        return 0; /* a watch's counts are of no thread */
    comm_of(g->samples[0], comm);
    fputs("# labels: {", out);
    if (g->samples[0]->key->state != SAMPLE_STATE_NONE)
        fprintf(out, "\"state\":\"%s\", ", sample_state_name(g->samples[0]->key->state));
    fputs("\"thread\":", out);
    int r = facts_json_string(out, comm);
    r = r ? r : text_own_labels(out, job, g->samples[0]);
    fputc('}', out);
    for (size_t i = 0; i < g->n; i++) /* readers take no line of more than 64 KiB */
        fprintf(out, "%s %u", i % TIDS_A_LINE == 0 ? "\n# tids:" : "", g->samples[i]->key->tid);
    fputc('\n', out);
    return r;
}

int text_frame_lines(FILE *out, const struct render_job *job, const struct text_frame *f)
{
    const struct profile_line *lines;
    size_t n = frame_lines(f->frame, &lines);
    int r = 0;

    for (size_t i = f->hidden_lines; r == 0 && i < n; i++) {
        fprintf(out, "#\t0x%" PRIx64 "\t", f->address);
        r = text_function(out, job, lines[i].name);
        fprintf(out, "+0x%" PRIx64 "\t", f->offset);
        r = r ? r : text_line_part(out, lines[i].filename ? lines[i].filename : frame_object_name(job, f->frame));
        fprintf(out, ":%" PRId64 "\n", lines[i].line);
    }
    return r;
}

int text_stack(FILE *out, struct render_job *job, const struct render_sample *sample)
{
    size_t n = render_frame_count(sample);
    struct text_frame f;
    int r = 0;

    for (size_t i = 0; r == 0 && i < n; i++) {
        r = text_frame_get(job, sample, i, &f);
        if (r == 0)
            fprintf(out, " 0x%" PRIx64, f.address);
    }
    fputc('\n', out);
    for (size_t i = 0; r == 0 && i < n; i++) {
        r = text_frame_get(job, sample, i, &f);
        r = r ? r : text_frame_lines(out, job, &f);
    }
    fputc('\n', out);
    return r;
}

static int text_group(FILE *out, struct render_job *job, const struct text_group *g)
{
    const struct render_sample *sample = g->samples[0];
    size_t n = render_frame_count(sample), hidden = 0, first = sample->goroutine ? text_goroutine_first(job, sample, &hidden) : 0;
    struct text_frame f;
    int r = 0;

    fprintf(out, "%" PRIu64 " @", g->count);
    for (size_t i = 0; r == 0 && i < n; i++) {
        r = text_frame_get(job, sample, i, &f);
        if (r == 0 && !frame_is_elided(f.frame))
            fprintf(out, " 0x%" PRIx64, f.address);
    }
    fputc('\n', out);
    r = r ? r : sample->goroutine ? text_goroutine_labels(out, job, sample) : text_labels(out, job, g);
    for (size_t i = first; r == 0 && i < n; i++) {
        r = text_frame_get(job, sample, i, &f);
        if (i == first && hidden > 0)
            f.hidden_lines = hidden;
        if (r == 0 && !frame_is_elided(f.frame))
            r = text_frame_lines(out, job, &f);
    }
    fputc('\n', out);
    return r;
}

int text_mappings(FILE *out, const struct raw_profile *raw)
{
    int r = 0;

    fputs("\n--- Memory map: ---\n", out);
    for (size_t i = 0; r == 0 && i < raw->n_mappings; i++) {
        const struct raw_mapping *m = &raw->mappings[i];
        if (m->object == RAW_NO_OBJECT)
            continue;
        fprintf(out, "%" PRIx64 "-%" PRIx64 " r-xp %08" PRIx64 " 00:00 0 ", m->start, m->end, m->offset);
        r = text_line_part(out, raw_profile_string(raw, raw->objects[m->object].path));
        fputc('\n', out);
    }
    return r;
}

int text_facts(FILE *out, const struct facts *facts)
{
    int r = 0;

    for (size_t i = 0; r == 0 && i < facts->n; i++) {
        fprintf(out, "# cprofd.%s=", facts->items[i].key);
        r = text_line_part(out, facts->items[i].value);
        fputc('\n', out);
    }
    return r;
}

static int text_counts(FILE *out, struct render_job *job, const struct render_sample **samples, size_t n)
{
    AUTO_FREE struct text_group *groups = calloc(n + 1, sizeof(*groups));
    uint64_t total = 0;
    int r = 0;

    if (!groups)
        return -ENOMEM;
    qsort(samples, n, sizeof(*samples), compare_alike_tid);
    size_t n_groups = groups_make(samples, n, groups);
    for (size_t i = 0; i < n_groups; i++)
        total = render_plus(total, groups[i].count);
    fprintf(out, "%s profile: total %" PRIu64 "\n", job->raw->params.types.type[0], total);
    for (size_t i = 0; r == 0 && i < n_groups; i++)
        r = text_group(out, job, &groups[i]);
    r = r ? r : text_facts(out, &job->facts);
    return r ? r : text_mappings(out, job->raw);
}

/* ---- a stack for each thread */

static int compare_threads(const void *va, const void *vb)
{
    const struct render_sample *x = *(const struct render_sample *const *)va, *y = *(const struct render_sample *const *)vb;
    const struct sample_key *a = x->key, *b = y->key;

    if (x->goroutine)
        return (x->goroutine->id > y->goroutine->id) - (x->goroutine->id < y->goroutine->id);
    if ((a->tid == a->tgid) != (b->tid == b->tgid))
        return a->tid == a->tgid ? -1 : 1; /* the main thread first */
    return (a->tid > b->tid) - (a->tid < b->tid);
}

static const struct raw_thread *thread_find(const struct raw_profile *raw, uint32_t tid)
{
    size_t low = 0, high = raw->n_threads;

    while (low < high) {
        size_t middle = (low + high) / 2;
        if (raw->threads[middle].tid < tid)
            low = middle + 1;
        else
            high = middle;
    }
    return low < raw->n_threads && raw->threads[low].tid == tid ? &raw->threads[low] : NULL;
}

/* goroutine N [state, M minutes, for S s, thread "name", in function]: */
static int text_thread_head(FILE *out, const struct raw_profile *raw, const struct render_sample *sample)
{
    const struct raw_thread *thread = thread_find(raw, sample->key->tid);
    const char *state = thread ? thread->state : sample_state_name(sample->key->state);
    unsigned long long wait_ns = thread ? thread->wait_ns : 0;
    char comm[CPROFD_COMM_LEN + 1];

    comm_of(sample, comm);
    for (char *c = comm; *c; c++)
        *c = *c == '[' ? '(' : *c == ']' ? ')' : *c; /* readers look for the end of these */
    fprintf(out, "goroutine %u [%s", sample->key->tid, state[0] ? state : "unknown");
    if (wait_ns >= 60 * NSEC_PER_SEC)
        fprintf(out, ", %llu minutes", wait_ns / (60 * NSEC_PER_SEC));
    if (wait_ns > 0)
        fprintf(out, ", for %llu.%03llu s", wait_ns / NSEC_PER_SEC, wait_ns % NSEC_PER_SEC / NSEC_PER_MSEC);
    fputs(", thread ", out);
    int r = facts_json_string(out, comm);
    if (thread && thread->channel[0]) {
        fputs(", in ", out);
        r = r ? r : text_line_part(out, thread->channel);
    }
    fputs("]:\n", out);
    return r;
}

int text_call(FILE *out, const struct render_job *job, const struct text_frame *f, const struct profile_line *line)
{
    size_t len = strlen(line->name);

    int r = text_function(out, job, line->name);
    /* Demangled names of C++ have their parameters. */
    fputs(len > 0 && line->name[len - 1] == ')' ? "\n\t" : "(...)\n\t", out);
    r = r ? r : text_line_part(out, line->filename ? line->filename : frame_object_name(job, f->frame));
    fprintf(out, ":%" PRId64 " +0x%" PRIx64 "\n", line->line, f->offset);
    return r;
}

/* The calls of a stack, as text: many threads wait with the same one. */
struct text_body {
    struct {
        uint64_t alike[2], epoch;
    } key;
    char *text;
    size_t len;
    UT_hash_handle hh;
};

struct text_bodies {
    struct text_body *by_key;
};

static void bodies_deinit(struct text_bodies *bodies)
{
    struct text_body *body, *next;

    HASH_ITER(hh, bodies->by_key, body, next) {
        HASH_DEL(bodies->by_key, body);
        free(body->text);
        free(body);
    }
}

static int text_calls(FILE *out, struct render_job *job, const struct render_sample *sample)
{
    int r = 0;

    for (size_t i = 0; r == 0 && i < render_frame_count(sample); i++) {
        const struct profile_line *lines;
        struct text_frame f;
        r = text_frame_get(job, sample, i, &f);
        size_t n = r == 0 ? frame_lines(f.frame, &lines) : 0;
        for (size_t l = 0; r == 0 && l < n; l++)
            r = text_call(out, job, &f, &lines[l]);
    }
    return r;
}

static int body_write(struct text_body *body, struct render_job *job, const struct render_sample *sample)
{
    FILE *out = open_memstream(&body->text, &body->len);

    if (!out)
        return -ENOMEM;
    int r = text_calls(out, job, sample);
    bool failed = ferror(out);
    return fclose(out) != 0 || failed ? -ENOMEM : r;
}

/* NULL: no memory. */
static const struct text_body *body_of(struct text_bodies *bodies, struct render_job *job, const struct render_sample *sample)
{
    struct text_body *new = calloc(1, sizeof(*new)), *found;

    if (!new)
        return NULL;
    new->key.alike[0] = sample->alike[0];
    new->key.alike[1] = sample->alike[1];
    new->key.epoch = sample->key->epoch;
    HASH_FIND(hh, bodies->by_key, &new->key, sizeof(new->key), found);
    if (!found && body_write(new, job, sample) == 0) {
        HASH_ADD(hh, bodies->by_key, key, sizeof(new->key), new);
        if (new->hh.tbl)
            return new;
    }
    free(new->text);
    free(new);
    return found;
}

static int text_thread(FILE *out, struct render_job *job, struct text_bodies *bodies, const struct render_sample *sample)
{
    const struct text_body *body = body_of(bodies, job, sample);
    int r = text_thread_head(out, job->raw, sample);

    if (!body)
        return -ENOMEM;
    (void)fwrite(body->text, 1, body->len, out);
    fputc('\n', out);
    return r;
}

static int text_stacks(FILE *out, struct render_job *job, const struct render_sample **samples, size_t n)
{
    CLEANUP(bodies_deinit) struct text_bodies bodies = {0};
    int r = 0;

    qsort(samples, n, sizeof(*samples), compare_threads);
    for (size_t i = 0; r == 0 && i < n; i++)
        r = samples[i]->goroutine ? text_goroutine(out, job, samples[i]) : text_thread(out, job, &bodies, samples[i]);
    return r ? r : text_facts(out, &job->facts);
}

/* ---- the whole */

static int text_write(FILE *out, struct render_job *job)
{
    AUTO_FREE const struct render_sample **samples = calloc(job->n_samples + 1, sizeof(*samples));
    size_t n = 0;

    if (!samples)
        return -ENOMEM;
    for (size_t i = 0; i < job->n_samples; i++)
        if (render_is_shown(job, &job->samples[i]))
            samples[n++] = &job->samples[i];
    if (job->raw->params.heap)
        return text_heaps(out, job, samples, n);
    if (text_has_contentions(job))
        return text_contentions(out, job, samples, n);
    return job->raw->params.format == RAW_FORMAT_COUNTS ? text_counts(out, job, samples, n) : text_stacks(out, job, samples, n);
}

int render_text(struct render_job *job, uint8_t **ret_data, size_t *ret_len)
{
    char *data = NULL;
    size_t len = 0;

    FILE *out = open_memstream(&data, &len);
    if (!out)
        return -ENOMEM;
    int r = text_write(out, job);
    bool failed = ferror(out);
    if (fclose(out) != 0 || failed || r < 0) {
        free(data);
        return r < 0 ? r : -ENOMEM;
    }
    *ret_data = (uint8_t *)data;
    *ret_len = len;
    return 0;
}
