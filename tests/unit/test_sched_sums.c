/* Counts that the scheduler's programs keep beside a thread (bpf/sched_sums.h), for real: a child that is woken, and changes its name. Needs CAP_BPF
 * and CAP_PERFMON; skipped with the reason where BPF can't be loaded. */
#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "bpf/attach.h"
#include "tests/unit/sched_fixture.h"
#include "util/cleanup.h"
#include "util/clock.h"

/* A child that has another name after each byte. */
static pid_t start_renamer(int fd)
{
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (unsigned n = 0; read(fd, &(char){0}, 1) == 1; n++)
        (void)prctl(PR_SET_NAME, n % 2 ? "odd" : "even");
    _exit(0);
}

struct renamed {
    uint32_t slot;
    struct attachment a;
    struct totals totals;
};

static void renamed_begin(struct renamed *r, pid_t pid)
{
    r->a = (struct attachment)ATTACHMENT_INIT;
    fill_ctl(r->slot, pid, SCHED_WALL);
    ck_assert_int_eq(attach_maps(&sampler, r->slot, MAX_KEYS, 1 << 20, &r->a), 0);
    look_at(r->slot);
}

static void renamed_end(struct renamed *r)
{
    attach_end(&sampler, r->slot, &r->a);
    read_totals(&r->a, r->slot, &r->totals);
}

static void renamed_free(struct renamed *r)
{
    drop(r->slot);
    close_fd(&r->a.counts_fd);
    close_fd(&r->a.records_fd);
}

/* Sends bytes until the child's thread is as it should be. */
static void send_until(pid_t pid, int fd, bool (*is_so)(const struct thread_state *t), struct thread_state *ret)
{
    for (int n = 0; n < 10000; n++) {
        ck_assert_int_eq(write(fd, "x", 1), 1);
        (void)thread_at(pid, THREAD_WAITING, ret);
        if (is_so(ret))
            return;
        sleep_ms(1);
    }
    ck_abort_msg("the thread does not become so");
}

#define BOTH (1u << 3 | 1u << 4)

static bool is_settled(const struct thread_state *t)
{
    return (t->settled & BOTH) == BOTH;
}

static bool is_even(const struct thread_state *t)
{
    return strcmp(t->comm, "even") == 0;
}

static bool is_odd(const struct thread_state *t)
{
    return strcmp(t->comm, "odd") == 0;
}

static bool has_fifth(const struct thread_state *t)
{
    return t->sums.slot == 5;
}

static void check_name(const struct attachment *a, const char *name)
{
    struct sample_key key, *from = NULL;
    bool found = false;

    for (; bpf_map_get_next_key(a->counts_fd, from, &key) == 0; from = &key)
        found = found || (key.tgid && key.state == SAMPLE_STATE_IO && strcmp(key.comm, name) == 0);
    ck_assert_msg(found, "nothing of %s", name);
}

/* Sessions side by side have all of the thread's time, whoever's counts are kept beside it; each name its own. The next session has its counts there
 * once the first is gone. */
START_TEST(test_counts_beside_the_thread)
{
    struct renamed first = {.slot = 3}, second = {.slot = 4}, third = {.slot = 5};
    struct thread_state t;
    int fds[2];

    ck_assert_int_eq(pipe(fds), 0);
    pid_t pid = start_renamer(fds[0]);
    renamed_begin(&first, pid);
    renamed_begin(&second, pid);
    uint64_t opened_ns = monotonic_ns();
    for (uint32_t slot = 3; slot < 5; slot++) {
        sampler.ctl[slot].opened_ns = opened_ns;
        sampler.ctl[slot].state = SESSION_OPEN;
    }
    for (int n = 0; n < 2; n++) {
        send_until(pid, fds[1], is_even, &t);
        send_until(pid, fds[1], is_odd, &t);
    }
    uint64_t until_ns = monotonic_ns();
    for (uint32_t slot = 3; slot < 5; slot++)
        __atomic_store_n(&sampler.ctl[slot].until_ns, until_ns, __ATOMIC_RELEASE);
    send_until(pid, fds[1], is_settled, &t);
    ck_assert_uint_eq(t.sums.slot, first.slot);
    renamed_end(&first);
    renamed_end(&second);
    ck_assert_uint_eq(first.totals.all_ns, until_ns - opened_ns);
    ck_assert_uint_eq(second.totals.all_ns, until_ns - opened_ns);
    check_name(&first.a, "even");
    check_name(&first.a, "odd");
    renamed_free(&first);
    renamed_begin(&third, pid);
    sampler.ctl[third.slot].opened_ns = monotonic_ns();
    sampler.ctl[third.slot].state = SESSION_OPEN;
    send_until(pid, fds[1], has_fifth, &t);
    renamed_end(&third);
    renamed_free(&second);
    renamed_free(&third);
    end_child(pid, fds);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        test_counts_beside_the_thread,
    };
    return run_tests("sched_sums", tests, sizeof(tests) / sizeof(tests[0]));
}
