/* Names of code that a runtime made in the target's memory, as the runtime itself tells them: by a jitdump, which knows when code
 * came and often files and lines, and by a perf map. Both are read when the window is over, for the addresses in the profile alone. Code
 * that was replaced in the window goes by the newest name at its place. What can't be named is said, and how it could be. */
#include "daemon/render_frame.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "symbolize/code_names.h"
#include "symbolize/jitdump.h"
#include "symbolize/perf_map.h"
#include "util/cleanup.h"
#include "util/clock.h"

/* All that names of such code may cost a reply: no draft interrupts it. */
#define RENDER_JIT_NS (1 * NSEC_PER_SEC)
#define RENDER_MAX_JITDUMPS 4

/* ---- which code */

/* Memory that only looks like a file, as maps shows it. */
bool render_path_is_memory(const char *path)
{
    static const char *const prefixes[] = {"/memfd:", "/dev/zero", "/dev/shm/", "/SYSV", "/anon_hugepage"};

    for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++)
        if (strncmp(path, prefixes[i], strlen(prefixes[i])) == 0)
            return true;
    return false;
}

/* The epoch in which the image that runs at the end began: what was mapped in earlier ones is not in its files. */
static uint32_t jit_image_epoch(const struct render_job *job)
{
    uint32_t epoch = UINT32_MAX;

    for (size_t i = 0; i < job->raw->n_mappings; i++) {
        const struct raw_mapping *m = &job->raw->mappings[i];
        if (m->main_binary && m->last_epoch == UINT32_MAX && m->first_epoch < epoch)
            epoch = m->first_epoch;
    }
    return epoch == UINT32_MAX ? 0 : epoch;
}

/* Those in memory that looks like a file, unless it holds a program. */
static void jit_mark_in_files(struct render_job *job)
{
    struct frame_table *t = job->frames;

    for (size_t i = 0; i < t->n_in_files; i++) {
        struct frame *frame = t->in_files[i];
        const struct raw_object *o = &job->raw->objects[frame->key.owner];
        if (render_path_is_memory(raw_profile_string(job->raw, o->path)) && !render_module(job, frame->key.owner))
            frame->made = !job->objects[frame->key.owner].excluded;
    }
}

/* ---- what is said of it */

struct jit_text {
    char text[1024];
    size_t len;
};

__attribute__((format(printf, 2, 3))) static void jit_say(struct jit_text *t, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    int n = vsnprintf(t->text + t->len, sizeof(t->text) - t->len, fmt, args);
    va_end(args);
    t->len += n > 0 ? (size_t)n : 0;
    if (t->len >= sizeof(t->text))
        t->len = sizeof(t->text) - 1;
}

static const char *jit_map_error(int error)
{
    switch (error) {
    case -ENOENT:
        return "there is none (/tmp/perf-PID.map, PID as the process knows itself)";
    case -ELOOP:
        return "it is a symbolic link";
    case -EINVAL:
        return "it is no regular file";
    case -EPERM:
        return "it is neither the process's user's nor root's, or others may write it";
    case -ESTALE:
        return "it was written before the process began";
    case -EACCES:
        return "it is not the asker's to see";
    case -ETIMEDOUT:
        return "its file system does not answer";
    case -ENOSPC:
        return "its names are too long for all to be kept";
    case -ENODATA:
        return "it became shorter while it was read";
    default:
        return strerror(-error);
    }
}

static const char *jit_dump_error(int error)
{
    switch (error) {
    case -ENOENT:
        return "it is of another process";
    case -ESRCH:
        return "its header names another process";
    case -ENOEXEC:
        return "it has no jitdump's header";
    case -ENOTSUP:
        return "its version or byte order is not known";
    case -ETIMEDOUT:
        return "it took too long to read";
    case -EFBIG:
        return "it is too large";
    default:
        return jit_map_error(error);
    }
}

/* How to get names, by the file name of the program (up to a version). */
static const struct runtime_hint {
    const char *file, *hint;
    bool snapshot; /* its map is written when one asks for it, and knows no later code */
} runtime_hints[] = {
    {"node", "start node with --perf-basic-prof (with --perf-prof for files and lines)", false},
    {"java", "write a perf map by `jcmd PID Compiler.perfmap` (JDK 17 and later)", true},
    {"python", "start python with -X perf (3.12 and later)", false},
    {"dotnet", "start dotnet with DOTNET_PerfMapEnabled=1", false},
    {"ruby", "start ruby with --yjit --yjit-perf (3.3 and later)", false},
    {"beam", "start erl with +JPperf true", false},
};

static const struct runtime_hint *jit_runtime(const struct render_job *job)
{
    for (size_t i = 0; i < job->raw->n_mappings; i++) {
        const struct raw_mapping *m = &job->raw->mappings[i];
        if (!m->main_binary || m->object == RAW_NO_OBJECT || m->last_epoch != UINT32_MAX)
            continue;
        const char *path = raw_profile_string(job->raw, job->raw->objects[m->object].path);
        const char *slash = strrchr(path, '/');
        for (size_t j = 0; slash && j < sizeof(runtime_hints) / sizeof(runtime_hints[0]); j++)
            if (strncmp(slash + 1, runtime_hints[j].file, strlen(runtime_hints[j].file)) == 0)
                return &runtime_hints[j];
    }
    return NULL;
}

static void jit_say_hint(const struct render_job *job, struct jit_text *t, bool any_source)
{
    const struct runtime_hint *hint = jit_runtime(job);

    if (any_source && (!hint || !hint->snapshot))
        jit_say(t, "; what was made last may not be written yet: runtimes write through a buffer");
    else if (any_source)
        jit_say(t, "; it knows no later code: write it again (%s)", hint->hint);
    else if (hint)
        jit_say(t, "; %s", hint->hint);
    else
        jit_say(t, "; names come from a perf map or a jitdump, which the runtime must be told to write");
}

/* ---- sources */

static int jit_need(struct render_job *job, enum worker_file_kind kind, uint32_t object, int *ret_fd)
{
    struct worker_message need = {.u.need = {.kind = kind, .object = object}};
    return render_need(job->renderer, &need, ret_fd);
}

/* The process of "/anywhere/jit-PID.dump"; 0: it is no such name. */
static uint32_t jit_dump_pid(const char *path)
{
    const char *slash = strrchr(path, '/');
    unsigned pid;
    int len = 0;

    if (!slash || sscanf(slash, "/jit-%9u.dump%n", &pid, &len) != 1 || len == 0 || slash[len] != '\0')
        return 0;
    return pid;
}

/* 0 with what was read, or -errno: only -ENOMEM and -ECANCELED are the job's end. */
static int jit_read_dump(struct render_job *job, uint32_t object, uint64_t deadline_ns, struct jitdump_result *ret)
{
    const struct jitdump_options options = {
        .pid = jit_dump_pid(raw_profile_string(job->raw, job->raw->objects[object].path)),
        .end_ns = job->raw->params.end_target_ns, .deadline_ns = deadline_ns,
        .lines = job->raw->params.symbolize == RAW_SYMBOLIZE_FULL,
    };
    AUTO_CLOSE int fd = -1;
    int r = jit_need(job, WORKER_FILE_JITDUMP, object, &fd);

    if (r < 0)
        return r;
    render_touch(job, object);
    r = jitdump_read(fd, job->jit, &options, ret);
    render_touch(job, WORKER_TOUCH_NONE);
    return r;
}

/* What dumps are mapped: a runtime does that for profilers to find them. */
static int jit_read_dumps(struct render_job *job, uint64_t deadline_ns, struct jit_text *t, bool *any)
{
    uint32_t last = RAW_NO_OBJECT, epoch = jit_image_epoch(job);
    unsigned n = 0;

    for (size_t i = 0; i < job->raw->n_mappings && n < RENDER_MAX_JITDUMPS && code_names_left(job->jit) > 0; i++) {
        const struct raw_mapping *m = &job->raw->mappings[i];
        struct jitdump_result result = {0};
        if (m->object == RAW_NO_OBJECT || m->object == last || m->last_epoch < epoch || job->objects[m->object].no_debug ||
            jit_dump_pid(raw_profile_string(job->raw, job->raw->objects[m->object].path)) == 0)
            continue;
        last = m->object;
        n++;
        int r = jit_read_dump(job, m->object, deadline_ns, &result);
        if (r == -ENOMEM || r == -ECANCELED)
            return r;
        *any = *any || r == 0;
        job->jit_lines = job->jit_lines || r == 0;
        if (r < 0)
            jit_say(t, "; jitdump: %s", jit_dump_error(r));
        else
            jit_say(t, "; jitdump of %" PRIu64 " records", result.records);
        if (r == 0 && job->raw->params.end_monotonic_ns && !job->raw->params.end_target_ns)
            jit_say(t, ", some of them maybe later than the window: the clock of the process is not known");
        if (r == 0 && result.malformed)
            jit_say(t, ", the next one malformed");
        if (r == 0 && result.later > 0)
            jit_say(t, ", %" PRIu64 " of them later than the window", result.later);
    }
    return 0;
}

/* Seconds between the last change of a file and the end of the window. */
static uint64_t jit_age_s(const struct render_job *job, int fd)
{
    int64_t end_ns = job->raw->params.time_ns + job->raw->params.duration_ns;
    struct stat st;

    if (fstat(fd, &st) < 0 || st.st_mtim.tv_sec >= end_ns / (int64_t)NSEC_PER_SEC)
        return 0;
    return (uint64_t)(end_ns / (int64_t)NSEC_PER_SEC - st.st_mtim.tv_sec);
}

static int jit_read_map(struct render_job *job, uint64_t deadline_ns, struct jit_text *t, bool *any)
{
    struct perf_map_result result = {0};
    AUTO_CLOSE int fd = -1;

    if (code_names_left(job->jit) == 0 || job->jit_no_map)
        return 0;
    int r = jit_need(job, WORKER_FILE_PERF_MAP, 0, &fd);
    render_touch(job, WORKER_TOUCH_PERF_MAP);
    if (r == 0)
        r = perf_map_read(fd, job->jit, deadline_ns, &result);
    render_touch(job, WORKER_TOUCH_NONE);
    if (r == -ENOMEM || r == -ECANCELED)
        return r;
    *any = *any || r == 0;
    if (r == -ENOENT && *any)
        return 0;
    if (r < 0) {
        jit_say(t, "; perf map: %s", jit_map_error(r));
        return 0;
    }
    jit_say(t, "; perf map last written %" PRIu64 " s before the end", jit_age_s(job, fd));
    if (result.malformed > 0)
        jit_say(t, ", %" PRIu64 " of its lines malformed", result.malformed);
    if (result.cut)
        jit_say(t, ", too large: its older lines were not read");
    return 0;
}

/* Looks for the names of addresses (ascending, distinct). 0, -ENOMEM or -ECANCELED. */
static int jit_read(struct render_job *job, const uint64_t *addresses, size_t n)
{
    uint64_t deadline_ns = render_until_ns(job, RENDER_JIT_NS);
    struct jit_text said = {.len = 0};
    size_t named = 0;
    bool any = false;

    job->jit = code_names_new(addresses, n);
    if (!job->jit)
        return -ENOMEM;
    render_touch(job, WORKER_TOUCH_NONE);
    int r = jit_read_dumps(job, deadline_ns, &said, &any);
    if (r == 0)
        r = jit_read_map(job, deadline_ns, &said, &any);
    if (r < 0)
        return r;
    for (size_t i = 0; i < n; i++)
        named += code_names_find(job->jit, addresses[i]) != NULL;
    job->jit_named = named > 0;
    if (named < n)
        jit_say_hint(job, &said, any);
    facts_note(&job->facts, "jit", "%zu of %zu addresses in code that was made at run time have names%s", named, n, said.text);
    return 0;
}

/* ---- frames */

static int jit_compare(const void *va, const void *vb)
{
    const struct frame *a = *(struct frame *const *)va, *b = *(struct frame *const *)vb;
    return (a->key.address > b->key.address) - (a->key.address < b->key.address);
}

static int jit_name_frame(struct render_job *job, struct frame *frame)
{
    const struct code_name *code = code_names_find(job->jit, frame->key.address);

    frame->tried = job->jit_lines;
    if (!code)
        return 0;
    frame_clear_name(frame);
    frame->known = true;
    job->progress.news = true;
    return frame_set_lines(frame, &(struct symbol_frame){.name = code->name, .filename = code->filename, .line = code->line}, 1);
}

static int jit_name_frames(struct render_job *job, struct frame **frames, size_t n)
{
    AUTO_FREE uint64_t *addresses = calloc(n, sizeof(*addresses));
    size_t distinct = 0;

    if (!addresses)
        return -ENOMEM;
    qsort(frames, n, sizeof(*frames), jit_compare);
    for (size_t i = 0; i < n; i++)
        if (i == 0 || frames[i]->key.address != frames[i - 1]->key.address)
            addresses[distinct++] = frames[i]->key.address;
    int r = jit_read(job, addresses, distinct);
    for (size_t i = 0; r == 0 && i < n; i++)
        r = jit_name_frame(job, frames[i]);
    return r;
}

int frames_resolve_jit(struct render_job *job)
{
    uint32_t epoch = jit_image_epoch(job);
    struct frame_table *t = job->frames;
    struct frame *frame, *next;
    size_t n = 0;

    if (job->message->u.job.no_symbols)
        return 0;
    AUTO_FREE struct frame **frames = calloc(HASH_COUNT(t->by_key) + 1, sizeof(struct frame *));
    if (!frames)
        return -ENOMEM;
    if (job->raw->params.symbolize != RAW_SYMBOLIZE_NONE)
        jit_mark_in_files(job);
    HASH_ITER(hh, t->by_key, frame, next)
        if (frame->made && job->raw->mappings[frame->mapping].last_epoch >= epoch)
            frames[n++] = frame;
    if (n == 0)
        return 0;
    int r = render_draft(job, DRAFT_BEFORE_DEBUG);
    return r < 0 ? r : jit_name_frames(job, frames, n);
}

size_t frames_count_untold(const struct render_job *job)
{
    struct frame *frame, *next;
    size_t n = 0;

    if (job->jit || job->message->u.job.no_symbols)
        return 0;
    HASH_ITER(hh, job->frames->by_key, frame, next)
        n += frame->made;
    return n;
}
