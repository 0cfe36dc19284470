/* Dumps for real, without a daemon: of a child whose threads wait, run, end and have no memory. Needs CAP_BPF and CAP_PERFMON; skipped with the
 * reason where BPF can't be loaded. */
#include "bpf/dump.h"

#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/dump_sampler.h"
#include "util/cleanup.h"
#include "util/clock.h"

#define SLOT 3

static struct sampler sampler;

/* Shared with the child. */
static struct shared {
    int tids[4];
    int ready;
} *shared;

static void wait_until_ready(int n)
{
    for (int i = 0; i < 5000 && __atomic_load_n(&shared->ready, __ATOMIC_ACQUIRE) < n; i++)
        usleep(1000);
    ck_assert_int_ge(shared->ready, n);
    usleep(20000);
}

static void announce(int place)
{
    shared->tids[place] = (int)syscall(SYS_gettid);
    (void)__atomic_add_fetch(&shared->ready, 1, __ATOMIC_RELEASE);
}

static void *sleeper(void *unused)
{
    (void)prctl(PR_SET_NAME, "sleeper");
    announce(1);
    for (;;)
        pause();
    return unused;
}

static void *spinner(void *unused)
{
    (void)prctl(PR_SET_NAME, "spinner");
    announce(2);
    for (volatile unsigned long x = 0;; x++)
        ;
    return unused;
}

static pid_t start(void (*fn)(void))
{
    memset(shared, 0, sizeof(*shared));
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    announce(0);
    fn();
    _exit(0);
}

static void end(pid_t pid)
{
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, NULL, 0);
}

static void with_threads(void)
{
    pthread_t thread;

    (void)pthread_create(&thread, NULL, sleeper, NULL);
    (void)pthread_create(&thread, NULL, spinner, NULL);
    for (;;)
        pause();
}

/* By frame pointers, since nobody has made tables here. closed_ns: when the target ended, 0: it did not. */
static int take_of(pid_t pid, uint64_t closed_ns, struct dump_threads *ret)
{
    struct session_ctl *ctl = &sampler.ctl[SLOT];

    memset(ctl, 0, sizeof(*ctl));
    ctl->unwind = UNWIND_BY_FRAME_POINTERS;
    ctl->epoch = 9;
    ctl->closed_ns = closed_ns;
    return dump_take(&sampler.dump, &(struct dump_request){.pid = pid, .slot = SLOT}, ret);
}

static int take(pid_t pid, struct dump_threads *ret)
{
    return take_of(pid, 0, ret);
}

static const struct thread_record *find(const struct dump_threads *t, int tid)
{
    const struct thread_record *r;

    for (size_t pos = 0; (r = dump_threads_next(t, &pos));)
        if (r->tid == (uint32_t)tid)
            return r;
    ck_abort_msg("thread %d is not there", tid);
}

START_TEST(test_threads_that_wait_and_run)
{
    CLEANUP(dump_threads_deinit) struct dump_threads t = {0};
    pid_t pid = start(with_threads);

    wait_until_ready(3);
    int r = take(pid, &t);
    end(pid);
    ck_assert_int_eq(r, 0);
    ck_assert_uint_eq(t.n, 3);
    ck_assert_uint_eq(t.n_unseen, 0);
    const struct thread_record *sleeps = find(&t, shared->tids[1]), *spins = find(&t, shared->tids[2]);
    ck_assert_str_eq(sleeps->comm, "sleeper");
    ck_assert_int_eq(sleeps->syscall, SYS_pause);
    ck_assert(!sleeps->on_cpu && sleeps->seen && (sleeps->state & 1));
    ck_assert_uint_gt(sleeps->wait_ns, 5000000);
    ck_assert_uint_lt(sleeps->wait_ns, 6000000000ull);
    ck_assert_uint_ge(monotonic_ns() - sleeps->start_ns, sleeps->wait_ns);
    ck_assert_uint_lt(monotonic_ns() - sleeps->start_ns, 60000000000ull);
    ck_assert_uint_eq(sleeps->epoch, 9);
    ck_assert_uint_gt(sleeps->stack.n_kernel, 0);
    ck_assert_uint_gt(sleeps->stack.n_user, 0);
    ck_assert_str_eq(spins->comm, "spinner");
    ck_assert(spins->seen);
    ck_assert_uint_eq(spins->state, 0);
    /* Its innermost frame lies in the loop. */
    const uint64_t *frames = (const uint64_t *)(spins + 1) + spins->stack.n_kernel;
    uint64_t offset = STACK_FRAME_ADDRESS(frames[0]) - (uintptr_t)spinner;
    ck_assert_uint_lt(offset, 256);
}
END_TEST

static void ends_its_main_thread(void)
{
    pthread_t thread;

    (void)pthread_create(&thread, NULL, sleeper, NULL);
    pthread_exit(NULL);
}

START_TEST(test_main_thread_that_ended)
{
    CLEANUP(dump_threads_deinit) struct dump_threads t = {0};
    pid_t pid = start(ends_its_main_thread);

    wait_until_ready(2);
    int r = take(pid, &t);
    end(pid);
    ck_assert_int_eq(r, 0);
    ck_assert_uint_eq(t.n, 2);
    const struct thread_record *first = find(&t, pid);
    ck_assert_int_ne(first->exit_state, 0);
    ck_assert_uint_eq(first->stack.n_user, 0);
    ck_assert_uint_eq(first->stack.end, STACK_END_NO_USER);
    ck_assert_uint_gt(find(&t, shared->tids[1])->stack.n_user, 0);
}
END_TEST

/* Descends a page at a time, gives back the pages above, and waits. */
static __attribute__((noinline)) void descend(int left, char *top)
{
    volatile char room[4096];

    room[0] = (char)left;
    if (left > 0) {
        descend(left - 1, top);
    } else {
        char *from = (char *)(((uintptr_t)room + 3 * 4096) & ~4095ul);
        char *to = (char *)((uintptr_t)top & ~4095ul);
        (void)madvise(from, (size_t)(to - from), MADV_DONTNEED);
        announce(1);
        while (!shared->tids[3])
            pause();
    }
    room[1] = 0;
}

static void gives_its_stack_back(void)
{
    char here;
    descend(20, &here);
}

START_TEST(test_stack_that_is_not_in_memory)
{
    CLEANUP(dump_threads_deinit) struct dump_threads t = {0};
    pid_t pid = start(gives_its_stack_back);

    wait_until_ready(2);
    int r = take(pid, &t);
    end(pid);
    ck_assert_int_eq(r, 0);
    const struct thread_record *only = find(&t, pid);
    ck_assert_uint_eq(only->stack.end, STACK_END_UNREADABLE);
    ck_assert_uint_gt(only->stack.n_user, 0);
    ck_assert_uint_lt(only->stack.n_user, 10);
}
END_TEST

#define LARGE (2u << 20)

static void *large_sleeper(void *unused)
{
    announce(1);
    for (;;)
        pause();
    return unused;
}

/* A thread whose stack is one huge page, where the machine has any. */
static void with_large_page(void)
{
    pthread_attr_t attributes;
    pthread_t thread;
    char *at = mmap(NULL, 2 * LARGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    at = (char *)(((uintptr_t)at + LARGE - 1) & ~(uintptr_t)(LARGE - 1));
    (void)madvise(at, LARGE, MADV_HUGEPAGE);
    memset(at, 1, LARGE);
    (void)pthread_attr_init(&attributes);
    (void)pthread_attr_setstack(&attributes, at, LARGE);
    (void)pthread_create(&thread, &attributes, large_sleeper, NULL);
    for (;;)
        pause();
}

START_TEST(test_stack_in_a_huge_page)
{
    CLEANUP(dump_threads_deinit) struct dump_threads t = {0};
    pid_t pid = start(with_large_page);

    wait_until_ready(2);
    int r = take(pid, &t);
    end(pid);
    ck_assert_int_eq(r, 0);
    const struct thread_record *sleeps = find(&t, shared->tids[1]);
    /* pause, and what called large_sleeper: the frame pointer is large_sleeper's own. */
    ck_assert_uint_ge(sleeps->stack.n_user, 2);
    ck_assert_uint_ne(sleeps->stack.end, STACK_END_UNREADABLE);
}
END_TEST

START_TEST(test_no_such_process)
{
    struct dump_threads t = {0};

    ck_assert_int_eq(take(4194303, &t), -ESRCH);
    ck_assert_ptr_null(t.data);
}
END_TEST

/* Two at once have one area: each waits for its turn. */
/* Whoever has the number of a target that ended is another process. */
START_TEST(test_number_that_is_another_process_by_now)
{
    CLEANUP(dump_threads_deinit) struct dump_threads t = {0};
    pid_t pid = start(with_threads);

    wait_until_ready(3);
    int r = take_of(pid, monotonic_ns(), &t);
    end(pid);
    ck_assert_int_eq(r, -ESRCH);
    ck_assert_uint_eq(t.n, 0);
}
END_TEST

START_TEST(test_turns)
{
    pid_t target = start(with_threads), takers[4];

    wait_until_ready(3);
    for (size_t i = 0; i < 4; i++) {
        takers[i] = fork();
        if (takers[i] != 0)
            continue;
        for (int n = 0; n < 20; n++) {
            struct dump_threads t = {0};
            if (take(target, &t) < 0 || t.n != 3 || t.n_unseen != 0 || find(&t, shared->tids[1])->stack.n_user == 0)
                _exit(1);
            dump_threads_deinit(&t);
        }
        _exit(0);
    }
    for (size_t i = 0; i < 4; i++) {
        int status;
        ck_assert_int_eq(waitpid(takers[i], &status, 0), takers[i]);
        ck_assert_int_eq(status, 0);
    }
    end(target);
}
END_TEST

START_TEST(test_not_loaded)
{
    struct dump_programs d;

    dump_programs_open(&(struct dump_loaded){.thread_prog = -1, .cpu_prog = -1, .clock_prog = -1, .calibrate_prog = -1, .map = -1,
                                             .error = "no such feature"},
                       2, &d);
    ck_assert_ptr_null(d.area);
    ck_assert_str_eq(d.error, "no such feature");
    dump_programs_close(&d);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("dump");
    TCase *tc = tcase_create("dump");

    if (!dump_sampler_open(&sampler))
        return 77;
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        return EXIT_FAILURE;
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, test_threads_that_wait_and_run);
    tcase_add_test(tc, test_main_thread_that_ended);
    tcase_add_test(tc, test_stack_that_is_not_in_memory);
    tcase_add_test(tc, test_stack_in_a_huge_page);
    tcase_add_test(tc, test_no_such_process);
    tcase_add_test(tc, test_number_that_is_another_process_by_now);
    tcase_add_test(tc, test_turns);
    tcase_add_test(tc, test_not_loaded);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    sampler_close(&sampler);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
