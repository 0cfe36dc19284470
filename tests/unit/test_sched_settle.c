/* Windows of the scheduler's events, settled: whatever was under way or never seen, the parts add up to the threads' lifetimes. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/sched_settle.h"

#define SLOT 2
#define OPENED 1000
#define UNTIL 2000
#define WINDOW (UNTIL - OPENED)
#define GENERATION 7
#define MAX 16

/* A window's parts, as they are put together. */
struct window {
    struct session_ctl ctl;
    struct raw_count counts[MAX], found[MAX];
    struct settle_thread closed[MAX], ended[MAX];
    struct settle_request q;
};

static void window_init(struct window *w)
{
    memset(w, 0, sizeof(*w));
    w->ctl = (struct session_ctl){.opened_ns = OPENED, .generation = GENERATION, .epoch = 5};
    w->q = (struct settle_request){.ctl = &w->ctl, .slot = SLOT, .until_ns = UNTIL, .running = true, .counts = w->counts, .closed = w->closed,
                                   .ended = w->ended, .found = w->found};
}

static void add_count(struct window *w, uint32_t tid, uint64_t stack, enum sample_state state, uint64_t samples, uint64_t ns)
{
    w->counts[w->q.n_counts++] = (struct raw_count){{.stack_hash = {stack, 9}, .tid = tid, .tgid = 1, .state = state}, {samples, ns}};
    if (stack == 0)
        w->counts[w->q.n_counts - 1].key.stack_hash[1] = 0;
}

static void add_found(struct window *w, uint32_t tid, uint64_t stack, enum sample_state state)
{
    w->found[w->q.n_found++] = (struct raw_count){{.stack_hash = {stack, 9}, .tid = tid, .tgid = 1, .state = state}, {1, 1}};
}

/* The thread at the window's end and a moment later: the same, unless the test changes one. */
static struct settle_thread *add_thread(struct window *w, uint32_t tid, enum thread_place place)
{
    struct settle_thread t = {.state = {.born_ns = tid, .in_ns = 1, .out_ns = 1, .generation = GENERATION, .tgid = 1, .tid = tid,
                              .place = place, .given = 1 << SLOT, .stack_hash = {{tid * 10, 9}}}};

    w->closed[w->q.n_closed++] = t;
    w->ended[w->q.n_ended++] = t;
    return &w->ended[w->q.n_ended - 1];
}

static void set_times(struct window *w, size_t i, uint64_t in_ns, uint64_t out_ns, uint64_t wake_ns, enum sample_state state)
{
    struct settle_thread *both[] = {&w->closed[i], &w->ended[i]};

    for (size_t j = 0; j < 2; j++) {
        both[j]->state.in_ns = in_ns;
        both[j]->state.out_ns = out_ns;
        both[j]->state.wake_ns = wake_ns;
        both[j]->state.state = state;
    }
}

static uint64_t total(const struct settle_result *r)
{
    uint64_t ns = 0;

    for (size_t i = 0; i < r->n_counts; i++)
        ns += r->counts[i].value.weight;
    return ns;
}

static uint64_t of_stack(const struct settle_result *r, uint32_t tid, uint64_t stack, enum sample_state state)
{
    uint64_t ns = 0;

    for (size_t i = 0; i < r->n_counts; i++)
        if (r->counts[i].key.tid == tid && r->counts[i].key.stack_hash[0] == stack && r->counts[i].key.state == state)
            ns += r->counts[i].value.weight;
    return ns;
}

static void settle(struct window *w, struct settle_result *ret)
{
    ck_assert_int_eq(sched_settle(&w->q, ret), 0);
    ck_assert_uint_eq(total(ret), ret->lifetimes_ns);
}

START_TEST(test_nothing)
{
    struct window w;
    struct settle_result r;

    window_init(&w);
    settle(&w, &r);
    ck_assert_uint_eq(r.n_counts + r.threads + r.lifetimes_ns, 0);
    free(r.counts);
}
END_TEST

/* What timers say of stacks is scaled to the exact time, to the last nanosecond. */
START_TEST(test_cpu_is_exact)
{
    struct window w;
    struct settle_result r;

    window_init(&w);
    add_count(&w, 1, 0, SAMPLE_STATE_CPU, 0, 900);
    add_count(&w, 1, 50, SAMPLE_STATE_CPU, 2, 200);
    add_count(&w, 1, 51, SAMPLE_STATE_CPU, 1, 100);
    add_count(&w, 1, 52, SAMPLE_STATE_SLEEP, 1, 3);
    add_thread(&w, 1, THREAD_RUNNING);
    set_times(&w, 0, 1903, 1500, 0, SAMPLE_STATE_SLEEP);
    settle(&w, &r);
    ck_assert_uint_eq(r.state_ns[SAMPLE_STATE_CPU], 997);
    ck_assert_uint_eq(of_stack(&r, 1, 50, SAMPLE_STATE_CPU) + of_stack(&r, 1, 51, SAMPLE_STATE_CPU), 997);
    ck_assert_uint_eq(of_stack(&r, 1, 51, SAMPLE_STATE_CPU), 332);
    ck_assert_uint_eq(r.threads, 1);
    ck_assert_uint_eq(r.unsampled_ns, 0);
    free(r.counts);
}
END_TEST

/* A thread that no timer met: by no stack that it waited with. */
START_TEST(test_cpu_without_samples)
{
    struct window w;
    struct settle_result r;
    const uint64_t unsampled[2] = SETTLE_UNSAMPLED_HASH;

    window_init(&w);
    add_count(&w, 1, 0, SAMPLE_STATE_CPU, 0, 100);
    add_count(&w, 1, 50, SAMPLE_STATE_LOCK, 1, 200);
    add_count(&w, 1, 51, SAMPLE_STATE_LOCK, 1, 600);
    add_thread(&w, 1, THREAD_WAITING);
    set_times(&w, 0, 1800, 1900, 0, SAMPLE_STATE_IO);
    settle(&w, &r);
    ck_assert_uint_eq(of_stack(&r, 1, 51, SAMPLE_STATE_LOCK), 600);
    ck_assert_uint_eq(of_stack(&r, 1, 10, SAMPLE_STATE_IO), 100);
    ck_assert_uint_eq(of_stack(&r, 1, unsampled[0], SAMPLE_STATE_CPU), 100);
    ck_assert_uint_eq(r.state_ns[SAMPLE_STATE_CPU], 100);
    ck_assert_uint_eq(r.unsampled_ns, 100);
    free(r.counts);
}
END_TEST

/* Threads that were found and never seen did the same all the time; what had ended is nobody. */
START_TEST(test_unmoved)
{
    struct window w;
    struct settle_result r;

    window_init(&w);
    add_found(&w, 1, 70, SAMPLE_STATE_IO);
    add_found(&w, 2, 71, SAMPLE_STATE_CPU);
    add_count(&w, 2, 60, SAMPLE_STATE_CPU, 1, 10);
    add_found(&w, 3, 72, SAMPLE_STATE_NONE);
    add_found(&w, 0, 73, SAMPLE_STATE_IO);
    settle(&w, &r);
    ck_assert_uint_eq(r.threads, 2);
    ck_assert_uint_eq(r.lifetimes_ns, 2 * WINDOW);
    ck_assert_uint_eq(of_stack(&r, 1, 70, SAMPLE_STATE_IO), WINDOW);
    ck_assert_uint_eq(of_stack(&r, 2, 60, SAMPLE_STATE_CPU), WINDOW);
    free(r.counts);
}
END_TEST

/* The wait that a thread was in at the beginning is what the dump found, or nobody knows. */
START_TEST(test_first_wait)
{
    struct window w;
    struct settle_result r;

    window_init(&w);
    for (uint32_t tid = 1; tid <= 3; tid++) {
        add_count(&w, tid, 0, SAMPLE_STATE_NONE, 1, 400);
        add_count(&w, tid, 0, SAMPLE_STATE_RUNQ, 0, 100);
        add_thread(&w, tid, THREAD_RUNNING);
        set_times(&w, tid - 1, 1500, 1, 0, SAMPLE_STATE_NONE);
    }
    add_found(&w, 1, 70, SAMPLE_STATE_LOCK);
    add_found(&w, 3, 71, SAMPLE_STATE_CPU);
    settle(&w, &r);
    ck_assert_uint_eq(of_stack(&r, 1, 70, SAMPLE_STATE_LOCK), 400);
    ck_assert_uint_eq(of_stack(&r, 1, 70, SAMPLE_STATE_RUNQ), 100);
    ck_assert_uint_eq(of_stack(&r, 1, 70, SAMPLE_STATE_CPU), 0);
    ck_assert_uint_eq(of_stack(&r, 3, 71, SAMPLE_STATE_CPU), 500); /* there the dump has seen it run */
    ck_assert_uint_eq(r.unsampled_ns, 1000);
    ck_assert_uint_eq(of_stack(&r, 2, 1, SAMPLE_STATE_OTHER), 400);
    ck_assert_uint_eq(of_stack(&r, 3, 71, SAMPLE_STATE_RUNQ), 500);
    ck_assert_uint_eq(r.unseen_ns, 500);
    free(r.counts);
}
END_TEST

static void set_sums(struct settle_thread *t, uint32_t slot, uint32_t generation)
{
    t->state.sums = (struct thread_sums){.slot = slot, .generation = generation, .run_ns = 500, .waits = {
        {.hash = {70, 9}, .epoch = 4, .state = SAMPLE_STATE_LOCK, .wait = {3, 200}, .queued = {0, 50}},
        {.epoch = 5, .state = SAMPLE_STATE_RUNQ, .queued = {1, 50}},
    }};
}

/* What programs kept beside a thread is the session's that it was kept for, and no other's; also of a thread that has died since. */
START_TEST(test_sums)
{
    struct window w;
    struct settle_result r;

    window_init(&w);
    for (uint32_t tid = 1; tid <= 2; tid++) {
        add_count(&w, tid, 60, SAMPLE_STATE_CPU, 1, 10);
        set_sums(add_thread(&w, tid, THREAD_RUNNING), SLOT, GENERATION);
        set_times(&w, tid - 1, 1800, 1, 0, SAMPLE_STATE_NONE);
    }
    w.ended[1].state.place = THREAD_DEAD;
    w.ended[1].state.out_ns = UNTIL + 10;
    for (uint32_t tid = 3; tid <= 4; tid++) {
        set_sums(add_thread(&w, tid, THREAD_RUNNING), SLOT + tid % 2, GENERATION + (tid + 1) % 2);
        set_times(&w, tid - 1, OPENED, 1, 0, SAMPLE_STATE_NONE);
    }
    settle(&w, &r);
    for (uint32_t tid = 1; tid <= 2; tid++) {
        ck_assert_uint_eq(of_stack(&r, tid, 60, SAMPLE_STATE_CPU), 700);
        ck_assert_uint_eq(of_stack(&r, tid, 70, SAMPLE_STATE_LOCK), 200);
        ck_assert_uint_eq(of_stack(&r, tid, 70, SAMPLE_STATE_RUNQ), 100); /* with that of no stack */
    }
    ck_assert_uint_eq(r.threads, 4);
    ck_assert_uint_eq(r.lifetimes_ns, 4 * WINDOW);
    ck_assert_uint_eq(r.unsampled_ns, 2 * WINDOW);
    ck_assert_uint_eq(r.counts[2].key.epoch, 4);
    free(r.counts);
}
END_TEST

/* Under way at the end: cut there, split where the thread was woken. */
START_TEST(test_under_way)
{
    struct window w;
    struct settle_result r;

    window_init(&w);
    add_thread(&w, 1, THREAD_WAITING);
    set_times(&w, 0, 5, 10, 1900, SAMPLE_STATE_SLEEP);
    add_thread(&w, 2, THREAD_QUEUED);
    set_times(&w, 1, 5, 10, 20, SAMPLE_STATE_RUNQ);
    add_thread(&w, 3, THREAD_UNSEEN);
    add_found(&w, 3, 70, SAMPLE_STATE_IO);
    add_thread(&w, 4, THREAD_WAITING);
    set_times(&w, 3, 5, 10, 0, SAMPLE_STATE_OTHER); /* began before the window, without a stack: the dump knows better */
    w.closed[3].state.given = w.ended[3].state.given = 0;
    add_found(&w, 4, 71, SAMPLE_STATE_LOCK);
    settle(&w, &r);
    ck_assert_uint_eq(of_stack(&r, 1, 10, SAMPLE_STATE_SLEEP), 900);
    ck_assert_uint_eq(of_stack(&r, 1, 10, SAMPLE_STATE_RUNQ), 100);
    ck_assert_uint_eq(of_stack(&r, 2, 20, SAMPLE_STATE_RUNQ), WINDOW);
    ck_assert_uint_eq(of_stack(&r, 3, 70, SAMPLE_STATE_IO), WINDOW);
    ck_assert_uint_eq(of_stack(&r, 4, 71, SAMPLE_STATE_LOCK), WINDOW);
    ck_assert_uint_eq(r.threads, 4);
    free(r.counts);
}
END_TEST

/* Where a program came first, nothing is counted twice; nor is what other sessions' programs have seen since. */
START_TEST(test_seen_since)
{
    struct window w;
    struct settle_result r;

    window_init(&w);
    add_count(&w, 1, 60, SAMPLE_STATE_SLEEP, 1, WINDOW);
    add_thread(&w, 1, THREAD_WAITING)->state.settled = 1 << SLOT;
    set_times(&w, 0, 5, 10, 0, SAMPLE_STATE_SLEEP);
    struct settle_thread *moved = add_thread(&w, 2, THREAD_WAITING);
    set_times(&w, 1, 5, 10, 0, SAMPLE_STATE_IO);
    moved->state.in_ns = 2500;
    moved->state.place = THREAD_RUNNING;
    moved = add_thread(&w, 3, THREAD_RUNNING);
    set_times(&w, 2, 5, 1, 0, SAMPLE_STATE_IO);
    moved->state.settled = 1 << SLOT; /* for an earlier session of the slot */
    moved->state.generation = GENERATION - 1;
    add_thread(&w, 4, THREAD_RUNNING);
    w.closed[3].state.born_ns = w.ended[3].state.born_ns = 2100;
    settle(&w, &r);
    ck_assert_uint_eq(of_stack(&r, 1, 60, SAMPLE_STATE_SLEEP), WINDOW);
    ck_assert_uint_eq(of_stack(&r, 2, 20, SAMPLE_STATE_IO), WINDOW);
    ck_assert_uint_eq(r.state_ns[SAMPLE_STATE_CPU], WINDOW);
    ck_assert_uint_eq(r.threads, 3);
    free(r.counts);
}
END_TEST

/* Threads that died as the window closed: by the programs' account, or by what was known just before. */
START_TEST(test_dead)
{
    struct window w;
    struct settle_result r;

    window_init(&w);
    w.ctl.deaths = 1;
    w.ctl.lifetimes_ns = WINDOW;
    add_count(&w, 1, 0, SAMPLE_STATE_CPU, 0, WINDOW);
    struct settle_thread *t = add_thread(&w, 1, THREAD_RUNNING);
    t->state.place = THREAD_DEAD;
    t->state.out_ns = 2100;
    t->state.settled = t->state.buried = 1 << SLOT;
    t = add_thread(&w, 2, THREAD_RUNNING);
    set_times(&w, 1, 5, 1, 0, SAMPLE_STATE_IO);
    t->state.place = THREAD_DEAD;
    t->state.out_ns = 2200;
    t = add_thread(&w, 3, THREAD_DEAD);
    t->state.out_ns = 900;
    settle(&w, &r);
    ck_assert_uint_eq(r.threads, 2);
    ck_assert_uint_eq(r.lifetimes_ns, 2 * WINDOW);
    free(r.counts);
}
END_TEST

/* Waits that were not walked are spread over those of the same thread and state that were. */
START_TEST(test_spread)
{
    struct window w;
    struct settle_result r;

    window_init(&w);
    add_count(&w, 1, 60, SAMPLE_STATE_LOCK, 1, 100);
    add_count(&w, 1, 61, SAMPLE_STATE_LOCK, 3, 300);
    add_count(&w, 1, 0, SAMPLE_STATE_LOCK, 4, 400);
    add_thread(&w, 1, THREAD_RUNNING);
    set_times(&w, 0, 1800, 1, 0, SAMPLE_STATE_IO);
    settle(&w, &r);
    ck_assert_uint_eq(of_stack(&r, 1, 60, SAMPLE_STATE_LOCK), 200);
    ck_assert_uint_eq(of_stack(&r, 1, 61, SAMPLE_STATE_LOCK), 600);
    ck_assert_uint_eq(r.spread_ns, 400);
    ck_assert_uint_eq(r.counts[0].value.samples + r.counts[1].value.samples, 8);
    ck_assert_uint_eq(r.counts[0].value.samples, 2);
    free(r.counts);
}
END_TEST

static void add_named(struct window *w, uint32_t tid, const char *name, uint64_t stack, uint64_t samples, uint64_t ns)
{
    add_count(w, tid, stack, SAMPLE_STATE_SLEEP, samples, ns);
    strncpy(w->counts[w->q.n_counts - 1].key.comm, name, CPROFD_COMM_LEN);
    w->ctl.lifetimes_ns += ns;
}

/* Threads of which no wait was walked have the stacks of others of their name: of those that stand for more than themselves. */
START_TEST(test_borrow)
{
    struct window w;
    struct settle_result r;

    window_init(&w);
    w.ctl.thin = 4;
    add_named(&w, 1, "short", 60, 1, 100);
    add_named(&w, 2, "short", 61, 1, 300);
    add_named(&w, 3, "short", 0, 1, 150);
    add_named(&w, 4, "short", 0, 1, 250);
    add_named(&w, 5, "short", 0, 1, 400);
    add_named(&w, 6, "short", 62, 500, 1000); /* of so many waits that some had to be walked */
    add_named(&w, 6, "short", 0, 499, 1000);
    add_named(&w, 7, "other", 0, 2, 77);
    settle(&w, &r);
    uint64_t sums[4] = {0}, samples = 0;
    for (size_t i = 0; i < r.n_counts; i++)
        if (r.counts[i].key.tid >= 3 && r.counts[i].key.tid <= 5) {
            ck_assert_uint_ge(r.counts[i].key.stack_hash[0], 60);
            sums[r.counts[i].key.stack_hash[0] - 60] += r.counts[i].value.weight;
            samples += r.counts[i].value.samples;
        }
    ck_assert_uint_eq(sums[0], 200);
    ck_assert_uint_eq(sums[1], 600);
    ck_assert_uint_eq(sums[2], 0);
    ck_assert_uint_eq(samples, 3);
    ck_assert_uint_eq(of_stack(&r, 6, 62, SAMPLE_STATE_SLEEP), 2000);
    ck_assert_uint_eq(of_stack(&r, 7, 1, SAMPLE_STATE_SLEEP), 77);
    ck_assert_uint_eq(r.borrowed_ns, 800);
    ck_assert_uint_eq(r.spread_ns, 1000);
    ck_assert_uint_eq(r.unseen_ns, 77);
    free(r.counts);
}
END_TEST

/* Where no time was saved a stack that is missing was lost for some other reason: nobody stands for it. Nor where nothing was walked. */
START_TEST(test_nothing_to_borrow)
{
    for (uint32_t thin = 1; thin <= 2; thin++) {
        struct window w;
        struct settle_result r;

        window_init(&w);
        w.ctl.thin = thin;
        if (thin == 1)
            add_named(&w, 1, "short", 60, 1, 100);
        add_named(&w, 2, "short", 0, 1, 150);
        settle(&w, &r);
        ck_assert_uint_eq(of_stack(&r, 2, 1, SAMPLE_STATE_SLEEP), 150);
        ck_assert_uint_eq(r.borrowed_ns, 0);
        ck_assert_uint_eq(r.unseen_ns, 150);
        free(r.counts);
    }
}
END_TEST

/* What a thread was found at is no better than others' stacks, unless it waits in the same state. */
START_TEST(test_found_or_borrowed)
{
    struct window w;
    struct settle_result r;

    window_init(&w);
    w.ctl.thin = 2;
    add_named(&w, 1, "", 60, 1, 100);
    add_named(&w, 2, "", 0, 1, 50);
    add_named(&w, 3, "", 0, 1, 70);
    add_found(&w, 2, 80, SAMPLE_STATE_SLEEP);
    add_found(&w, 3, 81, SAMPLE_STATE_IO);
    settle(&w, &r);
    ck_assert_uint_eq(of_stack(&r, 2, 80, SAMPLE_STATE_SLEEP), 50);
    ck_assert_uint_eq(of_stack(&r, 3, 60, SAMPLE_STATE_SLEEP), 70);
    ck_assert_uint_eq(r.borrowed_ns, 70);
    free(r.counts);
}
END_TEST

/* One that seems to run, but must have left its CPU, waits as it did last. */
START_TEST(test_missed_leave)
{
    struct window w;
    struct settle_result r;

    window_init(&w);
    add_thread(&w, 1, THREAD_RUNNING);
    set_times(&w, 0, 1200, 1100, 1150, SAMPLE_STATE_LOCK);
    w.closed[0].left_ns = 1300;
    add_count(&w, 1, 10, SAMPLE_STATE_LOCK, 1, 200);
    settle(&w, &r);
    ck_assert_uint_eq(of_stack(&r, 1, 10, SAMPLE_STATE_LOCK), 200 + 700);
    ck_assert_uint_eq(r.state_ns[SAMPLE_STATE_CPU], 100);
    ck_assert_uint_eq(r.missed, 1);
    free(r.counts);
}
END_TEST

/* offcpu has no time on the CPU. */
START_TEST(test_without_running)
{
    struct window w;
    struct settle_result r;

    window_init(&w);
    w.q.running = false;
    add_count(&w, 1, 60, SAMPLE_STATE_LOCK, 1, 100);
    add_thread(&w, 1, THREAD_RUNNING);
    add_found(&w, 2, 70, SAMPLE_STATE_CPU);
    add_found(&w, 3, 71, SAMPLE_STATE_SLEEP);
    ck_assert_int_eq(sched_settle(&w.q, &r), 0);
    ck_assert_uint_eq(r.state_ns[SAMPLE_STATE_CPU], 0);
    ck_assert_uint_eq(total(&r), 100 + WINDOW);
    free(r.counts);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("sched_settle");
    TCase *tc = tcase_create("sched_settle");

    tcase_add_test(tc, test_nothing);
    tcase_add_test(tc, test_cpu_is_exact);
    tcase_add_test(tc, test_cpu_without_samples);
    tcase_add_test(tc, test_unmoved);
    tcase_add_test(tc, test_first_wait);
    tcase_add_test(tc, test_sums);
    tcase_add_test(tc, test_under_way);
    tcase_add_test(tc, test_seen_since);
    tcase_add_test(tc, test_dead);
    tcase_add_test(tc, test_spread);
    tcase_add_test(tc, test_borrow);
    tcase_add_test(tc, test_nothing_to_borrow);
    tcase_add_test(tc, test_found_or_borrowed);
    tcase_add_test(tc, test_missed_leave);
    tcase_add_test(tc, test_without_running);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
