/* What a dumper says of a process's threads, for real. Needs CAP_BPF and CAP_PERFMON; skipped with the reason where BPF can't be loaded. */
#include "daemon/dumper.h"

#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/attacher.h"
#include "daemon/raw_profile.h"
#include "tests/unit/dump_sampler.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/fdmsg.h"

#define SLOT 5
#define N_THREADS 4

static struct sampler sampler;
static pid_t target;
static int to_target; /* a byte makes one more thread */

static void *waits(void *unused)
{
    (void)prctl(PR_SET_NAME, "waits");
    for (;;)
        pause();
    return unused;
}

static void more(void)
{
    pthread_t thread;
    (void)pthread_create(&thread, NULL, waits, NULL);
}

static void be_target(int from, int ready)
{
    char byte;

    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (int i = 1; i < N_THREADS; i++)
        more();
    usleep(50000);
    (void)!write(ready, "", 1);
    while (read(from, &byte, 1) == 1) {
        more();
        usleep(50000);
        (void)!write(ready, "", 1);
    }
    _exit(0);
}

static int from_target;

static void setup(void)
{
    int down[2], up[2];
    char byte;

    ck_assert_int_eq(pipe(down), 0);
    ck_assert_int_eq(pipe(up), 0);
    target = fork();
    if (target == 0) {
        close(down[1]);
        close(up[0]);
        be_target(down[0], up[1]);
    }
    close(down[0]);
    close(up[1]);
    to_target = down[1];
    from_target = up[0];
    ck_assert_int_eq(read(from_target, &byte, 1), 1);
    memset(&sampler.ctl[SLOT], 0, sizeof(sampler.ctl[SLOT]));
    sampler.ctl[SLOT].unwind = UNWIND_BY_FRAME_POINTERS;
}

static void teardown(void)
{
    close(to_target);
    close(from_target);
    (void)kill(target, SIGKILL);
    (void)waitpid(target, NULL, 0);
}

static void make_one_more(void)
{
    char byte = 0;
    ck_assert_int_eq(write(to_target, &byte, 1), 1);
    ck_assert_int_eq(read(from_target, &byte, 1), 1);
}

/* Runs a dumper; its answer to `say`, with the memfd or -1. */
static struct attacher_message ask(const struct dumper_request *q, enum attacher_message_type say, int *ret_fd)
{
    struct attacher_message m = {.type = say};
    int pair[2], status;
    size_t n = 1;

    *ret_fd = -1;
    ck_assert_int_eq(fdmsg_pair(pair), 0);
    pid_t pid = fork();
    if (pid == 0) {
        close(pair[0]);
        _exit(dumper_main(pair[1], (void *)q));
    }
    close(pair[1]);
    struct attacher_message ready;
    ck_assert_int_eq(fdmsg_recv(pair[0], &ready, sizeof(ready), NULL, NULL), sizeof(ready));
    ck_assert_uint_eq(ready.type, ATTACHER_READY);
    ck_assert_int_eq(fdmsg_send(pair[0], &m, sizeof(m), NULL, 0), 0);
    struct attacher_message answer = {0};
    ssize_t len = fdmsg_recv(pair[0], &answer, sizeof(answer), ret_fd, &n);
    ck_assert(len == 0 || len == sizeof(answer));
    if (len == 0 || n == 0)
        *ret_fd = -1;
    close(pair[0]);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    return answer;
}

static void dump(const struct dumper_request *q, struct raw_profile *ret)
{
    int fd;
    struct attacher_message answer = ask(q, ATTACHER_OPEN, &fd);

    ck_assert_uint_eq(answer.type, ATTACHER_DUMPED);
    ck_assert_int_eq(raw_table_open(fd, ret), 0);
    close(fd);
}

static struct dumper_request request(void)
{
    return (struct dumper_request){.programs = &sampler.dump, .slot = SLOT, .pid = target};
}

START_TEST(test_threads)
{
    struct dumper_request q = request();
    struct raw_profile p;

    dump(&q, &p);
    ck_assert_uint_eq(p.n_threads, N_THREADS);
    ck_assert_uint_eq(p.n_counts, N_THREADS);
    ck_assert_uint_eq(p.threads[0].tid, (uint32_t)target);
    ck_assert_str_eq(p.threads[0].state, "IO wait");
    for (size_t i = 1; i < N_THREADS; i++) {
        ck_assert_str_eq(p.threads[i].state, "signal wait");
        ck_assert_uint_eq(p.counts[i].key.tid, p.threads[i].tid);
        ck_assert_uint_eq(p.counts[i].key.state, SAMPLE_STATE_SLEEP);
        ck_assert_str_eq(p.counts[i].key.comm, "waits");
    }
    /* Those that wait alike have one stack, without the kernel's frames. */
    size_t pos = 0, n = 0;
    const struct stack_record *stack;
    while ((stack = raw_record_next(p.records[0], &pos))) {
        n++;
        ck_assert_uint_eq(stack->n_kernel, 0);
    }
    ck_assert_uint_eq(n, 2);
    raw_profile_close(&p);
    q.kernel = true;
    dump(&q, &p);
    pos = 0;
    stack = raw_record_next(p.records[0], &pos);
    ck_assert_uint_gt(stack->n_kernel, 0);
    raw_profile_close(&p);
}
END_TEST

START_TEST(test_starts)
{
    struct dumper_request q = request();
    struct raw_profile p;
    size_t pos = 0;

    q.starts = true;
    dump(&q, &p);
    ck_assert_uint_eq(p.n_counts, N_THREADS - 1); /* but the main one */
    ck_assert_uint_eq(p.counts[0].key.state, SAMPLE_STATE_NONE);
    ck_assert_str_eq(p.counts[0].key.comm, "waits");
    const struct stack_record *stack = raw_record_next(p.records[0], &pos);
    ck_assert_uint_eq(stack->end, STACK_END_EARLIER);
    raw_profile_close(&p);

    q.anonymous = true;
    q.before_ns = monotonic_ns();
    make_one_more();
    dump(&q, &p);
    ck_assert_uint_eq(p.n_counts, N_THREADS - 1); /* the newest is no older one */
    for (size_t i = 0; i < p.n_counts; i++) {
        ck_assert_uint_eq(p.counts[i].key.tid, 0);
        ck_assert_str_eq(p.counts[i].key.comm, "");
    }
    raw_profile_close(&p);
}
END_TEST

START_TEST(test_no_such_process)
{
    struct dumper_request q = request();
    int fd;

    q.pid = 4194303;
    struct attacher_message answer = ask(&q, ATTACHER_OPEN, &fd);
    ck_assert_uint_eq(answer.type, ATTACHER_FAILED);
    ck_assert_uint_eq(answer.stage, ATTACHER_DUMP);
    ck_assert_int_eq(answer.error, -ESRCH);
    ck_assert_int_eq(fd, -1);
}
END_TEST

START_TEST(test_ended_before_it_began)
{
    struct dumper_request q = request();
    int fd;

    ck_assert_uint_eq(ask(&q, ATTACHER_END, &fd).type, 0);
    ck_assert_int_eq(fd, -1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("dumper");
    TCase *tc = tcase_create("dumper");

    if (!dump_sampler_open(&sampler))
        return 77;
    tcase_set_timeout(tc, 60);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, test_threads);
    tcase_add_test(tc, test_starts);
    tcase_add_test(tc, test_no_such_process);
    tcase_add_test(tc, test_ended_before_it_began);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    sampler_close(&sampler);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
