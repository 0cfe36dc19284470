/* What ticks sample, on a clock of the test's own: the code that runs in the kernel, and the draws that the attacher makes. Many windows
 * make the mean and the variance of what a profile says; both are compared with what random sampling would give. */
#include <check.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

#include "bpf/timers.h"
#include "util/clock.h"

static unsigned short random_state[3] = {1, 2, 3};

static __u64 random_bits(void)
{
    return (__u64)(erand48(random_state) * 0x1p48) << 16 | (__u64)(erand48(random_state) * 0x1p16);
}

#include "bpf/tick.h"

#define START_NS (1000 * NSEC_PER_SEC) /* of each window: what comes before it is history */

/* One timer on one CPU, as the kernel and the attacher make it. */
struct timer {
    struct tick tick;
    struct timer_phase phase;
    uint64_t began_ns, next_ns, interval_ns, last_due_ns, seed;
};

/* A target alone on a CPU that runs for busy_ns of each cycle_ns, from a random moment on; its function number i is what runs in
 * [edges[i], edges[i + 1]) of the busy time. */
struct target {
    uint64_t cycle_ns, busy_ns, offset_ns;
    double first, last; /* the function that is looked at: parts of the busy time */
    bool holds_timers;  /* its idle CPU makes timers late until it runs again, as some virtual machines do */
};

struct sums {
    double samples, in_function, expected;
    double square_error; /* of the function's share, in variances of as many independent samples */
    double square_total; /* of the total, relative */
    double missed, late;
    int windows;
};

static uint64_t place(const struct target *target, uint64_t at_ns)
{
    return (at_ns + target->offset_ns) % target->cycle_ns;
}

static void tell_phase(struct timer *t, struct timers *timers, uint64_t at_ns)
{
    t->began_ns = at_ns;
    t->next_ns = at_ns + t->interval_ns;
    t->phase = (struct timer_phase){t->phase.sequence + 2, 0, t->next_ns - 2000, t->next_ns + 1000, t->interval_ns, t->last_due_ns, t->seed,
                                    timers_bits(timers)};
}

static void start_timer(struct timer *t, struct timers *timers)
{
    struct timer_draw draw;

    *t = (struct timer){0};
    timers_draw(timers, &draw);
    t->seed = timers_bits(timers);
    t->interval_ns = draw.interval_ns;
    t->last_due_ns = START_NS - draw.age_ns - draw.broken_ns;
    tell_phase(t, timers, START_NS - draw.age_ns);
}

static void renew_timer(struct timer *t, struct timers *timers, uint64_t at_ns)
{
    uint64_t ticks = (at_ns - t->began_ns) / t->interval_ns;

    if (ticks > 0)
        t->last_due_ns = t->began_ns + ticks * t->interval_ns;
    t->interval_ns = timers_interval(timers);
    tell_phase(t, timers, at_ns);
}

/* A tick comes where it is due, or when the target runs again. */
static uint64_t comes_at(const struct target *target, uint64_t due_ns)
{
    uint64_t at = place(target, due_ns);
    return !target->holds_timers || at < target->busy_ns ? due_ns : due_ns + target->cycle_ns - at + 500;
}

static void tick(struct timer *t, const struct timers *timers, const struct target *target, uint64_t now_ns, struct sums *ret)
{
    struct tick_result result;
    uint64_t at = place(target, now_ns);

    tick_take(&t->tick, &t->phase, 7, timers->gap_ns, now_ns, &result);
    if (at >= target->busy_ns)
        return;
    ret->missed += (double)result.missed;
    if (result.late_ns > at) {
        ret->late += (double)result.samples;
        return;
    }
    double part = (double)at / (double)target->busy_ns;
    ret->samples += (double)result.samples;
    if (part >= target->first && part < target->last)
        ret->in_function += (double)result.samples;
}

static void run_timer(struct timer *t, struct timers *timers, const struct target *target, uint64_t window_ns, bool renewed,
                      struct sums *ret)
{
    uint64_t end_ns = START_NS + window_ns, renewal_ns = UINT64_MAX;
    uint32_t which;

    if (renewed)
        renewal_ns = START_NS + timers_next_renewal(timers, 1, &which);
    for (;;) {
        uint64_t next_ns = comes_at(target, t->next_ns);
        if ((next_ns < renewal_ns ? next_ns : renewal_ns) >= end_ns)
            return;
        if (renewal_ns <= next_ns) {
            renew_timer(t, timers, renewal_ns);
            renewal_ns += timers_next_renewal(timers, 1, &which);
            continue;
        }
        tick(t, timers, target, next_ns, ret);
        while (t->next_ns <= next_ns)
            t->next_ns += t->interval_ns;
    }
}

static void run_window(struct timers *timers, struct target *target, uint64_t period_ns, uint64_t window_ns, bool renewed,
                       struct sums *sums)
{
    struct sums one = {0};
    struct timer timer;

    target->offset_ns = random_bits() % target->cycle_ns;
    for (int i = 0; i < CPROFD_TIMERS_PER_CPU; i++) {
        start_timer(&timer, timers);
        run_timer(&timer, timers, target, window_ns, renewed, &one);
    }
    double busy = (double)target->busy_ns / (double)target->cycle_ns, share = target->last - target->first;
    double expected = (double)window_ns / (double)period_ns * busy;
    sums->expected += expected;
    sums->samples += one.samples;
    sums->in_function += one.in_function;
    sums->late += one.late;
    sums->missed += one.missed;
    sums->square_total += pow(one.samples / expected - 1, 2);
    if (one.samples > 0)
        sums->square_error += pow(one.in_function / one.samples - share, 2) / (share * (1 - share) / one.samples);
    sums->windows++;
}

static struct sums run_windows(struct target *target, uint64_t period_ns, uint64_t window_ns, int windows, bool renewed)
{
    struct sums sums = {0};
    struct timers timers;

    for (int i = 0; i < windows; i++) {
        timers_init(&timers, period_ns, 2, random_bits());
        run_window(&timers, target, period_ns, window_ns, renewed, &sums);
    }
    return sums;
}

/* Part 9 of ten_series: its share shows lockstep best. */
static struct target busy_target(double cycle_ns)
{
    return (struct target){.cycle_ns = (uint64_t)cycle_ns, .busy_ns = (uint64_t)cycle_ns, .first = 36. / 55, .last = 45. / 55};
}

static const double near_paces[] = {1. / 3, 0.5, 2. / 3, 0.8, 0.85, 0.9, 0.95, 1, 1.05, 1.1, 1.2, 1.5, 2, 3};
#define N_NEAR (int)(sizeof(near_paces) / sizeof(near_paces[0]))

/* A target whose cycle is the mean interval of the timers, or has a simple ratio to it: shares vary hardly more than those of samples
 * that know nothing of one another, and totals are nearly exact. */
START_TEST(test_no_cycle_keeps_in_step)
{
    static const struct {
        uint64_t period_ns, window_ns;
        double total; /* relative deviation: a sample or two */
    } rates[] = {
        {1001001, 4 * NSEC_PER_SEC, 0.0005}, {2004008, 4 * NSEC_PER_SEC, 0.001}, {10000000, 8 * NSEC_PER_SEC, 0.0025},
        {52631579, 30 * NSEC_PER_SEC, 0.0025},
    };

    for (size_t r = 0; r < sizeof(rates) / sizeof(rates[0]); r++) {
        struct timers timers;
        timers_init(&timers, rates[r].period_ns, 2, 1);
        struct target target = busy_target(near_paces[_i] * (double)timers.pace_ns);
        struct sums s = run_windows(&target, rates[r].period_ns, rates[r].window_ns, 400, true);
        ck_assert_double_le(s.square_error / s.windows, 2.6);
        ck_assert_double_le(sqrt(s.square_total / s.windows), rates[r].total);
        ck_assert_double_le(fabs(s.samples / s.expected - 1), 4.5 / sqrt(s.windows) * rates[r].total);
        ck_assert(s.missed + s.late == 0);
    }
}
END_TEST

/* And without renewals a timer would keep in step, which this test would see. */
START_TEST(test_unrenewed_timers_would)
{
    struct target target = busy_target(1.0 * 3 * 2004008);
    struct sums s = run_windows(&target, 2004008, 60 * NSEC_PER_SEC, 100, false);
    ck_assert_double_gt(s.square_error / s.windows, 10);
}
END_TEST

/* Short windows, merged: a program that runs a part of its cycle gets its time and no more, whether its CPU's timers come while it is idle or
 * only when it runs again. */
START_TEST(test_merged_windows_are_true)
{
    static const struct {
        uint64_t period_ns, window_ns, cycle_ns, busy_ns;
        bool holds_timers;
    } cases[] = {
        {10000000, 20000000, 10000000, 10000000, false}, {10000000, 20000000, 10000000, 1000000, false},
        {10000000, 20000000, 10000000, 1000000, true},   {2004008, 300000000, 6012024, 3000000, false},
        {2004008, 300000000, 6012024, 3000000, true},    {100000, 5000000, 300000, 70000, false},
        {52631579, 100000000, 5500000, 2000000, false},  {10000000, 900000000, 30000000, 15000000, true},
    };
    struct target target = {.cycle_ns = cases[_i].cycle_ns, .busy_ns = cases[_i].busy_ns, .first = 0.4, .last = 0.7,
                            .holds_timers = cases[_i].holds_timers};
    struct sums s = run_windows(&target, cases[_i].period_ns, cases[_i].window_ns, 40000, true);

    /* How much the windows' totals differ says how much their mean may. */
    double error = 5 * sqrt(s.square_total / s.windows / s.windows), share_error = 5 * sqrt(2.6 * 0.3 * 0.7 / s.samples);
    /* What was due in the last TICK_LATE_NS before the target runs passes for in time, and now and then a grid seems to have moved. */
    double held = target.holds_timers ? 1.5 * TICK_LATE_NS / (double)target.busy_ns : 0;
    ck_assert_double_le(error, 0.1);
    ck_assert_double_le(fabs(s.samples / s.expected - 1), error + held);
    ck_assert_double_le(fabs(s.in_function / s.samples - 0.3), share_error + 0.3 * held);
    ck_assert(s.missed + s.late == 0 || target.holds_timers);
}
END_TEST

static struct timer_phase phase_at(uint32_t sequence, uint64_t began_ns, uint64_t interval_ns, uint64_t last_due_ns)
{
    return (struct timer_phase){sequence, 0, began_ns + interval_ns, began_ns + interval_ns, interval_ns, last_due_ns, random_bits(), random_bits()};
}

#define GAP_NS 6000000ull

static struct tick_result take(struct tick *t, struct timer_phase *phase, uint64_t now_ns)
{
    struct tick_result result;
    tick_take(t, phase, 1, GAP_NS, now_ns, &result);
    return result;
}

/* The tick before a renewal may come while the phase is being changed, or after that and before the ioctl: it is one of the old interval.
 * The first of the new one is in time. */
START_TEST(test_tick_beside_a_renewal)
{
    uint64_t at = START_NS, began;
    struct tick t = {0};
    struct timer_phase phase = phase_at(2, at, GAP_NS, at);

    for (int i = 0; i < 20; i++) {
        ck_assert_uint_eq(take(&t, &phase, at += GAP_NS).late_ns, 0);
        struct timer_phase changing = phase_at(phase.sequence + 1, 7, 7, 7);
        ck_assert_uint_eq(take(&t, &changing, at += GAP_NS).late_ns, 0);
        struct timer_phase next = phase_at(phase.sequence + 2, at + GAP_NS - 5000, GAP_NS - 200000, at);
        struct tick_result old = take(&t, &next, at += GAP_NS);
        ck_assert_uint_eq(old.late_ns + old.missed, 0);
        began = at + 3000000;
        phase = phase_at(next.sequence + 2, began, GAP_NS, at);
        at = began + GAP_NS;
        struct tick_result first = take(&t, &phase, at + 40000);
        ck_assert_uint_eq(first.late_ns + first.missed, 0);
        ck_assert_uint_eq(take(&t, &phase, at += GAP_NS).late_ns, 0);
        ck_assert_uint_ge(take(&t, &phase, at + GAP_NS + 3000000).late_ns, 2900000);
        at += GAP_NS;
    }
}
END_TEST

/* Ticks that never came are told apart from those that did, over a renewal too; a grid that moved is followed. */
START_TEST(test_missed_ticks)
{
    uint64_t at = START_NS, missed = 0, samples = 0;
    struct tick t = {0};
    struct timer_phase phase = phase_at(2, at, GAP_NS, at);
    struct tick_result r = take(&t, &phase, at += GAP_NS);

    r = take(&t, &phase, at += 11 * GAP_NS);
    ck_assert_uint_eq(r.late_ns, 0);
    ck_assert_uint_eq(r.missed + r.samples, 11);
    ck_assert_uint_eq(r.missed, 10);
    /* Five more would have come before the renewal. */
    phase = phase_at(4, at + 5 * GAP_NS + 1000000, GAP_NS, at + 5 * GAP_NS);
    r = take(&t, &phase, at += 6 * GAP_NS + 1000000);
    ck_assert_uint_eq(r.missed, 5);
    ck_assert_uint_le(r.samples, 2);
    /* The grid moves by a third of an interval. */
    r = take(&t, &phase, at += GAP_NS + GAP_NS / 3);
    ck_assert_uint_gt(r.late_ns, TICK_LATE_NS);
    for (int i = 0; i < 9; i++) {
        r = take(&t, &phase, at += GAP_NS);
        ck_assert_uint_eq(r.late_ns, 0);
        missed += r.missed;
        samples += r.samples;
    }
    ck_assert_uint_eq(missed, 0);
    ck_assert_uint_ge(samples, 9);
}
END_TEST

/* The daemon's next session in a slot begins afresh; a slot whose timers were never started samples nothing. */
START_TEST(test_instances)
{
    struct tick t = {0};
    struct timer_phase phase = {0};

    ck_assert_uint_eq(take(&t, &phase, START_NS).samples, 0);
    phase = phase_at(2, START_NS, GAP_NS, START_NS);
    (void)take(&t, &phase, START_NS + GAP_NS);
    struct tick_result result;
    phase = phase_at(4, 2 * START_NS, GAP_NS, 2 * START_NS);
    tick_take(&t, &phase, 2, GAP_NS, 2 * START_NS + GAP_NS, &result);
    ck_assert_uint_eq(result.missed + result.late_ns, 0);
    ck_assert_uint_le(result.samples, 2);
    /* A gap longer than the machine runs. */
    for (int i = 0; i < 1000; i++) {
        t.instance = 0;
        tick_take(&t, &phase, 3, 100 * START_NS, 2 * START_NS + GAP_NS, &result);
        ck_assert(t.next_ns > 2 * START_NS && t.next_ns < 250 * START_NS);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tick");
    TCase *tc = tcase_create("tick");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, test_no_cycle_keeps_in_step, 0, N_NEAR);
    tcase_add_test(tc, test_unrenewed_timers_would);
    tcase_add_loop_test(tc, test_merged_windows_are_true, 0, 8);
    tcase_add_test(tc, test_tick_beside_a_renewal);
    tcase_add_test(tc, test_missed_ticks);
    tcase_add_test(tc, test_instances);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
