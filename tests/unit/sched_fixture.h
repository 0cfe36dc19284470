/* Sessions of the scheduler's events without a daemon: what its child does, done at once; what they count, and the threads of their targets. */
#pragma once

#include <bpf/bpf.h>
#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bpf/attach.h"
#include "bpf/sampler.h"
#include "bpf/sched.h"
#include "util/clock.h"

#define MAX_KEYS 4096

static struct sampler sampler;
static unsigned n_looked_at;

static void fill_ctl(uint32_t slot, pid_t pid, uint32_t kind)
{
    struct session_ctl *ctl = &sampler.ctl[slot];
    uint32_t instance = ctl->instance;
    memset(ctl, 0, sizeof(*ctl));
    ctl->instance = instance + 1;
    ctl->tgid = (uint32_t)pid;
    ctl->weight = NSEC_PER_MSEC;
    ctl->thin = 1;
    ctl->sched_kind = kind;
    ctl->state = SESSION_ARMED;
}

static void look_at(uint32_t slot)
{
    if (n_looked_at++ == 0)
        ck_assert_int_eq(sched_attach(&sampler), 0);
    sched_sweep(&sampler);
    ck_assert_int_eq(sched_add(&sampler, slot), 0);
}

static void look_away(uint32_t slot)
{
    if (sched_remove(&sampler, slot))
        sched_sweep(&sampler);
    if (--n_looked_at == 0)
        sched_detach(&sampler);
}

static void sleep_ms(long ms)
{
    struct timespec ts = {0, ms * 1000000};
    (void)nanosleep(&ts, NULL);
}

static void drop(uint32_t slot)
{
    look_away(slot);
    sampler.ctl[slot].state = SESSION_FREE;
}

static void end_child(pid_t pid, const int fds[2])
{
    (void)kill(pid, SIGKILL);
    ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
    close(fds[0]);
    close(fds[1]);
}

struct totals {
    uint64_t ns[SAMPLE_STATE_COUNT], all_ns, without_stack_ns;
};

static void add_total(struct totals *t, const struct sample_key *key, const struct sample_value *value)
{
    ck_assert_uint_lt(key->state, SAMPLE_STATE_COUNT);
    t->ns[key->state] += value->weight;
    t->all_ns += value->weight;
    if (!key->stack_hash[0] && key->state != SAMPLE_STATE_CPU)
        t->without_stack_ns += value->weight;
}

static void add_part(struct totals *t, const uint64_t hash[2], uint32_t state, const struct sample_value *value)
{
    struct sample_key key = {.stack_hash = {hash[0], hash[1]}, .state = state};
    add_total(t, &key, value);
}

/* What is kept beside threads that live. */
static void add_sums(struct totals *ret, uint32_t slot)
{
    struct thread_state t;
    uint64_t key, *from = NULL;

    for (; bpf_map_get_next_key(sampler.sched.threads, from, &key) == 0; from = &key) {
        if (bpf_map_lookup_elem(sampler.sched.threads, &key, &t) < 0 || t.sums.generation != sampler.ctl[slot].generation)
            continue;
        ck_assert_uint_eq(t.sums.slot, slot);
        add_part(ret, (uint64_t[2]){0}, SAMPLE_STATE_CPU, &(struct sample_value){0, t.sums.run_ns});
        for (size_t i = 0; i < SCHED_KNOWN_STACKS; i++) {
            add_part(ret, (const uint64_t *)t.sums.waits[i].hash, t.sums.waits[i].state, &t.sums.waits[i].wait);
            add_part(ret, (const uint64_t *)t.sums.waits[i].hash, SAMPLE_STATE_RUNQ, &t.sums.waits[i].queued);
        }
    }
}

/* From the session's table alone. */
static void read_table(const struct attachment *a, struct totals *ret)
{
    static struct sample_key keys[MAX_KEYS];
    static struct sample_value values[MAX_KEYS];
    uint32_t position, n = MAX_KEYS;

    int r = bpf_map_lookup_batch(a->counts_fd, NULL, &position, keys, values, &n, NULL);
    ck_assert(r == 0 || r == -ENOENT);
    *ret = (struct totals){0};
    for (uint32_t i = 0; i < n; i++)
        if (keys[i].tgid != 0)
            add_total(ret, &keys[i], &values[i]);
}

static inline void read_totals(const struct attachment *a, uint32_t slot, struct totals *ret)
{
    read_table(a, ret);
    add_sums(ret, slot);
}

/* The only thread of a child, once it is there. */
static uint64_t thread_at(pid_t pid, enum thread_place place, struct thread_state *ret)
{
    uint64_t key, *from = NULL;

    for (int i = 0; i < 20000; i++, from = NULL, sleep_ms(1)) /* a busy machine */
        for (; bpf_map_get_next_key(sampler.sched.threads, from, &key) == 0; from = &key)
            if (bpf_map_lookup_elem(sampler.sched.threads, &key, ret) == 0 && ret->tgid == (uint32_t)pid && ret->place == place)
                return key;
    ck_abort_msg("the child is never there");
}

/* main() of these tests, which need what they try. */
static int run_tests(const char *name, const TTest *const *tests, size_t n)
{
    char error[512];
    if (sampler_open(&sampler, error, sizeof(error)) < 0 || !sampler.sched.filter) {
        fprintf(stderr, "skipped: %s\n", sampler.sched_error[0] ? sampler.sched_error : error);
        return 77; /* meson: skipped */
    }
    Suite *suite = suite_create(name);
    TCase *tc = tcase_create(name);
    tcase_set_timeout(tc, 60);
    for (size_t i = 0; i < n; i++)
        tcase_add_test(tc, tests[i]);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_set_fork_status(runner, CK_NOFORK);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    sampler_close(&sampler);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
