/* Parsers of status and stat: what the kernel writes, and what a target can put there. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/target_status.h"

#define STATUS(name, rest) "Name:\t" name "\nUmask:\t0022\nState:\tS (sleeping)\n" rest
#define IDS "Tgid:\t77\nNgid:\t0\nPid:\t78\nPPid:\t1\nTracerPid:\t0\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nFDSize:\t64\n"
#define TAIL "Groups:\t4 24 27 \nNStgid:\t77\t5\nNSpid:\t78\t6\nThreads:\t3\nCapInh:\t0\nCapPrm:\t000001ffffffffff\nCapEff:\t0000000000000400\n"

static int parse(const char *text, struct target_status *s)
{
    return target_status_parse(text, strlen(text), s);
}

START_TEST(test_status)
{
    struct target_status s;
    ck_assert_int_eq(parse(STATUS("bash", IDS TAIL), &s), 0);
    ck_assert_int_eq(s.state, 'S');
    ck_assert_int_eq(s.tgid, 77);
    ck_assert_int_eq(s.pid, 78);
    ck_assert_uint_eq(s.threads, 3);
    for (unsigned i = 0; i < TARGET_N_IDS; i++) {
        ck_assert_uint_eq(s.uid[i], 1 + i);
        ck_assert_uint_eq(s.gid[i], 5 + i);
    }
    ck_assert_uint_eq(s.n_groups, 3);
    ck_assert_uint_eq(s.group[2], 27);
    ck_assert_uint_eq(s.cap_permitted, 0x1ffffffffff);
    ck_assert_uint_eq(s.cap_effective, 0x400);
    ck_assert_int_eq(s.namespace_pid, 5);
}
END_TEST

START_TEST(test_status_of_what_is_mapped)
{
    struct target_status s;
    ck_assert_int_eq(parse(STATUS("x", IDS TAIL), &s), 0);
    ck_assert_uint_eq(s.exe_kib + s.lib_kib, 0); /* as of a kernel's thread */
    ck_assert_int_eq(parse(STATUS("x", IDS "VmExe:\t    1824 kB\nVmLib:\t       4 kB\n" TAIL), &s), 0);
    ck_assert_uint_eq(s.exe_kib, 1824);
    ck_assert_uint_eq(s.lib_kib, 4);
}
END_TEST

/* The kernel escapes newlines in names; what looks like a key within the name's line is no key. */
START_TEST(test_status_of_a_hostile_name)
{
    struct target_status s;
    ck_assert_int_eq(parse(STATUS("Uid:\\n\t9 9 9 9", IDS TAIL), &s), 0);
    ck_assert_uint_eq(s.uid[0], 1);
    /* A second line of a key changes nothing. */
    ck_assert_int_eq(parse(STATUS("x", IDS TAIL "Uid:\t9\t9\t9\t9\nCapPrm:\t0\n"), &s), 0);
    ck_assert_uint_eq(s.uid[0], 1);
    ck_assert_uint_eq(s.cap_permitted, 0x1ffffffffff);
}
END_TEST

/* Each line that is needed is missed, and each malformed number is refused. */
START_TEST(test_status_refused)
{
    static const char *const needed[] = {"State:", "Tgid:", "\nPid:", "Uid:", "Gid:", "Groups:", "Threads:", "CapPrm:", "CapEff:"};
    struct target_status s = {.pid = 5};
    char text[1024];

    for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++) {
        strcpy(text, STATUS("x", IDS TAIL));
        char *at = strstr(text, needed[i]);
        ck_assert_ptr_nonnull(at);
        at[needed[i][0] == '\n'] = '_';
        ck_assert_msg(parse(text, &s) == -EBADMSG, "without %s", needed[i]);
    }
    static const char *const bad[] = {
        "Uid:\t1\t2\t3\n", "Uid:\t1\t2\t3\t4294967296\n", "Uid:\t-1\t2\t3\t4\n", "Uid:\t1x\t2\t3\t4\n", "Gid:\t\n", "Tgid:\t2147483648\n",
        "CapPrm:\t1ffffffffffffffff\n", "CapPrm:\n", "CapEff:\tG\n", "Groups:\t1 a\n", "Threads:\t99999999999\n", "State:\t\n",
        "NStgid:\t1 x\n", "VmExe:\t kB\n", "VmLib:\t18446744073709551615 kB\n",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        snprintf(text, sizeof(text), "%s%s", bad[i], IDS TAIL "State:\tR\n");
        ck_assert_msg(parse(text, &s) == -EBADMSG, "%s", bad[i]);
    }
    ck_assert_int_eq(parse("", &s), -EBADMSG);
    ck_assert_int_eq(s.pid, 5); /* untouched */
}
END_TEST

START_TEST(test_status_of_many_groups)
{
    struct target_status s;
    char *text = malloc(1 << 20);
    size_t len = (size_t)sprintf(text, "Groups:\t");
    for (unsigned i = 0; i < 65536; i++)
        len += (size_t)sprintf(text + len, "%u ", 4000000000u + i);
    len += (size_t)sprintf(text + len, "\n%s", STATUS("x", IDS TAIL));
    ck_assert_int_eq(target_status_parse(text, len, &s), 0);
    ck_assert_uint_eq(s.n_groups, TARGET_MAX_GROUPS);
    ck_assert_uint_eq(s.cap_effective, 0x400);
    free(text);
}
END_TEST

#define STAT_REST " S 1 2 2 0 -1 2097152 117 0 0 0 1 2 0 0 20 0 1 0 987654 2490368 96 18446744073709551615 1 1 0\n"

START_TEST(test_stat)
{
    static const char *const names[] = {"(bash)", "(a) b)", "() S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 666 )", "()", "(\n)"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char text[512];
        struct target_stat s;
        int len = snprintf(text, sizeof(text), "12 %s" STAT_REST, names[i]);
        ck_assert_int_eq(target_stat_parse(text, (size_t)len, &s), 0);
        ck_assert_uint_eq(s.start_ticks, 987654);
        ck_assert_uint_eq(s.flags, TARGET_PF_KTHREAD);
    }
}
END_TEST

START_TEST(test_stat_refused)
{
    static const char *const bad[] = {
        "", "12 (bash", "12 (bash)", "12 (bash) S 1 2 2 0 -1 2097152 1", "12 (x) S 1 2 2 0 -1 99999999999 1 0 0 0 1 2 0 0 20 0 1 0 9 1",
        "12 (x) S 1 2 2 0 -1 5 1 0 0 0 1 2 0 0 20 0 1 0 -9 1", "12 (x) S 1 2 2 0 -1 5 1 0 0 0 1 2 0 0 20 0 1 0 99999999999999999999 1",
    };
    struct target_stat s = {.flags = 9};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        ck_assert_msg(target_stat_parse(bad[i], strlen(bad[i]), &s) == -EBADMSG, "%s", bad[i]);
    ck_assert_uint_eq(s.flags, 9);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("target_status");
    TCase *tc = tcase_create("target_status");
    tcase_add_test(tc, test_status);
    tcase_add_test(tc, test_status_of_a_hostile_name);
    tcase_add_test(tc, test_status_of_what_is_mapped);
    tcase_add_test(tc, test_status_refused);
    tcase_add_test(tc, test_status_of_many_groups);
    tcase_add_test(tc, test_stat);
    tcase_add_test(tc, test_stat_refused);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
