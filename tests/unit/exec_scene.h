/* Execution traces for tests: of a scheduler that is simulated, whose events get lost as often as one likes, and of no scheduler at
 * all. The same for the same seed. */
#pragma once

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "pprof/exec_trace.h"

#define SCENE_START 5000000000000000ull
#define SCENE_CPUS 4
#define SCENE_THREADS 12
#define SCENE_TID(i) (1000u + (i))
#define SCENE_MAX_EVENTS 4000

static const struct exec_frame scene_frames[] = {
    {.function = "futex_wait", .file = "/src/libc.c", .address = 0x7f0000001000, .line = 3},
    {.function = "inlined", .file = "/src/work.h", .address = 0x401000, .line = 7},
    {.function = "work", .file = "/src/work.c", .address = 0x401000, .line = 20},
    {.function = "worker_main", .file = "/src/work.c", .address = 0x402000, .line = 40},
    {.function = "start_thread", .file = "", .address = 0x7f0000002000, .starts_threads = true},
    {.function = "clone3", .file = "", .address = 0x7f0000003000, .starts_threads = true},
    {.function = "do_syscall_64", .file = "", .address = 0xffffffff81000000},
    {.function = "\xff\"\\\n<bad>", .file = "", .address = 0},
};
enum { SCENE_N_FRAMES = sizeof(scene_frames) / sizeof(*scene_frames) };

/* Stacks: 1 whole, with labels, 2 without an end, 3 empty, 4 deeper than is shown, 5 nothing but what starts threads. */
enum { SCENE_STACKS = 5, SCENE_DEEP = 300 };

struct scene {
    struct exec_trace trace;
    struct exec_event events[SCENE_MAX_EVENTS];
    size_t n_events;
    uint32_t refs[SCENE_DEEP + 32];
    struct exec_stack stacks[SCENE_STACKS];
    uint64_t seed;
};

static inline uint32_t scene_random(struct scene *s, uint32_t below)
{
    s->seed = s->seed * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)(s->seed >> 33) % below;
}

static inline const char *scene_call_name(uint32_t number)
{
    static const char *const names[] = {"read", "futex", "epoll_wait", "fsync", "select", "clock_nanosleep"};
    return number < sizeof(names) / sizeof(*names) ? names[number] : NULL;
}

static inline void scene_init(struct scene *s, uint64_t seed)
{
    static const uint32_t whole[] = {6, 0, 1, 2, 3, 4, 5}, cut[] = {0, 1, 2}, start[] = {4, 5};
    static const struct exec_note notes[] = {{"cprofd.version", "1"}, {"cprofd.invented", "\xfe"}};
    static const struct exec_label labels[] = {{"request", "/a\"b\xff"}, {"tenant", "7"}};
    static const struct exec_name names[] = {{SCENE_TID(0), "main"}, {SCENE_TID(1), "w\xff\"1\\"}, {77, "nobody"}};
    memset(s, 0, sizeof(*s));
    s->seed = seed;
    memcpy(s->refs, whole, sizeof(whole));
    memcpy(s->refs + 7, cut, sizeof(cut));
    memcpy(s->refs + 10, start, sizeof(start));
    for (uint32_t i = 0; i < SCENE_DEEP; i++)
        s->refs[12 + i] = i == SCENE_DEEP - 1 ? 3 : 2;
    s->stacks[0] = (struct exec_stack){.first = 0, .n = 7, .n_labels = 2, .rooted = true};
    s->stacks[1] = (struct exec_stack){.first = 7, .n = 3};
    s->stacks[3] = (struct exec_stack){.first = 12, .n = SCENE_DEEP, .rooted = true};
    s->stacks[4] = (struct exec_stack){.first = 10, .n = 2, .rooted = true};
    s->trace = (struct exec_trace){
        .events = s->events, .frames = scene_frames, .n_frames = SCENE_N_FRAMES, .refs = s->refs, .n_refs = 12 + SCENE_DEEP,
        .stacks = s->stacks, .n_stacks = SCENE_STACKS, .labels = labels, .n_labels = 2,
        .names = names, .n_names = 3, .notes = notes, .n_notes = 2,
        .start_ns = SCENE_START, .end_ns = SCENE_START + 1000000000, .pid = SCENE_TID(0), .process = "sc\xff\"ene",
        .call_name = scene_call_name,
    };
}

static inline void scene_add(struct scene *s, struct exec_event e)
{
    if (s->n_events < SCENE_MAX_EVENTS)
        s->events[s->n_events++] = e;
    s->trace.n_events = s->n_events;
}

/* Events that nothing but chance chose, near one another. */
static inline void scene_chaos(struct scene *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint8_t type = (uint8_t)(EXEC_OUT + scene_random(s, 6));
        uint8_t state = (uint8_t)scene_random(s, EXEC_STATE_COUNT);
        scene_add(s, (struct exec_event){
            .time_ns = SCENE_START - 10 + scene_random(s, 4 * (uint32_t)n), .tid = SCENE_TID(scene_random(s, SCENE_THREADS)),
            .actor = scene_random(s, 2) ? SCENE_TID(scene_random(s, SCENE_THREADS)) : 0, .stack = scene_random(s, SCENE_STACKS + 1),
            .cpu = (uint16_t)scene_random(s, SCENE_CPUS), .call = (uint16_t)scene_random(s, 9), .type = type,
            .state = type == EXEC_OUT && state == EXEC_RUNNING ? EXEC_ABSENT : state,
        });
    }
}

/* What the simulated scheduler knows of a thread. */
struct scene_thread {
    uint8_t state;
    uint16_t cpu;
};

/* Adds an event, unless chance (so many in a thousand) loses it. */
static inline void scene_record(struct scene *s, uint32_t lost_per_mille, struct exec_event e)
{
    if (scene_random(s, 1000) >= lost_per_mille)
        scene_add(s, e);
}

/* One move of the thread that was drawn, which is possible in its state. */
static inline void scene_move(struct scene *s, struct scene_thread *threads, uint32_t i, uint64_t now, uint32_t lost)
{
    struct scene_thread *t = &threads[i];
    uint32_t actor = 0;
    uint16_t cpu = (uint16_t)scene_random(s, SCENE_CPUS);
    for (uint32_t k = 0; k < SCENE_THREADS; k++)
        if (threads[k].state == EXEC_RUNNING && threads[k].cpu == cpu)
            actor = SCENE_TID(k);
    struct exec_event e = {.time_ns = now, .tid = SCENE_TID(i), .cpu = cpu, .stack = scene_random(s, SCENE_STACKS + 1)};
    if (t->state == EXEC_ABSENT && actor) {
        e.type = EXEC_NEW, e.actor = actor, t->state = EXEC_RUNNABLE;
    } else if (t->state == EXEC_RUNNABLE && !actor) {
        e.type = EXEC_IN, t->state = EXEC_RUNNING, t->cpu = cpu;
    } else if (exec_state_waits(t->state)) {
        e.type = EXEC_WAKING, e.actor = actor, t->state = EXEC_RUNNABLE;
    } else if (t->state == EXEC_RUNNING) {
        static const uint8_t next[] = {EXEC_RUNNABLE, EXEC_LOCK, EXEC_IO, EXEC_SLEEP, EXEC_OTHER, EXEC_ABSENT};
        e.type = scene_random(s, 8) == 0 ? EXEC_SAMPLE : EXEC_OUT;
        e.cpu = t->cpu, e.call = (uint16_t)scene_random(s, 9);
        e.state = e.type == EXEC_OUT ? next[scene_random(s, 6)] : EXEC_RUNNING;
        t->state = e.state;
    } else {
        return;
    }
    scene_record(s, lost, e);
}

/* The story of a scheduler, of whose events so many in a thousand are lost, in an order that is not that of time. */
static inline void scene_simulate(struct scene *s, size_t moves, uint32_t lost_per_mille)
{
    struct scene_thread threads[SCENE_THREADS] = {0};
    for (uint32_t i = 0; i < SCENE_THREADS / 2; i++)
        threads[i].state = (uint8_t)(EXEC_RUNNABLE + scene_random(s, 5));
    threads[0] = (struct scene_thread){.state = EXEC_RUNNING, .cpu = 1};
    for (size_t i = 0; i < moves; i++)
        scene_move(s, threads, scene_random(s, SCENE_THREADS), SCENE_START + 1000 + 40 * i, lost_per_mille);
    for (size_t i = s->n_events; i-- > 1;) {
        size_t k = i - scene_random(s, i < 8 ? (uint32_t)i : 8);
        struct exec_event swap = s->events[i];
        s->events[i] = s->events[k];
        s->events[k] = swap;
    }
}
