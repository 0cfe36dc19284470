/* How good the stacks of a profile are: which of them have a proven root, how deep they are, where a step was a guess, and whose
 * frames no native stack shows. */
#include "daemon/render_job.h"

#include <stdio.h>
#include <string.h>

/* ---- roots */

bool render_is_start(const char *symbol)
{
    static const char *const starts[] = {"_start", "__libc_start_call_main", "__libc_start_main", "libc_start_main_stage2",
                                         "start_thread", "__clone", "__clone3", "clone3"};

    for (size_t i = 0; i < sizeof(starts) / sizeof(starts[0]); i++)
        if (strcmp(symbol, starts[i]) == 0)
            return true;
    return false;
}

void render_prove_roots(struct render_job *job)
{
    if (!job->raw->params.by_fp)
        return; /* the walk itself has the proof */
    for (size_t i = 0; i < job->n_samples; i++) {
        struct render_sample *sample = &job->samples[i];
        if (sample->n_user == 0 || sample->end == STACK_END_TOO_DEEP)
            continue;
        const struct frame *outer = render_own_frame(job, sample, sample->stack->n_kernel + sample->n_user - 1);
        if (outer && render_is_start(frame_symbol(outer)))
            sample->end = STACK_END_ROOT;
    }
}

/* ---- interpreters */

/* Programs that run others' functions in one of their own: the file name's beginning (up to a version), and what stays unseen. */
static const struct interpreter {
    const char *file, *name;
} interpreters[] = {
    {"python", "CPython: Python functions"},   {"libpython", "CPython: Python functions"},
    {"ruby", "Ruby: Ruby methods"},            {"libruby", "Ruby: Ruby methods"},
    {"perl", "Perl: Perl subroutines"},        {"libperl", "Perl: Perl subroutines"},
    {"php", "PHP: PHP functions"},             {"libphp", "PHP: PHP functions"},
    {"lua", "Lua: Lua functions"},             {"liblua", "Lua: Lua functions"},
    {"node", "V8: JavaScript functions"},      {"libnode", "V8: JavaScript functions"},
    {"libjvm.so", "HotSpot: Java methods"},    {"beam.smp", "BEAM: Erlang functions"},
    {"libmonosgen", "Mono: .NET methods"},     {"libcoreclr.so", ".NET: .NET methods"},
};
#define N_INTERPRETERS (sizeof(interpreters) / sizeof(interpreters[0]))
_Static_assert(N_INTERPRETERS == VERDICT_INTERPRETERS, "a counter for each");

/* "python3.11" begins with "python" and goes on with no letter. */
static bool interpreter_is(const struct interpreter *i, const char *path)
{
    const char *slash = strrchr(path, '/'), *file = slash ? slash + 1 : path;
    size_t n = strlen(i->file);

    if (strncmp(file, i->file, n) != 0)
        return false;
    return !((file[n] >= 'a' && file[n] <= 'z') || file[n] == '_');
}

static void render_judge_interpreter(struct render_job *job, const struct render_sample *sample)
{
    const struct frame *leaf = sample->n_user > 0 ? render_own_frame(job, sample, sample->stack->n_kernel) : NULL;

    if (!leaf)
        return;
    const char *path = frame_object_name(job, leaf);
    for (size_t i = 0; i < N_INTERPRETERS; i++)
        if (interpreter_is(&interpreters[i], path))
            job->verdict.interpreted[i] = render_plus(job->verdict.interpreted[i], sample->value->samples);
}

/* ---- counts */

void render_judge(struct render_job *job, const struct render_sample *sample, bool unmapped)
{
    struct verdict *v = &job->verdict;
    const struct stack_record *stack = sample->stack;
    uint64_t n = sample->value->samples;
    bool guessed = false;

    job->result->body.samples = render_plus(job->result->body.samples, n);
    v->ended[sample->end] = render_plus(v->ended[sample->end], n);
    v->depths[stack->n_kernel + sample->n_user] = render_plus(v->depths[stack->n_kernel + sample->n_user], n);
    for (size_t i = 0; i < sample->n_user; i++)
        guessed = guessed || (stack->frames[stack->n_kernel + i] & STACK_FRAME_GUESSED);
    if (guessed)
        v->guessed = render_plus(v->guessed, n);
    if (unmapped)
        v->unmapped = render_plus(v->unmapped, n);
    render_judge_interpreter(job, sample);
}

/* The least depth that this share of the samples does not exceed. */
static uint64_t verdict_depth(const struct verdict *v, uint64_t samples, double share)
{
    uint64_t seen = 0;
    size_t depth = 0;

    for (; depth < VERDICT_DEPTHS - 1; depth++) {
        seen = render_plus(seen, v->depths[depth]);
        if ((double)seen >= share * (double)samples)
            break;
    }
    return depth;
}

static void render_add_depths(struct render_job *job)
{
    static const struct {
        const char *key;
        double share;
    } percentiles[] = {{"depth.p50", 0.5}, {"depth.p90", 0.9}, {"depth.p99", 0.99}, {"depth.max", 1}};

    if (job->result->body.samples == 0)
        return;
    for (size_t i = 0; i < sizeof(percentiles) / sizeof(percentiles[0]); i++)
        facts_count(&job->facts, percentiles[i].key, verdict_depth(&job->verdict, job->result->body.samples, percentiles[i].share));
}

void render_add_verdict(struct render_job *job)
{
    const struct verdict *v = &job->verdict;
    char key[64];

    facts_count(&job->facts, "rooted", v->ended[STACK_END_ROOT]);
    facts_count(&job->facts, "guessed", v->guessed);
    for (int end = STACK_END_ROOT + 1; end < STACK_END_COUNT; end++) {
        (void)snprintf(key, sizeof(key), "truncated.%s", render_end_name((enum stack_end)end));
        if (v->ended[end] > 0)
            facts_count(&job->facts, key, v->ended[end]);
    }
    if (v->unmapped > 0)
        facts_count(&job->facts, "unmapped", v->unmapped);
    render_add_depths(job);
    for (size_t i = 0; i < N_INTERPRETERS && !job->jit_named; i++) /* else the runtime's own frames are among them */
        if (v->interpreted[i] > 0)
            facts_note(&job->facts, "interpreter", "%s are not shown, only the interpreter's own (leaf of %llu samples, %s)",
                       interpreters[i].name, (unsigned long long)v->interpreted[i], interpreters[i].file);
}
