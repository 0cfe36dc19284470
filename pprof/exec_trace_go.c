/* Go's execution trace, format 1.23: threads are goroutines and the Ms that run them, CPUs are Ps. One generation, since new goroutines
 * may be named by status in the first alone.
 *
 * Go's reader merges the batches of all Ms by time, and checks each event against the states before it. Here each event gets a time of
 * its own, later than all before it (by a nanosecond where the clock says the same), so that the reader's order is the one that was
 * built. Times count from the window's start: the reader takes them through floating point, which is exact to 2^53. */
#include <assert.h>
#include <string.h>

#include "pprof/exec_trace_impl.h"
#include "pprof/strings.h"
#include "pprof/hash.h"
#include "util/cleanup.h"

#define GO_HEADER "go 1.23 trace\0\0\0"
#define GO_GENERATION 1
#define GO_NO_THREAD UINT64_MAX
#define GO_MAX_BATCH_BYTES 65536
#define GO_MAX_STRING_BYTES 1024
#define GO_EVENT_ROOM 64 /* the longest timed event and sample: a type and six numbers */

/* Addresses that are made up, for frames that share one (inlined functions), and that are none. */
#define GO_PC_SHARED (1ull << 63)
#define GO_PC_LEFT_OUT (3ull << 62)
#define GO_PC_THREAD (7ull << 61)

enum go_event {
    GO_BATCH = 1,
    GO_STACKS,
    GO_STACK,
    GO_STRINGS,
    GO_STRING,
    GO_SAMPLES,
    GO_SAMPLE,
    GO_FREQUENCY,
    GO_PROCS_CHANGE,
    GO_PROC_START,
    GO_PROC_STOP,
    GO_PROC_STATUS = 13,
    GO_CREATE,
    GO_CREATE_SYSCALL,
    GO_START,
    GO_DESTROY,
    GO_STOP = 19,
    GO_BLOCK,
    GO_UNBLOCK,
    GO_SYSCALL_END_BLOCKED = 24,
    GO_STATUS,
    GO_LABEL = 39,
    GO_USER_LOG = 44,
    GO_STATUS_STACK = 48,
};

enum { GO_PROC_RUNNING = 1, GO_PROC_IDLE = 2 };
enum { GO_RUNNABLE = 1, GO_RUNNING = 2, GO_WAITING = 4 };

struct go_batch {
    struct exec_bytes data;
    uint64_t m, base, last;
};

struct go_thread {
    uint8_t state;
    bool labelled;
    uint32_t seq;
};

struct go_writer {
    const struct exec_order *order;
    struct exec_bytes out;
    struct go_batch *batches;   /* by the first thread of a tid; the last one is of no thread */
    struct go_batch samples;
    struct go_thread *threads;
    uint32_t *proc_seqs;        /* by CPU */
    uint64_t *pcs;              /* by frame */
    bool *stack_used;           /* by stack id: the trace's, one of each frame, one of each thread */
    struct strings strings;
    uint64_t now;               /* of the newest event */
    bool announced;             /* what the trace says of itself, which only a running goroutine can */
    bool failed;
};

static void go_writer_deinit(struct go_writer *w)
{
    for (size_t i = 0; w->batches && i <= w->order->threads.n; i++)
        bytes_deinit(&w->batches[i].data);
    bytes_deinit(&w->samples.data);
    bytes_deinit(&w->out);
    free(w->batches);
    free(w->threads);
    free(w->proc_seqs);
    free(w->pcs);
    free(w->stack_used);
    strings_deinit(&w->strings);
}

/* ---- names of things */

static uint64_t go_id(const struct go_writer *w, uint32_t thread)
{
    const struct exec_thread *t = &w->order->threads.items[thread];
    return (uint64_t)t->turn << 32 | t->tid;
}

static uint64_t go_string(struct go_writer *w, const char *text)
{
    uint32_t id = 0;
    if (strings_intern(&w->strings, text, &id) < 0)
        w->failed = true;
    return id;
}

static uint64_t go_stack(struct go_writer *w, uint32_t stack)
{
    w->stack_used[stack] = true;
    return stack;
}

/* A stack of the one frame that the thread began with, so that it is named by it from the beginning on. */
static uint64_t go_root_stack(struct go_writer *w, uint32_t thread)
{
    uint32_t root = w->order->threads.items[thread].root_frame;
    size_t of_frames = w->order->trace->n_stacks + 1, of_threads = of_frames + w->order->trace->n_frames;
    return go_stack(w, (uint32_t)(root != EXEC_NONE ? of_frames + root : of_threads + thread));
}

/* ---- batches */

static void go_put_batch(struct go_writer *w, uint64_t m, uint64_t base, struct exec_bytes *data)
{
    if (data->n == 0)
        return;
    bytes_put_byte(&w->out, GO_BATCH);
    bytes_put_uvarint(&w->out, GO_GENERATION);
    bytes_put_uvarint(&w->out, m);
    bytes_put_uvarint(&w->out, base);
    bytes_put_uvarint(&w->out, data->n);
    bytes_put(&w->out, data->items, data->n);
    w->failed |= data->failed;
    data->n = 0;
}

/* Makes room in a batch of entries of a kind, which its first byte tells. */
static void go_reserve(struct go_writer *w, struct exec_bytes *data, uint8_t kind, size_t room)
{
    if (data->n + room > GO_MAX_BATCH_BYTES)
        go_put_batch(w, GO_NO_THREAD, 1, data);
    if (data->n == 0)
        bytes_put_byte(data, kind);
}

static struct go_batch *go_batch_of(struct go_writer *w, uint32_t thread)
{
    size_t none = w->order->threads.n;
    return &w->batches[thread == EXEC_NONE ? none : w->order->threads.items[thread].first];
}

/* An event of a thread's M, or of none. */
static void go_event(struct go_writer *w, uint32_t thread, uint64_t time_ns, enum go_event type, size_t n, const uint64_t *args)
{
    struct go_batch *b = go_batch_of(w, thread);
    uint64_t at = time_ns - w->order->trace->start_ns + 1;
    w->now = at > w->now ? at : w->now + 1;
    if (b->data.n + GO_EVENT_ROOM > GO_MAX_BATCH_BYTES)
        go_put_batch(w, b->m, b->base, &b->data);
    if (b->data.n == 0)
        b->base = b->last = w->now;
    bytes_put_byte(&b->data, (uint8_t)type);
    bytes_put_uvarint(&b->data, w->now - b->last);
    for (size_t i = 0; i < n; i++)
        bytes_put_uvarint(&b->data, args[i]);
    b->last = w->now;
}

#define GO_EVENT(w, thread, time_ns, type, ...)                                           \
    go_event(w, thread, time_ns, type, sizeof((uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t), \
             (uint64_t[]){__VA_ARGS__})
#define GO_EVENT_BARE(w, thread, time_ns, type) go_event(w, thread, time_ns, type, 0, NULL)

/* ---- events */

/* What needs a goroutine that runs: its label, and the trace's notes, which are log messages of the first that does. */
static void go_announce(struct go_writer *w, uint32_t thread, uint64_t time_ns)
{
    const struct exec_trace *t = w->order->trace;
    const char *name = w->order->threads.items[thread].name;
    if (name && !w->threads[thread].labelled)
        GO_EVENT(w, thread, time_ns, GO_LABEL, go_string(w, name));
    w->threads[thread].labelled = true;
    if (w->announced)
        return;
    w->announced = true;
    GO_EVENT(w, thread, time_ns, GO_PROCS_CHANGE, w->order->n_cpus, EXEC_NO_STACK);
    for (size_t i = 0; i < t->n_notes; i++)
        GO_EVENT(w, thread, time_ns, GO_USER_LOG, 0, go_string(w, t->notes[i].key), go_string(w, t->notes[i].value), EXEC_NO_STACK);
}

static uint64_t go_status(uint8_t state)
{
    return state == EXEC_RUNNING ? GO_RUNNING : state == EXEC_RUNNABLE ? GO_RUNNABLE : GO_WAITING;
}

static void go_begin_thread(struct go_writer *w, uint32_t thread)
{
    const struct exec_thread *t = &w->order->threads.items[thread];
    uint64_t start = w->order->trace->start_ns;
    bool runs = t->state == EXEC_RUNNING;
    w->threads[thread].state = t->state;
    if (t->state == EXEC_ABSENT)
        return;
    bool whole = exec_stack_root(w->order->trace, t->stack) != EXEC_NONE;
    uint64_t stack = whole ? go_stack(w, t->stack) : go_root_stack(w, thread);
    if (runs)
        GO_EVENT(w, thread, start, GO_PROC_STATUS, t->cpu, GO_PROC_RUNNING);
    GO_EVENT(w, runs ? thread : EXEC_NONE, start, GO_STATUS_STACK, go_id(w, thread), runs ? t->tid : GO_NO_THREAD,
             go_status(t->state), stack);
    if (runs)
        go_announce(w, thread, start);
}

/* CPUs that nobody holds come first: an M must not find its P idle after it began to run there. */
static int go_begin(struct go_writer *w)
{
    const struct exec_order *o = w->order;
    AUTO_FREE bool *busy = calloc(o->n_cpus, sizeof(*busy));
    if (!busy)
        return -ENOMEM;
    for (size_t i = 0; i < o->threads.n; i++)
        if (o->threads.items[i].state == EXEC_RUNNING)
            busy[o->threads.items[i].cpu] = true;
    for (uint32_t cpu = 0; cpu < o->n_cpus; cpu++)
        if (!busy[cpu])
            GO_EVENT(w, EXEC_NONE, o->trace->start_ns, GO_PROC_STATUS, cpu, GO_PROC_IDLE);
    for (uint32_t i = 0; i < o->threads.n; i++)
        go_begin_thread(w, i);
    return 0;
}

/* A thread that nobody is known to have made begins as callbacks from foreign code do: in a system call that ends. */
static void go_new(struct go_writer *w, const struct exec_step *s)
{
    uint64_t id = go_id(w, s->thread);
    if (s->actor != EXEC_NONE) {
        GO_EVENT(w, s->actor, s->time_ns, GO_CREATE, id, go_root_stack(w, s->thread), go_stack(w, s->stack));
        return;
    }
    GO_EVENT(w, s->thread, s->time_ns, GO_CREATE_SYSCALL, id);
    GO_EVENT_BARE(w, s->thread, s->time_ns, GO_SYSCALL_END_BLOCKED);
}

static void go_out(struct go_writer *w, const struct exec_step *s)
{
    char reason[EXEC_WORDS_BYTES];
    if (s->state == EXEC_ABSENT) {
        GO_EVENT_BARE(w, s->thread, s->time_ns, GO_DESTROY);
    } else {
        exec_reason(w->order->trace, s->state, s->call, reason);
        GO_EVENT(w, s->thread, s->time_ns, s->state == EXEC_RUNNABLE ? GO_STOP : GO_BLOCK,
                 go_string(w, s->invented ? "events lost" : reason), go_stack(w, s->stack));
    }
    GO_EVENT_BARE(w, s->thread, s->time_ns, GO_PROC_STOP);
}

static void go_sample(struct go_writer *w, const struct exec_step *s)
{
    struct exec_bytes *data = &w->samples.data;
    go_reserve(w, data, GO_SAMPLES, GO_EVENT_ROOM);
    bytes_put_byte(data, GO_SAMPLE);
    bytes_put_uvarint(data, s->time_ns - w->order->trace->start_ns + 1);
    bytes_put_uvarint(data, w->order->threads.items[s->thread].tid);
    bytes_put_uvarint(data, s->cpu);
    bytes_put_uvarint(data, go_id(w, s->thread));
    bytes_put_uvarint(data, go_stack(w, s->stack));
}

static void go_step(struct go_writer *w, const struct exec_step *s)
{
    struct go_thread *t = &w->threads[s->thread];
    switch (s->type) {
    case STEP_NEW:
        t->state = EXEC_RUNNABLE;
        go_new(w, s);
        break;
    case STEP_UNBLOCK:
        t->state = EXEC_RUNNABLE;
        t->seq++;
        GO_EVENT(w, s->actor, s->time_ns, GO_UNBLOCK, go_id(w, s->thread), t->seq, go_stack(w, s->stack));
        break;
    case STEP_IN:
        t->state = EXEC_RUNNING;
        w->proc_seqs[s->cpu]++;
        t->seq++;
        GO_EVENT(w, s->thread, s->time_ns, GO_PROC_START, s->cpu, w->proc_seqs[s->cpu]);
        GO_EVENT(w, s->thread, s->time_ns, GO_START, go_id(w, s->thread), t->seq);
        go_announce(w, s->thread, s->time_ns);
        break;
    case STEP_OUT:
        t->state = s->state;
        go_out(w, s);
        break;
    case STEP_GONE: /* only what runs can end: it waits on */
        break;
    case STEP_SAMPLE:
        go_sample(w, s);
        break;
    default:
        break;
    }
}

/* The viewer's time ends with the last event: one that changes nothing, at the window's end. */
static void go_end(struct go_writer *w)
{
    uint64_t end = w->order->trace->end_ns;
    for (uint32_t i = 0; i < w->order->threads.n; i++) {
        uint8_t state = w->threads[i].state;
        if (state == EXEC_ABSENT)
            continue;
        GO_EVENT(w, state == EXEC_RUNNING ? i : EXEC_NONE, end, GO_STATUS, go_id(w, i),
                 state == EXEC_RUNNING ? w->order->threads.items[i].tid : GO_NO_THREAD, go_status(state));
        return;
    }
    GO_EVENT(w, EXEC_NONE, end, GO_PROC_STATUS, 0, GO_PROC_IDLE); /* no thread is left to hold it */
}

/* ---- stacks and strings */

static void go_put_frame(struct exec_bytes *data, uint64_t pc, uint64_t function, uint64_t file, uint64_t line)
{
    bytes_put_uvarint(data, pc);
    bytes_put_uvarint(data, function);
    bytes_put_uvarint(data, file);
    bytes_put_uvarint(data, line);
}

static void go_put_frames(struct go_writer *w, struct exec_bytes *data, const uint32_t *refs, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct exec_frame *f = &w->order->trace->frames[refs[i]];
        go_put_frame(data, w->pcs[refs[i]], go_string(w, f->function), go_string(w, f->file), f->line);
    }
}

static void go_put_stack(struct go_writer *w, struct exec_bytes *data, uint32_t id)
{
    const struct exec_trace *t = w->order->trace;
    size_t of_frames = t->n_stacks + 1, of_threads = of_frames + t->n_frames;
    struct exec_shown shown = {.head = &(uint32_t){(uint32_t)(id - of_frames)}, .n_head = 1};
    if (id < of_frames)
        shown = exec_stack_shown(t, id);
    go_reserve(w, data, GO_STACKS, GO_EVENT_ROOM * (EXEC_MAX_SHOWN_FRAMES + 1));
    bytes_put_byte(data, GO_STACK);
    bytes_put_uvarint(data, id);
    if (id >= of_threads) {
        bytes_put_uvarint(data, 1);
        go_put_frame(data, GO_PC_THREAD | id, go_string(w, "[thread]"), 0, 0);
        return;
    }
    bytes_put_uvarint(data, shown.n_head + (shown.n_left_out > 0) + shown.n_tail);
    go_put_frames(w, data, shown.head, shown.n_head);
    if (shown.n_left_out > 0) {
        char name[EXEC_WORDS_BYTES];
        (void)snprintf(name, sizeof(name), "[%zu frames left out]", shown.n_left_out);
        go_put_frame(data, GO_PC_LEFT_OUT | shown.n_left_out, go_string(w, name), 0, 0);
    }
    go_put_frames(w, data, shown.tail, shown.n_tail);
}

static size_t go_stack_ids(const struct exec_order *o) { return 1 + o->trace->n_stacks + o->trace->n_frames + o->threads.n; }

static void go_put_stacks(struct go_writer *w)
{
    CLEANUP(bytes_deinit) struct exec_bytes data = {0};
    for (size_t id = 1; id < go_stack_ids(w->order); id++)
        if (w->stack_used[id])
            go_put_stack(w, &data, (uint32_t)id);
    go_put_batch(w, GO_NO_THREAD, 1, &data);
}

/* Where to cut valid UTF-8 that is too long. */
static size_t go_string_length(const char *text)
{
    size_t len = strlen(text);
    if (len <= GO_MAX_STRING_BYTES)
        return len;
    for (len = GO_MAX_STRING_BYTES; ((unsigned char)text[len] & 0xc0) == 0x80;)
        len--;
    return len;
}

static void go_put_strings(struct go_writer *w)
{
    CLEANUP(bytes_deinit) struct exec_bytes data = {0};
    for (uint32_t id = 1; id < w->strings.by_id.n; id++) { /* 0 is "" to the reader too */
        const char *text = strings_get(&w->strings, id);
        size_t len = go_string_length(text);
        go_reserve(w, &data, GO_STRINGS, GO_EVENT_ROOM + len);
        bytes_put_byte(&data, GO_STRING);
        bytes_put_uvarint(&data, id);
        bytes_put_uvarint(&data, len);
        bytes_put(&data, text, len);
    }
    go_put_batch(w, GO_NO_THREAD, 1, &data);
}

/* ---- the whole */

static bool pc_equal(const void *owner, uint32_t id, const void *key)
{
    const struct exec_trace *t = owner;
    return t->frames[id].address == *(const uint64_t *)key;
}

static void pcs_deinit(struct table *t) { table_deinit(t); }

/* The reader knows a frame by its address alone. */
static int go_give_addresses(struct go_writer *w)
{
    const struct exec_trace *t = w->order->trace;
    CLEANUP(pcs_deinit) struct table taken = {0};
    for (uint32_t i = 0; i < t->n_frames; i++) {
        uint64_t pc = t->frames[i].address, hash = hash_u64(t->start_ns, pc);
        if (table_reserve(&taken) < 0)
            return -ENOMEM;
        if (pc == 0 || pc >= GO_PC_SHARED || table_find(&taken, hash, pc_equal, t, &pc) != TABLE_NONE) {
            w->pcs[i] = GO_PC_SHARED | i;
            continue;
        }
        table_insert(&taken, hash, i);
        w->pcs[i] = pc;
    }
    return 0;
}

static int go_writer_init(struct go_writer *w)
{
    const struct exec_order *o = w->order;
    if (go_stack_ids(o) > INT32_MAX)
        return -EFBIG;
    w->batches = calloc(o->threads.n + 1, sizeof(*w->batches));
    w->threads = calloc(o->threads.n + 1, sizeof(*w->threads));
    w->proc_seqs = calloc(o->n_cpus, sizeof(*w->proc_seqs));
    w->pcs = calloc(o->trace->n_frames + 1, sizeof(*w->pcs));
    w->stack_used = calloc(go_stack_ids(o), sizeof(*w->stack_used));
    if (!w->batches || !w->threads || !w->proc_seqs || !w->pcs || !w->stack_used)
        return -ENOMEM;
    for (size_t i = 0; i < o->threads.n; i++)
        w->batches[i].m = o->threads.items[i].tid;
    w->batches[o->threads.n].m = GO_NO_THREAD;
    int r = strings_init(&w->strings, o->trace->start_ns);
    return r == 0 ? go_give_addresses(w) : r;
}

int exec_encode_go(const struct exec_order *order, uint8_t **ret_data, size_t *ret_len)
{
    CLEANUP(go_writer_deinit) struct go_writer w = {.order = order};
    int r = go_writer_init(&w);
    if (r < 0)
        return r;
    bytes_put(&w.out, GO_HEADER, sizeof(GO_HEADER) - 1);
    r = go_begin(&w);
    for (size_t i = 0; i < order->steps.n && r == 0; i++)
        go_step(&w, &order->steps.items[i]);
    go_end(&w);
    for (size_t i = 0; i <= order->threads.n; i++)
        go_put_batch(&w, w.batches[i].m, w.batches[i].base, &w.batches[i].data);
    go_put_batch(&w, GO_NO_THREAD, 1, &w.samples.data);
    go_put_stacks(&w);
    go_put_strings(&w);
    struct exec_bytes frequency = {0};
    bytes_put_byte(&frequency, GO_FREQUENCY);
    bytes_put_uvarint(&frequency, 1000000000);
    go_put_batch(&w, GO_NO_THREAD, 1, &frequency);
    bytes_deinit(&frequency);
    if (r < 0 || w.failed)
        return r < 0 ? r : -ENOMEM;
    return bytes_finish(&w.out, ret_data, ret_len);
}
