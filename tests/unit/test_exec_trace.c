/* The order of execution traces: what is concluded of threads' beginnings, what is repaired and counted, and that whatever comes in,
 * what comes out could have happened. */
#include <check.h>
#include <errno.h>
#include <string.h>

#include "pprof/exec_trace_impl.h"
#include "tests/unit/exec_scene.h"
#include "util/cleanup.h"

static struct scene scene;

#define AT(ns) (SCENE_START + (ns))
#define ADD(...) scene_add(&scene, (struct exec_event){__VA_ARGS__})

static void order_free(struct exec_order **order) { exec_order_free(*order); }

static struct exec_order *build(void)
{
    struct exec_order *order = NULL;
    ck_assert_int_eq(exec_order_build(&scene.trace, &order), 0);
    return order;
}

#define ORDER(name) CLEANUP(order_free) struct exec_order *name = build()

static void setup(void) { scene_init(&scene, 1); }

static const struct exec_thread *thread_of(const struct exec_order *o, uint32_t tid)
{
    for (size_t i = 0; i < o->threads.n; i++)
        if (o->threads.items[i].tid == tid)
            return &o->threads.items[i];
    ck_abort_msg("no thread %u", tid);
}

static void assert_counts(const struct exec_order *o, uint64_t events, uint64_t invented, uint64_t dropped, uint64_t moved)
{
    struct exec_counts c = exec_order_counts(o);
    ck_assert_uint_eq(c.events, events);
    ck_assert_uint_eq(c.invented, invented);
    ck_assert_uint_eq(c.dropped, dropped);
    ck_assert_uint_eq(c.moved, moved);
}

/* "O10 U11": a letter for each step's type, and its thread's tid less 1000. */
static void assert_steps(const struct exec_order *o, const char *wanted)
{
    static const char letters[] = "-NUIOGS";
    char got[512] = "", *at = got;
    for (size_t i = 0; i < o->steps.n; i++)
        if (o->steps.items[i].type != STEP_NOTHING)
            at += sprintf(at, "%c%u ", letters[o->steps.items[i].type], o->threads.items[o->steps.items[i].thread].tid - 1000);
    ck_assert_str_eq(got, wanted);
}

START_TEST(test_first_events_tell_how_threads_began)
{
    ADD(.type = EXEC_OUT, .time_ns = AT(50), .tid = 1001, .cpu = 1, .state = EXEC_LOCK, .call = 2, .stack = 1);
    ADD(.type = EXEC_WAKING, .time_ns = AT(10), .tid = 1002);
    ADD(.type = EXEC_IN, .time_ns = AT(60), .tid = 1003, .cpu = 1);
    ADD(.type = EXEC_NEW, .time_ns = AT(40), .tid = 1004, .actor = 1001, .cpu = 1, .stack = 1);
    ADD(.type = EXEC_SAMPLE, .time_ns = AT(70), .tid = 1005, .cpu = 3, .stack = 1);
    ORDER(o);
    ck_assert_uint_eq(thread_of(o, 1001)->state, EXEC_RUNNING);
    ck_assert_uint_eq(thread_of(o, 1001)->cpu, 1);
    ck_assert_uint_eq(thread_of(o, 1001)->root_frame, 3);
    ck_assert_uint_eq(thread_of(o, 1002)->state, EXEC_OTHER);
    ck_assert_uint_eq(thread_of(o, 1003)->state, EXEC_RUNNABLE);
    ck_assert_uint_eq(thread_of(o, 1004)->state, EXEC_ABSENT);
    ck_assert_uint_eq(thread_of(o, 1005)->state, EXEC_RUNNING);
    ck_assert_uint_eq(o->n_cpus, 4);
    assert_steps(o, "U2 N4 O1 I3 S5 ");
    ck_assert_uint_eq(o->steps.items[1].actor, thread_of(o, 1001) - o->threads.items);
    assert_counts(o, 4, 0, 0, 0);
}
END_TEST

START_TEST(test_what_was_looked_up_yields_to_events)
{
    ADD(.type = EXEC_STATUS, .time_ns = AT(1), .tid = 1001, .state = EXEC_LOCK, .stack = 1);  /* alone */
    ADD(.type = EXEC_STATUS, .time_ns = AT(1), .tid = 1002, .state = EXEC_IO, .stack = 1);
    ADD(.type = EXEC_WAKING, .time_ns = AT(9), .tid = 1002);                                   /* bears it out */
    ADD(.type = EXEC_STATUS, .time_ns = AT(1), .tid = 1003, .state = EXEC_SLEEP, .stack = 1);
    ADD(.type = EXEC_OUT, .time_ns = AT(9), .tid = 1003, .cpu = 2, .state = EXEC_RUNNABLE);    /* it ran */
    ADD(.type = EXEC_STATUS, .time_ns = AT(1), .tid = 1004, .state = EXEC_RUNNING, .cpu = 2);  /* where another one ran */
    ADD(.type = EXEC_STATUS, .time_ns = AT(1), .tid = 1005, .state = EXEC_RUNNING, .cpu = 3);
    ADD(.type = EXEC_STATUS, .time_ns = AT(1), .tid = 1006, .state = EXEC_RUNNING, .cpu = 3);  /* two can't */
    ADD(.type = EXEC_STATUS, .time_ns = AT(1), .tid = 1007, .state = EXEC_RUNNABLE);
    ADD(.type = EXEC_NEW, .time_ns = AT(9), .tid = 1007);                                      /* looked up late */
    ADD(.type = EXEC_STATUS, .time_ns = AT(20), .tid = 1007, .state = EXEC_LOCK, .stack = 1);  /* after its events */
    ORDER(o);
    ck_assert_uint_eq(thread_of(o, 1001)->state, EXEC_LOCK);
    ck_assert_uint_eq(thread_of(o, 1001)->stack, 1);
    ck_assert_uint_eq(thread_of(o, 1002)->state, EXEC_IO);
    ck_assert_uint_eq(thread_of(o, 1002)->stack, 1);
    ck_assert_uint_eq(thread_of(o, 1003)->state, EXEC_RUNNING);
    ck_assert_uint_eq(thread_of(o, 1003)->stack, EXEC_NO_STACK);
    ck_assert_uint_eq(thread_of(o, 1004)->state, EXEC_RUNNABLE);
    ck_assert_uint_eq(thread_of(o, 1005)->state, EXEC_RUNNING);
    ck_assert_uint_eq(thread_of(o, 1006)->state, EXEC_RUNNABLE);
    ck_assert_uint_eq(thread_of(o, 1007)->state, EXEC_ABSENT);
    ck_assert_uint_eq(o->threads.n, 7);
    assert_counts(o, 3, 0, 0, 0);
}
END_TEST

START_TEST(test_who_ran_all_the_time_had_a_cpu)
{
    ADD(.type = EXEC_STATUS, .time_ns = AT(1), .tid = 1001, .state = EXEC_RUNNING, .cpu = EXEC_ANY_CPU);
    ADD(.type = EXEC_STATUS, .time_ns = AT(1), .tid = 1002, .state = EXEC_RUNNING, .cpu = EXEC_ANY_CPU);
    ADD(.type = EXEC_STATUS, .time_ns = AT(1), .tid = 1003, .state = EXEC_SLEEP, .cpu = EXEC_ANY_CPU);
    ADD(.type = EXEC_IN, .time_ns = AT(2), .tid = 1004, .cpu = 1);
    ORDER(o);
    ck_assert_uint_eq(thread_of(o, 1001)->state, EXEC_RUNNING);
    ck_assert_uint_eq(thread_of(o, 1001)->cpu, 0);
    ck_assert_uint_eq(thread_of(o, 1002)->state, EXEC_RUNNING);
    ck_assert_uint_eq(thread_of(o, 1002)->cpu, 2);
    ck_assert_uint_eq(thread_of(o, 1003)->state, EXEC_SLEEP);
    ck_assert_uint_eq(o->n_cpus, 3);
}
END_TEST

START_TEST(test_lost_wake_is_made_up)
{
    ADD(.type = EXEC_OUT, .time_ns = AT(10), .tid = 1001, .state = EXEC_SLEEP);
    ADD(.type = EXEC_IN, .time_ns = AT(20), .tid = 1001);
    ORDER(o);
    assert_steps(o, "O1 U1 I1 ");
    ck_assert_uint_eq(o->steps.items[1].time_ns, AT(20));
    assert_counts(o, 2, 1, 0, 0);
}
END_TEST

START_TEST(test_early_wake_ends_the_wait_that_follows)
{
    ADD(.type = EXEC_SAMPLE, .time_ns = AT(3), .tid = 1001);
    ADD(.type = EXEC_OUT, .time_ns = AT(10), .tid = 1001, .state = EXEC_LOCK);
    ADD(.type = EXEC_WAKING, .time_ns = AT(7), .tid = 1001, .actor = 1002, .cpu = 1, .stack = 2);
    ADD(.type = EXEC_IN, .time_ns = AT(20), .tid = 1001);
    ORDER(o);
    assert_steps(o, "S1 O1 U1 I1 ");
    ck_assert_uint_eq(o->steps.items[2].time_ns, AT(10));
    ck_assert_uint_eq(o->steps.items[2].stack, 2);
    ck_assert_uint_eq(o->steps.items[2].actor, thread_of(o, 1002) - o->threads.items);
    assert_counts(o, 3, 0, 0, 1);
}
END_TEST

START_TEST(test_early_wake_yields_to_a_later_one)
{
    ADD(.type = EXEC_IN, .time_ns = AT(1), .tid = 1001);
    ADD(.type = EXEC_WAKING, .time_ns = AT(7), .tid = 1001);
    ADD(.type = EXEC_OUT, .time_ns = AT(10), .tid = 1001, .state = EXEC_LOCK);
    ADD(.type = EXEC_WAKING, .time_ns = AT(15), .tid = 1001);
    ADD(.type = EXEC_IN, .time_ns = AT(20), .tid = 1001);
    ORDER(o);
    assert_steps(o, "I1 O1 U1 I1 ");
    ck_assert_uint_eq(o->steps.items[3].time_ns, AT(15));
    assert_counts(o, 5, 0, 0, 0);
}
END_TEST

START_TEST(test_wake_long_before_a_wait_does_not_end_it)
{
    ADD(.type = EXEC_IN, .time_ns = AT(1), .tid = 1001);
    ADD(.type = EXEC_WAKING, .time_ns = AT(7), .tid = 1001);
    ADD(.type = EXEC_OUT, .time_ns = AT(2000000), .tid = 1001, .state = EXEC_LOCK);
    ADD(.type = EXEC_IN, .time_ns = AT(2000020), .tid = 1001);
    ORDER(o);
    ck_assert_uint_eq(o->steps.items[2].time_ns, AT(2000020));
    assert_counts(o, 4, 1, 0, 0);
}
END_TEST

START_TEST(test_one_thread_on_a_cpu)
{
    ADD(.type = EXEC_IN, .time_ns = AT(10), .tid = 1001);
    ADD(.type = EXEC_IN, .time_ns = AT(20), .tid = 1002);         /* the same CPU */
    ADD(.type = EXEC_IN, .time_ns = AT(30), .tid = 1002, .cpu = 1); /* another */
    ADD(.type = EXEC_OUT, .time_ns = AT(40), .tid = 1002, .cpu = 2, .state = EXEC_RUNNABLE);
    ORDER(o);
    assert_steps(o, "I1 O1 I2 O2 I2 O2 I2 O2 ");
    assert_counts(o, 4, 4, 0, 0);
}
END_TEST

START_TEST(test_tids_are_given_again)
{
    ADD(.type = EXEC_OUT, .time_ns = AT(10), .tid = 1001, .state = EXEC_ABSENT);
    ADD(.type = EXEC_NEW, .time_ns = AT(20), .tid = 1001);
    ADD(.type = EXEC_NEW, .time_ns = AT(30), .tid = 1001); /* the end before it was lost */
    ADD(.type = EXEC_IN, .time_ns = AT(40), .tid = 1001);
    ADD(.type = EXEC_NEW, .time_ns = AT(50), .tid = 1001); /* again, and it ran */
    ADD(.type = EXEC_IN, .time_ns = AT(60), .tid = 1001);
    ADD(.type = EXEC_OUT, .time_ns = AT(70), .tid = 1001, .state = EXEC_ABSENT);
    ADD(.type = EXEC_WAKING, .time_ns = AT(75), .tid = 1001); /* nobody is there */
    ADD(.type = EXEC_IN, .time_ns = AT(80), .tid = 1001);     /* somebody whose beginning was lost */
    ORDER(o);
    assert_steps(o, "O1 N1 G1 N1 I1 O1 N1 I1 O1 N1 I1 ");
    ck_assert_uint_eq(o->threads.n, 5);
    for (uint32_t i = 0; i < o->threads.n; i++) {
        ck_assert_uint_eq(o->threads.items[i].turn, i);
        ck_assert_uint_eq(o->threads.items[i].first, 0);
        ck_assert_str_eq(o->threads.items[i].name, "w\xff\"1\\");
    }
    assert_counts(o, 9, 3, 1, 0);
}
END_TEST

START_TEST(test_events_outside_the_window_are_none)
{
    scene.trace.start_ns = AT(10);
    scene.trace.end_ns = AT(20);
    ADD(.type = EXEC_OUT, .time_ns = AT(9), .tid = 1001);
    ADD(.type = EXEC_OUT, .time_ns = AT(21), .tid = 1001);
    ADD(.type = EXEC_OUT, .time_ns = AT(10), .tid = 1002);
    ADD(.type = EXEC_IN, .time_ns = AT(20), .tid = 1003);
    ORDER(o);
    assert_steps(o, "O2 I3 ");
}
END_TEST

START_TEST(test_input_that_does_not_add_up)
{
    static const struct exec_event bad[] = {
        {.type = EXEC_IN, .time_ns = AT(1)},
        {.type = 0, .time_ns = AT(1), .tid = 1},
        {.type = EXEC_STATUS + 1, .time_ns = AT(1), .tid = 1},
        {.type = EXEC_OUT, .time_ns = AT(1), .tid = 1, .state = EXEC_RUNNING},
        {.type = EXEC_OUT, .time_ns = AT(1), .tid = 1, .state = EXEC_STATE_COUNT},
        {.type = EXEC_IN, .time_ns = AT(1), .tid = 1, .cpu = EXEC_MAX_CPUS},
        {.type = EXEC_IN, .time_ns = AT(1), .tid = 1, .cpu = EXEC_ANY_CPU},
        {.type = EXEC_IN, .time_ns = AT(1), .tid = 1, .stack = SCENE_STACKS + 1},
    };
    struct exec_order *order = NULL;
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        scene.events[0] = bad[i];
        scene.trace.n_events = 1;
        ck_assert_int_eq(exec_order_build(&scene.trace, &order), -EINVAL);
    }
    scene.trace.n_events = 0;
    scene.stacks[0].n = 4000;
    ck_assert_int_eq(exec_order_build(&scene.trace, &order), -EINVAL);
    scene.stacks[0].n = 1;
    scene.refs[0] = SCENE_N_FRAMES;
    ck_assert_int_eq(exec_order_build(&scene.trace, &order), -EINVAL);
    scene.refs[0] = 0;
    scene.stacks[1].n_labels = 3;
    ck_assert_int_eq(exec_order_build(&scene.trace, &order), -EINVAL);
    scene.stacks[1].n_labels = 0;
    scene.stacks[2].first_label = 3;
    ck_assert_int_eq(exec_order_build(&scene.trace, &order), -EINVAL);
    scene.stacks[2].first_label = 0;
    scene.trace.start_ns = scene.trace.end_ns + 1;
    ck_assert_int_eq(exec_order_build(&scene.trace, &order), -EINVAL);
    ck_assert_ptr_null(order);
}
END_TEST

/* ---- whatever comes in */

static void assert_possible_step(const struct exec_order *o, const struct exec_step *s, uint8_t *states, uint32_t *running)
{
    uint8_t *state = &states[s->thread];
    switch (s->type) {
    case STEP_NEW:
        ck_assert_uint_eq(*state, EXEC_ABSENT);
        ck_assert(s->actor == EXEC_NONE || states[s->actor] == EXEC_RUNNING);
        *state = EXEC_RUNNABLE;
        break;
    case STEP_UNBLOCK:
        ck_assert(exec_state_waits(*state));
        *state = EXEC_RUNNABLE;
        break;
    case STEP_IN:
        ck_assert_uint_eq(*state, EXEC_RUNNABLE);
        ck_assert_uint_eq(running[s->cpu], EXEC_NONE);
        *state = EXEC_RUNNING;
        running[s->cpu] = s->thread;
        break;
    case STEP_OUT:
        ck_assert_uint_eq(*state, EXEC_RUNNING);
        ck_assert_uint_eq(running[s->cpu], s->thread);
        *state = s->state;
        running[s->cpu] = EXEC_NONE;
        break;
    case STEP_GONE:
        ck_assert_uint_eq(*state, s->state);
        *state = EXEC_ABSENT;
        break;
    default:
        ck_assert(s->type == STEP_SAMPLE || s->type == STEP_NOTHING);
    }
}

static void assert_possible(const struct exec_order *o)
{
    AUTO_FREE uint8_t *states = calloc(o->threads.n + 1, 1);
    uint32_t running[SCENE_CPUS];
    uint64_t now = o->trace->start_ns;
    ck_assert_ptr_nonnull(states);
    memset(running, 0xff, sizeof(running));
    for (size_t i = 0; i < o->threads.n; i++) {
        const struct exec_thread *t = &o->threads.items[i];
        states[i] = t->state;
        if (t->state != EXEC_RUNNING)
            continue;
        ck_assert_uint_eq(running[t->cpu], EXEC_NONE);
        running[t->cpu] = (uint32_t)i;
    }
    for (size_t i = 0; i < o->steps.n; i++) {
        ck_assert_uint_ge(o->steps.items[i].time_ns, now);
        now = o->steps.items[i].time_ns;
        assert_possible_step(o, &o->steps.items[i], states, running);
    }
}

static void assert_encodes(const struct exec_order *o)
{
    AUTO_FREE uint8_t *go = NULL, *perfetto = NULL, *chrome = NULL;
    size_t len = 0;
    ck_assert_int_eq(exec_encode_go(o, &go, &len), 0);
    ck_assert_mem_eq(go, "go 1.23 trace\0\0\0", 16);
    ck_assert_int_eq(exec_encode_perfetto(o, &perfetto, &len), 0);
    ck_assert_int_eq(exec_encode_chrome(o, &chrome, &len), 0);
    ck_assert_mem_eq(chrome + len - 2, "}\n", 2);
}

START_TEST(test_whole_stories_need_no_repair)
{
    for (uint64_t seed = 1; seed < 100; seed++) {
        scene_init(&scene, seed);
        scene_simulate(&scene, 3000, 0);
        ORDER(o);
        ck_assert_uint_gt(o->counts.events, 500);
        assert_counts(o, o->counts.events, 0, 0, 0);
        assert_possible(o);
        assert_encodes(o);
    }
}
END_TEST

START_TEST(test_lossy_stories_are_repaired)
{
    uint64_t invented = 0;
    for (uint64_t seed = 1; seed < 500; seed++) {
        scene_init(&scene, seed);
        scene_simulate(&scene, 600, scene_random(&scene, 400));
        ORDER(o);
        assert_possible(o);
        assert_encodes(o);
        invented += o->counts.invented;
    }
    ck_assert_uint_gt(invented, 1000);
}
END_TEST

START_TEST(test_chaos_is_put_in_order)
{
    for (uint64_t seed = 1; seed < 1000; seed++) {
        scene_init(&scene, seed);
        scene_chaos(&scene, 10 + scene_random(&scene, 400));
        ORDER(o);
        assert_possible(o);
        assert_encodes(o);
    }
}
END_TEST

/* ---- words and stacks */

START_TEST(test_reasons_hold_the_words_that_viewers_sort_by)
{
    static const struct {
        uint8_t state;
        uint16_t call;
        const char *reason, *words;
    } cases[] = {
        {EXEC_LOCK, 2, "sync (futex)", "lock (futex)"},
        {EXEC_LOCK, EXEC_NO_CALL, "sync", "lock"},
        {EXEC_OTHER, 3, "network", "wait (epoll_wait)"},
        {EXEC_IO, 4, "io (flush of a file)", "io (fsync)"},
        {EXEC_OTHER, 1, "wait (read)", "wait (read)"},
        {EXEC_SLEEP, 5, "network", "sleep (select)"},
        {EXEC_SLEEP, 6, "sleep (clock_nanosleep)", "sleep (clock_nanosleep)"},
        {EXEC_OTHER, 100, "wait", "wait"},
        {EXEC_RUNNABLE, 2, "preempted", "preempted"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        char reason[EXEC_WORDS_BYTES], words[EXEC_WORDS_BYTES];
        exec_reason(&scene.trace, cases[i].state, cases[i].call, reason);
        exec_state_words(&scene.trace, cases[i].state, cases[i].call, words);
        ck_assert_str_eq(reason, cases[i].reason);
        ck_assert_str_eq(words, cases[i].words);
    }
}
END_TEST

START_TEST(test_stacks_begin_at_the_threads_function)
{
    struct exec_shown shown = exec_stack_shown(&scene.trace, 1);
    ck_assert_uint_eq(shown.n_head, 5);
    ck_assert_uint_eq(shown.head[4], 3);
    ck_assert_uint_eq(shown.n_tail + shown.n_left_out, 0);
    ck_assert_uint_eq(exec_stack_root(&scene.trace, 1), 3);
    ck_assert_uint_eq(exec_stack_shown(&scene.trace, 2).n_head, 3);
    ck_assert_uint_eq(exec_stack_root(&scene.trace, 2), EXEC_NONE);
    ck_assert_uint_eq(exec_stack_shown(&scene.trace, 3).n_head, 0);
    ck_assert_uint_eq(exec_stack_root(&scene.trace, 3), EXEC_NONE);
    shown = exec_stack_shown(&scene.trace, 4);
    ck_assert_uint_eq(shown.n_head + 1 + shown.n_tail, EXEC_MAX_SHOWN_FRAMES);
    ck_assert_uint_eq(shown.n_head + shown.n_left_out + shown.n_tail, SCENE_DEEP);
    ck_assert_uint_eq(shown.tail[0], 3);
    ck_assert_uint_eq(exec_stack_shown(&scene.trace, 5).n_head, 2);
    ck_assert_uint_eq(exec_stack_root(&scene.trace, 5), EXEC_NONE);
}
END_TEST

static bool has(const uint8_t *data, size_t len, const char *text)
{
    return memmem(data, len, text, strlen(text));
}

/* A wait has those that the thread began it with; one without has none. */
START_TEST(test_waits_have_labels)
{
    static const char labels[] = "\"labels\":{\"request\":\"/a\\u0022b", more[] = "\"tenant\":\"7\"}}";
    for (uint32_t stack = 1; stack <= 2; stack++) {
        AUTO_FREE uint8_t *perfetto = NULL, *chrome = NULL;
        size_t len = 0;
        scene.n_events = 0;
        ADD(.type = EXEC_OUT, .time_ns = AT(50), .tid = 1001, .cpu = 1, .state = EXEC_LOCK, .stack = stack);
        ORDER(o);
        ck_assert_int_eq(exec_encode_chrome(o, &chrome, &len), 0);
        ck_assert_int_eq(has(chrome, len, labels), stack == 1);
        ck_assert_int_eq(has(chrome, len, more), stack == 1);
        ck_assert_int_eq(exec_encode_perfetto(o, &perfetto, &len), 0);
        ck_assert_int_eq(has(perfetto, len, "tenant") && has(perfetto, len, "request"), stack == 1);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("exec_trace");
    TCase *order = tcase_create("order");
    tcase_add_checked_fixture(order, setup, NULL);
    tcase_add_test(order, test_first_events_tell_how_threads_began);
    tcase_add_test(order, test_what_was_looked_up_yields_to_events);
    tcase_add_test(order, test_who_ran_all_the_time_had_a_cpu);
    tcase_add_test(order, test_lost_wake_is_made_up);
    tcase_add_test(order, test_early_wake_ends_the_wait_that_follows);
    tcase_add_test(order, test_early_wake_yields_to_a_later_one);
    tcase_add_test(order, test_wake_long_before_a_wait_does_not_end_it);
    tcase_add_test(order, test_one_thread_on_a_cpu);
    tcase_add_test(order, test_tids_are_given_again);
    tcase_add_test(order, test_events_outside_the_window_are_none);
    tcase_add_test(order, test_input_that_does_not_add_up);
    tcase_add_test(order, test_reasons_hold_the_words_that_viewers_sort_by);
    tcase_add_test(order, test_stacks_begin_at_the_threads_function);
    tcase_add_test(order, test_waits_have_labels);
    suite_add_tcase(suite, order);
    TCase *random = tcase_create("random");
    tcase_add_checked_fixture(random, setup, NULL);
    tcase_set_timeout(random, 60);
    tcase_add_test(random, test_whole_stories_need_no_repair);
    tcase_add_test(random, test_lossy_stories_are_repaired);
    tcase_add_test(random, test_chaos_is_put_in_order);
    suite_add_tcase(suite, random);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
