/* What threads are said to do, by what the kernel knows of them. */
#include "daemon/thread_state.h"

#include <check.h>
#include <fcntl.h>
#include <seccomp.h>
#include <stdlib.h>
#include <string.h>

#include "bpf/syscall_states.h"
#include "util/cleanup.h"

static struct thread_record waiting_in(const char *call)
{
    return (struct thread_record){.state = 1, .seen = 1, .syscall = seccomp_syscall_resolve_name(call)};
}

static void check(const struct thread_record *t, enum sample_state state, const char *text)
{
    char said[THREAD_STATE_TEXT] = "";

    ck_assert_int_eq(thread_state(t, said), state);
    ck_assert_str_eq(said, text);
}

START_TEST(test_calls)
{
    static const struct {
        const char *call;
        enum sample_state state;
        const char *text;
    } cases[] = {
        {"futex", SAMPLE_STATE_LOCK, "futex wait"},    {"semtimedop", SAMPLE_STATE_LOCK, "semaphore wait"},
        {"flock", SAMPLE_STATE_LOCK, "file lock wait"}, {"clock_nanosleep", SAMPLE_STATE_SLEEP, "sleep"},
        {"ppoll", SAMPLE_STATE_SLEEP, "select"},       {"epoll_pwait", SAMPLE_STATE_SLEEP, "select"},
        {"read", SAMPLE_STATE_IO, "IO wait"},          {"accept4", SAMPLE_STATE_IO, "IO wait"},
        {"wait4", SAMPLE_STATE_OTHER, "child wait"},   {"rt_sigsuspend", SAMPLE_STATE_SLEEP, "signal wait"},
        {"rt_sigtimedwait", SAMPLE_STATE_SLEEP, "signal wait"}, {"fallocate", SAMPLE_STATE_IO, "IO wait"},
        {"munmap", SAMPLE_STATE_OTHER, "syscall munmap"},
    };
    struct thread_record t = waiting_in(cases[_i].call);
    check(&t, cases[_i].state, cases[_i].text);
    t.state = 0x2001; /* a freezable wait */
    check(&t, cases[_i].state, cases[_i].text);
    t.state = 2;
    t.in_iowait = 1;
    check(&t, SAMPLE_STATE_IO, "IO wait");
}
END_TEST
#define N_CALLS 13

/* However a wait was seen, by a dump or as it began, it is in the same state. */
START_TEST(test_states_are_the_scheduler_s)
{
    uint8_t states[SCHED_SYSCALLS];
    char said[THREAD_STATE_TEXT];

    syscall_states(states);
    for (int number = 0; number < SCHED_SYSCALLS; number++) {
        struct thread_record t = {.state = 1, .seen = 1, .syscall = number, .args = {0, F_SETLKW}};
        ck_assert_int_eq(thread_state(&t, said), states[number] == SAMPLE_STATE_NONE ? SAMPLE_STATE_OTHER : states[number]);
    }
}
END_TEST

START_TEST(test_file_locks)
{
    struct thread_record t = waiting_in("fcntl");

    t.args[1] = F_SETLKW;
    check(&t, SAMPLE_STATE_LOCK, "file lock wait");
    t.args[1] = F_OFD_SETLKW;
    check(&t, SAMPLE_STATE_LOCK, "file lock wait");
    t.args[1] = F_GETFL;
    check(&t, SAMPLE_STATE_OTHER, "syscall fcntl");
}
END_TEST

START_TEST(test_what_is_no_wait)
{
    struct thread_record t = {.syscall = -1};

    check(&t, SAMPLE_STATE_RUNQ, "runnable");
    t.state = 0x200; /* being woken */
    check(&t, SAMPLE_STATE_RUNQ, "runnable");
    t.on_cpu = 1;
    check(&t, SAMPLE_STATE_CPU, "running");
    t = (struct thread_record){.state = 0x104, .syscall = 0};
    check(&t, SAMPLE_STATE_OTHER, "stopped");
    t.state = 0x108;
    check(&t, SAMPLE_STATE_OTHER, "traced");
    t.state = 0x8000;
    check(&t, SAMPLE_STATE_OTHER, "frozen");
    t.exit_state = 32;
    check(&t, SAMPLE_STATE_OTHER, "exited");
    t = (struct thread_record){.state = 2, .syscall = -1};
    check(&t, SAMPLE_STATE_OTHER, "page fault");
    t.in_iowait = 1;
    check(&t, SAMPLE_STATE_IO, "page fault");
}
END_TEST

START_TEST(test_unknown_call)
{
    struct thread_record t = {.state = 1, .syscall = 1000000};

    check(&t, SAMPLE_STATE_OTHER, "syscall unknown");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("thread_state");
    TCase *tc = tcase_create("thread_state");

    tcase_add_loop_test(tc, test_calls, 0, N_CALLS);
    tcase_add_test(tc, test_states_are_the_scheduler_s);
    tcase_add_test(tc, test_file_locks);
    tcase_add_test(tc, test_what_is_no_wait);
    tcase_add_test(tc, test_unknown_call);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
