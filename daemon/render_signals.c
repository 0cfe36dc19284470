/* Which wakings end a hold of a lock, and which tell another thread of something: the system call is the same. Who called it knows, so the
 * innermost function that has a telling name decides; where none has, the word that was waited for does (bpf/lock_waits.h). */
#include <string.h>

#include "daemon/render_frame.h"

/* How many frames, from the leaf on, may tell: the threads' library and the language's own. */
#define MAX_FRAMES 8

/* What a name has in it. The first that fits decides: an "unlock" in one function's name is worth more than what a caller is for. */
static const struct telling {
    const char *part;
    bool is_signal;
} telling[] = {
    {"pthread_cond_signal", true},    {"pthread_cond_broadcast", true}, {"cnd_signal", true},          {"cnd_broadcast", true},
    {"__private_cond_signal", true},  {"sem_post", true},               {"pthread_barrier", true},     {"pthread_once", true},
    {"notify_one", true},             {"notify_all", true},             {"_M_notify", true},           {"atomic_notify", true},
    {"counting_semaphore", true},     {"std::latch", true},             {"std::barrier", true},        {"Thread::unpark", true},
    {"Parker::unpark", true},         {"Once::call", true},             {"gomp_barrier", true},        {"gomp_team_barrier", true},
    {"gomp_sem_post", true},          {"__condvar_", true},             {"nlock", false}, /* unlock, Unlock, rwlock */
    {"lock_wake", false},             {"RwLock", false},                {"Mutex", false},              {"__cxa_guard", false},
};

static const struct telling *telling_of(const char *name)
{
    for (size_t i = 0; name && i < sizeof(telling) / sizeof(telling[0]); i++)
        if (strstr(name, telling[i].part))
            return &telling[i];
    return NULL;
}

static const struct telling *telling_of_frame(const struct frame *frame)
{
    const struct telling *found = NULL;

    for (size_t i = 0; !found && i < frame->n_lines; i++) {
        found = telling_of(frame->lines[i].name);
        if (!found)
            found = telling_of(frame->lines[i].system_name);
    }
    return found;
}

bool render_is_signal(struct render_job *job, const struct render_sample *sample)
{
    size_t first = sample->stack->n_kernel;

    if (!job->raw->params.releases)
        return false;
    for (size_t i = first; i < first + sample->n_user && i < first + MAX_FRAMES; i++) {
        const struct frame *frame = render_own_frame(job, sample, i);
        const struct telling *found = frame ? telling_of_frame(frame) : NULL;
        if (found)
            return found->is_signal;
    }
    return sample->key->state != SAMPLE_STATE_LOCK;
}

/* ---- our own functions */

#define MAX_TRACING_FRAMES 8

/* Whether a program of ours took it at one of the kernel's tracepoints, not in an interrupt, which may be within such a program. */
static bool is_of_tracepoint(const struct render_job *job, const struct render_sample *sample)
{
    const struct raw_params *params = &job->raw->params;
    const char *type = params->types.type[0];

    if (raw_format_is_trace(params->format) || sample->key->state >= SAMPLE_STATE_RUNQ)
        return true;
    return strcmp(type, "contentions") == 0 || strcmp(type, "faults") == 0;
}

static bool is_tracing(const char *name)
{
    static const char *const prefixes[] = {"bpf_trace_run", "__bpf_trace_", "__traceiter_"};

    for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++)
        if (strncmp(name, prefixes[i], strlen(prefixes[i])) == 0)
            return true;
    return false;
}

/* How many of a stack's innermost frames are those by which the kernel called our program, and the program's. */
static size_t tracing_frames(struct render_job *job, const struct render_sample *sample)
{
    size_t n = 0;

    for (size_t i = 0; i < MAX_TRACING_FRAMES && i < sample->stack->n_kernel; i++) {
        const struct frame *frame = render_own_frame(job, sample, i);
        const char *name = frame ? frame_symbol(frame) : "";
        if (is_tracing(name))
            n = i + 1;
        else if (strncmp(name, "bpf_prog_", strlen("bpf_prog_")) != 0)
            break;
    }
    return n;
}

void render_hide_tracing(struct render_job *job)
{
    for (size_t i = 0; !job->raw->params.custom && i < job->n_samples; i++) {
        struct render_sample *sample = &job->samples[i];
        if (!sample->heap && !sample->started && is_of_tracepoint(job, sample))
            sample->hidden = tracing_frames(job, sample);
    }
}
