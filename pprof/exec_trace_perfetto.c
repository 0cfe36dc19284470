/* Perfetto's TracePacket protobuf: states by GenericKernelTaskStateEvent, from which it derives what CPUs ran; beside them a slice for
 * each wait, with its reason and stack, and arrows from who ended it; CPU samples as PerfSample. The messages are written by hand: a
 * packet holds a few numbers, and there are millions.
 *
 * Fields: protos/perfetto/trace/trace_packet.proto, generic_kernel/generic_task.proto, track_event/track_event.proto,
 * track_event/track_descriptor.proto, interned_data/interned_data.proto, profiling/profile_common.proto, profiling/profile_packet.proto. */
#include <string.h>

#include "pprof/exec_trace_impl.h"
#include "pprof/strings.h"
#include "pprof/utf8.h"
#include "util/cleanup.h"

enum {
    PACKET = 1, /* of Trace */
    PACKET_TIMESTAMP = 8,
    PACKET_SEQUENCE_ID = 10,
    PACKET_TRACK_EVENT = 11,
    PACKET_INTERNED_DATA = 12,
    PACKET_SEQUENCE_FLAGS = 13,
    PACKET_TRACK_DESCRIPTOR = 60,
    PACKET_PERF_SAMPLE = 66,
    PACKET_TASK_STATE = 117,
    PACKET_PROCESS_TREE = 122,
};
enum { SEQUENCE_CLEARED = 1, SEQUENCE_NEEDED = 2 };
enum { TASK_CPU = 1, TASK_COMM, TASK_TID, TASK_STATE };
enum { TASK_CREATED = 1, TASK_RUNNABLE, TASK_RUNNING, TASK_SLEEPS, TASK_WAITS_FOR_DEVICE, TASK_DEAD = 7, TASK_DESTROYED };
enum { TREE_PROCESS = 1, TREE_THREAD };
enum { TREE_PROCESS_PID = 1, TREE_PROCESS_CMDLINE = 3 };
enum { TREE_THREAD_TID = 1, TREE_THREAD_PID, TREE_THREAD_COMM, TREE_THREAD_MAIN };
enum { TRACK_UUID = 1, TRACK_NAME, TRACK_PROCESS, TRACK_THREAD };
enum { TRACK_PROCESS_PID = 1, TRACK_THREAD_PID = 1, TRACK_THREAD_TID, TRACK_PROCESS_NAME = 6, TRACK_THREAD_NAME = 5 };
enum { EVENT_ANNOTATION = 4, EVENT_TYPE = 9, EVENT_NAME_IID = 10, EVENT_TRACK = 11, EVENT_NAME = 23, EVENT_FLOW = 47,
       EVENT_FLOW_END = 48, EVENT_CALLSTACK_IID = 56 };
enum { EVENT_BEGIN = 1, EVENT_END, EVENT_INSTANT };
enum { ANNOTATION_STRING = 6, ANNOTATION_NAME = 10 };
enum { INTERNED_EVENT_NAME = 2, INTERNED_FUNCTION = 5, INTERNED_FRAME, INTERNED_CALLSTACK, INTERNED_PATH = 17, INTERNED_SOURCE,
       INTERNED_MAPPING };
enum { ENTRY_IID = 1, ENTRY_TEXT };
enum { FRAME_FUNCTION = 2, FRAME_MAPPING, FRAME_PC, FRAME_SOURCE, FRAME_LINE };
enum { CALLSTACK_FRAME = 2, MAPPING_PATH = 7 };
enum { SAMPLE_CPU = 1, SAMPLE_PID, SAMPLE_TID, SAMPLE_CALLSTACK };

#define PERFETTO_SEQUENCE 1
#define PERFETTO_MAPPING 1
#define PERFETTO_PROCESS_TRACK 1

struct perfetto_writer {
    const struct exec_order *order;
    struct exec_bytes out, packet, message, inner;
    struct strings strings; /* of names of events; interned once written */
    size_t n_names;         /* of these, those that are written */
    uint32_t left_out_frame;
    bool *frame_known, *stack_known;
    uint32_t flows;
    uint64_t state_ns;      /* of the newest state */
    bool failed;
};

static void perfetto_writer_deinit(struct perfetto_writer *w)
{
    bytes_deinit(&w->out);
    bytes_deinit(&w->packet);
    bytes_deinit(&w->message);
    bytes_deinit(&w->inner);
    strings_deinit(&w->strings);
    free(w->frame_known);
    free(w->stack_known);
}

/* ---- protobuf */

static void put_number(struct exec_bytes *b, uint32_t field, uint64_t value)
{
    bytes_put_uvarint(b, field << 3);
    bytes_put_uvarint(b, value);
}

static void put_fixed(struct exec_bytes *b, uint32_t field, uint64_t value)
{
    uint8_t bytes[8];
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)(value >> 8 * i);
    bytes_put_uvarint(b, field << 3 | 1);
    bytes_put(b, bytes, sizeof(bytes));
}

static void put_bytes(struct exec_bytes *b, uint32_t field, const void *data, size_t len)
{
    bytes_put_uvarint(b, field << 3 | 2);
    bytes_put_uvarint(b, len);
    bytes_put(b, data, len);
}

/* Text of any bytes, as UTF-8. */
static void put_text(struct perfetto_writer *w, struct exec_bytes *b, uint32_t field, const char *text)
{
    size_t len = strlen(text);
    AUTO_FREE char *clean = malloc(UTF8_SANITIZED_BYTES(len) + 1);
    w->failed |= !clean;
    put_bytes(b, field, clean, clean ? utf8_sanitize(text, len, clean) : 0);
}

/* Moves a message into the one around it. */
static void put_message(struct perfetto_writer *w, struct exec_bytes *around, uint32_t field, struct exec_bytes *message)
{
    put_bytes(around, field, message->items, message->n);
    w->failed |= message->failed;
    message->n = 0;
}

/* A packet of the one message that is pending. */
static void put_packet(struct perfetto_writer *w, uint64_t time_ns, uint32_t field, uint32_t flags)
{
    put_number(&w->packet, PACKET_TIMESTAMP, time_ns);
    put_number(&w->packet, PACKET_SEQUENCE_ID, PERFETTO_SEQUENCE);
    put_number(&w->packet, PACKET_SEQUENCE_FLAGS, flags);
    put_message(w, &w->packet, field, &w->message);
    put_message(w, &w->out, PACKET, &w->packet);
}

/* ---- what events refer to by number */

/* Ids count from 1 in each kind. */
static void intern_text(struct perfetto_writer *w, uint32_t kind, uint64_t iid, const char *text)
{
    put_number(&w->inner, ENTRY_IID, iid);
    put_text(w, &w->inner, ENTRY_TEXT, text);
    put_message(w, &w->message, kind, &w->inner);
}

static void intern_packet(struct perfetto_writer *w)
{
    put_packet(w, w->order->trace->start_ns, PACKET_INTERNED_DATA, SEQUENCE_NEEDED);
}

static uint64_t event_name(struct perfetto_writer *w, const char *name)
{
    uint32_t id = 0;
    if (strings_intern(&w->strings, name, &id) < 0)
        w->failed = true;
    for (; w->n_names <= id && !w->failed; w->n_names++) {
        intern_text(w, INTERNED_EVENT_NAME, w->n_names + 1, strings_get(&w->strings, (uint32_t)w->n_names));
        intern_packet(w);
    }
    return id + 1;
}

static void intern_frame(struct perfetto_writer *w, uint32_t frame, const char *function, const char *file, uint64_t line, uint64_t pc)
{
    if (w->frame_known[frame])
        return;
    w->frame_known[frame] = true;
    intern_text(w, INTERNED_FUNCTION, frame + 1, function);
    if (*file)
        intern_text(w, INTERNED_SOURCE, frame + 1, file);
    put_number(&w->inner, ENTRY_IID, frame + 1);
    put_number(&w->inner, FRAME_FUNCTION, frame + 1);
    put_number(&w->inner, FRAME_MAPPING, PERFETTO_MAPPING);
    put_number(&w->inner, FRAME_PC, pc);
    if (*file)
        put_number(&w->inner, FRAME_SOURCE, frame + 1);
    if (line > 0)
        put_number(&w->inner, FRAME_LINE, line);
    put_message(w, &w->message, INTERNED_FRAME, &w->inner);
    intern_packet(w);
}

static void intern_frames(struct perfetto_writer *w, const uint32_t *refs, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct exec_frame *f = &w->order->trace->frames[refs[i]];
        intern_frame(w, refs[i], f->function, f->file, f->line, f->address);
    }
}

/* The id of a stack, 0: it has none. Callstacks are root first. */
static uint64_t callstack(struct perfetto_writer *w, uint32_t stack)
{
    struct exec_shown shown = exec_stack_shown(w->order->trace, stack);
    if (shown.n_head == 0 || w->stack_known[stack])
        return shown.n_head == 0 ? 0 : stack;
    w->stack_known[stack] = true;
    intern_frames(w, shown.head, shown.n_head);
    intern_frames(w, shown.tail, shown.n_tail);
    if (shown.n_left_out > 0)
        intern_frame(w, w->left_out_frame, "[frames left out]", "", 0, 0);
    put_number(&w->inner, ENTRY_IID, stack);
    for (size_t i = shown.n_tail; i-- > 0;)
        put_number(&w->inner, CALLSTACK_FRAME, shown.tail[i] + 1);
    if (shown.n_left_out > 0)
        put_number(&w->inner, CALLSTACK_FRAME, w->left_out_frame + 1);
    for (size_t i = shown.n_head; i-- > 0;)
        put_number(&w->inner, CALLSTACK_FRAME, shown.head[i] + 1);
    put_message(w, &w->message, INTERNED_CALLSTACK, &w->inner);
    intern_packet(w);
    return stack;
}

/* ---- threads */

static uint64_t track_of(const struct perfetto_writer *w, uint32_t thread)
{
    return PERFETTO_PROCESS_TRACK + 1 + w->order->threads.items[thread].first;
}

static const char *name_of(const struct perfetto_writer *w, uint32_t thread)
{
    const char *name = w->order->threads.items[thread].name;
    return name ? name : "[thread]";
}

static void describe_process(struct perfetto_writer *w)
{
    const struct exec_trace *t = w->order->trace;
    put_number(&w->message, TRACK_UUID, PERFETTO_PROCESS_TRACK);
    put_number(&w->inner, TRACK_PROCESS_PID, t->pid);
    put_text(w, &w->inner, TRACK_PROCESS_NAME, t->process);
    put_message(w, &w->message, TRACK_PROCESS, &w->inner);
    put_packet(w, t->start_ns, PACKET_TRACK_DESCRIPTOR, SEQUENCE_CLEARED);
    put_number(&w->inner, TREE_PROCESS_PID, t->pid);
    put_text(w, &w->inner, TREE_PROCESS_CMDLINE, t->process);
    put_message(w, &w->message, TREE_PROCESS, &w->inner);
    put_packet(w, t->start_ns, PACKET_PROCESS_TREE, SEQUENCE_NEEDED);
    intern_text(w, INTERNED_PATH, PERFETTO_MAPPING, t->process);
    put_number(&w->inner, ENTRY_IID, PERFETTO_MAPPING);
    put_number(&w->inner, MAPPING_PATH, PERFETTO_MAPPING);
    put_message(w, &w->message, INTERNED_MAPPING, &w->inner);
    intern_packet(w);
}

/* What was there at the window's start, or has just been created: before that its reader would know of it twice. */
static void describe_thread(struct perfetto_writer *w, uint32_t thread, uint64_t time_ns)
{
    const struct exec_thread *t = &w->order->threads.items[thread];
    uint32_t pid = w->order->trace->pid;
    put_number(&w->message, TRACK_UUID, track_of(w, thread));
    put_number(&w->inner, TRACK_THREAD_PID, pid);
    put_number(&w->inner, TRACK_THREAD_TID, t->tid);
    put_text(w, &w->inner, TRACK_THREAD_NAME, name_of(w, thread));
    put_message(w, &w->message, TRACK_THREAD, &w->inner);
    put_packet(w, time_ns, PACKET_TRACK_DESCRIPTOR, SEQUENCE_NEEDED);
    put_number(&w->inner, TREE_THREAD_TID, t->tid);
    put_number(&w->inner, TREE_THREAD_PID, pid);
    put_text(w, &w->inner, TREE_THREAD_COMM, name_of(w, thread));
    put_number(&w->inner, TREE_THREAD_MAIN, t->tid == pid);
    put_message(w, &w->message, TREE_THREAD, &w->inner);
    put_packet(w, time_ns, PACKET_PROCESS_TREE, SEQUENCE_NEEDED);
}

/* ---- events */

/* Its reader takes two states of a thread at the same time for an error, and sorts what it reads: so each is later than all before it. */
static void task_state(struct perfetto_writer *w, uint32_t thread, uint64_t time_ns, uint16_t cpu, uint32_t state)
{
    w->state_ns = time_ns > w->state_ns ? time_ns : w->state_ns + 1;
    put_number(&w->message, TASK_CPU, cpu);
    put_text(w, &w->message, TASK_COMM, name_of(w, thread));
    put_number(&w->message, TASK_TID, w->order->threads.items[thread].tid);
    put_number(&w->message, TASK_STATE, state);
    put_packet(w, w->state_ns, PACKET_TASK_STATE, SEQUENCE_NEEDED);
}

static uint32_t task_word(uint8_t state)
{
    return state == EXEC_RUNNING ? TASK_RUNNING : state == EXEC_RUNNABLE ? TASK_RUNNABLE : state == EXEC_IO ? TASK_WAITS_FOR_DEVICE
         : TASK_SLEEPS;
}

static void put_annotation(struct perfetto_writer *w, const char *name, const char *text)
{
    put_text(w, &w->inner, ANNOTATION_NAME, name);
    put_text(w, &w->inner, ANNOTATION_STRING, text);
    put_message(w, &w->message, EVENT_ANNOTATION, &w->inner);
}

static void put_labels(struct perfetto_writer *w, uint32_t stack)
{
    const struct exec_trace *t = w->order->trace;
    const struct exec_stack *s = stack != EXEC_NO_STACK ? &t->stacks[stack - 1] : NULL;
    for (uint32_t i = 0; s && i < s->n_labels; i++)
        put_annotation(w, t->labels[s->first_label + i].key, t->labels[s->first_label + i].value);
}

static void begin_wait(struct perfetto_writer *w, uint32_t thread, uint64_t time_ns, uint8_t state, uint16_t call, uint32_t stack)
{
    char words[EXEC_WORDS_BYTES];
    exec_state_words(w->order->trace, state, call, words);
    uint64_t name = event_name(w, words), iid = callstack(w, stack);
    put_number(&w->message, EVENT_TYPE, EVENT_BEGIN);
    put_number(&w->message, EVENT_TRACK, track_of(w, thread));
    put_number(&w->message, EVENT_NAME_IID, name);
    if (iid != 0)
        put_number(&w->message, EVENT_CALLSTACK_IID, iid);
    put_labels(w, stack);
    put_packet(w, time_ns, PACKET_TRACK_EVENT, SEQUENCE_NEEDED);
}

/* The arrow begins where the thread that ends the wait does so. */
static void end_wait(struct perfetto_writer *w, const struct exec_step *s)
{
    if (s->actor != EXEC_NONE) {
        uint64_t name = event_name(w, "wakes"), iid = callstack(w, s->stack);
        put_number(&w->message, EVENT_TYPE, EVENT_INSTANT);
        put_number(&w->message, EVENT_TRACK, track_of(w, s->actor));
        put_number(&w->message, EVENT_NAME_IID, name);
        put_fixed(&w->message, EVENT_FLOW, ++w->flows);
        if (iid != 0)
            put_number(&w->message, EVENT_CALLSTACK_IID, iid);
        put_labels(w, s->stack);
        put_packet(w, s->time_ns, PACKET_TRACK_EVENT, SEQUENCE_NEEDED);
    }
    put_number(&w->message, EVENT_TYPE, EVENT_END);
    put_number(&w->message, EVENT_TRACK, track_of(w, s->thread));
    if (s->actor != EXEC_NONE)
        put_fixed(&w->message, EVENT_FLOW_END, w->flows);
    put_packet(w, s->time_ns, PACKET_TRACK_EVENT, SEQUENCE_NEEDED);
}

static void put_sample(struct perfetto_writer *w, const struct exec_step *s)
{
    uint64_t iid = callstack(w, s->stack);
    put_number(&w->message, SAMPLE_CPU, s->cpu);
    put_number(&w->message, SAMPLE_PID, w->order->trace->pid);
    put_number(&w->message, SAMPLE_TID, w->order->threads.items[s->thread].tid);
    if (iid != 0)
        put_number(&w->message, SAMPLE_CALLSTACK, iid);
    put_packet(w, s->time_ns, PACKET_PERF_SAMPLE, SEQUENCE_NEEDED);
}

static void put_end(struct perfetto_writer *w, const struct exec_step *s)
{
    task_state(w, s->thread, s->time_ns, s->cpu, TASK_DEAD);
    task_state(w, s->thread, s->time_ns, s->cpu, TASK_DESTROYED);
}

static void put_out(struct perfetto_writer *w, const struct exec_step *s)
{
    if (s->state == EXEC_ABSENT)
        put_end(w, s);
    else
        task_state(w, s->thread, s->time_ns, s->cpu, task_word(s->state));
    if (exec_state_waits(s->state))
        begin_wait(w, s->thread, s->time_ns, s->state, s->call, s->stack);
}

static void put_step(struct perfetto_writer *w, const struct exec_step *s)
{
    switch (s->type) {
    case STEP_NEW:
        task_state(w, s->thread, s->time_ns, s->cpu, TASK_CREATED);
        describe_thread(w, s->thread, w->state_ns);
        task_state(w, s->thread, s->time_ns, s->cpu, TASK_RUNNABLE);
        break;
    case STEP_UNBLOCK:
        end_wait(w, s);
        task_state(w, s->thread, s->time_ns, s->cpu, TASK_RUNNABLE);
        break;
    case STEP_IN:
        task_state(w, s->thread, s->time_ns, s->cpu, TASK_RUNNING);
        break;
    case STEP_OUT:
        put_out(w, s);
        break;
    case STEP_GONE:
        if (exec_state_waits(s->state))
            end_wait(w, s);
        put_end(w, s);
        break;
    case STEP_SAMPLE:
        put_sample(w, s);
        break;
    default:
        break;
    }
}

/* ---- the whole */

/* What the trace says of itself, at its start, and where the window ends. */
static void put_mark(struct perfetto_writer *w, uint64_t time_ns, const char *name, size_t n_notes)
{
    put_number(&w->message, EVENT_TYPE, EVENT_INSTANT);
    put_number(&w->message, EVENT_TRACK, PERFETTO_PROCESS_TRACK);
    put_text(w, &w->message, EVENT_NAME, name);
    for (size_t i = 0; i < n_notes; i++) {
        put_annotation(w, w->order->trace->notes[i].key, w->order->trace->notes[i].value);
    }
    put_packet(w, time_ns, PACKET_TRACK_EVENT, SEQUENCE_NEEDED);
}

static void put_beginning(struct perfetto_writer *w)
{
    uint64_t start = w->order->trace->start_ns;
    describe_process(w);
    put_mark(w, start, "cprofd", w->order->trace->n_notes);
    for (uint32_t i = 0; i < w->order->threads.n; i++) {
        const struct exec_thread *t = &w->order->threads.items[i];
        if (t->state == EXEC_ABSENT)
            continue;
        describe_thread(w, i, start);
        task_state(w, i, start, t->cpu, task_word(t->state));
        if (exec_state_waits(t->state))
            begin_wait(w, i, start, t->state, EXEC_NO_CALL, t->stack);
    }
}

int exec_encode_perfetto(const struct exec_order *order, uint8_t **ret_data, size_t *ret_len)
{
    const struct exec_trace *t = order->trace;
    CLEANUP(perfetto_writer_deinit) struct perfetto_writer w = {.order = order, .left_out_frame = (uint32_t)t->n_frames};
    w.frame_known = calloc(t->n_frames + 1, sizeof(*w.frame_known));
    w.stack_known = calloc(t->n_stacks + 1, sizeof(*w.stack_known));
    int r = w.frame_known && w.stack_known ? strings_init(&w.strings, t->start_ns) : -ENOMEM;
    if (r < 0)
        return r;
    put_beginning(&w);
    for (size_t i = 0; i < order->steps.n; i++)
        put_step(&w, &order->steps.items[i]);
    put_mark(&w, t->end_ns, "end of the window", 0);
    return w.failed ? -ENOMEM : bytes_finish(&w.out, ret_data, ret_len);
}
