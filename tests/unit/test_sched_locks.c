/* Waits for locks where the kernel does not tell of each switch: a child that waits and comes back unseen. Needs CAP_BPF and CAP_PERFMON; skipped
 * with the reason where BPF can't be loaded. */
#include <bpf/bpf.h>
#include <check.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "bpf/attach.h"
#include "bpf/sched.h"
#include "tests/unit/sched_fixture.h"
#include "util/cleanup.h"
#include "util/clock.h"

#define SLOT 3
#define HELD 2 /* the lock's word */
#define WAIT_MS 5 /* at least, for the lock */

struct shared {
    uint32_t word;
    uint32_t is_back;
};

/* A child that waits for a lock, after a byte, and then runs on, before all others where it may. */
static pid_t start_waiter(int go, struct shared *shared)
{
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)sched_setscheduler(0, SCHED_FIFO, &(struct sched_param){.sched_priority = 1});
    (void)!read(go, &(char){0}, 1);
    while (__atomic_load_n(&shared->word, __ATOMIC_ACQUIRE) == HELD)
        (void)syscall(SYS_futex, &shared->word, FUTEX_WAIT, HELD, NULL, NULL, 0);
    for (;;)
        __atomic_store_n(&shared->is_back, 1, __ATOMIC_RELEASE);
}

/* What is known of the child's thread, once it is one of its lock's waiters. */
static uint64_t wait_until_counted(pid_t pid, struct thread_state *ret)
{
    uint64_t task = 0;

    for (int i = 0; i < 20000; i++, sleep_ms(1)) {
        task = thread_at(pid, THREAD_WAITING, ret);
        if (ret->lock.state == LOCK_WAIT_COUNTED)
            return task;
    }
    ck_abort_msg("the child never waits for its lock");
}

/* Its wait ends while nobody looks. */
static void let_come_unseen(struct shared *shared)
{
    const int progs[] = {sampler.switch_prog, sampler.waking_prog};

    for (size_t i = 0; i < sizeof(progs) / sizeof(progs[0]); i++)
        close_fd(&sampler.sched.links[i]);
    __atomic_store_n(&shared->word, 0, __ATOMIC_RELEASE);
    (void)syscall(SYS_futex, &shared->word, FUTEX_WAKE, 1, NULL, NULL, 0);
    while (!__atomic_load_n(&shared->is_back, __ATOMIC_ACQUIRE))
        sleep_ms(1);
    for (size_t i = 0; i < sizeof(progs) / sizeof(progs[0]); i++) {
        sampler.sched.links[i] = bpf_raw_tracepoint_open(NULL, progs[i]);
        ck_assert_int_ge(sampler.sched.links[i], 0);
    }
}

/* kind: SCHED_*. Returns after the wait that nobody was told the end of has been looked at: what of it is counted. Nanoseconds. */
static void come_unseen(struct shared *shared, uint32_t kind, struct totals *ret, uint64_t *ret_most_ns)
{
    struct attachment a = ATTACHMENT_INIT;
    struct thread_state before, after;
    int go[2];

    shared->word = HELD;
    shared->is_back = 0;
    ck_assert_int_eq(pipe(go), 0);
    pid_t pid = start_waiter(go[0], shared);
    fill_ctl(SLOT, pid, kind);
    sampler.ctl[SLOT].fraction = 1;
    sampler.ctl[SLOT].rate = 1;
    ck_assert_int_eq(attach_maps(&sampler, SLOT, MAX_KEYS, 1 << 20, &a), 0);
    look_at(SLOT);
    sampler.ctl[SLOT].opened_ns = monotonic_ns();
    sampler.ctl[SLOT].state = SESSION_OPEN;
    ck_assert_int_eq(write(go[1], "x", 1), 1);
    uint64_t task = wait_until_counted(pid, &before);
    sleep_ms(WAIT_MS);
    let_come_unseen(shared);
    (void)kill(pid, SIGSTOP);
    do {
        sleep_ms(1);
        ck_assert_int_eq(bpf_map_lookup_elem(sampler.sched.threads, &task, &after), 0);
    } while (after.out_ns == before.out_ns);
    *ret_most_ns = after.out_ns - before.out_ns;
    ck_assert_uint_eq(after.lock.state, LOCK_WAIT_NONE);
    attach_end(&sampler, SLOT, &a);
    read_totals(&a, SLOT, ret);
    drop(SLOT);
    close_fd(&a.counts_fd);
    close_fd(&a.records_fd);
    end_child(pid, go);
}

/* Else it would wait there for as long as anybody looks, and each release would be charged for it. Some times: where it is off its CPU just as the
 * programs are back, they are told of its coming. */
START_TEST(test_who_came_back_unseen_waits_no_more)
{
    struct shared *shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    struct totals totals;
    uint64_t most_ns;

    ck_assert_ptr_ne(shared, MAP_FAILED);
    for (int n = 0; n < 10; n++)
        come_unseen(shared, SCHED_MUTEX, &totals, &most_ns);
    (void)munmap(shared, sizeof(*shared));
}
END_TEST

/* It has waited all the same. Of one that is off its CPU just as the programs are back it is not known how long it waited. */
START_TEST(test_a_wait_that_ended_unseen_counts)
{
    struct shared *shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct totals totals;
    uint64_t most_ns, longest_ns = 0;

    ck_assert_ptr_ne(shared, MAP_FAILED);
    for (int n = 0; n < 10; n++) {
        come_unseen(shared, SCHED_BLOCK, &totals, &most_ns);
        longest_ns = totals.all_ns > longest_ns ? totals.all_ns : longest_ns;
        ck_assert_uint_le(totals.all_ns, most_ns);
        ck_assert_uint_eq(totals.without_stack_ns, 0);
    }
    ck_assert_uint_ge(longest_ns, WAIT_MS * NSEC_PER_MSEC);
    (void)munmap(shared, sizeof(*shared));
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {test_who_came_back_unseen_waits_no_more, test_a_wait_that_ended_unseen_counts};

    return run_tests("sched_locks", tests, sizeof(tests) / sizeof(tests[0]));
}
