/* Goroutines in the layouts of Go's runtime/pprof, with the frames that Go itself shows. */
#include "daemon/render_text.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "symbolize/go_runtime.h"
#include "util/cleanup.h"
#include "util/clock.h"

#define RUNTIME "runtime."

/* ---- stacks by how often */

int text_compare_goroutines(const struct render_sample *a, const struct render_sample *b)
{
    uintptr_t x = (uintptr_t)a->stack, y = (uintptr_t)b->stack;
    int r = (x > y) - (x < y);

    r = r ? r : (a->n_user > b->n_user) - (a->n_user < b->n_user);
    return r ? r : (a->goroutine->labels > b->goroutine->labels) - (a->goroutine->labels < b->goroutine->labels);
}

static int put_quoted(FILE *out, struct raw_text text)
{
    AUTO_FREE char *string = strndup(text.bytes, text.len);

    return string ? facts_json_string(out, string) : -ENOMEM;
}

int text_goroutine_labels(FILE *out, const struct render_job *job, const struct render_sample *sample)
{
    struct raw_labels labels;
    struct raw_text key, value;
    size_t n = 0;
    int r = 0;

    raw_labels_begin(job->raw, sample->goroutine->labels, &labels);
    while (r == 0 && raw_labels_next(&labels, &key, &value)) {
        fputs(n++ == 0 ? "# labels: {" : ", ", out);
        r = put_quoted(out, key);
        fputc(':', out);
        r = r ? r : put_quoted(out, value);
    }
    if (n > 0)
        fputs("}\n", out);
    return r;
}

static bool is_of_runtime(const char *name)
{
    return strncmp(name, RUNTIME, sizeof(RUNTIME) - 1) == 0;
}

size_t text_goroutine_first(struct render_job *job, const struct render_sample *sample, size_t *ret_hidden)
{
    size_t n = render_frame_count(sample);

    for (size_t i = 0; i < n; i++) {
        const struct frame *frame = render_frame_at(job, sample, i);
        const struct profile_line *lines;
        size_t n_lines = frame && !frame_is_elided(frame) ? frame_lines(frame, &lines) : 0;
        for (*ret_hidden = 0; *ret_hidden < n_lines; ++*ret_hidden)
            if (!is_of_runtime(lines[*ret_hidden].name))
                return i;
    }
    *ret_hidden = 0;
    return 0;
}

int text_function(FILE *out, const struct render_job *job, const char *name)
{
    const char *from = job->raw->n_goroutines > 0 ? strchr(name, '[') : NULL, *to = from ? strrchr(from, ']') : NULL;

    if (!to || strstr(name, "operator[") || strstr(name, "[abi:")) /* the latter are C++'s */
        return text_line_part(out, name);
    AUTO_FREE char *head = strndup(name, (size_t)(from - name));
    int r = head ? text_line_part(out, head) : -ENOMEM;
    fputs("[...]", out);
    return r ? r : text_line_part(out, to + 1);
}

/* ---- one after another */

/* As showfuncinfo of src/runtime/traceback.go has it: of the runtime's own functions those that programs call, and where panics begin. */
static bool is_shown(const char *name, bool is_first)
{
    static const char *const always[] = {"runtime.runFinalizers", "runtime.runCleanups"};

    for (size_t i = 0; i < sizeof(always) / sizeof(always[0]); i++)
        if (strcmp(name, always[i]) == 0)
            return true;
    if (!is_of_runtime(name) || (strcmp(name, "runtime.gopanic") == 0 && !is_first))
        return true;
    char first = name[sizeof(RUNTIME) - 1];
    return first >= 'A' && first <= 'Z';
}

static void put_head(FILE *out, const struct raw_goroutine *g)
{
    const char *reason = go_wait_reason(g->reasons, (uint8_t)g->reason);
    bool waits = (g->status == GO_WAITING || g->status == GO_LEAKED) && reason[0];

    fprintf(out, "goroutine %" PRIu64 " [%s%s", g->id, waits ? reason : go_status_name(g->status), g->status == GO_LEAKED ? " (leaked)" : "");
    if (g->waited_ns >= 60 * NSEC_PER_SEC)
        fprintf(out, ", %" PRIu64 " minutes", g->waited_ns / (60 * (uint64_t)NSEC_PER_SEC));
    if (g->flags & RAW_GOROUTINE_LOCKED)
        fputs(", locked to thread", out);
    fputs("]:\n", out);
}

static int put_calls(FILE *out, struct render_job *job, const struct render_sample *sample)
{
    int r = 0;

    for (size_t i = 0; r == 0 && i < render_frame_count(sample); i++) {
        const struct profile_line *lines;
        struct text_frame f;
        r = text_frame_get(job, sample, i, &f);
        size_t n = r == 0 && !frame_is_elided(f.frame) ? frame_lines(f.frame, &lines) : 0;
        for (size_t l = 0; r == 0 && l < n; l++)
            if (is_shown(lines[l].name, i == 0 && l == 0))
                r = text_call(out, job, &f, &lines[l]);
    }
    return r;
}

static int put_creation(FILE *out, struct render_job *job, const struct raw_goroutine *g)
{
    struct frame *frame = render_created_frame(job, g);
    const struct profile_line *lines;
    int r = 0;

    if (!frame || g->id == 1 || !frame_function(frame)[0] || !is_shown(frame_function(frame), false))
        return 0;
    size_t n = frame_lines(frame, &lines);
    fputs("created by ", out);
    r = text_function(out, job, frame_function(frame));
    if (g->parent)
        fprintf(out, " in goroutine %" PRIu64, g->parent);
    fputs("\n\t", out);
    r = r ? r : text_line_part(out, n > 0 && lines[0].filename ? lines[0].filename : frame_object_name(job, frame));
    fprintf(out, ":%" PRId64 " +0x%" PRIx64 "\n", n > 0 ? lines[0].line : 0, frame_function_offset(job, frame, g->created_at));
    return r;
}

int text_goroutine(FILE *out, struct render_job *job, const struct render_sample *sample)
{
    put_head(out, sample->goroutine);
    int r = put_calls(out, job, sample);
    r = r ? r : put_creation(out, job, sample->goroutine);
    fputc('\n', out);
    return r;
}
