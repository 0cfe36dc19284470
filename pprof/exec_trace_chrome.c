/* Chromium's Trace Event Format: for each thread, a slice for each time that it runs, could run, or waits; the same by CPU, under a
 * process of their own; arrows from wakes to what they start; stacks where it stopped. Times are microseconds since the window's start. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "pprof/exec_trace_impl.h"
#include "pprof/hash.h"
#include "pprof/utf8.h"
#include "util/cleanup.h"

#define CHROME_CPUS_PID 0 /* no process has it */

/* What a thread does since when. */
struct chrome_thread {
    uint64_t since_ns;
    uint32_t stack; /* where it stopped */
    uint32_t wake;  /* the arrow that ends when it next runs; 0: none */
    uint16_t cpu, call;
    uint8_t state;
};

/* Stacks are kept as a tree, by callers. */
struct chrome_node {
    uint32_t parent; /* 1 + index; 0: none */
    uint32_t frame;
};

struct chrome_writer {
    const struct exec_order *order;
    struct exec_bytes out;
    struct chrome_thread *threads;
    VEC(struct chrome_node) nodes;
    struct table node_index;
    uint32_t *stack_nodes; /* by stack: 1 + its leaf's index; 0: not in the tree yet */
    uint32_t wakes;
    bool comma;
    bool failed;
};

static void chrome_writer_deinit(struct chrome_writer *w)
{
    bytes_deinit(&w->out);
    free(w->threads);
    vec_free(&w->nodes);
    table_deinit(&w->node_index);
    free(w->stack_nodes);
}

/* ---- JSON */

/* A string of any bytes, which need not be UTF-8. */
static void chrome_string(struct chrome_writer *w, const char *text)
{
    size_t len = strlen(text);
    AUTO_FREE char *clean = malloc(UTF8_SANITIZED_BYTES(len) + 1);
    w->failed |= !clean;
    len = clean ? utf8_sanitize(text, len, clean) : 0;
    bytes_put_byte(&w->out, '"');
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)clean[i];
        if (c < ' ' || c == '"' || c == '\\')
            bytes_printf(&w->out, "\\u%04x", c);
        else
            bytes_put_byte(&w->out, c);
    }
    bytes_put_byte(&w->out, '"');
}

/* Begins an event: its phase, process, thread and time. */
static void chrome_begin(struct chrome_writer *w, char phase, uint32_t pid, uint64_t tid, uint64_t time_ns)
{
    uint64_t at = time_ns - w->order->trace->start_ns;
    bytes_printf(&w->out, "%s\n{\"ph\":\"%c\",\"pid\":%" PRIu32 ",\"tid\":%" PRIu64 ",\"ts\":%" PRIu64 ".%03u", w->comma ? "," : "",
                 phase, pid, tid, at / 1000, (unsigned)(at % 1000));
    w->comma = true;
}

static void chrome_name(struct chrome_writer *w, const char *name)
{
    bytes_put_text(&w->out, ",\"name\":");
    chrome_string(w, name);
}

static void chrome_metadata(struct chrome_writer *w, const char *what, uint32_t pid, uint64_t tid, const char *name)
{
    chrome_begin(w, 'M', pid, tid, w->order->trace->start_ns);
    bytes_printf(&w->out, ",\"name\":\"%s\",\"args\":{\"name\":", what);
    chrome_string(w, name);
    bytes_put_text(&w->out, "}}");
}

/* ---- stacks */

static bool node_equal(const void *owner, uint32_t id, const void *key)
{
    const struct chrome_writer *w = owner;
    return memcmp(&w->nodes.items[id], key, sizeof(struct chrome_node)) == 0;
}

static uint32_t chrome_node(struct chrome_writer *w, uint32_t parent, uint32_t frame)
{
    struct chrome_node node = {.parent = parent, .frame = frame};
    uint64_t hash = hash_bytes(w->order->trace->start_ns, &node, sizeof(node));
    uint32_t id = table_find(&w->node_index, hash, node_equal, w, &node);
    if (id != TABLE_NONE)
        return id + 1;
    if (table_reserve(&w->node_index) < 0 || vec_reserve(&w->nodes, 1) < 0) {
        w->failed = true;
        return 0;
    }
    id = (uint32_t)w->nodes.n;
    vec_push(&w->nodes, node);
    table_insert(&w->node_index, hash, id);
    return id + 1;
}

static uint32_t chrome_stack(struct chrome_writer *w, uint32_t stack)
{
    struct exec_shown shown = exec_stack_shown(w->order->trace, stack);
    uint32_t node = w->stack_nodes[stack];
    if (node != 0)
        return node;
    for (size_t i = shown.n_tail; i-- > 0;)
        node = chrome_node(w, node, shown.tail[i]);
    if (shown.n_left_out > 0)
        node = chrome_node(w, node, EXEC_NONE);
    for (size_t i = shown.n_head; i-- > 0;)
        node = chrome_node(w, node, shown.head[i]);
    w->stack_nodes[stack] = node;
    return node;
}

static void chrome_stack_reference(struct chrome_writer *w, uint32_t stack)
{
    uint32_t node = chrome_stack(w, stack);
    if (node != 0)
        bytes_printf(&w->out, ",\"sf\":%" PRIu32, node);
}

static void chrome_frames(struct chrome_writer *w)
{
    bytes_put_text(&w->out, ",\n\"stackFrames\":{");
    for (size_t i = 0; i < w->nodes.n; i++) {
        const struct chrome_node *n = &w->nodes.items[i];
        bool left_out = n->frame == EXEC_NONE;
        bytes_printf(&w->out, "%s\n\"%zu\":{\"category\":", i > 0 ? "," : "", i + 1);
        chrome_string(w, left_out ? "" : w->order->trace->frames[n->frame].file);
        chrome_name(w, left_out ? "[frames left out]" : w->order->trace->frames[n->frame].function);
        if (n->parent != 0)
            bytes_printf(&w->out, ",\"parent\":\"%" PRIu32 "\"", n->parent);
        bytes_put_byte(&w->out, '}');
    }
    bytes_put_byte(&w->out, '}');
}

/* ---- events */

static const char *chrome_thread_name(const struct exec_thread *t) { return t->name ? t->name : "[thread]"; }

static void chrome_duration(struct chrome_writer *w, uint64_t since_ns, uint64_t until_ns)
{
    bytes_printf(&w->out, ",\"dur\":%" PRIu64 ".%03u", (until_ns - since_ns) / 1000, (unsigned)((until_ns - since_ns) % 1000));
}

/* Within the arguments. */
static void chrome_labels(struct chrome_writer *w, uint32_t stack)
{
    const struct exec_trace *t = w->order->trace;
    const struct exec_stack *s = stack != EXEC_NO_STACK ? &t->stacks[stack - 1] : NULL;
    for (uint32_t i = 0; s && i < s->n_labels; i++) {
        bytes_put_text(&w->out, i > 0 ? "," : ",\"labels\":{");
        chrome_string(w, t->labels[s->first_label + i].key);
        bytes_put_byte(&w->out, ':');
        chrome_string(w, t->labels[s->first_label + i].value);
    }
    if (s && s->n_labels > 0)
        bytes_put_byte(&w->out, '}');
}

/* Ends what a thread has been doing; made_up: when, nobody has recorded. */
static void chrome_slice(struct chrome_writer *w, uint32_t thread, uint64_t until_ns, bool made_up)
{
    const struct exec_thread *t = &w->order->threads.items[thread];
    const struct chrome_thread *now = &w->threads[thread];
    char words[EXEC_WORDS_BYTES] = "runnable";
    if (now->state == EXEC_ABSENT)
        return;
    if (now->state != EXEC_RUNNABLE)
        exec_state_words(w->order->trace, now->state, now->call, words);
    chrome_begin(w, 'X', w->order->trace->pid, t->tid, now->since_ns);
    chrome_duration(w, now->since_ns, until_ns);
    chrome_name(w, words);
    bytes_printf(&w->out, ",\"cat\":\"sched\",\"args\":{\"cpu\":%u%s", now->cpu, made_up ? ",\"end\":\"made up: events were lost\"" : "");
    if (now->state != EXEC_RUNNING)
        chrome_labels(w, now->stack);
    bytes_put_byte(&w->out, '}');
    if (now->state != EXEC_RUNNING)
        chrome_stack_reference(w, now->stack);
    bytes_put_byte(&w->out, '}');
    if (now->state != EXEC_RUNNING)
        return;
    chrome_begin(w, 'X', CHROME_CPUS_PID, now->cpu, now->since_ns);
    chrome_duration(w, now->since_ns, until_ns);
    chrome_name(w, chrome_thread_name(t));
    bytes_printf(&w->out, ",\"cat\":\"sched\",\"args\":{\"tid\":%" PRIu32 "}}", t->tid);
}

/* An arrow's beginning ('s') in what a thread runs, or its end ('f'). */
static void chrome_arrow(struct chrome_writer *w, char phase, uint32_t thread, uint64_t time_ns, uint32_t id)
{
    const struct exec_thread *t = &w->order->threads.items[thread];
    chrome_begin(w, phase, w->order->trace->pid, t->tid, time_ns);
    bytes_printf(&w->out, ",\"id\":%" PRIu32 ",\"name\":\"wake\",\"cat\":\"sched\"%s}", id, phase == 'f' ? ",\"bp\":\"e\"" : "");
}

static void chrome_sample(struct chrome_writer *w, const struct exec_step *s)
{
    chrome_begin(w, 'i', w->order->trace->pid, w->order->threads.items[s->thread].tid, s->time_ns);
    bytes_put_text(&w->out, ",\"s\":\"t\",\"name\":\"CPU sample\",\"cat\":\"sample\"");
    chrome_stack_reference(w, s->stack);
    bytes_put_byte(&w->out, '}');
}

static void chrome_step(struct chrome_writer *w, const struct exec_step *s)
{
    struct chrome_thread *t = &w->threads[s->thread];
    if (s->type == STEP_NOTHING)
        return;
    if (s->type == STEP_SAMPLE) {
        chrome_sample(w, s);
        return;
    }
    chrome_slice(w, s->thread, s->time_ns, s->invented);
    if ((s->type == STEP_UNBLOCK || s->type == STEP_NEW) && s->actor != EXEC_NONE) {
        t->wake = ++w->wakes;
        chrome_arrow(w, 's', s->actor, s->time_ns, t->wake);
    }
    if (s->type == STEP_IN && t->wake != 0) {
        chrome_arrow(w, 'f', s->thread, s->time_ns, t->wake);
        t->wake = 0;
    }
    t->since_ns = s->time_ns;
    t->stack = s->type == STEP_OUT ? s->stack : EXEC_NO_STACK;
    t->call = s->call;
    t->cpu = s->cpu;
    t->state = s->type == STEP_OUT ? s->state : s->type == STEP_IN ? EXEC_RUNNING : s->type == STEP_GONE ? EXEC_ABSENT : EXEC_RUNNABLE;
}

/* ---- the whole */

static void chrome_head(struct chrome_writer *w)
{
    const struct exec_trace *t = w->order->trace;
    bytes_put_text(&w->out, "{\"displayTimeUnit\":\"ns\",\"otherData\":{");
    for (size_t i = 0; i < t->n_notes; i++) {
        bytes_put_text(&w->out, i > 0 ? "," : "");
        chrome_string(w, t->notes[i].key);
        bytes_put_byte(&w->out, ':');
        chrome_string(w, t->notes[i].value);
    }
    bytes_put_text(&w->out, "},\n\"traceEvents\":[");
    chrome_metadata(w, "process_name", t->pid, t->pid, t->process);
    chrome_metadata(w, "process_name", CHROME_CPUS_PID, 0, "CPUs");
    for (size_t i = 0; i < w->order->threads.n; i++) {
        const struct exec_thread *thread = &w->order->threads.items[i];
        chrome_metadata(w, "thread_name", t->pid, thread->tid, chrome_thread_name(thread));
        w->threads[i] = (struct chrome_thread){.since_ns = t->start_ns, .stack = thread->stack, .cpu = thread->cpu,
                                               .state = thread->state};
    }
    for (uint32_t cpu = 0; cpu < w->order->n_cpus; cpu++) {
        char name[32];
        (void)snprintf(name, sizeof(name), "CPU %" PRIu32, cpu);
        chrome_metadata(w, "thread_name", CHROME_CPUS_PID, cpu, name);
    }
}

int exec_encode_chrome(const struct exec_order *order, uint8_t **ret_data, size_t *ret_len)
{
    CLEANUP(chrome_writer_deinit) struct chrome_writer w = {.order = order};
    w.threads = calloc(order->threads.n + 1, sizeof(*w.threads));
    w.stack_nodes = calloc(order->trace->n_stacks + 1, sizeof(*w.stack_nodes));
    if (!w.threads || !w.stack_nodes)
        return -ENOMEM;
    chrome_head(&w);
    for (size_t i = 0; i < order->steps.n; i++)
        chrome_step(&w, &order->steps.items[i]);
    for (uint32_t i = 0; i < order->threads.n; i++)
        chrome_slice(&w, i, order->trace->end_ns, false);
    bytes_put_byte(&w.out, ']');
    chrome_frames(&w);
    bytes_put_text(&w.out, "}\n");
    return w.failed ? -ENOMEM : bytes_finish(&w.out, ret_data, ret_len);
}
