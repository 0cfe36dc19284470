/* Execution traces: the events of a session, with the stacks that the renderer has named, handed to an encoder. Owns the events, and what
 * makes samples of their stacks: each stack is one sample, however many events have it.
 *
 * What is not recorded, or not in an order that can have happened, is made up or left out, and counted. A trace that needs much of that is
 * not shown: where something is amiss, nobody could tell by looking. */
#include "daemon/render_frame.h"

#include <errno.h>
#include <inttypes.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/render_labels.h"
#include "pprof/exec_trace.h"
#include "pprof/strings.h"
#include "pprof/vec.h"
#include "util/cleanup.h"

/* Of so many events, one may be lost or made up; and one in any case, at the window's edge. */
#define TRACE_EVENTS_A_REPAIR 1000
/* System calls by number; names of higher ones are not shown. */
#define TRACE_CALLS 1024

/* What tells one sample from another. Hashed whole: zeroed before use. */
struct trace_stack_id {
    uint64_t hash[2];
    uint32_t epoch;
    uint32_t pad;
};

struct trace_stack {
    struct trace_stack_id id;
    struct sample_key key;
    struct sample_value value;
    uint32_t number; /* of struct exec_event */
    UT_hash_handle hh;
};

struct trace_name {
    uint32_t tid;
    char name[CPROFD_COMM_LEN + 1];
    UT_hash_handle hh;
};

struct render_trace {
    VEC(struct exec_event) events;
    struct trace_stack *stacks; /* by id; their numbers are those of job->samples, from 1 on */
    struct trace_name *names;
};

void render_trace_deinit(struct render_job *job)
{
    struct render_trace *t = job->trace;
    struct trace_stack *stack, *next_stack;
    struct trace_name *name, *next_name;

    if (!t)
        return;
    HASH_ITER(hh, t->stacks, stack, next_stack) {
        HASH_DEL(t->stacks, stack);
        free(stack);
    }
    HASH_ITER(hh, t->names, name, next_name) {
        HASH_DEL(t->names, name);
        free(name);
    }
    vec_free(&t->events);
    free(t);
    job->trace = NULL;
}

/* ---- events */

/* The number of a stack, one more event of which there is. 0 or -ENOMEM. */
static int trace_count_stack(struct render_job *job, const struct stack_record *record, uint32_t epoch, uint32_t *ret_number)
{
    struct trace_stack_id id = {.hash = {record->stack_hash[0], record->stack_hash[1]}, .epoch = epoch};
    struct trace_stack *stack;

    HASH_FIND(hh, job->trace->stacks, &id, sizeof(id), stack);
    if (!stack) {
        stack = calloc(1, sizeof(*stack));
        if (!stack)
            return -ENOMEM;
        stack->id = id;
        stack->key = (struct sample_key){.stack_hash = {id.hash[0], id.hash[1]}, .epoch = id.epoch};
        HASH_ADD(hh, job->trace->stacks, id, sizeof(id), stack);
        if (!stack->hh.tbl) {
            free(stack);
            return -ENOMEM;
        }
        int r = render_add_stack(job, &stack->key, &stack->value, record);
        if (r < 0)
            return r;
        stack->number = (uint32_t)job->n_samples;
    }
    stack->value.samples++;
    stack->value.weight++;
    *ret_number = stack->number;
    return 0;
}

static int trace_take_name(struct render_trace *t, uint32_t tid, const char comm[CPROFD_COMM_LEN])
{
    struct trace_name *name;

    HASH_FIND(hh, t->names, &tid, sizeof(tid), name);
    if (!name) {
        name = calloc(1, sizeof(*name));
        if (!name)
            return -ENOMEM;
        name->tid = tid;
        HASH_ADD(hh, t->names, tid, sizeof(name->tid), name);
        if (!name->hh.tbl) {
            free(name);
            return -ENOMEM;
        }
    }
    memcpy(name->name, comm, CPROFD_COMM_LEN);
    return 0;
}

static uint8_t trace_state(uint8_t state)
{
    static const uint8_t states[SAMPLE_STATE_COUNT] = {
        [SAMPLE_STATE_NONE] = EXEC_ABSENT, [SAMPLE_STATE_CPU] = EXEC_RUNNING,  [SAMPLE_STATE_RUNQ] = EXEC_RUNNABLE,
        [SAMPLE_STATE_LOCK] = EXEC_LOCK,   [SAMPLE_STATE_IO] = EXEC_IO,        [SAMPLE_STATE_SLEEP] = EXEC_SLEEP,
        [SAMPLE_STATE_OTHER] = EXEC_OTHER,
    };
    return state < SAMPLE_STATE_COUNT ? states[state] : EXEC_OTHER;
}

/* An event of a thread of that name, with a stack (NULL: there is none) as of an epoch. */
static int trace_add(struct render_job *job, struct exec_event event, const char comm[CPROFD_COMM_LEN], const struct stack_record *stack,
                     uint32_t epoch)
{
    if (!job->trace)
        job->trace = calloc(1, sizeof(*job->trace));
    if (!job->trace || vec_reserve(&job->trace->events, 1) < 0)
        return -ENOMEM;
    event.stack = EXEC_NO_STACK;
    int r = stack ? trace_count_stack(job, stack, epoch, &event.stack) : 0;
    if (r == 0)
        r = trace_take_name(job->trace, event.tid, comm);
    if (r == 0)
        vec_push(&job->trace->events, event);
    return r;
}

/* No CPU is told: one that runs all the time has one to itself. */
int render_trace_add_thread(struct render_job *job, const struct sample_key *key, const struct sample_value *value,
                            const struct stack_record *stack)
{
    struct exec_event event = {.time_ns = value->weight, .tid = key->tid, .cpu = EXEC_ANY_CPU, .type = EXEC_STATUS,
                               .state = trace_state((uint8_t)key->state)};

    return event.state == EXEC_ABSENT ? 0 : trace_add(job, event, key->comm, stack, key->epoch);
}

int render_trace_add(struct render_job *job, const struct trace_record *event, const struct stack_record *stack)
{
    static const uint8_t types[TRACE_EVENT_COUNT] = {
        [TRACE_OUT] = EXEC_OUT, [TRACE_IN] = EXEC_IN, [TRACE_WAKING] = EXEC_WAKING, [TRACE_NEW] = EXEC_NEW,
    };
    struct exec_event e = {
        .time_ns = event->time_ns, .tid = event->tid, .actor = event->actor, .cpu = event->cpu,
        .call = event->syscall >= 0 && event->syscall < TRACE_CALLS ? (uint16_t)(event->syscall + 1) : EXEC_NO_CALL,
        .type = event->event < TRACE_EVENT_COUNT ? types[event->event] : 0,
    };

    if (event->event == TRACE_OUT) /* who leaves its CPU does not run */
        e.state = event->state == SAMPLE_STATE_CPU ? EXEC_RUNNABLE : trace_state(event->state);
    else if (event->state == TRACE_RECOVERED)
        facts_count(&job->facts, "recovered", 1);
    return trace_add(job, e, event->comm, stack, event->epoch);
}

/* ---- stacks */

/* What an encoder is given. */
struct trace_input {
    struct exec_trace trace;
    VEC(struct exec_frame) frames;
    VEC(uint32_t) refs;
    VEC(struct exec_stack) stacks;
    VEC(struct exec_label) labels;
    struct strings texts; /* of labels */
    VEC(struct exec_name) names;
    VEC(struct exec_note) notes;
    char *keys; /* of notes */
};

static void trace_input_deinit(struct trace_input *in)
{
    vec_free(&in->frames);
    vec_free(&in->refs);
    vec_free(&in->stacks);
    vec_free(&in->labels);
    strings_deinit(&in->texts);
    vec_free(&in->names);
    vec_free(&in->notes);
    free(in->keys);
}

/* Of libc or the loader: code without a name there is taken for what starts threads, at a stack's root. */
static bool trace_is_runtime(const struct render_job *job, const struct frame *frame)
{
    static const char *const files[] = {"libc.so", "libc-", "libpthread", "ld-linux", "ld-musl"};
    const char *file = path_basename(frame_object_name(job, frame));

    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
        if (strncmp(file, files[i], strlen(files[i])) == 0)
            return true;
    return false;
}

static bool trace_starts_threads(const struct render_job *job, const struct frame *frame)
{
    return frame_is_known(frame) ? render_is_start(frame_symbol(frame)) : trace_is_runtime(job, frame);
}

/* A frame's functions, innermost first: made once, and found by its location, which counts from 1. */
static int trace_add_frame(struct render_job *job, struct trace_input *in, struct frame *frame)
{
    if (frame->location == 0) {
        if (vec_reserve(&in->frames, frame->n_lines) < 0)
            return -ENOMEM;
        frame->location = in->frames.n + 1;
        for (size_t i = 0; i < frame->n_lines; i++)
            vec_push(&in->frames, ((struct exec_frame){
                                      .function = frame->lines[i].name,
                                      .file = frame->lines[i].filename ? frame->lines[i].filename : frame_object_name(job, frame),
                                      .address = frame->key.kind == FRAME_END ? 0 : frame->key.address,
                                      .line = frame->lines[i].line > 0 ? (uint32_t)frame->lines[i].line : 0,
                                      .starts_threads = trace_starts_threads(job, frame),
                                  }));
    }
    if (vec_reserve(&in->refs, frame->n_lines) < 0)
        return -ENOMEM;
    for (size_t i = 0; i < frame->n_lines; i++)
        vec_push(&in->refs, (uint32_t)(frame->location - 1 + i));
    return 0;
}

static int trace_add_labels(struct render_job *job, struct trace_input *in, const struct render_sample *sample)
{
    struct render_labels own;

    render_labels_read(job, sample->stack, &own);
    render_labels_count(job, sample->stack, sample->value->samples);
    if (vec_reserve(&in->labels, own.n) < 0)
        return -ENOMEM;
    for (size_t i = 0; i < own.n; i++) {
        uint32_t key, value;
        if (strings_intern(&in->texts, own.list[i].key, &key) < 0 || strings_intern(&in->texts, own.list[i].str, &value) < 0)
            return -ENOMEM;
        vec_push(&in->labels, ((struct exec_label){strings_get(&in->texts, key), strings_get(&in->texts, value)}));
    }
    return (int)own.n;
}

static int trace_add_stack(struct render_job *job, struct trace_input *in, const struct render_sample *sample)
{
    struct exec_stack stack = {.first = (uint32_t)in->refs.n, .first_label = (uint32_t)in->labels.n, .rooted = sample->end == STACK_END_ROOT};
    bool unmapped = false;

    for (size_t i = 0; i < render_frame_count(sample); i++) {
        struct frame *frame = render_frame_at(job, sample, i);
        if (!frame || trace_add_frame(job, in, frame) < 0)
            return -ENOMEM;
        unmapped = unmapped || frame_is_unmapped(frame);
    }
    render_judge(job, sample, unmapped);
    stack.n = (uint32_t)(in->refs.n - stack.first);
    int n_labels = trace_add_labels(job, in, sample);
    if (n_labels < 0)
        return n_labels;
    stack.n_labels = (uint32_t)n_labels;
    if (vec_reserve(&in->stacks, 1) < 0)
        return -ENOMEM;
    vec_push(&in->stacks, stack);
    return 0;
}

static int trace_add_names(struct trace_input *in, const struct render_trace *t)
{
    for (const struct trace_name *name = t ? t->names : NULL; name; name = name->hh.next) {
        if (vec_reserve(&in->names, 1) < 0)
            return -ENOMEM;
        vec_push(&in->names, ((struct exec_name){name->tid, name->name}));
    }
    return 0;
}

/* "cprofd.KEY" in front of each value. */
static int trace_add_notes(struct trace_input *in, const struct facts *f)
{
    static const char prefix[] = "cprofd.";
    size_t room = 1;

    if (f->failed)
        return -ENOMEM;
    for (size_t i = 0; i < f->n; i++)
        room += sizeof(prefix) + strlen(f->items[i].key);
    char *at = in->keys = malloc(room);
    if (!at || vec_reserve(&in->notes, f->n) < 0)
        return -ENOMEM;
    for (size_t i = 0; i < f->n; i++) {
        vec_push(&in->notes, ((struct exec_note){at, f->items[i].value}));
        at += sprintf(at, "%s%s", prefix, f->items[i].key) + 1;
    }
    return 0;
}

/* ---- the whole */

/* Names of system calls are made once, and kept: there are few. */
static const char *trace_call_name(uint32_t number)
{
    static char *names[TRACE_CALLS];

    if (number >= TRACE_CALLS)
        return NULL;
    if (!names[number])
        names[number] = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, (int)number);
    return names[number];
}

static const char *trace_process_name(const struct trace_input *in, uint32_t pid)
{
    for (size_t i = 0; i < in->names.n; i++)
        if (in->names.items[i].tid == pid)
            return in->names.items[i].name;
    return "[process]";
}

static void trace_point(struct trace_input *in, const struct render_job *job)
{
    const struct raw_params *params = &job->raw->params;

    in->trace = (struct exec_trace){
        .events = job->trace ? job->trace->events.items : NULL, .n_events = job->trace ? job->trace->events.n : 0,
        .frames = in->frames.items, .n_frames = in->frames.n, .refs = in->refs.items, .n_refs = in->refs.n,
        .stacks = in->stacks.items, .n_stacks = in->stacks.n,
        .labels = in->labels.items, .n_labels = in->labels.n, .names = in->names.items, .n_names = in->names.n,
        .start_ns = params->end_monotonic_ns - (uint64_t)params->duration_ns, .end_ns = params->end_monotonic_ns,
        .pid = params->pid, .process = trace_process_name(in, params->pid), .call_name = trace_call_name,
    };
}

/* Whether the trace tells what happened; else the message says why not. */
static int trace_check(struct render_job *job, const struct exec_counts *c)
{
    uint64_t lost = facts_sum(&job->facts, "lost."), repaired = c->invented + c->dropped;
    char *message = job->result->message;
    size_t room = sizeof(job->result->message);

    if (lost + repaired <= c->events / TRACE_EVENTS_A_REPAIR + 1)
        return 0;
    (void)snprintf(message, room, "the trace would not tell what happened: of %" PRIu64 " events %" PRIu64 " were lost, and %" PRIu64
                   " had to be made up and %" PRIu64 " left out to put the rest in order, above 1 in %d; try again, or take fewer seconds",
                   c->events, lost, c->invented, c->dropped, TRACE_EVENTS_A_REPAIR);
    return -EBADE;
}

static int trace_encode(struct render_job *job, struct trace_input *in, uint8_t **ret_data, size_t *ret_len)
{
    int (*const encoders[])(const struct exec_order *, uint8_t **, size_t *) = {exec_encode_go, exec_encode_perfetto, exec_encode_chrome};
    struct exec_order *order = NULL;

    int r = exec_order_build(&in->trace, &order);
    if (r < 0)
        return r;
    struct exec_counts c = exec_order_counts(order);
    facts_count(&job->facts, "events", c.events);
    facts_count(&job->facts, "invented", c.invented);
    facts_count(&job->facts, "dropped", c.dropped);
    facts_count(&job->facts, "moved", c.moved);
    job->result->body.samples = c.events;
    job->result->body.repaired = c.invented + c.dropped;
    r = trace_check(job, &c);
    if (r == 0)
        r = trace_add_notes(in, &job->facts);
    in->trace.notes = in->notes.items;
    in->trace.n_notes = in->notes.n;
    if (r == 0)
        r = encoders[job->raw->params.format - RAW_FORMAT_TRACE_GO](order, ret_data, ret_len);
    exec_order_free(order);
    return r;
}

int render_encode_trace(struct render_job *job, uint8_t **ret_data, size_t *ret_len)
{
    CLEANUP(trace_input_deinit) struct trace_input in = {0};

    int r = strings_init(&in.texts, job->raw->params.end_monotonic_ns);
    render_prove_roots(job);
    render_hide_tracing(job);
    for (size_t i = 0; i < job->n_samples && r == 0; i++)
        r = trace_add_stack(job, &in, &job->samples[i]);
    if (r == 0)
        r = trace_add_names(&in, job->trace);
    if (r < 0)
        return r;
    render_add_facts(job);
    trace_point(&in, job);
    return trace_encode(job, &in, ret_data, ret_len);
}
