/* How much a slice stands for: targets of which all is known, as the attacher would measure them. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/attacher_work.h"
#include "daemon/duty_scale.h"
#include "util/clock.h"

#define WINDOW_NS (10 * NSEC_PER_SEC)
#define SLICES_NS NSEC_PER_SEC
#define HIT_NS 600

/* A thread that never waits: what it does takes so much of its own time, and a probe's hit price_ns of it beside that. */
struct player {
    double own_ns, price_ns;
    double cpus;   /* of one that it gets */
    double kernel; /* the part of its own time that it is in the kernel */
};

struct played {
    double ticks, bare, probed; /* parts of them */
};

static struct played players[8];
static uint32_t n_players;
static struct duty_work work;
static struct duty_window window;
static double seen, done;

static void begin(void)
{
    work = (struct duty_work){0};
    window = (struct duty_window){.window_ns = WINDOW_NS, .attached_ns = SLICES_NS, .hit_ns = HIT_NS};
    seen = done = 0;
    n_players = 0;
}

#define PARTS 10

/* Of the thread at i, in so many parts of equal length. */
static void tick(uint32_t tid, bool probed, double all, double own)
{
    for (double n = 0; n + 1 <= all; n++)
        duty_tick(&work, tid, probed, n + 1 <= own);
}

/* Of a slice's second ticks run for half, and hits are compared with CPU time in the rest. own_ns 0: it is never at what is probed. */
static void play(const struct player *p, double ticks)
{
    double hits = p->own_ns > 0 ? p->cpus * (double)SLICES_NS / (p->own_ns + p->price_ns) : 0;
    double own = p->own_ns > 0 ? p->own_ns / (p->own_ns + p->price_ns) : 1;
    double outside = p->own_ns > 0 ? p->cpus * (double)(WINDOW_NS - SLICES_NS) / p->own_ns : 0;

    window.cpu_ns += (uint64_t)(p->cpus * (double)WINDOW_NS);
    window.hits += (uint64_t)hits;
    work.cpu_ns += (uint64_t)(p->cpus * (double)SLICES_NS / 2);
    work.hits += (uint64_t)(hits / 2);
    players[n_players++] = (struct played){ticks * p->cpus, 1 - p->kernel, own * (1 - p->kernel)};
    seen += hits;
    done += hits + outside;
}

static void play_ticks(void)
{
    for (int part = 0; part < PARTS; part++) {
        for (uint32_t i = 0; i < n_players; i++) {
            double ticks = players[i].ticks / PARTS;
            tick(i + 1, false, ticks, ticks * players[i].bare);
            tick(i + 1, true, ticks, ticks * players[i].probed);
        }
        duty_part_end(&work, false);
        duty_part_end(&work, true);
    }
}

static struct duty_scale found(void)
{
    struct duty_scale scale;

    work.n_threads = 0;
    work.bare = work.probed = (struct duty_parts){0};
    (void)memset(work.threads, 0, sizeof(work.threads));
    play_ticks();
    duty_scale_find(&window, &work, &scale);
    return scale;
}

#define ck_near(value, expected, part) ck_assert_msg(fabs((value) / (expected) - 1) < (part), "%g, not %g", (double)(value), (double)(expected))

/* 10 million calls a second, of which a probe leaves one and a half; the price is known wrong by a tenth, and nothing hangs on it. */
START_TEST(test_ticks_tell)
{
    begin();
    play(&(struct player){.own_ns = 100, .price_ns = 660, .cpus = 1}, 10000);
    struct duty_scale scale = found();
    ck_assert_int_eq(scale.way, DUTY_BY_TICKS);
    ck_near(scale.factor, done / seen, 0.01);
    ck_assert(scale.error > 0.08 && scale.error < 0.12); /* of which the most is what code loses behind a probe */
    window.hit_ns = 0; /* nor on its being known */
    ck_near(found().factor, done / seen, 0.01);
    window.hit_ns = HIT_NS;
    players[0].ticks /= 50;
    ck_near(found().factor, done / seen, 0.35); /* parts of ticks are none */
    ck_assert(found().error > 0.15 && found().error < 0.4); /* some 20 ticks */
}
END_TEST

/* Time that a target is in the kernel by itself is no probe's. */
START_TEST(test_system_calls_of_its_own)
{
    begin();
    play(&(struct player){.own_ns = 1000, .price_ns = HIT_NS, .cpus = 1, .kernel = 0.6}, 20000);
    struct duty_scale scale = found();
    ck_near(scale.factor, done / seen, 0.02);
}
END_TEST

/* One allocates all the time, one computes and never allocates, one does both: on the whole they are slowed by a third, and what was seen by the
 * first stands for eight times as much as time says. */
START_TEST(test_threads_that_differ)
{
    const struct player sorts[] = {{.own_ns = 90, .price_ns = HIT_NS, .cpus = 1}, {.cpus = 1}, {.own_ns = 20000, .price_ns = HIT_NS, .cpus = 1}};

    begin();
    for (size_t i = 0; i < sizeof(sorts) / sizeof(sorts[0]); i++)
        play(&sorts[i], 10000);
    struct duty_scale scale = found();
    ck_assert_int_eq(scale.way, DUTY_BY_TICKS);
    ck_near(scale.factor, done / seen, 0.05);
    ck_assert(scale.factor > 6 * (double)WINDOW_NS / (double)SLICES_NS);
    for (uint32_t i = 0; i < n_players; i++) /* they were never seen in their own code */
        players[i].bare = 0;
    ck_assert_int_eq(found().way, DUTY_BY_TIME); /* a price knows of no threads */
    ck_assert(!isfinite(found().error));
}
END_TEST

/* The scheduler gives the CPU to one of two threads for most of a part: more ticks tell no more of it. */
START_TEST(test_parts_that_differ)
{
    struct duty_scale scale;

    begin();
    window.hits = 1400000, work.hits = 700000, work.cpu_ns = NSEC_PER_SEC, window.cpu_ns = 20 * NSEC_PER_SEC;
    for (int part = 0; part < PARTS; part++) {
        for (int probed = 0; probed < 2; probed++) {
            tick(1, probed, part % 2 ? 900 : 100, (part % 2 ? 900 : 100) / (probed ? 7 : 1));
            tick(2, probed, part % 2 ? 100 : 900, part % 2 ? 100 : 900);
            duty_part_end(&work, probed);
        }
    }
    duty_scale_find(&window, &work, &scale);
    ck_assert_int_eq(scale.way, DUTY_BY_TICKS);
    ck_assert(scale.error > 0.4 && scale.error < 0.8);
}
END_TEST

/* Many of which none has ticks enough are as if they were alike, and nobody knows whether they are. */
START_TEST(test_threads_that_pass)
{
    struct duty_scale scale;

    begin();
    window.hits = 1400000, work.hits = 700000, work.cpu_ns = NSEC_PER_SEC, window.cpu_ns = 20 * NSEC_PER_SEC;
    for (int probed = 0; probed < 2; probed++) {
        for (uint32_t tid = 1; tid <= 200; tid++)
            tick(tid, probed, 5, probed ? 1 : 5);
        duty_part_end(&work, probed);
    }
    duty_scale_find(&window, &work, &scale);
    ck_assert_int_eq(scale.way, DUTY_BY_TICKS);
    ck_assert(scale.error > 0.9 && scale.factor > 30);
}
END_TEST

/* More threads than there is room for are counted as one. */
START_TEST(test_many_threads)
{
    begin();
    for (uint32_t tid = 1; tid <= 2 * DUTY_MAX_THREADS; tid++)
        duty_tick(&work, tid, false, true);
    ck_assert_uint_eq(work.n_threads, DUTY_MAX_THREADS);
    ck_assert_uint_eq(work.threads[DUTY_MAX_THREADS - 2].tid, DUTY_MAX_THREADS - 1);
    ck_assert_uint_eq(work.threads[DUTY_MAX_THREADS - 1].tid, 0);
    ck_assert_uint_eq(work.threads[DUTY_MAX_THREADS - 1].bare.all, DUTY_MAX_THREADS + 1);
}
END_TEST

/* One that was never seen at its own code is left out where it hardly matters. */
START_TEST(test_threads_of_few_ticks)
{
    begin();
    play(&(struct player){.own_ns = 100, .price_ns = HIT_NS, .cpus = 1}, 10000);
    players[n_players++] = (struct played){.ticks = 20};
    ck_near(found().factor, done / seen, 0.02);
    players[1].ticks = 5000;
    ck_assert_int_ne(found().way, DUTY_BY_TICKS);
}
END_TEST

/* Few hits: the time tells. With no price it is not known how well. */
START_TEST(test_cheap)
{
    begin();
    play(&(struct player){.own_ns = 1e6, .price_ns = HIT_NS, .cpus = 1}, 10000);
    ck_assert_int_eq(found().way, DUTY_BY_TIME);
    ck_near(found().factor, 10, 0.001);
    ck_assert(found().error < 0.01);
    window.hit_ns = 0;
    window.cpu_ns = 0;
    ck_assert(!isfinite(found().error));
}
END_TEST

/* A server that uses a fiftieth of a CPU, and in slices half as much again, for its probes: it does as much as ever. Where it does not use more it
 * has lost a third, or has been given less CPU. */
START_TEST(test_waiting)
{
    begin();
    window.hits = work.hits = 20000;
    work.cpu_ns = 30 * NSEC_PER_MSEC;
    window.cpu_ns = 9 * 20 * NSEC_PER_MSEC + work.cpu_ns;
    ck_assert_int_eq(found().way, DUTY_BY_TIME);
    ck_near(found().factor, 10, 0.001);
    ck_assert(found().error > 0.02 && found().error < 0.03);
    window.cpu_ns = 10 * work.cpu_ns;
    ck_assert_int_eq(found().way, DUTY_BY_PRICE);
    ck_near(found().factor, 1 + 9 * 30 / 18.0, 0.001);
}
END_TEST

/* The one slice has three times the hits of the other. */
START_TEST(test_slices_that_differ)
{
    begin();
    window.hits = 8000;
    window.cpu_ns = 9 * 20 * NSEC_PER_MSEC + 40 * NSEC_PER_MSEC;
    for (uint64_t i = 0; i < 10; i++)
        duty_count(&work, SLICES_NS / 10, i % 2 ? 1200 : 400, 4 * NSEC_PER_MSEC, 0);
    ck_assert_uint_eq(work.hits, 8000);
    ck_assert_int_ne(found().way, DUTY_BY_TICKS);
    ck_assert(found().error > 0.12 && found().error < 0.2); /* hits go with CPU time no better than with time */
}
END_TEST

/* So few ticks that the price is better, which is known to a fifth, and says how much that makes. */
START_TEST(test_price)
{
    begin();
    play(&(struct player){.own_ns = 3000, .price_ns = HIT_NS, .cpus = 1}, 20);
    struct duty_scale scale = found();
    ck_assert_int_eq(scale.way, DUTY_BY_PRICE);
    ck_near(scale.factor, done / seen, 0.001);
    ck_assert(scale.error > 0.04 && scale.error < 0.07);
    work.overhead_ns = work.hits * 200; /* of which samples took as much */
    ck_near(found().factor, (done - seen) / seen * 3000 / 2800 + 1, 0.001);
    players[0].ticks = 0; /* where nobody has looked at threads, there may be others */
    ck_assert_int_eq(found().way, DUTY_BY_TIME);
    window.hit_ns = 4000; /* more than there is: it can't be so */
    ck_assert_int_eq(found().way, DUTY_BY_TIME);
    ck_assert(!isfinite(found().error));
}
END_TEST

/* Another program takes the CPU for most of the slices, and for nothing of the rest: time would be far off. */
START_TEST(test_less_cpu_in_slices)
{
    begin();
    play(&(struct player){.own_ns = 1000, .price_ns = HIT_NS, .cpus = 1}, 10000);
    double outside = done - seen;
    window.hits /= 4;
    work.hits /= 4;
    work.cpu_ns /= 4;
    window.cpu_ns -= SLICES_NS * 3 / 4;
    ck_near(found().factor, (outside + seen / 4) / (seen / 4), 0.01);
}
END_TEST

/* Hits while probes come and go are no less hits. */
START_TEST(test_unseen_hits)
{
    begin();
    play(&(struct player){.own_ns = 1000, .price_ns = HIT_NS, .cpus = 1}, 10000);
    double factor = found().factor;
    window.unseen_hits = window.hits / 10;
    window.cpu_ns += window.unseen_hits * 1600;
    ck_near(found().factor, factor + 0.1, 0.001);
}
END_TEST

/* Nothing was seen, or the window was all slice. */
START_TEST(test_edges)
{
    begin();
    ck_near(found().factor, 10, 0.001);
    ck_assert(found().error == 0);
    play(&(struct player){.own_ns = 100, .price_ns = HIT_NS, .cpus = 1}, 10000);
    window.attached_ns = WINDOW_NS + 1;
    window.cpu_ns = 1;
    struct duty_scale scale = found();
    ck_assert(scale.factor == 1 && scale.error == 0);
    work.cpu_ns = 0; /* no part of a slice lay in the window */
    ck_assert(found().way == DUTY_BY_TIME && found().factor == 1 && found().error > 0.1);
}
END_TEST

START_TEST(test_jumps)
{
    static const struct {
        uint8_t code[6];
        long len;
        int64_t to; /* 0: behind itself */
    } insns[] = {{{0x55}, 6, 0}, {{0x74, 0x3e}, 6, 0x40}, {{0x75, 0xf0}, 2, -14}, {{0xeb, 0x10}, 6, 0x12}, {{0xe9, 0, 1, 0, 0}, 6, 0x105},
                 {{0xe8, 0xfb, 0xff, 0xff, 0xff}, 5, 0}, {{0x0f, 0x84, 0x10, 0, 0, 0}, 6, 0x16}, {{0x0f, 0x84, 0x10}, 3, 0}, {{0x0f, 0x1f}, 6, 0},
                 {{0x74}, 1, 0}, {{0x74}, 0, 0}, {{0x74}, -1, 0}};

    for (size_t i = 0; i < sizeof(insns) / sizeof(insns[0]); i++) {
        int64_t to = 0;
        (void)attacher_work_jump(insns[i].code, insns[i].len, &to);
        ck_assert_int_eq(to, insns[i].to);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("duty_scale");
    TCase *c = tcase_create("all");
    tcase_add_test(c, test_ticks_tell);
    tcase_add_test(c, test_system_calls_of_its_own);
    tcase_add_test(c, test_threads_that_differ);
    tcase_add_test(c, test_threads_of_few_ticks);
    tcase_add_test(c, test_parts_that_differ);
    tcase_add_test(c, test_threads_that_pass);
    tcase_add_test(c, test_many_threads);
    tcase_add_test(c, test_cheap);
    tcase_add_test(c, test_waiting);
    tcase_add_test(c, test_slices_that_differ);
    tcase_add_test(c, test_price);
    tcase_add_test(c, test_less_cpu_in_slices);
    tcase_add_test(c, test_unseen_hits);
    tcase_add_test(c, test_edges);
    tcase_add_test(c, test_jumps);
    suite_add_tcase(suite, c);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
