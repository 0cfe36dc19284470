/* Targets that exec under a collector: told in time, late, together, or not at all; to what the asker may not trace. With the
 * arguments "puppet IN OUT" this is a target that has exec'd. */
#include "tests/unit/mapper.h"

START_TEST(test_exec)
{
    struct mapper m = {.exe = scratch_path("second"), .fd = {scratch_file("a.so", 'a'), -1}};
    scratch_copy_self(m.exe);
    struct puppet target = puppet_start(run_mapper, &m);
    struct talk *t = talk_new(target.pid, talk_asker(0));

    puppet_do(&target, 'a');
    talk_start(t, collector_main);
    (void)talk_expect(t, COLLECTOR_READY, NULL);
    puppet_do(&target, 'x');
    /* A change that is told late, when the new image is there already, changes nothing: it was the old one's. */
    talk_epoch(t, 1, false);
    talk_epoch(t, 2, true);
    const struct collector_message *access = talk_expect(t, COLLECTOR_ACCESS, NULL);
    ck_assert_uint_eq(access->u.access.epoch, 2);
    ck_assert_int_eq(access->u.access.status, 0);
    struct raw_profile p = talk_finish(t);
    const struct raw_mapping *first = program_in(&p, 1), *second = program_in(&p, 2);
    check_epochs(first, 0, 1);
    check_epochs(second, 2, UINT32_MAX);
    ck_assert_str_eq(object_path(&p, second), m.exe);
    ck_assert_str_ne(object_path(&p, first), m.exe);
    check_epochs(find_mapping(&p, "/a.so", 0), 0, 1);
    raw_profile_close(&p);
    talk_free(t);
    puppet_end(&target);
    close(m.fd[0]);
}
END_TEST

/* Word of the first exec is heard when the second has happened: what is there now is the second's, not the first's,
 * and nobody knows what the first one was. To an asker who may see all, that does not matter. */
static void two_execs(uint32_t uid, int asker, bool together, bool hidden)
{
    struct mapper m = {.exe = "/proc/self/exe", .uid = uid};
    struct puppet target = puppet_start(run_mapper, &m);
    struct talk *t = talk_new(target.pid, talk_asker(asker));
    const struct collector_message *access;
    bool unseen = false;

    talk_start(t, collector_main);
    (void)talk_expect(t, COLLECTOR_READY, NULL);
    puppet_do(&target, 'x');
    puppet_do(&target, 'x');
    talk_epoch(t, 3, true);
    if (!together)
        ck_assert_int_eq(talk_expect(t, COLLECTOR_ACCESS, NULL)->u.access.status, 0);
    talk_epoch(t, 8, true);
    do {
        access = talk_expect(t, COLLECTOR_ACCESS, NULL);
        ck_assert_int_eq(access->u.access.status, 0);
        unseen = unseen || (access->u.access.unseen == 3 && access->u.access.epoch == 8);
    } while (access->u.access.epoch != 8);
    ck_assert(unseen == hidden);
    struct raw_profile p = talk_finish(t);
    check_epochs(program_in(&p, 0), 0, 2);
    ck_assert_ptr_null(program_in(&p, 3));
    ck_assert_ptr_null(program_in(&p, 7));
    check_epochs(program_in(&p, 8), 8, UINT32_MAX);
    raw_profile_close(&p);
    talk_free(t);
    puppet_end(&target);
}

START_TEST(test_two_execs_told_late)
{
    two_execs(0, (int)getuid(), false, getuid() != 0);
    two_execs(0, (int)getuid(), true, getuid() != 0);
    if (getuid() != 0)
        return;
    two_execs(60001, 60001, false, true);
    two_execs(60001, 60001, true, true);
}
END_TEST

/* Two execs that are told in time: every image was judged. */
START_TEST(test_two_execs_told_in_time)
{
    struct mapper m = {.exe = "/proc/self/exe", .uid = getuid() ? 0 : 60001};
    struct puppet target = puppet_start(run_mapper, &m);
    struct talk *t = talk_new(target.pid, talk_asker(getuid() ? (int)getuid() : 60001));

    talk_start(t, collector_main);
    (void)talk_expect(t, COLLECTOR_READY, NULL);
    for (uint32_t epoch = 3; epoch <= 8; epoch += 5) {
        puppet_do(&target, 'x');
        talk_epoch(t, epoch, true);
        const struct collector_message *access = talk_expect(t, COLLECTOR_ACCESS, NULL);
        ck_assert_uint_eq(access->u.access.epoch, epoch);
        ck_assert_uint_eq(access->u.access.unseen, epoch);
    }
    struct raw_profile p = talk_finish(t);
    check_epochs(program_in(&p, 2), 0, 2);
    check_epochs(program_in(&p, 3), 3, 7);
    check_epochs(program_in(&p, 8), 8, UINT32_MAX);
    raw_profile_close(&p);
    talk_free(t);
    puppet_end(&target);
}
END_TEST

/* An exec before anybody watched: it is told by nobody, or late; the new image is there from the first sample on. */
START_TEST(test_exec_before_the_recheck)
{
    for (int told = 0; told < 2; told++) {
        struct mapper m = {.exe = scratch_path("second"), .fd = {scratch_file("a.so", 'a'), -1}};
        scratch_copy_self(m.exe);
        struct puppet target = puppet_start(run_mapper, &m);
        struct talk *t = talk_new(target.pid, talk_asker(0));

        puppet_do(&target, 'a');
        talk_start(t, collector_main);
        (void)talk_expect(t, COLLECTOR_READY, NULL);
        puppet_do(&target, 'x');
        ck_assert_int_eq(talk_recheck(t)->u.access.status, 0);
        if (told) {
            talk_epoch(t, 1, true);
            ck_assert_int_eq(talk_expect(t, COLLECTOR_ACCESS, NULL)->u.access.status, 0);
        }
        struct raw_profile p = talk_finish(t);
        const struct raw_mapping *program = program_in(&p, 1);
        check_epochs(program, told ? 1 : 0, UINT32_MAX);
        ck_assert_str_eq(object_path(&p, program), m.exe);
        ck_assert_ptr_null(find_mapping(&p, "/a.so", 0)); /* of an image that no sample saw */
        raw_profile_close(&p);
        talk_free(t);
        puppet_end(&target);
        close(m.fd[0]);
        unlink(m.exe);
    }
}
END_TEST

/* What is mapped before anybody watches is seen as well. */
START_TEST(test_mapping_before_the_recheck)
{
    struct mapper m = {.fd = {scratch_file("a.so", 'a'), -1}};
    struct puppet target = puppet_start(run_mapper, &m);
    struct talk *t = talk_new(target.pid, talk_asker(0));

    talk_start(t, collector_main);
    (void)talk_expect(t, COLLECTOR_READY, NULL);
    puppet_do(&target, 'a');
    ck_assert_int_eq(talk_recheck(t)->u.access.status, 0);
    puppet_do(&target, 'u');
    talk_epoch(t, 1, false);
    struct raw_profile p = talk_finish(t);
    check_epochs(find_mapping(&p, "/a.so", 0), 0, 0);
    raw_profile_close(&p);
    talk_free(t);
    puppet_end(&target);
    close(m.fd[0]);
}
END_TEST

/* An exec that was not told by the end: the last look must not take the new image for the old one. */
START_TEST(test_exec_that_was_not_told)
{
    struct mapper m = {.exe = scratch_path("second")};
    scratch_copy_self(m.exe);
    struct puppet target = puppet_start(run_mapper, &m);
    struct talk *t = talk_new(target.pid, talk_asker(0));
    talk_start(t, collector_main);
    (void)talk_expect(t, COLLECTOR_READY, NULL);
    puppet_do(&target, 'x');
    struct raw_profile p = talk_finish(t);
    ck_assert_ptr_null(find_mapping(&p, "/second", 0));
    check_epochs(program_in(&p, 0), 0, UINT32_MAX);
    raw_profile_close(&p);
    talk_free(t);
    puppet_end(&target);
}
END_TEST

/* A program that its user may not read is none that he may trace. */
START_TEST(test_exec_that_is_denied)
{
    if (getuid() != 0) {
        fprintf(stderr, "skipped: only root can start processes as other users\n");
        return;
    }
    struct mapper m = {.exe = scratch_path("secret"), .uid = 60001};
    scratch_copy_self(m.exe);
    ck_assert_int_eq(chmod(m.exe, 0711), 0);
    struct puppet target = puppet_start(run_mapper, &m);
    struct talk *t = talk_new(target.pid, talk_asker(60001));
    char map[64];

    (void)snprintf(map, sizeof(map), "/tmp/perf-%d.map", target.pid);
    AUTO_CLOSE int map_fd = open(map, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    ck_assert(map_fd >= 0 && fchmod(map_fd, 0644) == 0);
    talk_start(t, collector_main);
    (void)talk_expect(t, COLLECTOR_READY, NULL);
    ck_assert_int_eq(talk_recheck(t)->u.access.status, 0);
    AUTO_CLOSE int granted = talk_file_of_kind(t, WORKER_FILE_PERF_MAP, 0, "");
    ck_assert_int_ge(granted, 0);
    puppet_do(&target, 'x');
    ck_assert_int_eq(talk_file_of_kind(t, WORKER_FILE_PERF_MAP, 0, ""), -EACCES); /* it would be the new image's */
    ck_assert_int_eq(talk_recheck(t)->u.access.status, 403);
    talk_epoch(t, 4, true);
    const struct collector_message *access = talk_expect(t, COLLECTOR_ACCESS, NULL);
    ck_assert_uint_eq(access->u.access.epoch, 4);
    ck_assert_int_eq(access->u.access.status, 403);
    ck_assert_ptr_nonnull(strstr(access->u.access.message, "not dumpable"));
    struct raw_profile p = talk_finish(t);
    ck_assert_ptr_null(find_mapping(&p, "/secret", 0));
    check_epochs(program_in(&p, 0), 0, 3);
    raw_profile_close(&p);
    puppet_end(&target);
    ck_assert_int_eq(talk_file_of_kind(t, WORKER_FILE_PERF_MAP, 0, ""), -EACCES); /* nor once it is gone */
    ck_assert_int_eq(unlink(map), 0);
    talk_free(t);
}
END_TEST

int main(int argc, char **argv)
{
    if (argc >= 4 && strcmp(argv[1], "puppet") == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        run_mapper(atoi(argv[2]), atoi(argv[3]), &(struct mapper){.exe = "/proc/self/exe"});
    }
    Suite *suite = suite_create("collector_exec");
    TCase *tc = tcase_create("collector_exec");
    tcase_set_timeout(tc, 60);
    tcase_add_checked_fixture(tc, scratch_make, scratch_remove);
    tcase_add_test(tc, test_exec);
    tcase_add_test(tc, test_two_execs_told_late);
    tcase_add_test(tc, test_two_execs_told_in_time);
    tcase_add_test(tc, test_exec_before_the_recheck);
    tcase_add_test(tc, test_mapping_before_the_recheck);
    tcase_add_test(tc, test_exec_that_was_not_told);
    tcase_add_test(tc, test_exec_that_is_denied);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
