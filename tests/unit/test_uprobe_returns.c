/* The kernel is asked what it does with programs under seccomp: that it can be asked, and answers the same twice. Needs root. */
#include <check.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "bpf/uprobe_code.h"
#include "bpf/uprobe_returns.h"

START_TEST(test_code_can_be_called)
{
    struct uprobe_code code = UPROBE_CODE_INIT;
    ck_assert_int_eq(uprobe_code_init(&code), 0);
    for (int i = 0; i < 3; i++) {
        uprobe_code_call(&code, UPROBE_CODE_EMULATED);
        uprobe_code_call(&code, UPROBE_CODE_STEPPED);
    }
    uprobe_code_deinit(&code);
    uprobe_code_deinit(&code);
    ck_assert_int_eq(code.fd, -1);
}
END_TEST

START_TEST(test_two_answers_are_one)
{
    bool first = false, second = false;
    int r = uprobe_returns_try(&first);
    if (geteuid() != 0 || r == -EPERM || r == -EACCES) {
        printf("needs root, and a kernel that lets it probe: %d\n", r);
        return;
    }
    ck_assert_int_eq(r, 0);
    ck_assert_int_eq(uprobe_returns_try(&second), 0);
    ck_assert(first == second);
    printf("a return probe %s\n", first ? "lets a program under seccomp live" : "kills a program under seccomp");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("uprobe_returns");
    TCase *tc = tcase_create("returns");
    tcase_add_test(tc, test_code_can_be_called);
    tcase_add_test(tc, test_two_answers_are_one);
    suite_add_tcase(s, tc);
    SRunner *runner = srunner_create(s);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
