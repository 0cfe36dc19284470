/* Children of the loop: what they have, what they hear, and that their end is told exactly once. */
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/child.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/fdmsg.h"

struct record {
    struct event_base *base;
    struct child *child;
    unsigned messages, ends, gone;
    bool timed_out, kill_in_message, kill_in_ended;
    uint64_t cpu_ns;
    char text[4096];
    int fd;
};

static void on_message(struct child *c, const void *data, size_t len, int *fds, size_t n_fds, void *userdata)
{
    struct record *r = userdata;
    ck_assert_uint_lt(len, sizeof(r->text));
    ck_assert_uint_eq(r->ends, 0);
    memcpy(r->text, data, len);
    r->text[len] = '\0';
    r->messages++;
    if (n_fds > 0)
        r->fd = fds[0];
    if (r->kill_in_message)
        child_kill(c);
}

static void on_ended(struct child *c, bool timed_out, uint64_t cpu_ns, void *userdata)
{
    struct record *r = userdata;
    r->ends++;
    r->timed_out = timed_out;
    r->cpu_ns = cpu_ns;
    if (r->kill_in_ended)
        child_kill(c);
}

static void on_gone(void *userdata)
{
    struct record *r = userdata;
    r->gone++;
}

static const struct child_ops ops = {.message = on_message, .ended = on_ended, .gone = on_gone};

static struct record record_new(void)
{
    return (struct record){.base = event_base_new(), .fd = -1};
}

static void spawn(struct record *r, child_fn fn, void *arg, uint64_t deadline_ns)
{
    ck_assert_int_eq(child_spawn(r->base, fn, arg, NULL, 0, deadline_ns, &ops, r, &r->child), 0);
}

/* Until no child is left, reaped ones included. */
static void run_to_end(struct record *r)
{
    while (child_count() > 0)
        (void)event_base_loop(r->base, EVLOOP_ONCE);
}

static void run_until_message(struct record *r)
{
    unsigned before = r->messages;
    while (r->messages == before && r->ends == 0)
        (void)event_base_loop(r->base, EVLOOP_ONCE);
}

static void record_free(struct record *r)
{
    child_kill_all();
    ck_assert_uint_eq(child_count(), 0);
    event_base_free(r->base);
    close_fd(&r->fd);
}

static int count_own_fds(void)
{
    int n = 0;
    DIR *dir = opendir("/proc/self/fd");
    ck_assert_ptr_nonnull(dir);
    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

/* ---- functions of children */

static int echo(int sock, void *arg)
{
    char buf[256];
    for (;;) {
        int fd = -1;
        size_t n = 1;
        ssize_t len = fdmsg_recv(sock, buf, sizeof(buf), &fd, &n);
        if (len <= 0)
            return len == 0 ? 0 : 1;
        if (fdmsg_send(sock, buf, (size_t)len, &fd, n) < 0)
            return 1;
        if (n > 0)
            close(fd);
    }
}

_Noreturn static int hang(int sock, void *arg)
{
    for (;;)
        pause();
}

static int burn_and_leave(int sock, void *arg)
{
    while (clock_ns(CLOCK_PROCESS_CPUTIME_ID) < 20 * NSEC_PER_MSEC)
        continue;
    return 0;
}

_Noreturn static int burn_and_hang(int sock, void *arg)
{
    (void)burn_and_leave(sock, arg);
    (void)fdmsg_send(sock, "burnt", 5, NULL, 0);
    hang(sock, arg);
}

static int send_many(int sock, void *arg)
{
    for (int i = 0; i < 100; i++) {
        char text[16];
        int len = snprintf(text, sizeof(text), "%d", i);
        if (fdmsg_send(sock, text, (size_t)len, NULL, 0) < 0)
            return 1;
    }
    return 0;
}

static int list_fds(int sock, void *arg)
{
    char text[1024] = "";
    DIR *dir = opendir("/proc/self/fd");
    for (struct dirent *e; dir && (e = readdir(dir));)
        if (e->d_name[0] != '.' && atoi(e->d_name) != dirfd(dir) && atoi(e->d_name) != sock)
            snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s ", e->d_name);
    return fdmsg_send(sock, text, strlen(text) + 1, NULL, 0);
}

static int tell_state(int sock, void *arg)
{
    char comm[16], text[256];
    int death = 0;
    sigset_t mask;
    struct sigaction term, chld;

    prctl(PR_GET_NAME, comm);
    prctl(PR_GET_PDEATHSIG, &death);
    sigprocmask(SIG_SETMASK, NULL, &mask);
    sigaction(SIGTERM, NULL, &term);
    sigaction(SIGCHLD, NULL, &chld);
    snprintf(text, sizeof(text), "%s %d blocked=%d term-ignored=%d chld-default=%d", comm, death, sigismember(&mask, SIGUSR2),
             term.sa_handler == SIG_IGN, chld.sa_handler == SIG_DFL);
    return fdmsg_send(sock, text, strlen(text) + 1, NULL, 0);
}

/* ---- tests */

START_TEST(test_echo_with_fd)
{
    struct record r = record_new();
    int fds_before = count_own_fds();
    spawn(&r, echo, NULL, 0);
    ck_assert_int_eq(child_send(r.child, "ping", 4, (int[]){STDERR_FILENO}, 1), 0);
    run_until_message(&r);
    ck_assert_str_eq(r.text, "ping");
    ck_assert_int_ge(r.fd, 0);
    child_kill(r.child);
    run_to_end(&r);
    ck_assert_uint_eq(r.ends, 0);
    close_fd(&r.fd);
    ck_assert_int_eq(count_own_fds(), fds_before);
    record_free(&r);
}
END_TEST

START_TEST(test_end_is_told_once_with_cpu)
{
    struct record r = record_new();
    uint64_t total = child_total_cpu_ns();
    spawn(&r, burn_and_leave, NULL, 30 * NSEC_PER_SEC);
    run_to_end(&r);
    ck_assert_uint_eq(r.ends, 1);
    ck_assert(!r.timed_out);
    ck_assert_uint_ge(child_total_cpu_ns() - total, 20 * NSEC_PER_MSEC);
    record_free(&r);
}
END_TEST

/* Whatever is told at the end counts the child's own time, be it read before or after it was reaped. */
/* It is killed once it has used some. */
START_TEST(test_cpu_of_a_child_that_is_killed)
{
    struct record r = record_new();
    spawn(&r, burn_and_hang, NULL, 0);
    run_until_message(&r);
    child_set_deadline(r.child, NSEC_PER_MSEC);
    run_to_end(&r);
    ck_assert_uint_gt(r.cpu_ns, 0);
    ck_assert_uint_lt(r.cpu_ns, 60 * NSEC_PER_SEC);
    record_free(&r);
}
END_TEST

START_TEST(test_messages_before_the_end_arrive)
{
    struct record r = record_new();
    spawn(&r, send_many, NULL, 0);
    run_to_end(&r);
    ck_assert_uint_eq(r.messages, 100);
    ck_assert_str_eq(r.text, "99");
    ck_assert_uint_eq(r.ends, 1);
    record_free(&r);
}
END_TEST

START_TEST(test_deadline)
{
    struct record r = record_new();
    spawn(&r, hang, NULL, 10 * NSEC_PER_MSEC);
    run_to_end(&r);
    ck_assert_uint_eq(r.ends, 1);
    ck_assert(r.timed_out);
    /* One that is set later, in place of a far one; and one that was taken back. */
    r.ends = 0;
    spawn(&r, hang, NULL, 3600 * NSEC_PER_SEC);
    child_set_deadline(r.child, 10 * NSEC_PER_MSEC);
    run_to_end(&r);
    ck_assert(r.ends == 1 && r.timed_out);
    r.ends = 0;
    spawn(&r, echo, NULL, 1);
    child_set_deadline(r.child, 0);
    ck_assert_int_eq(child_send(r.child, "x", 1, NULL, 0), 0);
    run_until_message(&r);
    ck_assert_uint_eq(r.ends, 0);
    record_free(&r);
}
END_TEST

START_TEST(test_kill_inside_callbacks)
{
    struct record r = record_new();
    r.kill_in_message = true;
    spawn(&r, send_many, NULL, 0);
    run_to_end(&r);
    ck_assert_uint_eq(r.messages, 1);
    ck_assert_uint_eq(r.ends, 0);
    r = (struct record){.base = r.base, .fd = -1, .kill_in_ended = true};
    spawn(&r, send_many, NULL, 0);
    run_to_end(&r);
    ck_assert_uint_eq(r.ends, 1);
    child_kill(NULL);
    record_free(&r);
}
END_TEST

START_TEST(test_only_named_fds_are_inherited)
{
    struct record r = record_new();
    int leak = open("/dev/null", O_RDONLY), keep = fcntl(leak, F_DUPFD, 50), keep2 = fcntl(leak, F_DUPFD, 20);
    char expected[64];
    ck_assert_int_eq(child_spawn(r.base, list_fds, NULL, (int[]){keep, keep2}, 2, 0, &ops, &r, &r.child), 0);
    run_to_end(&r);
    snprintf(expected, sizeof(expected), "0 1 2 %d %d ", keep2, keep);
    ck_assert_str_eq(r.text, expected);
    close(leak);
    close(keep);
    close(keep2);
    record_free(&r);
}
END_TEST

static void ignore_signal(int sig) {}

START_TEST(test_state_of_a_child)
{
    struct record r = record_new();
    struct sigaction old, action = {.sa_handler = ignore_signal};
    sigset_t usr2;
    sigemptyset(&usr2);
    sigaddset(&usr2, SIGUSR2);
    sigprocmask(SIG_BLOCK, &usr2, NULL);
    sigaction(SIGCHLD, &action, &old);
    spawn(&r, tell_state, NULL, 0);
    run_to_end(&r);
    ck_assert_str_eq(r.text, "cprofd 9 blocked=0 term-ignored=1 chld-default=1");
    sigset_t now;
    sigprocmask(SIG_SETMASK, NULL, &now);
    ck_assert(sigismember(&now, SIGUSR2)); /* the parent's mask is as it was */
    ck_assert(!sigismember(&now, SIGTERM));
    sigprocmask(SIG_UNBLOCK, &usr2, NULL);
    sigaction(SIGCHLD, &old, NULL);
    record_free(&r);
}
END_TEST

/* The daemon is killed: its child dies as well, however long it would hang. */
START_TEST(test_dies_with_the_parent)
{
    int alive[2], ready[2];
    char byte;
    ck_assert_int_eq(pipe(alive), 0);
    ck_assert_int_eq(pipe(ready), 0);
    pid_t parent = fork();
    if (parent == 0) {
        struct record r = record_new();
        close(alive[0]);
        ck_assert_int_eq(child_spawn(r.base, hang, NULL, &alive[1], 1, 0, &ops, &r, &r.child), 0);
        close(alive[1]);
        if (write(ready[1], "x", 1) != 1)
            _exit(1);
        for (;;)
            pause();
    }
    close(alive[1]);
    ck_assert_int_eq(read(ready[0], &byte, 1), 1);
    ck_assert_int_eq(poll(&(struct pollfd){.fd = alive[0], .events = POLLIN}, 1, 0), 0);
    kill(parent, SIGKILL);
    waitpid(parent, NULL, 0);
    ck_assert_int_eq(read(alive[0], &byte, 1), 0);
    close(alive[0]);
    close(ready[0]);
    close(ready[1]);
}
END_TEST

START_TEST(test_send_to_the_dead_and_the_deaf)
{
    struct record r = record_new();
    char big[60000] = {0};
    int error = 0;
    spawn(&r, hang, NULL, 0);
    for (int i = 0; i < 100 && error == 0; i++)
        error = child_send(r.child, big, sizeof(big), NULL, 0);
    ck_assert_int_eq(error, -EAGAIN);
    child_kill(r.child);
    run_to_end(&r);
    ck_assert_uint_eq(r.ends, 0);
    record_free(&r);
}
END_TEST

START_TEST(test_number_is_bounded)
{
    struct record r = record_new();
    int error = 0;
    unsigned n = 0;
    for (; error == 0 && n <= CHILD_MAX; n += error == 0)
        error = child_spawn(r.base, echo, NULL, NULL, 0, 0, &ops, &r, &r.child);
    ck_assert_int_eq(error, -EAGAIN);
    ck_assert_uint_eq(n, CHILD_MAX);
    ck_assert_uint_eq(child_count(), CHILD_MAX);
    record_free(&r);
    ck_assert_uint_eq(r.ends, 0);
}
END_TEST

/* Those that were killed count as hanging until they are gone; whose they are is told apart. */
START_TEST(test_hanging_children_of_an_owner)
{
    struct record r = record_new();
    for (unsigned i = 0; i < 3; i++) {
        spawn(&r, hang, NULL, 0);
        child_set_owner(r.child, 7 + i / 2);
        ck_assert_uint_eq(child_count_hanging(7), i == 0 ? 0 : 1);
        if (i != 1)
            child_kill(r.child);
    }
    ck_assert_uint_eq(child_count_hanging(7), 1); /* the second lives */
    ck_assert_uint_eq(child_count_hanging(8), 1);
    ck_assert_uint_eq(child_count_hanging(0), 0);
    while (child_count() > 1)
        ck_assert_int_eq(event_base_loop(r.base, EVLOOP_ONCE), 0);
    ck_assert_uint_eq(child_count_hanging(7) + child_count_hanging(8), 0);
    record_free(&r);
}
END_TEST

/* That it is gone is told of one that ended, of one that was killed, and of one that was too late; once, and not before. */
START_TEST(test_gone_is_told)
{
    struct record r = record_new();
    spawn(&r, burn_and_leave, NULL, 0);
    spawn(&r, hang, NULL, NSEC_PER_MSEC);
    spawn(&r, hang, NULL, 0);
    child_kill(r.child);
    ck_assert_uint_eq(r.gone, 0);
    while (child_count() > 0) {
        (void)event_base_loop(r.base, EVLOOP_ONCE);
    }
    ck_assert_uint_eq(r.gone, 3);
    ck_assert_uint_eq(r.ends, 2);
    record_free(&r);
}
END_TEST

START_TEST(test_no_descriptors_left)
{
    struct record r = record_new();
    int fds[256], n = 0, fd;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &(struct rlimit){.rlim_cur = 256, .rlim_max = 256}), 0);
    while ((fd = dup(0)) >= 0)
        fds[n++] = fd;
    ck_assert_int_eq(errno, EMFILE);
    for (int spare = 0; spare < 3; spare++) { /* none for the pair, then none for the pidfd */
        if (child_spawn(r.base, echo, NULL, NULL, 0, 0, &ops, &r, &r.child) == 0)
            break;
        ck_assert_uint_eq(child_count(), 0);
        ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1); /* none left behind */
        close(fds[--n]);
    }
    while (n > 0)
        close(fds[--n]);
    record_free(&r);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("child");
    TCase *tc = tcase_create("child");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, test_echo_with_fd);
    tcase_add_test(tc, test_end_is_told_once_with_cpu);
    tcase_add_test(tc, test_cpu_of_a_child_that_is_killed);
    tcase_add_test(tc, test_messages_before_the_end_arrive);
    tcase_add_test(tc, test_deadline);
    tcase_add_test(tc, test_kill_inside_callbacks);
    tcase_add_test(tc, test_only_named_fds_are_inherited);
    tcase_add_test(tc, test_state_of_a_child);
    tcase_add_test(tc, test_dies_with_the_parent);
    tcase_add_test(tc, test_send_to_the_dead_and_the_deaf);
    tcase_add_test(tc, test_number_is_bounded);
    tcase_add_test(tc, test_hanging_children_of_an_owner);
    tcase_add_test(tc, test_gone_is_told);
    tcase_add_test(tc, test_no_descriptors_left);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
