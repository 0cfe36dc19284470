/* The renderer: one raw profile in, one body out. Owns the caches that outlive a job, and everything of the
 * job under way. */
#include "daemon/render.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/render_job.h"
#include "pprof/utf8.h"
#include "util/cleanup.h"
#include "util/clock.h"

static const struct symbolizer_ops render_symbolizer_ops = {.open_debug_file = render_open_debug_file};

struct renderer *renderer_new(const struct render_ops *ops, void *userdata, size_t cache_bytes)
{
    struct renderer *r = calloc(1, sizeof(*r));

    if (!r)
        return NULL;
    *r = (struct renderer){
        .ops = ops, .userdata = userdata, .object = WORKER_TOUCH_NONE};
    r->symbolizer = symbolizer_new(&render_symbolizer_ops, cache_bytes);
    if (!r->symbolizer) {
        free(r);
        return NULL;
    }
    return r;
}

void renderer_free(struct renderer *r)
{
    if (!r)
        return;
    symbolizer_free(r->symbolizer);
    kallsyms_free(r->kallsyms);
    free(r);
}

void renderer_trim(struct renderer *r)
{
    symbolizer_trim(r->symbolizer);
}

size_t renderer_cache_bytes(const struct renderer *r)
{
    return symbolizer_cache_bytes(r->symbolizer) + (r->kallsyms ? kallsyms_bytes(r->kallsyms) : 0);
}

static int __attribute__((format(printf, 3, 4)))
render_error(struct render_job *job, int error, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(job->result->message, sizeof(job->result->message), fmt, args);
    va_end(args);
    return error;
}

/* ---- a job's beginning and end */

static int render_regex(struct render_job *job, const char *name, const char *pattern, bool *ret_has,
                        regex_t *ret)
{
    char why[128];

    if (!pattern[0])
        return 0;
    int e = regcomp(ret, pattern, REG_EXTENDED | REG_NOSUB);
    if (e == REG_ESPACE)
        return -ENOMEM;
    if (e != 0) {
        (void)regerror(e, ret, why, sizeof(why));
        return render_error(job, -EINVAL, "invalid value for \"%s\" - not a regular expression: %s", name,
                            why);
    }
    *ret_has = true;
    return 0;
}

static void render_job_deinit(struct render_job *job)
{
    facts_deinit(&job->facts);
    address_map_deinit(&job->map);
    frame_table_free(job->frames);
    free(job->objects);
    free(job->mapping_ids);
    free(job->samples);
    free(job->heaps);
    render_copies_deinit(job);
    render_trace_deinit(job);
    code_names_free(job->jit);
    if (job->has_thread)
        regfree(&job->thread);
    if (job->has_focus)
        regfree(&job->focus);
}

static int render_job_init(struct render_job *job)
{
    const struct raw_profile *raw = job->raw;

    job->frames = frame_table_new();
    job->objects = calloc(raw->n_objects + 1, sizeof(*job->objects));
    job->mapping_ids = calloc(raw->n_mappings + 1, sizeof(*job->mapping_ids));
    if (!job->frames || !job->objects || !job->mapping_ids)
        return -ENOMEM;
    int r = address_map_init(&job->map, raw->mappings, raw->n_mappings);
    if (r == 0)
        r = render_regex(job, "thread", raw->params.thread, &job->has_thread, &job->thread);
    if (r == 0)
        r = render_regex(job, "focus", raw->params.focus, &job->has_focus, &job->focus);
    if (r < 0)
        return r;
    facts_read(&job->facts, raw->facts, raw->facts_len);
    job->has_labels = facts_number(&job->facts, "labels.places", &(uint64_t){0});
    render_exclude(job);
    return 0;
}

static int render_write(int fd, const void *data, size_t len)
{
    const uint8_t *bytes = data;

    while (len > 0) {
        ssize_t n = write(fd, bytes, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        bytes += n;
        len -= (size_t)n;
    }
    return 0;
}

/* ---- what the profile says of itself */

/* Says so where the sampled CPU time differs from the kernel's own count by more than sampling can. Of n =
 * actual / period samples due, dithered timers let no more vary than independent (Poisson) sampling would:
 * the standard deviation is at most sqrt(n) samples. Beyond three of them lies less than 0.3 % of right
 * profiles; 2 % are allowed in any case, since the kernel charges interrupts and the last tick differently,
 * and so is the error of the very few samples where n < 1. Where one sample in m was taken (thinned), each stands for m.
 * None at all, which the deviation allows for up to nine, is as unlikely from RENDER_NONE_DUE on: e^-n. */
#define RENDER_NONE_DUE 6.6

static void render_check_cpu(struct render_job *job)
{
    const struct raw_params *params = &job->raw->params;
    uint64_t actual, thin = 1;

    if (!params->cpu_clock)
        return;
    facts_count(&job->facts, "cpu_sampled_ns", job->cpu_sampled);
    if (params->period == 0 || !facts_number(&job->facts, "cpu_actual_ns", &actual))
        return;
    (void)facts_number(&job->facts, "thinned", &thin);
    double due = (double)actual / (double)params->period, least = (double)thin;
    double error_ns = fmax(0.02 * (double)actual, 3 * sqrt(fmax(due * least, least * least)) * (double)params->period);
    if (job->cpu_sampled == 0 && due / least > RENDER_NONE_DUE)
        facts_note(&job->facts, "warning", "no sample of %" PRIu64 " ns of CPU time that the kernel counts: %.0f were due", actual,
                   due / least);
    else if (fabs((double)job->cpu_sampled - (double)actual) > error_ns)
        facts_note(&job->facts, "warning",
                   "sampled %" PRIu64 " ns of CPU time where the kernel counts %" PRIu64
                   " ns: beyond the sampling error of %.0f ns",
                   job->cpu_sampled, actual, error_ns);
}

void render_add_facts(struct render_job *job)
{
    struct facts *f = &job->facts;

    facts_set(f, "version", CPROFD_VERSION);
    facts_count(f, "samples", job->result->body.samples);
    render_note_unavailable(job);
    frames_note_pending(job);
    render_note_split(job);
    render_add_verdict(job);
    if (job->filtered > 0)
        facts_count(f, "filtered", job->filtered);
    if (job->signals > 0)
        facts_count(f, "signals", job->signals);
    render_check_cpu(job);
    /* Encoding is yet to come, and can't be in what it encodes. */
    facts_count(f, "daemon_cpu_ns", clock_ns(CLOCK_PROCESS_CPUTIME_ID) - job->start_cpu_ns);
    job->result->body.rooted = job->verdict.ended[STACK_END_ROOT];
    job->result->body.lost = facts_sum(f, "lost.");
}

/* ---- formats */

/* The main binary's first mapping: the frame at its start stands for it. NULL: none, or no memory. */
static struct frame *render_main_binary(struct render_job *job)
{
    for (size_t i = 0; i < job->raw->n_mappings; i++)
        if (job->raw->mappings[i].main_binary)
            return frame_user(job, job->raw->mappings[i].start, job->raw->mappings[i].first_epoch);
    return NULL;
}

static const char *render_default_type(const struct raw_types *t)
{
    for (uint32_t i = 0; i < t->n; i++)
        if (strcmp(t->default_type, t->type[i]) == 0)
            return t->default_type;
    return NULL;
}

static void render_profile_cleanup(struct profile **p)
{
    profile_free(*p);
}

static struct profile *render_new_profile(const struct raw_params *params)
{
    const struct raw_types *t = &params->types;
    struct profile_value_type types[RAW_MAX_TYPES];
    for (size_t i = 0; i < RAW_MAX_TYPES; i++)
        types[i] = (struct profile_value_type){t->type[i], t->unit[i]};
    struct profile *p = profile_new(types, t->n, render_default_type(t));

    if (p) {
        profile_set_period(p, (struct profile_value_type){t->period_type, t->period_unit},
                           params->period);
        int64_t begin_ns = params->time_ns, duration_ns = params->duration_ns;
        profile_set_time(p, params->date == RAW_DATE_BEGIN ? begin_ns : begin_ns + duration_ns,
                         params->date == RAW_DATE_NOW ? 0 : duration_ns);
    }
    return p;
}

/* Adds up what has names. */
static int render_fill(struct render_job *job, struct profile *p)
{
    render_settle_goroutines(job);
    render_prove_roots(job);
    render_show_starts(job);
    render_hide_allocators(job);
    render_skip_functions(job);
    render_hide_tracing(job);
    /* The first mapping: readers take it for the main binary. */
    if (job->main_binary && frame_mapping(job, p, job->main_binary) == 0)
        return -ENOMEM;
    return render_add_samples(job, p);
}

static int render_encode_profile(struct render_job *job, uint8_t **ret_data, size_t *ret_len)
{
    CLEANUP(render_profile_cleanup) struct profile *p = render_new_profile(&job->raw->params);

    int r = p ? render_fill(job, p) : -ENOMEM;
    if (r < 0)
        return r;
    render_add_facts(job);
    if (job->raw->params.format == RAW_FORMAT_QUALITY)
        return render_quality(job, ret_data, ret_len);
    r = render_note_places(job);
    if (r < 0)
        return r;
    if (job->raw->params.format == RAW_FORMAT_COUNTS || job->raw->params.format == RAW_FORMAT_STACKS)
        return render_text(job, ret_data, ret_len);
    r = facts_to_comments(&job->facts, p);
    if (r < 0)
        return r;
    return job->raw->params.format == RAW_FORMAT_FOLDED ? profile_encode_folded(p, ret_data, ret_len)
                                                        : profile_encode_pprof(p, ret_data, ret_len);
}

/* One line of UTF-8: whoever parses the answer knows no other structure. 0 or -ENOMEM. */
static int render_symbol_line(FILE *out, uint64_t address, const char *name)
{
    size_t len = strlen(name);
    AUTO_FREE char *clean = malloc(UTF8_SANITIZED_BYTES(len) + 1);

    if (!clean)
        return -ENOMEM;
    len = utf8_sanitize(name, len, clean);
    fprintf(out, "0x%" PRIx64 " ", address);
    for (size_t i = 0; i < len; i++)
        fputc((unsigned char)clean[i] < 0x20 || clean[i] == 0x7f ? '?' : clean[i], out);
    fputc('\n', out);
    return 0;
}

/* The frame of an address that a name is wanted of. Only who may see the kernel's frames gets this far with one of its addresses. */
static struct frame *render_symbol_frame(struct render_job *job, uint64_t address)
{
    return address >= RAW_KERNEL_HALF ? frame_kernel(job, address) : frame_user(job, address, UINT32_MAX);
}

/* The addresses that the asker wants named, as the mappings are now, by the names that a profile gives them; what is in no mapping is
 * left out. */
static int render_encode_symbols(struct render_job *job, uint8_t **ret_data, size_t *ret_len)
{
    const struct raw_profile *raw = job->raw;
    char *data = NULL;
    size_t len;
    int r = 0;

    FILE *out = open_memstream(&data, &len);
    if (!out)
        return -ENOMEM;
    fputs("num_symbols: 1\n", out);
    for (size_t i = 0; r == 0 && i < raw->n_addresses; i++) {
        struct frame *frame = render_symbol_frame(job, raw->addresses[i]);
        if (frame && frame_is_named(frame))
            r = render_symbol_line(out, raw->addresses[i], frame_inner_name(frame));
    }
    bool failed = ferror(out) || r < 0;
    if (fclose(out) != 0 || failed) {
        free(data);
        return -ENOMEM;
    }
    *ret_data = (uint8_t *)data;
    *ret_len = len;
    return 0;
}

/* What is counted on the way into a body is counted for it alone: the next one begins anew. */
static int render_encode(struct render_job *job, uint8_t **ret_data, size_t *ret_len)
{
    struct facts known = job->facts;
    uint64_t filtered = job->filtered;

    if (job->raw->params.format == RAW_FORMAT_SYMBOL)
        return render_encode_symbols(job, ret_data, ret_len);
    job->facts = (struct facts){0};
    facts_copy(&known, &job->facts);
    frames_forget(job);
    memset(job->mapping_ids, 0, job->raw->n_mappings * sizeof(*job->mapping_ids));
    job->verdict = (struct verdict){0};
    job->result->body.samples = 0;
    job->signals = 0;
    int r = raw_format_is_trace(job->raw->params.format) ? render_encode_trace(job, ret_data, ret_len)
                                                         : render_encode_profile(job, ret_data, ret_len);
    facts_deinit(&job->facts);
    job->facts = known;
    job->filtered = filtered;
    return r;
}

/* The next body, behind those before. */
static int render_write_body(struct render_job *job)
{
    AUTO_FREE uint8_t *data = NULL;
    size_t len = 0;

    int r = render_encode(job, &data, &len);
    if (r == 0)
        r = render_write(job->out_fd, data, len);
    if (r < 0)
        return r;
    job->result->body.offset += job->result->body.len;
    job->result->body.len = len;
    return 0;
}

/* How long to go on before the next draft, in multiples of what one costs; a file of this size may take until the deadline. */
#define DRAFT_PAUSE_BEFORE_FILE 2
#define DRAFT_PAUSE 10
#define DRAFT_PAUSE_LEAST_NS (50 * NSEC_PER_MSEC)
#define DRAFT_LARGE_FILE_BYTES (1u << 20)

static bool render_is_draft_due(const struct render_job *job, enum draft_reason reason, uint64_t now_ns)
{
    const struct render_progress *p = &job->progress;

    if (!job->renderer->ops->draft || job->message->u.job.deadline_ns == 0)
        return false;
    if (!p->drafted) /* late is better than without any name */
        return reason == DRAFT_BEFORE_DEBUG || (reason != DRAFT_BY_TIME && now_ns < job->message->u.job.deadline_ns);
    if (!p->news || now_ns >= job->message->u.job.deadline_ns)
        return false;
    if (reason == DRAFT_BEFORE_FILE)
        return now_ns - p->drafted_ns >= DRAFT_PAUSE_BEFORE_FILE * p->cost_ns;
    return reason != DRAFT_BY_TIME || now_ns - p->drafted_ns >= DRAFT_PAUSE_LEAST_NS + DRAFT_PAUSE * p->cost_ns;
}

int render_draft_before(struct render_job *job, uint32_t object)
{
    bool large = job->raw->objects[object].id.size >= DRAFT_LARGE_FILE_BYTES;

    return render_draft(job, large ? DRAFT_BEFORE_LARGE_FILE : DRAFT_BEFORE_FILE);
}

int render_draft(struct render_job *job, enum draft_reason reason)
{
    struct render_progress *p = &job->progress;
    uint64_t start_ns = monotonic_ns();

    if (!render_is_draft_due(job, reason, start_ns))
        return 0;
    int r = frames_name_unread(job);
    if (r == 0)
        r = render_write_body(job);
    if (r < 0)
        return r;
    job->renderer->ops->draft(job->renderer->userdata, &job->result->body);
    p->drafted_ns = monotonic_ns();
    p->cost_ns = p->drafted_ns - start_ns;
    p->drafted = true;
    p->news = false;
    return 0;
}

#define RENDER_PART_LEAST_NS (100 * NSEC_PER_MSEC)

uint64_t render_until_ns(const struct render_job *job, uint64_t most_ns)
{
    uint64_t now_ns = monotonic_ns(), deadline_ns = job->message->u.job.deadline_ns, ns = most_ns;

    if (deadline_ns > 0)
        ns = deadline_ns > now_ns ? (deadline_ns - now_ns) / 2 : 0;
    if (ns < RENDER_PART_LEAST_NS)
        ns = RENDER_PART_LEAST_NS;
    return now_ns + (ns < most_ns ? ns : most_ns);
}

/* Makes all frames, whose names are what takes time. */
static int render_make_frames(struct render_job *job)
{
    const struct raw_profile *raw = job->raw;

    for (size_t i = 0; i < raw->n_addresses; i++) {
        struct frame *frame = render_symbol_frame(job, raw->addresses[i]);
        if (!frame)
            return -ENOMEM;
        frame_add_weight(frame, 1);
    }
    if (raw->params.format == RAW_FORMAT_SYMBOL)
        return 0;
    int r = render_join(job);
    if (r == 0)
        r = render_collect(job);
    job->main_binary = r == 0 ? render_main_binary(job) : NULL;
    return r;
}

static int render_run(struct render_job *job)
{
    int r = render_job_init(job);
    if (r == 0)
        r = render_make_frames(job);
    if (r == 0)
        r = frames_resolve(job);
    return r < 0 ? r : render_write_body(job);
}

static void render_explain(struct render_job *job, int error)
{
    if (job->result->message[0])
        return;
    if (error == -ENOMEM)
        (void)render_error(job, error, "the worker ran out of memory");
    else if (error == -EFBIG)
        (void)render_error(job, error, "the %s",
                           raw_format_is_trace(job->raw->params.format) ? "trace is too large: take fewer seconds"
                                                                        : "profile is too large: take fewer seconds, or a longer period");
    else
        (void)render_error(job, error, "rendering failed: %s", strerror(-error));
}

int renderer_render(struct renderer *r, const struct raw_profile *p, const struct worker_message *message,
                    int out_fd, struct render_result *ret)
{
    struct render_job job = {.renderer = r, .raw = p, .message = message, .result = ret, .out_fd = out_fd,
                             .touched = WORKER_TOUCH_NONE, .start_cpu_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID)};

    *ret = (struct render_result){0};
    r->cancelled = false;
    symbolizer_begin(r->symbolizer, message->u.job.key);
    r->job = &job;
    int e = render_run(&job);
    r->job = NULL;
    if (e < 0)
        render_explain(&job, e);
    render_job_deinit(&job);
    return e;
}
