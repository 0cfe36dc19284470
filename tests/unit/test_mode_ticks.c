/* Ticks of a child that computes, and of one that is in the kernel. */
#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bpf/mode_ticks.h"
#include "util/clock.h"

#define WANTED 100

struct seen {
    uint64_t ticks, user, others, kernel_addresses;
    pid_t pid;
};

static void on_tick(const struct mode_tick *tick, void *userdata)
{
    struct seen *seen = userdata;

    seen->ticks++;
    seen->user += tick->user;
    seen->others += tick->tid != (uint32_t)seen->pid;
    seen->kernel_addresses += tick->user && tick->address >> 63;
}

static void compute(void)
{
    for (volatile uint64_t n = 0;; n++)
        ;
}

static void call_kernel(void)
{
    static char much[1 << 20];

    while (getrandom(much, sizeof(much), 0) >= 0)
        ;
}

static pid_t run(void (*what)(void))
{
    pid_t pid = fork();

    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        what();
        _exit(1);
    }
    return pid;
}

/* Until there are enough of them, however busy the machine is. False: this machine does not let it. */
static bool look(pid_t pid, struct seen *ret)
{
    struct mode_ticks *t = NULL;
    int r = mode_ticks_new(pid, &t);

    *ret = (struct seen){.pid = pid};
    if (r == -EACCES || r == -EPERM) {
        printf("skipped: needs CAP_PERFMON\n");
        return false;
    }
    ck_assert_int_eq(r, 0);
    mode_ticks_stop(t, on_tick, ret);
    ck_assert_uint_eq(ret->ticks, 0); /* it was not started */
    while (ret->ticks < WANTED) {
        mode_ticks_start(t);
        (void)usleep(10000);
        mode_ticks_stop(t, on_tick, ret);
    }
    uint64_t before = ret->ticks;
    (void)usleep(10000);
    mode_ticks_stop(t, on_tick, ret);
    ck_assert_uint_eq(ret->ticks, before);
    mode_ticks_free(t);
    return true;
}

static void end(pid_t pid)
{
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, NULL, 0);
}

START_TEST(test_modes)
{
    struct seen user, kernel;
    pid_t computes = run(compute), calls = run(call_kernel);

    if (look(computes, &user)) {
        ck_assert(look(calls, &kernel));
        ck_assert_uint_eq(user.others + kernel.others + user.kernel_addresses + kernel.kernel_addresses, 0);
        ck_assert_msg(user.user > user.ticks * 3 / 4, "%lu of %lu", (unsigned long)user.user, (unsigned long)user.ticks);
        ck_assert_msg(kernel.user < kernel.ticks / 4, "%lu of %lu", (unsigned long)kernel.user, (unsigned long)kernel.ticks);
    }
    end(computes);
    end(calls);
    mode_ticks_free(NULL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("mode_ticks");
    TCase *c = tcase_create("all");
    tcase_set_timeout(c, 60);
    tcase_add_test(c, test_modes);
    suite_add_tcase(suite, c);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
