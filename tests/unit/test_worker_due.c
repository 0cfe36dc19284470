/* Jobs whose reply is due: drafts, what goes on behind a reply, which worker a job goes to, and what a loss there teaches. */
#include "tests/unit/pool_fixture.h"

/* When it is due, the newest draft is the answer. The job goes on, its files are still opened, and its end is told to whoever kept it. */
START_TEST(test_a_reply_that_is_due_has_what_is_known)
{
    struct outcome o = {.hold = true, .keep = true};
    setup_pool(1, LONG_NS);
    start_due(&o, 1, 2 * NSEC_PER_SEC, "draft first\ndraft second\nneed 1\nneed 404\nwrite last");
    wait_for(&o.more, 1);
    ck_assert_str_eq(o.draft, "second");
    wait_for(&o.needs, 1);
    o.hold = false;
    worker_job_file(o.job, 0, text_fd("file;"));
    wait_for(&o.done, 1);
    ck_assert_uint_eq(o.needs, 2);
    ck_assert_int_eq(o.error, 0);
    ck_assert_str_eq(o.body, "file;error 2;last");
    ck_assert_uint_eq(o.more, 1);
    ck_assert_uint_eq(stats().restarts, 0);
    teardown_pool();
}
END_TEST

START_TEST(test_a_reply_that_is_overdue_is_the_first_draft)
{
    struct outcome o = {.keep = true, .hold = true};
    setup_pool(1, LONG_NS);
    start_due(&o, 1, 0, "need 1\ndraft x\ndraft y\nwrite end");
    wait_for(&o.needs, 1);
    uint64_t until_ns = monotonic_ns() + 500 * NSEC_PER_MSEC;
    while (monotonic_ns() < until_ns)
        (void)event_base_loop(base, EVLOOP_NONBLOCK);
    worker_job_file(o.job, 0, text_fd("file;"));
    wait_for(&o.done, 1);
    ck_assert_str_eq(o.draft, "file;x");
    ck_assert_str_eq(o.body, "end");
    teardown_pool();
}
END_TEST

START_TEST(test_a_job_that_is_done_in_time_has_one_answer)
{
    struct outcome o = {.keep = true};
    setup_pool(1, LONG_NS);
    start_due(&o, 1, LONG_NS, "draft x\nwrite end");
    wait_for(&o.done, 1);
    ck_assert_uint_eq(o.more, 0);
    ck_assert_str_eq(o.body, "end");
    teardown_pool();
}
END_TEST

START_TEST(test_what_nobody_keeps_ends_with_its_reply)
{
    struct outcome o = {.hold = true};
    setup_pool(1, LONG_NS);
    start_due(&o, 1, 0, "draft x\nneed 1\nneed 2\nwrite end");
    wait_for(&o.more, 1);
    ck_assert_str_eq(run("write next").body, "next");
    ck_assert_uint_le(o.needs, 1);
    ck_assert_uint_eq(o.done, 0);
    teardown_pool();
}
END_TEST

START_TEST(test_a_bystander_does_not_wait_for_one_that_has_drafted)
{
    struct outcome slow = {.keep = true};
    setup_pool(1, LONG_NS);
    start_due(&slow, 1, LONG_NS, "draft x\nhang");
    ck_assert_str_eq(run("write me").body, "me");
    ck_assert_uint_eq(slow.done + slow.more, 0);
    teardown_pool();
}
END_TEST

/* As many as compute may go on behind their replies: one more does not. */
START_TEST(test_what_goes_on_behind_replies_is_bounded)
{
    struct outcome first = {.keep = true}, second = {.keep = true};
    setup_pool(1, LONG_NS);
    start_due(&first, 1, 0, "draft x\nhang");
    wait_for(&first.more, 1);
    start_due(&second, 2, 0, "draft y\nhang");
    wait_for(&second.done, 1);
    ck_assert_uint_eq(second.more, 0);
    ck_assert_int_eq(second.error, 0);
    ck_assert_str_eq(second.body, "y");
    ck_assert_str_eq(run("write me").body, "me");
    ck_assert_uint_eq(first.done, 0);
    teardown_pool();
}
END_TEST

/* Two workers that have files of one key each. */
static void start_holders(struct outcome o[2])
{
    for (int i = 0; i < 2; i++) {
        o[i].hold = true;
        start_due(&o[i], (uint64_t)i + 1, LONG_NS, "need 404\npid");
    }
    for (int i = 0; i < 2; i++)
        wait_for(&o[i].needs, 1);
    for (int i = 0; i < 2; i++) {
        worker_job_file(o[i].job, -ENOENT, -1);
        wait_for(&o[i].done, 1);
    }
    ck_assert_str_ne(o[0].body, o[1].body);
}

START_TEST(test_a_job_goes_to_the_worker_that_has_its_files)
{
    struct outcome o[2] = {0};
    setup_pool(2, LONG_NS);
    start_holders(o);
    for (int i = 0; i < 4; i++) {
        struct outcome again = {0};
        start_due(&again, (uint64_t)i % 2 + 1, LONG_NS, "need 404\npid");
        wait_for(&again.done, 1);
        ck_assert_str_eq(again.body, o[i % 2].body);
    }
    teardown_pool();
}
END_TEST

/* It waits for that worker as long as it has time, and then does without what that one is reading. Another's job does not wait. */
START_TEST(test_a_job_waits_for_the_worker_that_has_its_files)
{
    struct outcome busy = {.keep = true, .hold = true}, same = {0}, other = {0}, later = {0};
    setup_pool(2, LONG_NS);
    start_due(&busy, 1, LONG_NS, "draft x\nneed 1\nwrite end");
    wait_for(&busy.needs, 1);
    start_due(&same, 1, 2 * SHORT_NS, "spare");
    start_due(&other, 2, LONG_NS, "spare");
    wait_for(&other.done, 1);
    ck_assert_str_eq(other.body, "spare 0:0");
    wait_for(&same.done, 1);
    ck_assert_str_eq(same.body, "spare 1:0");
    start_due(&later, 1, LONG_NS, "spare");
    worker_job_file(busy.job, 0, text_fd("file;"));
    wait_for(&later.done, 1);
    ck_assert_str_eq(later.body, "spare 0:0");
    ck_assert_uint_eq(busy.done, 1);
    teardown_pool();
}
END_TEST

/* It has nothing to find out behind its reply, and its worker is soon free again. */
START_TEST(test_what_does_without_is_left_to_its_end)
{
    struct outcome busy = {.hold = true}, same = {.hold = true, .keep = true};
    setup_pool(2, LONG_NS);
    start_due(&busy, 1, LONG_NS, "draft x\nneed 1\nwrite end");
    wait_for(&busy.needs, 1);
    start_due(&same, 1, 2 * NSEC_PER_SEC, "draft y\nneed 2\nneed 3\nspare");
    wait_for(&same.done, 1);
    ck_assert_str_eq(same.body, "y");
    ck_assert_uint_eq(same.more, 0);
    ck_assert_uint_le(same.needs, 1); /* none where the draft itself came late */
    worker_job_file(busy.job, 0, text_fd("file;"));
    wait_for(&busy.done, 1);
    ck_assert_uint_eq(same.done, 1);
    ck_assert_str_eq(run("write next").body, "next");
    ck_assert_uint_eq(stats().restarts, 0);
    teardown_pool();
}
END_TEST

/* What loses its worker behind its reply would lose it again: for a while its like do without. */
START_TEST(test_a_loss_behind_a_reply_spoils_the_key)
{
    struct outcome lost = {.keep = true, .hold = true}, same = {0}, other = {0};
    setup_pool(1, LONG_NS);
    start_due(&lost, 1, 0, "touch 3\ndraft x\nneed 1\ncrash");
    wait_for(&lost.more, 1);
    worker_job_file(lost.job, 0, text_fd("file;"));
    wait_for(&lost.done, 1);
    ck_assert_int_eq(lost.error, -EIO);
    ck_assert_uint_eq(lost.more, 1);
    ck_assert_uint_eq(stats().restarts, 1);
    start_due(&same, 1, LONG_NS, "spare");
    wait_for(&same.done, 1);
    ck_assert_str_eq(same.body, "spare 2:1");
    start_due(&other, 2, LONG_NS, "spare");
    wait_for(&other.done, 1);
    ck_assert_str_eq(other.body, "spare 0:0");
    teardown_pool();
}
END_TEST

START_TEST(test_the_cache_is_what_it_is_at_rest)
{
    setup_pool(1, LONG_NS);
    (void)run("rest 5");
    while (stats().cache_bytes != 5)
        ck_assert_int_eq(event_base_loop(base, EVLOOP_ONCE), 0);
    teardown_pool();
}
END_TEST

int main(int argc, char **argv)
{
    if (argc != 2)
        return EXIT_FAILURE;
    fault_worker = argv[1];
    Suite *suite = suite_create("worker_due");
    TCase *tc = tcase_create("worker_due");
    tcase_set_timeout(tc, TEST_TIMEOUT_SECONDS);
    tcase_add_test(tc, test_a_reply_that_is_due_has_what_is_known);
    tcase_add_test(tc, test_a_reply_that_is_overdue_is_the_first_draft);
    tcase_add_test(tc, test_a_job_that_is_done_in_time_has_one_answer);
    tcase_add_test(tc, test_what_nobody_keeps_ends_with_its_reply);
    tcase_add_test(tc, test_a_bystander_does_not_wait_for_one_that_has_drafted);
    tcase_add_test(tc, test_what_goes_on_behind_replies_is_bounded);
    tcase_add_test(tc, test_a_job_goes_to_the_worker_that_has_its_files);
    tcase_add_test(tc, test_a_job_waits_for_the_worker_that_has_its_files);
    tcase_add_test(tc, test_what_does_without_is_left_to_its_end);
    tcase_add_test(tc, test_a_loss_behind_a_reply_spoils_the_key);
    tcase_add_test(tc, test_the_cache_is_what_it_is_at_rest);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
