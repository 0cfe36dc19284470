/* One story from the events of many CPUs: each thread in one state at a time, each CPU with one thread at a time, in the order of time.
 * Owns the order that the encoders read.
 *
 * How a thread began the window follows from its first event: what leaves a CPU was running, what is woken was waiting, what begins to
 * run without a wake was runnable. From there on each event must fit. Where one does not, an event before it was lost, and what must
 * have happened is made up at the same moment; what can't be made sense of is dropped. Both are counted.
 *
 * A wake may be recorded shortly before the thread that it wakes is recorded to leave its CPU: the thread has said that it will wait, and
 * is on its way. Such a wake is kept for the wait that follows, if no other comes. */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "pprof/exec_trace_impl.h"
#include "pprof/hash.h"
#include "util/cleanup.h"

/* How long a thread may be on its way off its CPU when it is woken already: interrupts and the host may keep it. */
#define EARLY_WAKE_NS 1000000

/* A thread while the order is made. */
struct course {
    uint8_t state;
    bool looked_up;   /* all that is known is what EXEC_STATUS said, */
    bool anywhere;    /* but for the CPU */
    uint16_t cpu;     /* RUNNING */
    uint32_t newest;  /* of the threads of its tid, if it is the first of them */
    uint32_t older;   /* the one before it, or EXEC_NONE */
    uint32_t early;   /* a wake to fall back on: a STEP_NOTHING in steps, or EXEC_NONE */
    struct exec_step woken; /* while it ran: the wake; time_ns 0: none */
};

struct builder {
    struct exec_order *order;
    VEC(struct course) courses; /* of order->threads */
    struct table by_tid;        /* the newest thread of a tid */
    uint64_t hash_key;
    uint32_t *running;          /* by CPU: a thread, or EXEC_NONE */
    bool *seen;                 /* by CPU: something ran there, or began or ended to */
};

static void builder_deinit(struct builder *b)
{
    vec_free(&b->courses);
    table_deinit(&b->by_tid);
    free(b->running);
    free(b->seen);
}

/* ---- threads */

static bool tid_equal(const void *owner, uint32_t id, const void *key)
{
    const struct builder *b = owner;
    return b->order->threads.items[id].tid == *(const uint32_t *)key;
}

/* The index holds the first thread of a tid, which knows the newest. */
static uint32_t first_thread(const struct builder *b, uint32_t tid)
{
    uint32_t found = table_find(&b->by_tid, hash_u64(b->hash_key, tid), tid_equal, b, &tid);
    return found == TABLE_NONE ? EXEC_NONE : found;
}

static uint32_t find_thread(const struct builder *b, uint32_t tid)
{
    uint32_t first = first_thread(b, tid);
    return first == EXEC_NONE ? EXEC_NONE : b->courses.items[first].newest;
}

/* A thread that the tid stands for from now on. */
static int add_thread(struct builder *b, uint32_t tid, uint8_t state, uint32_t *ret)
{
    uint32_t index = (uint32_t)b->order->threads.n, first = first_thread(b, tid), turn = 0, older = EXEC_NONE;
    if (vec_reserve(&b->order->threads, 1) < 0 || vec_reserve(&b->courses, 1) < 0 || table_reserve(&b->by_tid) < 0)
        return -ENOMEM;
    if (first == EXEC_NONE) {
        table_insert(&b->by_tid, hash_u64(b->hash_key, tid), index);
        first = index;
    } else {
        older = b->courses.items[first].newest;
        turn = b->order->threads.items[older].turn + 1;
        b->courses.items[first].newest = index;
    }
    vec_push(&b->order->threads, ((struct exec_thread){.tid = tid, .turn = turn, .first = first, .state = state,
                                                       .root_frame = EXEC_NONE}));
    vec_push(&b->courses, ((struct course){.state = state, .newest = index, .older = older, .early = EXEC_NONE}));
    *ret = index;
    return 0;
}

/* ---- steps */

static int add_step(struct builder *b, struct exec_step step)
{
    if (vec_reserve(&b->order->steps, 1) < 0)
        return -ENOMEM;
    b->order->counts.invented += step.invented;
    vec_push(&b->order->steps, step);
    return 0;
}

/* The actor of an event, if it is known to run: who isn't can't have done it, as far as viewers go. */
static uint32_t running_actor(const struct builder *b, const struct exec_event *e)
{
    uint32_t actor = e->actor ? find_thread(b, e->actor) : EXEC_NONE;
    if (actor == EXEC_NONE || b->courses.items[actor].looked_up || b->courses.items[actor].state != EXEC_RUNNING)
        return EXEC_NONE;
    return actor;
}

/* The thread leaves its CPU, which nobody recorded: it could run on, or is ABSENT. */
static int invent_out(struct builder *b, uint32_t thread, uint8_t state, uint64_t time_ns)
{
    struct course *c = &b->courses.items[thread];
    b->running[c->cpu] = EXEC_NONE;
    c->state = state;
    return add_step(b, (struct exec_step){.time_ns = time_ns, .thread = thread, .actor = EXEC_NONE, .cpu = c->cpu,
                                          .type = STEP_OUT, .state = state, .invented = true});
}

/* The thread ended, which nobody recorded. */
static int invent_end(struct builder *b, uint32_t thread, uint64_t time_ns)
{
    struct course *c = &b->courses.items[thread];
    uint8_t state = c->state;
    if (state == EXEC_RUNNING)
        return invent_out(b, thread, EXEC_ABSENT, time_ns);
    c->state = EXEC_ABSENT;
    c->early = EXEC_NONE;
    return add_step(b, (struct exec_step){.time_ns = time_ns, .thread = thread, .actor = EXEC_NONE, .type = STEP_GONE,
                                          .state = state, .invented = true});
}

/* Whatever runs on the CPU leaves it. */
static int clear_cpu(struct builder *b, uint16_t cpu, uint64_t time_ns)
{
    return b->running[cpu] == EXEC_NONE ? 0 : invent_out(b, b->running[cpu], EXEC_RUNNABLE, time_ns);
}

/* A thread that waits becomes runnable: by the wake that came early, or by one that nobody recorded. */
static int make_runnable(struct builder *b, uint32_t thread, uint64_t time_ns)
{
    struct course *c = &b->courses.items[thread];
    c->state = EXEC_RUNNABLE;
    if (c->early == EXEC_NONE)
        return add_step(b, (struct exec_step){.time_ns = time_ns, .thread = thread, .actor = EXEC_NONE, .type = STEP_UNBLOCK,
                                              .invented = true});
    b->order->steps.items[c->early].type = STEP_UNBLOCK;
    c->early = EXEC_NONE;
    b->order->counts.moved++;
    return 0;
}

static int start_running(struct builder *b, uint32_t thread, uint16_t cpu, uint64_t time_ns, bool invented)
{
    struct course *c = &b->courses.items[thread];
    c->state = EXEC_RUNNING;
    c->cpu = cpu;
    c->woken.time_ns = 0;
    b->running[cpu] = thread;
    b->seen[cpu] = true;
    return add_step(b, (struct exec_step){.time_ns = time_ns, .thread = thread, .actor = EXEC_NONE, .cpu = cpu, .type = STEP_IN,
                                          .invented = invented});
}

/* Brings a thread onto a CPU from whatever state it is in. */
static int bring_in(struct builder *b, uint32_t thread, uint16_t cpu, uint64_t time_ns, bool invented)
{
    struct course *c = &b->courses.items[thread];
    int r = 0;
    if (c->state == EXEC_RUNNING)
        r = invent_out(b, thread, EXEC_RUNNABLE, time_ns);
    if (r == 0)
        r = clear_cpu(b, cpu, time_ns);
    if (r == 0 && exec_state_waits(c->state))
        r = make_runnable(b, thread, time_ns);
    return r == 0 ? start_running(b, thread, cpu, time_ns, invented) : r;
}

/* ---- first sights */

/* A thread's state at the window's start, now that an event tells. */
static void begin_known(struct builder *b, uint32_t thread, uint8_t state, uint16_t cpu)
{
    struct exec_thread *t = &b->order->threads.items[thread];
    struct course *c = &b->courses.items[thread];
    c->looked_up = false;
    if (exec_state_waits(state) && exec_state_waits(t->state))
        return; /* and what for is known */
    if (exec_state_waits(state) != exec_state_waits(t->state))
        t->stack = EXEC_NO_STACK; /* of another state */
    t->state = c->state = state;
    t->cpu = c->cpu = cpu;
    if (state == EXEC_RUNNING) {
        b->running[cpu] = thread;
        b->seen[cpu] = true;
    }
}

/* An event shows the thread running on cpu: it began the window so, if nothing is known that says otherwise. */
static int witness(struct builder *b, uint32_t tid, uint16_t cpu)
{
    uint32_t thread = find_thread(b, tid);
    if (thread != EXEC_NONE && !b->courses.items[thread].looked_up)
        return 0;
    if (b->seen[cpu])
        return 0; /* it came here within the window: its own events tell when */
    if (thread == EXEC_NONE) {
        int r = add_thread(b, tid, EXEC_RUNNING, &thread);
        if (r < 0)
            return r;
    }
    begin_known(b, thread, EXEC_RUNNING, cpu);
    return 0;
}

/* The thread that a tid stands for, in the state that it must have begun in if the event is the first of it. */
static int first_sight(struct builder *b, const struct exec_event *e, uint8_t state, uint32_t *ret)
{
    uint32_t thread = find_thread(b, e->tid);
    if (thread != EXEC_NONE && !b->courses.items[thread].looked_up) {
        *ret = thread;
        return 0;
    }
    if (thread == EXEC_NONE) {
        int r = add_thread(b, e->tid, state, &thread);
        if (r < 0)
            return r;
    }
    *ret = thread;
    begin_known(b, thread, state, e->cpu);
    return 0;
}

/* A thread that ended, and is there again: its tid has been given to another, whose beginning nobody recorded. */
static int reborn(struct builder *b, const struct exec_event *e, uint32_t *thread)
{
    if (b->courses.items[*thread].state != EXEC_ABSENT)
        return 0;
    int r = add_thread(b, e->tid, EXEC_ABSENT, thread);
    if (r < 0)
        return r;
    b->courses.items[*thread].state = EXEC_RUNNABLE;
    return add_step(b, (struct exec_step){.time_ns = e->time_ns, .thread = *thread, .actor = EXEC_NONE, .type = STEP_NEW,
                                          .invented = true});
}

/* ---- events */

static int take_out(struct builder *b, const struct exec_event *e)
{
    uint32_t thread;
    int r = first_sight(b, e, b->seen[e->cpu] ? EXEC_RUNNABLE : EXEC_RUNNING, &thread);
    if (r == 0)
        r = reborn(b, e, &thread);
    if (r == 0 && (b->courses.items[thread].state != EXEC_RUNNING || b->courses.items[thread].cpu != e->cpu))
        r = bring_in(b, thread, e->cpu, e->time_ns, true);
    if (r < 0)
        return r;
    struct course *c = &b->courses.items[thread];
    c->state = e->state;
    c->early = EXEC_NONE;
    b->running[e->cpu] = EXEC_NONE;
    r = add_step(b, (struct exec_step){.time_ns = e->time_ns, .thread = thread, .actor = EXEC_NONE, .stack = e->stack,
                                       .cpu = e->cpu, .call = e->call, .type = STEP_OUT, .state = e->state});
    if (r < 0 || !exec_state_waits(e->state) || c->woken.time_ns == 0 || e->time_ns - c->woken.time_ns > EARLY_WAKE_NS)
        return r;
    c->early = (uint32_t)b->order->steps.n;
    c->woken.time_ns = e->time_ns;
    return add_step(b, c->woken);
}

static int take_in(struct builder *b, const struct exec_event *e)
{
    uint32_t thread;
    int r = first_sight(b, e, EXEC_RUNNABLE, &thread);
    if (r == 0)
        r = reborn(b, e, &thread);
    return r == 0 ? bring_in(b, thread, e->cpu, e->time_ns, false) : r;
}

static int take_waking(struct builder *b, const struct exec_event *e)
{
    uint32_t thread = EXEC_NONE;
    int r = e->actor ? witness(b, e->actor, e->cpu) : 0;
    if (r == 0)
        r = first_sight(b, e, EXEC_OTHER, &thread);
    if (r < 0)
        return r;
    struct course *c = &b->courses.items[thread];
    struct exec_step step = {.time_ns = e->time_ns, .thread = thread, .actor = running_actor(b, e), .stack = e->stack,
                             .cpu = e->cpu, .type = STEP_NOTHING};
    if (c->state == EXEC_RUNNING)
        c->woken = step;
    b->order->counts.dropped += c->state == EXEC_ABSENT;
    if (!exec_state_waits(c->state))
        return 0; /* it does not change what is runnable already */
    c->state = EXEC_RUNNABLE;
    c->early = EXEC_NONE;
    step.type = STEP_UNBLOCK;
    return add_step(b, step);
}

static int take_new(struct builder *b, const struct exec_event *e)
{
    int r = e->actor ? witness(b, e->actor, e->cpu) : 0;
    uint32_t thread = find_thread(b, e->tid);
    bool looked_up = thread != EXEC_NONE && b->courses.items[thread].looked_up; /* the look came later than it says */
    if (r == 0 && thread != EXEC_NONE && !looked_up && b->courses.items[thread].state != EXEC_ABSENT)
        r = invent_end(b, thread, e->time_ns);
    if (looked_up)
        begin_known(b, thread, EXEC_ABSENT, 0);
    else if (r == 0)
        r = add_thread(b, e->tid, EXEC_ABSENT, &thread);
    if (r < 0)
        return r;
    b->courses.items[thread].state = EXEC_RUNNABLE;
    return add_step(b, (struct exec_step){.time_ns = e->time_ns, .thread = thread, .actor = running_actor(b, e), .stack = e->stack,
                                          .cpu = e->cpu, .type = STEP_NEW});
}

static int take_sample(struct builder *b, const struct exec_event *e)
{
    int r = witness(b, e->tid, e->cpu);
    uint32_t thread = find_thread(b, e->tid);
    if (r < 0 || thread == EXEC_NONE || b->courses.items[thread].state == EXEC_ABSENT)
        return r;
    return add_step(b, (struct exec_step){.time_ns = e->time_ns, .thread = thread, .actor = EXEC_NONE, .stack = e->stack,
                                          .cpu = e->cpu, .type = STEP_SAMPLE});
}

/* What is known only from looking yields to the first event that comes. */
static int take_status(struct builder *b, const struct exec_event *e)
{
    uint32_t thread = find_thread(b, e->tid);
    if (thread != EXEC_NONE || e->state == EXEC_ABSENT)
        return 0;
    int r = add_thread(b, e->tid, e->state, &thread);
    if (r < 0)
        return r;
    struct exec_thread *t = &b->order->threads.items[thread];
    t->stack = e->stack;
    t->cpu = e->cpu == EXEC_ANY_CPU ? 0 : e->cpu;
    b->courses.items[thread].looked_up = true;
    b->courses.items[thread].anywhere = e->cpu == EXEC_ANY_CPU;
    return 0;
}

static int take_event(struct builder *b, const struct exec_event *e)
{
    static int (*const take[])(struct builder *, const struct exec_event *) = {
        [EXEC_OUT] = take_out, [EXEC_IN] = take_in,         [EXEC_WAKING] = take_waking,
        [EXEC_NEW] = take_new, [EXEC_SAMPLE] = take_sample, [EXEC_STATUS] = take_status,
    };
    b->order->counts.events += e->type <= EXEC_NEW;
    if (e->cpu != EXEC_ANY_CPU && b->order->n_cpus <= e->cpu)
        b->order->n_cpus = e->cpu + 1u;
    return take[e->type](b, e);
}

/* ---- the whole */

/* The lowest CPU that nothing was seen on. */
static uint16_t free_cpu(const struct builder *b)
{
    uint16_t cpu = 0;

    while (cpu < EXEC_MAX_CPUS - 1 && b->seen[cpu])
        cpu++;
    if (b->order->n_cpus <= cpu)
        b->order->n_cpus = cpu + 1u;
    return cpu;
}

/* Threads that nothing but a look tells of: one that ran all the window must have had a CPU to itself. */
static void settle_looked_up(struct builder *b)
{
    for (size_t i = 0; i < b->courses.n; i++) {
        struct exec_thread *t = &b->order->threads.items[i];
        if (!b->courses.items[i].looked_up || t->state != EXEC_RUNNING)
            continue;
        if (b->courses.items[i].anywhere)
            t->cpu = free_cpu(b);
        if (b->seen[t->cpu])
            t->state = EXEC_RUNNABLE;
        b->seen[t->cpu] = true;
    }
}

/* Names, and the frames that threads began with. */
static void describe_threads(struct builder *b)
{
    struct exec_order *o = b->order;
    for (size_t i = 0; i < o->trace->n_names; i++)
        for (uint32_t k = find_thread(b, o->trace->names[i].tid); k != EXEC_NONE; k = b->courses.items[k].older)
            o->threads.items[k].name = o->trace->names[i].name;
    for (size_t i = 0; i < o->threads.n; i++)
        o->threads.items[i].root_frame = exec_stack_root(o->trace, o->threads.items[i].stack);
    for (size_t i = 0; i < o->steps.n; i++) {
        const struct exec_step *s = &o->steps.items[i];
        struct exec_thread *t = &o->threads.items[s->thread];
        if ((s->type == STEP_OUT || s->type == STEP_SAMPLE) && t->root_frame == EXEC_NONE)
            t->root_frame = exec_stack_root(o->trace, s->stack);
    }
}

struct sort_key {
    uint64_t time_ns;
    size_t index;
};

static int compare_keys(const void *a, const void *b)
{
    const struct sort_key *x = a, *y = b;
    if (x->time_ns != y->time_ns)
        return x->time_ns < y->time_ns ? -1 : 1;
    return x->index < y->index ? -1 : 1;
}

static int build_steps(struct builder *b)
{
    const struct exec_trace *t = b->order->trace;
    AUTO_FREE struct sort_key *keys = calloc(t->n_events + 1, sizeof(*keys));
    size_t n = 0;
    int r = keys ? 0 : -ENOMEM;
    for (size_t i = 0; keys && i < t->n_events; i++)
        if (t->events[i].time_ns >= t->start_ns && t->events[i].time_ns <= t->end_ns)
            keys[n++] = (struct sort_key){.time_ns = t->events[i].time_ns, .index = i};
    if (keys)
        qsort(keys, n, sizeof(*keys), compare_keys);
    for (size_t i = 0; i < n && r == 0; i++)
        r = take_event(b, &t->events[keys[i].index]);
    return r;
}

static bool event_valid(const struct exec_trace *t, const struct exec_event *e)
{
    bool cpu = e->cpu < EXEC_MAX_CPUS || (e->type == EXEC_STATUS && e->cpu == EXEC_ANY_CPU);

    return e->tid != 0 && e->type >= EXEC_OUT && e->type <= EXEC_STATUS && e->state < EXEC_STATE_COUNT && cpu && e->stack <= t->n_stacks &&
           (e->type != EXEC_OUT || e->state != EXEC_RUNNING);
}

static bool trace_valid(const struct exec_trace *t)
{
    for (size_t i = 0; i < t->n_stacks; i++)
        if (t->stacks[i].first > t->n_refs || t->stacks[i].n > t->n_refs - t->stacks[i].first || t->stacks[i].first_label > t->n_labels ||
            t->stacks[i].n_labels > t->n_labels - t->stacks[i].first_label)
            return false;
    for (size_t i = 0; i < t->n_refs; i++)
        if (t->refs[i] >= t->n_frames)
            return false;
    for (size_t i = 0; i < t->n_events; i++)
        if (!event_valid(t, &t->events[i]))
            return false;
    return t->start_ns <= t->end_ns;
}

int exec_order_build(const struct exec_trace *trace, struct exec_order **ret)
{
    if (!trace_valid(trace))
        return -EINVAL;
    CLEANUP(builder_deinit) struct builder b = {.hash_key = trace->start_ns};
    struct exec_order *order = b.order = calloc(1, sizeof(*order));
    b.running = malloc(EXEC_MAX_CPUS * sizeof(*b.running));
    b.seen = calloc(EXEC_MAX_CPUS, sizeof(*b.seen));
    int r = order && b.running && b.seen ? 0 : -ENOMEM;
    if (r == 0) {
        memset(b.running, 0xff, EXEC_MAX_CPUS * sizeof(*b.running));
        order->trace = trace;
        order->n_cpus = 1;
        r = build_steps(&b);
    }
    if (r == 0) {
        settle_looked_up(&b);
        describe_threads(&b);
    }
    if (r < 0) {
        exec_order_free(order);
        return r;
    }
    *ret = order;
    return 0;
}

void exec_order_free(struct exec_order *order)
{
    if (!order)
        return;
    vec_free(&order->threads);
    vec_free(&order->steps);
    free(order);
}

struct exec_counts exec_order_counts(const struct exec_order *order) { return order->counts; }
