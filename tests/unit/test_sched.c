/* The scheduler's programs for real, without a daemon: a child whose threads wait and run for known times, and whose counts add up to its
 * threads' lifetimes, to the nanosecond. Needs CAP_BPF and CAP_PERFMON; skipped with the reason where BPF can't be loaded. */
#include <bpf/bpf.h>
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bpf/attach.h"
#include "bpf/sched.h"
#include "tests/unit/sched_fixture.h"
#include "util/cleanup.h"
#include "util/clock.h"

#define UNIT_MS 30

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static int empty[2];

static void burn_ms(uint64_t ms)
{
    uint64_t end = clock_ns(CLOCK_THREAD_CPUTIME_ID) + ms * NSEC_PER_MSEC;
    while (clock_ns(CLOCK_THREAD_CPUTIME_ID) < end)
        ;
}

static void *take_lock(void *arg)
{
    (void)pthread_setname_np(pthread_self(), "locker");
    (void)pthread_mutex_lock(&mutex);
    (void)pthread_mutex_unlock(&mutex);
    return NULL;
}

static void *read_pipe(void *arg)
{
    (void)pthread_setname_np(pthread_self(), "reader");
    (void)!read(empty[0], &(char){0}, 1);
    return NULL;
}

/* One unit asleep, one on the CPU; a thread waits four for a lock, one three for a pipe. */
static void run_threads(void)
{
    pthread_t locker, reader;

    (void)!pipe(empty);
    (void)pthread_mutex_lock(&mutex);
    (void)pthread_create(&locker, NULL, take_lock, NULL);
    sleep_ms(UNIT_MS);
    (void)pthread_create(&reader, NULL, read_pipe, NULL);
    burn_ms(UNIT_MS);
    sleep_ms(2 * UNIT_MS);
    (void)pthread_mutex_unlock(&mutex);
    (void)pthread_join(locker, NULL);
    (void)!write(empty[1], "x", 1);
    (void)pthread_join(reader, NULL);
}

/* The child, which begins with a byte from the pipe. */
static pid_t start_threads(int go)
{
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)!read(go, &(char){0}, 1);
    run_threads();
    _exit(0);
}

/* Threads leave their CPU for the last time after their process can be waited for. */
static void wait_for_deaths(uint32_t slot, uint64_t n)
{
    for (int i = 0; i < 1000 && __atomic_load_n(&sampler.ctl[slot].deaths, __ATOMIC_RELAXED) < n; i++)
        sleep_ms(1);
    ck_assert_uint_eq(sampler.ctl[slot].deaths, n);
}

/* No wait is shorter than it was asked to be. */
static void check_state(const struct totals *t, enum sample_state state, uint64_t units)
{
    ck_assert_msg(t->ns[state] >= units * UNIT_MS * NSEC_PER_MSEC, "%s: %.3f ms", sample_state_name(state), (double)t->ns[state] / 1e6);
}

static void run_session(uint32_t kind, struct totals *ret)
{
    const uint32_t slot = 3;
    struct attachment a = ATTACHMENT_INIT;
    int go[2];

    ck_assert_int_eq(pipe(go), 0);
    pid_t pid = start_threads(go[0]);
    fill_ctl(slot, pid, kind);
    ck_assert_int_eq(attach_maps(&sampler, slot, MAX_KEYS, 1 << 20, &a), 0);
    ck_assert_int_eq(sampler_watch(&sampler), 0);
    ck_assert_int_eq(sampler_target_add(&sampler, slot), 0);
    look_at(slot);
    sampler.ctl[slot].opened_ns = monotonic_ns();
    sampler.ctl[slot].state = SESSION_OPEN;
    sleep_ms(UNIT_MS);
    ck_assert_int_eq(write(go[1], "x", 1), 1);
    ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
    wait_for_deaths(slot, 3);
    ck_assert_uint_eq(sampler.ctl[slot].state, SESSION_CLOSED);
    attach_end(&sampler, slot, &a);
    read_table(&a, ret); /* no thread lives */
    look_away(slot);
    ck_assert_int_eq(sampler.sched.threads, -1);
    sampler_target_remove(&sampler, slot);
    sampler_unwatch(&sampler);
    close_fd(&a.counts_fd);
    close_fd(&a.records_fd);
    close(go[0]);
    close(go[1]);
    if (sampler.ctl[slot].lost_switches)
        fprintf(stderr, "%llu switches were not told\n", (unsigned long long)sampler.ctl[slot].lost_switches);
    ck_assert_uint_eq(sampler.ctl[slot].births, 2);
    ck_assert_uint_eq(sampler.ctl[slot].lost_threads + sampler.ctl[slot].lost_nested + sampler.ctl[slot].lost_ring, 0);
    sampler.ctl[slot].state = SESSION_FREE;
}

START_TEST(test_wall_closes)
{
    struct totals t;

    run_session(SCHED_WALL, &t);
    ck_assert_uint_eq(t.all_ns, sampler.ctl[3].lifetimes_ns);
    check_state(&t, SAMPLE_STATE_NONE, 1); /* the wait that it was in already */
    check_state(&t, SAMPLE_STATE_SLEEP, 3);

    check_state(&t, SAMPLE_STATE_LOCK, 1); /* it may have begun late */
    check_state(&t, SAMPLE_STATE_IO, 1);
    ck_assert_uint_le(t.without_stack_ns, t.ns[SAMPLE_STATE_NONE] + t.ns[SAMPLE_STATE_RUNQ]);
}
END_TEST

START_TEST(test_offcpu_has_no_cpu)
{
    struct totals t;

    run_session(SCHED_OFFCPU, &t);
    ck_assert_uint_eq(t.ns[SAMPLE_STATE_CPU], 0);
    check_state(&t, SAMPLE_STATE_LOCK, 1); /* it may have begun late */
}
END_TEST

/* A child that reads a pipe, for ever. */
static pid_t start_reader(int fd)
{
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    while (read(fd, &(char){0}, 1) == 1)
        ;
    _exit(0);
}

static void add(uint32_t slot, pid_t pid)
{
    fill_ctl(slot, pid, SCHED_WALL);
    look_at(slot);
}

/* Of a target, dead ones alone or all. */
static unsigned threads_of(pid_t pid, bool dead)
{
    struct thread_state t;
    uint64_t key, *from = NULL;
    unsigned n = 0;

    for (; bpf_map_get_next_key(sampler.sched.threads, from, &key) == 0; from = &key)
        n += bpf_map_lookup_elem(sampler.sched.threads, &key, &t) == 0 && t.tgid == (uint32_t)pid && (!dead || t.place == THREAD_DEAD);
    return n;
}

static unsigned threads_known(pid_t pid)
{
    return threads_of(pid, false);
}

static unsigned dead_threads(pid_t pid)
{
    return threads_of(pid, true);
}

/* Meanwhile nobody looked at it, so what was known of its threads may be anything. Another session goes on all the time. */
START_TEST(test_a_target_again_is_a_new_one)
{
    int pipes[2][2];
    pid_t pids[2];

    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(pipe(pipes[i]), 0);
        pids[i] = start_reader(pipes[i][0]);
        add(5 + (uint32_t)i, pids[i]);
    }
    for (int i = 0; i < 2; i++)
        for (int n = 0; n < 1000 && threads_known(pids[i]) == 0; n++) {
            ck_assert_int_eq(write(pipes[i][1], "x", 1), 1);
            sleep_ms(1);
        }
    ck_assert_uint_eq(threads_known(pids[1]), 1);
    drop(6);
    (void)kill(pids[1], SIGSTOP);
    sleep_ms(UNIT_MS);
    add(6, pids[1]);
    ck_assert_uint_eq(threads_known(pids[0]), 1);
    ck_assert_uint_eq(threads_known(pids[1]), 0);
    for (int i = 0; i < 2; i++) {
        drop(5 + (uint32_t)i);
        (void)kill(pids[i], SIGKILL);
        ck_assert_int_eq(waitpid(pids[i], NULL, 0), pids[i]);
        close(pipes[i][0]);
        close(pipes[i][1]);
    }
}
END_TEST

/* It came back as it left, having waited in another way. */
static void came_back(struct thread_state *t)
{
    t->place = THREAD_RUNNING;
    t->in_ns = t->out_ns;
    t->state = SAMPLE_STATE_LOCK;
    t->syscall++;
}

/* And waits now. */
static void came_back_and_waits(struct thread_state *t)
{
    came_back(t);
    t->waits--;
}

#define UNTOLD_NS (5 * NSEC_PER_MSEC)

/* It was preempted, and then, which nobody told, had a CPU for some time and went to wait. */
static void ran_in_between(struct thread_state *t)
{
    t->place = THREAD_QUEUED;
    t->state = SAMPLE_STATE_RUNQ;
    t->exec_ns -= UNTOLD_NS;
    t->waits--;
}

/* The programs are made to believe a lie of a thread that waits for a pipe; and then its wait ends. */
static void pretend(pid_t pid, int fd, void (*lie)(struct thread_state *t), struct totals *ret)
{
    const uint32_t slot = 3;
    struct attachment a = ATTACHMENT_INIT;
    struct thread_state t;

    fill_ctl(slot, pid, SCHED_WALL);
    ck_assert_int_eq(attach_maps(&sampler, slot, MAX_KEYS, 1 << 20, &a), 0);
    look_at(slot);
    ck_assert_int_eq(write(fd, "x", 1), 1);
    uint64_t task = thread_at(pid, THREAD_WAITING, &t);
    sampler.ctl[slot].opened_ns = t.out_ns;
    sampler.ctl[slot].state = SESSION_OPEN;
    lie(&t);
    t.given |= 1u << slot;
    ck_assert_int_eq(bpf_map_update_elem(sampler.sched.threads, &task, &t, BPF_EXIST), 0);
    sleep_ms(UNIT_MS);
    ck_assert_int_eq(write(fd, "x", 1), 1);
    for (int i = 0; i < 1000 && __atomic_load_n(&sampler.ctl[slot].lost_switches, __ATOMIC_RELAXED) == 0; i++)
        sleep_ms(1);
    ck_assert_uint_ge(sampler.ctl[slot].lost_switches, 1);
    attach_end(&sampler, slot, &a);
    read_totals(&a, slot, ret);
    look_away(slot);
    close_fd(&a.counts_fd);
    close_fd(&a.records_fd);
    sampler.ctl[slot].state = SESSION_FREE;
}

/* In the state that its system call tells; under no stack of another wait. One that did not wait at all was ready to run. */
START_TEST(test_missed_switches_are_put_back)
{
    struct totals waited, preempted, ran;
    int pipe_fds[2];

    ck_assert_int_eq(pipe(pipe_fds), 0);
    pid_t pid = start_reader(pipe_fds[0]);
    pretend(pid, pipe_fds[1], came_back_and_waits, &waited);
    check_state(&waited, SAMPLE_STATE_IO, 1);
    ck_assert_uint_eq(waited.ns[SAMPLE_STATE_LOCK] + waited.ns[SAMPLE_STATE_OTHER], 0);
    ck_assert_uint_ge(waited.without_stack_ns, UNIT_MS * NSEC_PER_MSEC);
    pretend(pid, pipe_fds[1], came_back, &preempted);
    check_state(&preempted, SAMPLE_STATE_RUNQ, 1);
    ck_assert_uint_eq(preempted.ns[SAMPLE_STATE_LOCK] + preempted.ns[SAMPLE_STATE_OTHER], 0);
    pretend(pid, pipe_fds[1], ran_in_between, &ran);
    ck_assert_uint_ge(sampler.ctl[3].lost_switches, 2);
    ck_assert_uint_ge(ran.ns[SAMPLE_STATE_CPU], UNTOLD_NS);
    ck_assert_uint_ge(ran.ns[SAMPLE_STATE_IO] + UNTOLD_NS, UNIT_MS * NSEC_PER_MSEC);
    ck_assert_uint_eq(ran.ns[SAMPLE_STATE_OTHER], 0);
    (void)kill(pid, SIGKILL);
    ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
}
END_TEST

static pid_t start_burner(void)
{
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;)
        ;
}

/* One that seems to have run all the time, but was preempted once and has not run for so long, was ready to run then. */
START_TEST(test_a_gap_is_put_back)
{
    const uint32_t slot = 3;
    struct attachment a = ATTACHMENT_INIT;
    struct thread_state t;
    struct totals totals;
    pid_t pid = start_burner();

    fill_ctl(slot, pid, SCHED_WALL);
    ck_assert_int_eq(attach_maps(&sampler, slot, MAX_KEYS, 1 << 20, &a), 0);
    look_at(slot);
    (void)kill(pid, SIGSTOP);
    (void)thread_at(pid, THREAD_WAITING, &t);
    (void)kill(pid, SIGCONT);
    uint64_t task = thread_at(pid, THREAD_RUNNING, &t);
    t.in_ns -= UNIT_MS * NSEC_PER_MSEC;
    t.preempted--;
    sampler.ctl[slot].opened_ns = t.in_ns;
    sampler.ctl[slot].state = SESSION_OPEN;
    ck_assert_int_eq(bpf_map_update_elem(sampler.sched.threads, &task, &t, BPF_EXIST), 0);
    (void)kill(pid, SIGSTOP);
    (void)thread_at(pid, THREAD_WAITING, &t);
    ck_assert_uint_ge(sampler.ctl[slot].lost_switches, 1);
    attach_end(&sampler, slot, &a);
    read_totals(&a, slot, &totals);
    ck_assert_uint_ge(totals.ns[SAMPLE_STATE_RUNQ], (UNIT_MS - 1) * NSEC_PER_MSEC); /* the scheduler's clock is another */
    look_away(slot);
    close_fd(&a.counts_fd);
    close_fd(&a.records_fd);
    sampler.ctl[slot].state = SESSION_FREE;
    (void)kill(pid, SIGKILL);
    ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
}
END_TEST

static uint64_t time_charged(uint32_t slot)
{
    return __atomic_load_n(&sampler.ctl[slot].overhead_ns, __ATOMIC_RELAXED);
}

/* Some events of the child. */
static bool is_looked_at(uint32_t slot, int fd)
{
    uint64_t before = time_charged(slot);

    for (int n = 0; n < 1000 && time_charged(slot) == before; n++) {
        ck_assert_int_eq(write(fd, "x", 1), 1);
        sleep_ms(2);
    }
    return time_charged(slot) != before;
}

/* Targets whose numbers end alike share a place in the filter; they come and go in any order. */
START_TEST(test_numbers_that_end_alike)
{
    static const uint32_t orders[][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    struct attachment a = ATTACHMENT_INIT;
    int fds[2];

    ck_assert_int_eq(pipe(fds), 0);
    pid_t pid = start_reader(fds[0]);
    ck_assert_int_eq(attach_maps(&sampler, 9, MAX_KEYS, 1 << 20, &a), 0);
    for (size_t i = 0; i < sizeof(orders) / sizeof(orders[0]); i++) {
        for (uint32_t slot = 8; slot < 11; slot++) /* the real one has the others around it */
            add(slot, slot == 9 ? pid : pid + (int)(slot - 7) * SCHED_FILTER_ENTRIES);
        for (int n = 0; n < 3; n++) {
            ck_assert(sampler.ctl[9].state == SESSION_FREE || is_looked_at(9, fds[1]));
            drop(8 + orders[i][n]);
        }
        for (size_t k = 0; k < SCHED_FILTER_ENTRIES; k++)
            ck_assert_uint_eq(sampler.sched.filter->targets[k], 0);
    }
    attach_end(&sampler, 9, &a);
    close_fd(&a.counts_fd);
    close_fd(&a.records_fd);
    end_child(pid, fds);
}
END_TEST

static void *end_at_once(void *arg)
{
    return arg;
}

/* A child that makes a thread for each byte, and sees it end. */
static pid_t start_maker(int fd)
{
    pthread_t thread;
    pid_t pid = fork();

    if (pid != 0)
        return pid;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    while (read(fd, &(char){0}, 1) == 1)
        if (pthread_create(&thread, NULL, end_at_once, NULL) == 0)
            (void)pthread_join(thread, NULL);
    _exit(0);
}

static void wait_for_dead_threads(pid_t pid, int fd)
{
    for (int n = 0; n < 1000 && dead_threads(pid) == 0; n++) {
        ck_assert_int_eq(write(fd, "x", 1), 1);
        sleep_ms(2);
    }
    ck_assert_uint_gt(dead_threads(pid), 0);
}

/* Threads that die while windows are settled are known until the last of these is gone, and no longer, though others look on. */
START_TEST(test_dead_threads_are_forgotten)
{
    int fds[2];

    ck_assert_int_eq(pipe(fds), 0);
    pid_t pid = start_maker(fds[0]);
    for (uint32_t slot = 11; slot < 14; slot++)
        add(slot, pid);
    for (int n = 0; n < 3; n++) /* the programs see the first one begin, at the latest */
        ck_assert_int_eq(write(fds[1], "x", 1), 1);
    sleep_ms(UNIT_MS);
    ck_assert_uint_eq(dead_threads(pid), 0);
    sampler.ctl[11].until_ns = sampler.ctl[12].until_ns = monotonic_ns();
    wait_for_dead_threads(pid, fds[1]);
    drop(11);
    ck_assert_uint_gt(dead_threads(pid), 0);
    drop(12);
    for (int n = 0; n < 1000 && dead_threads(pid) > 0; n++) { /* one may have died while the last went */
        add(12, pid);
        drop(12);
        sleep_ms(1);
    }
    ck_assert(dead_threads(pid) == 0 && threads_known(pid) > 0);
    drop(13);
    end_child(pid, fds);
}
END_TEST

/* Dead threads whose windows are being settled stay known, though others have their places in memory by then. */
START_TEST(test_dead_threads_make_way)
{
    int fds[2];
    const unsigned made = 200;

    ck_assert_int_eq(pipe(fds), 0);
    pid_t pid = start_maker(fds[0]);
    add(11, pid);
    sampler.ctl[11].until_ns = monotonic_ns();
    for (unsigned n = 0; n < made; n++) {
        ck_assert_int_eq(write(fds[1], "x", 1), 1);
        sleep_ms(2); /* memory is free a moment later */
    }
    for (int n = 0; n < 1000 && dead_threads(pid) < made * 9 / 10; n++)
        sleep_ms(2);
    ck_assert_uint_ge(dead_threads(pid), made * 9 / 10); /* of some, the kernel tells no end */
    drop(11);
    end_child(pid, fds);
}
END_TEST

/* Whichever was made first: programs tell by it what was noted for one that had a slot before. */
START_TEST(test_generations_are_in_order)
{
    fill_ctl(8, getpid(), SCHED_WALL);
    fill_ctl(7, getpid(), SCHED_WALL);
    look_at(7);
    look_at(8);
    ck_assert_uint_gt(sampler.ctl[8].generation, sampler.ctl[7].generation);
    ck_assert_uint_gt(sampler.ctl[7].generation, 0);
    drop(7);
    drop(8);
}
END_TEST

START_TEST(test_nobody_is_watched_before_and_after)
{
    fill_ctl(4, getpid(), SCHED_NONE);
    ck_assert_int_eq(sched_add(&sampler, 4), 0);
    ck_assert(!sched_remove(&sampler, 4));
    for (size_t i = 0; i < SCHED_FILTER_ENTRIES; i++)
        ck_assert_uint_eq(sampler.sched.filter->targets[i], 0);
    for (size_t i = 0; i < LOCK_GENERATIONS; i++)
        ck_assert_uint_eq(sampler.sched.filter->locks_since_ns[i], LOCK_NOBODY);
    sampler.ctl[4].state = SESSION_FREE;
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        test_wall_closes, test_offcpu_has_no_cpu, test_a_target_again_is_a_new_one, test_missed_switches_are_put_back,
        test_a_gap_is_put_back, test_numbers_that_end_alike, test_dead_threads_are_forgotten, test_dead_threads_make_way,
        test_generations_are_in_order, test_nobody_is_watched_before_and_after,
    };
    return run_tests("sched", tests, sizeof(tests) / sizeof(tests[0]));
}
