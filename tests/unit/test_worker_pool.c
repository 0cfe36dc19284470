/* The pool against real processes that crash, hang, hog memory and lie (fault_worker.c, whose path is the
 * first argument): each job ends exactly once, with what could be had. */
#include "tests/unit/pool_fixture.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/wait.h>

START_TEST(test_body_and_counts_arrive_and_the_worker_is_kept)
{
    setup_pool(2, LONG_NS);
    for (int i = 0; i < 3; i++) {
        struct outcome o = run("write hello");
        ck_assert_int_eq(o.error, 0);
        ck_assert_str_eq(o.body, "hello");
        ck_assert_uint_eq(o.samples, 3);
    }
    ck_assert_uint_eq(stats().alive, 1);
    ck_assert_uint_eq(stats().restarts, 0);
    ck_assert_uint_eq(stats().cache_bytes, 7);
    ck_assert_uint_gt(stats().cpu_ns, 0);
    teardown_pool();
}
END_TEST

START_TEST(test_files_are_handed_over)
{
    setup_pool(1, LONG_NS);
    struct outcome o = run("need 5\nneed 404\nneed 6");
    ck_assert_str_eq(o.body, "file;error 2;file;");
    ck_assert_uint_eq(o.needs, 3);
    ck_assert_uint_eq(o.need.u.need.object, 6);
    teardown_pool();
}
END_TEST

START_TEST(test_the_object_that_crashes_is_left_out)
{
    setup_pool(1, LONG_NS);
    struct outcome o = run("touch 4\nunless 4 crash\ntouch 9\nunless 9 exit\nexcluded");
    ck_assert_int_eq(o.error, 0);
    ck_assert_str_eq(o.body, "4:1;9:1;no_symbols 0");
    ck_assert_uint_eq(stats().restarts, 2);
    teardown_pool();
}
END_TEST

START_TEST(test_a_used_worker_may_have_been_broken_before)
{
    setup_pool(1, LONG_NS);
    (void)run("write x");
    struct outcome o = run("touch 4\nunless 4 crash\nexcluded"); /* in a fresh worker, too */
    ck_assert_str_eq(o.body, "4:1;no_symbols 0");
    ck_assert_uint_eq(stats().restarts, 2);
    o = run("touch 5\nunless 5 hog\nexcluded");
    ck_assert_str_eq(o.body, "5:3;no_symbols 0");
    ck_assert_uint_eq(stats().restarts, 4);
    teardown_pool();
}
END_TEST

START_TEST(test_the_object_that_hangs_is_left_out)
{
    setup_pool(1, SHORT_NS);
    struct outcome o = run("touch 4\nunless 4 hang\nexcluded");
    ck_assert_str_eq(o.body, "4:2;no_symbols 0");
    teardown_pool();
}
END_TEST

START_TEST(test_a_few_hangs_are_enough)
{
    setup_pool(1, SHORT_NS);
    struct outcome o = run(
        "touch 1\nunless 1 hang\ntouch 2\nunless 2 hang\ntouch 3\nunless 3 hang\ntouch 4\nsymbols hang\nexcluded");
    ck_assert_str_eq(o.body, "1:2;2:2;3:2;no_symbols 2");
    o = run("symbols hang\nexcluded");
    ck_assert_str_eq(o.body, "no_symbols 2");
    teardown_pool();
}
END_TEST

START_TEST(test_the_object_that_takes_all_memory_is_left_out)
{
    setup_pool(1, LONG_NS);
    struct outcome o = run("touch 4\nunless 4 hog\nexcluded");
    ck_assert_str_eq(o.body, "4:3;no_symbols 0");
    teardown_pool();
}
END_TEST

START_TEST(test_crashes_without_a_culprit_end_in_no_symbols)
{
    setup_pool(1, LONG_NS);
    struct outcome o = run("symbols crash\nexcluded");
    ck_assert_str_eq(o.body, "no_symbols 1");
    ck_assert_uint_eq(stats().restarts, 3);
    o = run("touch 4294967295\nsymbols crash\nexcluded"); /* WORKER_TOUCH_NONE */
    ck_assert_str_eq(o.body, "no_symbols 1");
    o = run("touch 7\nsymbols crash\nexcluded"); /* 7 is out, and it crashes all the same */
    ck_assert_str_eq(o.body, "7:1;no_symbols 1");
    teardown_pool();
}
END_TEST

START_TEST(test_too_many_culprits_end_in_no_symbols)
{
    char script[2048] = "";
    setup_pool(1, LONG_NS);
    for (int i = 0; i < WORKER_MAX_EXCLUDED + 5; i++)
        sprintf(script + strlen(script), "symbols touch %d\nunless %d symbols crash\n", i, i);
    strcat(script, "write end");
    struct outcome o = run(script);
    ck_assert_str_eq(o.body, "end");
    ck_assert_uint_eq(stats().restarts, WORKER_MAX_EXCLUDED);
    teardown_pool();
}
END_TEST

START_TEST(test_a_job_that_always_breaks_fails_at_last)
{
    setup_pool(1, LONG_NS);
    ck_assert_int_eq(run("crash").error, -EIO);
    ck_assert_int_eq(run("hog").error, -ENOMEM);
    teardown_pool();
    setup_pool(1, SHORT_NS);
    struct outcome o = run("hang");
    ck_assert_int_eq(o.error, -EIO);
    ck_assert_ptr_nonnull(strstr(o.message, "in time"));
    ck_assert_uint_eq(stats().restarts, 2);
    teardown_pool();
}
END_TEST

START_TEST(test_an_error_is_passed_on)
{
    setup_pool(1, LONG_NS);
    struct outcome o = run("fail");
    ck_assert_int_eq(o.error, -EINVAL);
    ck_assert_str_eq(o.message, "no such thing");
    ck_assert_uint_eq(stats().restarts, 0);
    teardown_pool();
}
END_TEST

START_TEST(test_a_probe_that_breaks_fails_after_a_second_try)
{
    struct worker_probe probe = {.symbol = "write sites"};
    struct outcome o = {0};
    setup_pool(1, LONG_NS);
    ck_assert_ptr_nonnull(worker_pool_probe(pool, text_fd(""), &probe, &ops, &o));
    wait_for(&o.done, 1);
    ck_assert_str_eq(o.body, "sites");
    strcpy(probe.symbol, "crash");
    ck_assert_ptr_nonnull(worker_pool_probe(pool, text_fd(""), &probe, &ops, &o));
    wait_for(&o.done, 2);
    ck_assert_int_eq(o.error, -EIO);
    ck_assert_uint_eq(stats().restarts, 3); /* the first of them was a used worker */
    teardown_pool();
}
END_TEST

static const struct {
    const char *command, *body;
    unsigned restarts;
} lies[] = {
    {"lie", "no_symbols 1", 3},
    {"mumble", "no_symbols 1", 3},
    {"stray", "no_symbols 1", 3},
    {"endless", "no_symbols 1", 3},
    {"overdraw", "no_symbols 1", 3},
    {"greedy", "no_symbols 0", 1}, /* which is refused at once from then on, and so never asks twice */
};

START_TEST(test_a_worker_that_breaks_the_protocol_is_killed)
{
    char script[64];
    setup_pool(1, LONG_NS);
    (void)snprintf(script, sizeof(script), "symbols %s\nexcluded", lies[_i].command);
    struct outcome o = {.hold = true};
    start(&o, script);
    wait_for(&o.done, 1);
    ck_assert_str_eq(o.body, lies[_i].body);
    ck_assert_uint_eq(stats().restarts, lies[_i].restarts);
    teardown_pool();
}
END_TEST

START_TEST(test_an_answer_to_a_dead_worker_goes_to_no_other)
{
    setup_pool(1, LONG_NS);
    struct outcome o = {.hold = true};
    start(&o, "unless 1 touch 1\nunless 1 greedy\nneed 8\nneed 9");
    wait_for(&o.needs, 1);
    while (stats().restarts < 1)
        ck_assert_int_eq(event_base_loop(base, EVLOOP_ONCE), 0);
    wait_for(&o.done, 1);
    ck_assert_str_eq(o.body, "error 110;error 110;"); /* the first one's answer is still to come */
    ck_assert_uint_eq(o.needs, 1);
    teardown_pool();
}
END_TEST

static void setup_impatient_pool(uint64_t need_timeout_ns)
{
    struct worker_limits limits = {
        .workers = 1,
        .memory_bytes = 256 << 20,
        .job_timeout_ns = LONG_NS,
        .need_timeout_ns = need_timeout_ns,
        .executable = fault_worker,
    };
    setup_pool(1, LONG_NS);
    worker_pool_set_limits(pool, &limits);
}

START_TEST(test_a_file_that_does_not_come_is_done_without)
{
    setup_impatient_pool(SHORT_NS);
    struct outcome o = {.hold = true};
    start(&o, "need 1\nneed 2\nwrite end");
    wait_for(&o.done, 1);
    ck_assert_str_eq(o.body, "error 110;error 110;end");
    ck_assert_uint_eq(o.needs, 1);
    ck_assert_uint_eq(stats().restarts, 0);
    teardown_pool();
}
END_TEST

static void answer_late(evutil_socket_t fd, short what, void *arg)
{
    worker_job_file(((struct outcome *)arg)->job, 0, text_fd("file;"));
}

START_TEST(test_files_that_come_slowly_are_not_waited_for_for_ever)
{
    char script[512] = "";
    unsigned answered = 0;
    setup_impatient_pool(SHORT_NS);
    struct outcome o = {.hold = true};
    for (int i = 0; i < 40; i++)
        strcat(script, "need 1\n");
    start(&o, script);
    struct event *late = evtimer_new(base, answer_late, &o);
    while (!o.done) {
        if (o.needs > answered) {
            answered = o.needs;
            evtimer_add(late, &(struct timeval){.tv_usec = 50000});
        }
        ck_assert_int_eq(event_base_loop(base, EVLOOP_ONCE), 0);
    }
    ck_assert_uint_lt(o.needs, 12); /* of 50 ms each, within 400 ms */
    ck_assert_ptr_nonnull(strstr(o.body, "error 110;error 110;"));
    event_free(late);
    teardown_pool();
}
END_TEST

START_TEST(test_jobs_are_taken_in_order_by_so_many_workers)
{
    enum { JOBS = 20 };
    struct outcome o[JOBS] = {0};
    setup_pool(2, LONG_NS);
    for (int i = 0; i < JOBS; i++)
        start(&o[i], "write x");
    wait_for(&o[JOBS - 1].done, 1);
    unsigned older = 0;
    for (int i = 0; i < JOBS - 1; i++)
        older += o[i].done;
    ck_assert_uint_ge(older, JOBS - 2); /* two run at a time: at most one older job is still under way */
    for (int i = 0; i < JOBS; i++)
        wait_for(&o[i].done, 1);
    ck_assert_uint_le(stats().alive, 2);
    teardown_pool();
}
END_TEST

START_TEST(test_a_bystander_does_not_wait_for_one_that_waits_for_a_file)
{
    struct outcome stuck[2] = {{.hold = true}, {.hold = true}};
    setup_pool(1, LONG_NS);
    start(&stuck[0], "need 1");
    start(&stuck[1], "need 2");
    ck_assert_str_eq(run("write me").body, "me");
    ck_assert_uint_eq(stuck[0].done + stuck[1].done, 0);
    for (int i = 0; i < 2; i++) {
        worker_job_file(stuck[i].job, 0, text_fd("late;"));
        wait_for(&stuck[i].done, 1);
        ck_assert_str_eq(stuck[i].body, "late;");
    }
    ck_assert_str_eq(run("write again").body, "again");
    ck_assert_uint_eq(stats().alive, 1); /* the spare ones are gone */
    ck_assert_uint_eq(stats().restarts, 0);
    teardown_pool();
}
END_TEST

START_TEST(test_time_spent_waiting_for_a_file_is_not_the_jobs)
{
    struct outcome o = {.hold = true};
    setup_pool(1, 200 * NSEC_PER_MSEC);
    start(&o, "need 1\nexcluded");
    wait_for(&o.needs, 1);
    uint64_t until_ns = monotonic_ns() + 400 * NSEC_PER_MSEC;
    while (monotonic_ns() < until_ns)
        (void)event_base_loop(base, EVLOOP_NONBLOCK);
    worker_job_file(o.job, 0, text_fd("file;"));
    wait_for(&o.done, 1);
    ck_assert_str_eq(o.body, "file;no_symbols 0");
    teardown_pool();
}
END_TEST

START_TEST(test_cancelled_jobs_tell_nothing_and_free_their_worker)
{
    struct outcome running = {0}, queued = {0}, asking = {.cancel = true};
    setup_pool(1, LONG_NS);
    start(&running, "need 1\nhang");
    start(&queued, "write x");
    wait_for(&running.needs, 1);
    worker_job_cancel(running.job);
    worker_job_cancel(queued.job);
    worker_job_cancel(NULL);
    /* After the hanging one was given its moment, and killed. */
    ck_assert_str_eq(run("write next").body, "next");
    ck_assert_uint_eq(stats().restarts, 1);
    start(&asking, "need 1\nneed 2\nwrite y");
    wait_for(&asking.needs, 1);
    ck_assert_str_eq(run("write last").body, "last");
    ck_assert_uint_eq(asking.needs, 1); /* further ones are refused by the pool itself */
    ck_assert_uint_eq(running.done + queued.done + asking.done, 0);
    ck_assert_uint_eq(stats().restarts, 1);
    teardown_pool();
}
END_TEST

START_TEST(test_new_limits_are_for_new_workers)
{
    struct worker_limits limits = {
        .workers = 3, .memory_bytes = 128 << 20, .job_timeout_ns = LONG_NS, .executable = fault_worker};
    struct outcome o = {.hold = true};
    setup_pool(2, LONG_NS);
    start(&o, "need 1");
    wait_for(&o.needs, 1);
    ck_assert_str_eq(run("write a").body, "a");
    ck_assert_uint_eq(stats().alive, 2);
    worker_pool_set_limits(pool, &limits);
    ck_assert_uint_eq(stats().alive, 1);
    worker_job_file(o.job, 0, text_fd("b"));
    wait_for(&o.done, 1);
    ck_assert_str_eq(o.body, "b");
    ck_assert_uint_eq(stats().alive, 0);
    ck_assert_str_eq(run("write c").body, "c");
    ck_assert_uint_eq(stats().restarts, 0);
    teardown_pool();
}
END_TEST

START_TEST(test_without_an_executable_jobs_fail)
{
    struct worker_limits limits = {
        .workers = 1, .job_timeout_ns = LONG_NS, .executable = "/nonexistent/worker"};
    struct outcome o = {0};
    setup_pool(1, LONG_NS);
    worker_pool_set_limits(pool, &limits);
    start(&o, "write x");
    ck_assert_uint_eq(o.done, 0); /* not before the call has returned */
    wait_for(&o.done, 1);
    ck_assert_int_eq(o.error, -ENOENT);
    limits.executable = "/bin/true"; /* one that ends at once */
    worker_pool_set_limits(pool, &limits);
    ck_assert_int_eq(run("write x").error, -EIO);
    teardown_pool();
}
END_TEST

static int spawn_error; /* of the next ones; 0: they are started */
int __real_posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions, const posix_spawnattr_t *attr, char *const argv[],
                       char *const envp[]);
int __wrap_posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions, const posix_spawnattr_t *attr, char *const argv[],
                       char *const envp[]);
int __wrap_posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions, const posix_spawnattr_t *attr, char *const argv[],
                       char *const envp[])
{
    return spawn_error ? spawn_error : __real_posix_spawn(pid, path, actions, attr, argv, envp);
}

/* A limit on processes or descriptors ends a job, which waits for no worker that there will never be; where one lives, it waits for that. */
START_TEST(test_no_more_processes)
{
    static const struct {
        int error, due;
        const char *text;
    } cases[] = {{EAGAIN, -EUSERS, "TasksMax"}, {EMFILE, -EMFILE, "LimitNOFILE"}, {ENOMEM, -ENOMEM, "no worker can be started"}};

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        setup_pool(2, LONG_NS);
        spawn_error = cases[i].error;
        struct outcome o = run("write x");
        ck_assert_int_eq(o.error, cases[i].due);
        ck_assert_ptr_nonnull(strstr(o.message, cases[i].text));
        spawn_error = 0;
        ck_assert_str_eq(run("write x").body, "x");
        struct outcome busy = {.hold = true}, waits = {0};
        start(&busy, "need 1\nwrite x");
        wait_for(&busy.needs, 1);
        spawn_error = cases[i].error;
        start(&waits, "write y");
        for (int n = 0; n < 10; n++)
            (void)event_base_loop(base, EVLOOP_NONBLOCK);
        ck_assert_uint_eq(waits.done, 0);
        worker_job_file(busy.job, 0, text_fd("file;"));
        wait_for(&waits.done, 1);
        ck_assert_str_eq(waits.body, "y");
        spawn_error = 0;
        teardown_pool();
    }
}
END_TEST

START_TEST(test_the_queue_is_bounded)
{
    struct outcome o = {0};
    setup_pool(1, LONG_NS);
    for (int i = 0; i < WORKER_MAX_JOBS; i++)
        start(&o, "write x");
    ck_assert_ptr_null(worker_pool_render(pool, text_fd(""), NULL, &ops, &o));
    teardown_pool(); /* cancels them all */
    ck_assert_uint_eq(o.done, 0);
}
END_TEST

static int open_fds(void)
{
    int n = 0;
    for (int fd = 0; fd < 512; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

START_TEST(test_an_object_that_breaks_workers_without_its_debug_information_is_left_out_wholly)
{
    setup_pool(1, LONG_NS);
    struct outcome o = run("touch 4\nunless 4 wholly crash\nexcluded");
    ck_assert_str_eq(o.body, "4:1;no_symbols 0");
    ck_assert_uint_eq(stats().restarts, 2);
    teardown_pool();
}
END_TEST

START_TEST(test_no_descriptor_is_left)
{
    int before = open_fds();
    setup_pool(2, LONG_NS);
    (void)run("touch 1\nunless 1 crash\nneed 1\nneed 404");
    struct outcome held = {.hold = true}, queued = {0}, due = {0}, kept = {.hold = true, .keep = true};
    start_due(&kept, 1, 0, "draft x\nneed 1");
    wait_for(&kept.needs, 1);
    start_due(&due, 2, LONG_NS, "hang");
    start(&held, "need 1");
    wait_for(&held.needs, 1);
    start(&queued, "write x");
    teardown_pool();
    ck_assert_int_eq(open_fds(), before);
}
END_TEST

/* A daemon that is killed while its worker hangs: the worker ends too. As its subreaper, this test sees both
 * ends. */
START_TEST(test_workers_die_with_the_daemon)
{
    int ready[2], status;
    ck_assert_int_eq(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0);
    ck_assert_int_eq(pipe2(ready, O_CLOEXEC), 0);
    pid_t daemon_pid = fork();
    ck_assert_int_ge(daemon_pid, 0);
    if (daemon_pid == 0) {
        struct outcome o = {.hold = true};
        setup_pool(1, LONG_NS);
        start(&o, "need 1\nhang"); /* blind to its socket's end */
        wait_for(&o.needs, 1);     /* in its sandbox by now */
        worker_job_file(o.job, 0, text_fd(""));
        (void)!write(ready[1], "", 1);
        for (;;)
            pause();
    }
    close(ready[1]);
    ck_assert_int_eq(read(ready[0], &(char){0}, 1), 1);
    close(ready[0]);
    kill(daemon_pid, SIGKILL);
    ck_assert_int_eq(waitpid(daemon_pid, &status, 0), daemon_pid);
    ck_assert_int_gt(waitpid(-1, &status, 0), 0);
    ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    ck_assert_int_eq(waitpid(-1, &status, 0), -1);
}
END_TEST

int main(int argc, char **argv)
{
    if (argc != 2)
        return EXIT_FAILURE;
    fault_worker = argv[1];
    Suite *suite = suite_create("worker_pool");
    TCase *tc = tcase_create("worker_pool");
    tcase_set_timeout(tc, TEST_TIMEOUT_SECONDS);
    tcase_add_test(tc, test_body_and_counts_arrive_and_the_worker_is_kept);
    tcase_add_test(tc, test_files_are_handed_over);
    tcase_add_test(tc, test_the_object_that_crashes_is_left_out);
    tcase_add_test(tc, test_a_used_worker_may_have_been_broken_before);
    tcase_add_test(tc, test_the_object_that_hangs_is_left_out);
    tcase_add_test(tc, test_a_few_hangs_are_enough);
    tcase_add_test(tc, test_the_object_that_takes_all_memory_is_left_out);
    tcase_add_test(tc, test_crashes_without_a_culprit_end_in_no_symbols);
    tcase_add_test(tc, test_too_many_culprits_end_in_no_symbols);
    tcase_add_test(tc, test_a_job_that_always_breaks_fails_at_last);
    tcase_add_test(tc, test_an_error_is_passed_on);
    tcase_add_test(tc, test_a_probe_that_breaks_fails_after_a_second_try);
    tcase_add_loop_test(tc, test_a_worker_that_breaks_the_protocol_is_killed, 0,
                        (int)(sizeof(lies) / sizeof(lies[0])));
    tcase_add_test(tc, test_an_answer_to_a_dead_worker_goes_to_no_other);
    tcase_add_test(tc, test_a_file_that_does_not_come_is_done_without);
    tcase_add_test(tc, test_files_that_come_slowly_are_not_waited_for_for_ever);
    tcase_add_test(tc, test_jobs_are_taken_in_order_by_so_many_workers);
    tcase_add_test(tc, test_a_bystander_does_not_wait_for_one_that_waits_for_a_file);
    tcase_add_test(tc, test_time_spent_waiting_for_a_file_is_not_the_jobs);
    tcase_add_test(tc, test_cancelled_jobs_tell_nothing_and_free_their_worker);
    tcase_add_test(tc, test_new_limits_are_for_new_workers);
    tcase_add_test(tc, test_without_an_executable_jobs_fail);
    tcase_add_test(tc, test_no_more_processes);
    tcase_add_test(tc, test_the_queue_is_bounded);
    tcase_add_test(tc, test_an_object_that_breaks_workers_without_its_debug_information_is_left_out_wholly);
    tcase_add_test(tc, test_no_descriptor_is_left);
    tcase_add_test(tc, test_workers_die_with_the_daemon);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
