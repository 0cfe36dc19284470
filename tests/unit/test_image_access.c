/* No sample of an image that was not granted, in whatever order execs and answers come. */
#include <check.h>
#include <stdlib.h>

#include "daemon/image_access.h"

static struct image_access a;

static void setup(void)
{
    image_access_init(&a);
}

START_TEST(test_the_first_image_is_granted)
{
    ck_assert(image_access_allows_all(&a));
    ck_assert(image_access_allows(&a, 0) && image_access_allows(&a, 77));
}
END_TEST

START_TEST(test_an_exec_is_out_until_granted)
{
    image_access_exec(&a, 5);
    ck_assert(image_access_allows(&a, 4));
    ck_assert(!image_access_allows(&a, 5) && !image_access_allows(&a, 6));
    ck_assert(!image_access_allows_all(&a));
    image_access_grant(&a, 5, 5);
    ck_assert(image_access_allows(&a, 5) && image_access_allows(&a, 4) && image_access_allows(&a, 9));
}
END_TEST

/* A setuid program that executes an ordinary one before the check has looked. */
START_TEST(test_a_grant_for_a_later_image_does_not_reach_back)
{
    image_access_exec(&a, 5);
    image_access_exec(&a, 6);
    image_access_grant(&a, 5, 6); /* made for 5, but 6 runs */
    ck_assert(!image_access_allows(&a, 5) && !image_access_allows(&a, 6));
    image_access_grant(&a, 6, 6);
    ck_assert(!image_access_allows(&a, 5) && image_access_allows(&a, 6) && image_access_allows(&a, 4));
}
END_TEST

/* The check saw the next image already: what it was made for was not looked at. */
START_TEST(test_what_was_not_looked_at_is_taken_back)
{
    image_access_exec(&a, 5);
    image_access_grant(&a, 5, 5);
    image_access_exec(&a, 8);
    ck_assert(image_access_allows(&a, 7));
    image_access_revoke(&a, 5, 8);
    image_access_grant(&a, 8, 8);
    ck_assert(!image_access_allows(&a, 5) && !image_access_allows(&a, 7));
    ck_assert(image_access_allows(&a, 4) && image_access_allows(&a, 8) && image_access_allows(&a, 99));
    image_access_revoke(&a, 8, 8);
    ck_assert(image_access_allows(&a, 8));
    setup();
    image_access_exec(&a, 3); /* the same of the first image */
    image_access_revoke(&a, 0, 3);
    ck_assert(!image_access_allows(&a, 0) && !image_access_allows(&a, 2));
    setup();
    image_access_revoke(&a, 2, 4);
    ck_assert(image_access_allows(&a, 1) && !image_access_allows(&a, 2) && !image_access_allows(&a, 50));
}
END_TEST

START_TEST(test_more_images_than_room_are_not_granted)
{
    for (uint32_t i = 1; i < 100; i++) {
        image_access_exec(&a, i);
        image_access_grant(&a, i, i);
    }
    ck_assert(image_access_allows(&a, 0) && image_access_allows(&a, IMAGE_ACCESS_MAX_RANGES - 1));
    ck_assert(!image_access_allows(&a, 99));
}
END_TEST

START_TEST(test_one_who_was_checked_late_sees_what_runs_since)
{
    struct image_access late;

    image_access_since(&a, 0, &late);
    ck_assert(image_access_allows_all(&late));
    image_access_exec(&a, 5);
    image_access_exec(&a, 8); /* 5 to 7 were nobody's */
    image_access_grant(&a, 8, 8);
    image_access_since(&a, 3, &late);
    ck_assert(!image_access_allows(&late, 2) && image_access_allows(&late, 3) && image_access_allows(&late, 4));
    ck_assert(!image_access_allows(&late, 5) && !image_access_allows(&late, 7) && image_access_allows(&late, 8));
    image_access_since(&a, 8, &late);
    ck_assert(!image_access_allows(&late, 4) && !image_access_allows(&late, 7) && image_access_allows(&late, 8));
    ck_assert(!image_access_allows_all(&late));
    ck_assert(!image_access_allows_some(&late, 0, 7) && image_access_allows_some(&late, 0, 8) && image_access_allows_some(&late, 9, 9));
    ck_assert(image_access_allows_some(&a, 4, 6) && !image_access_allows_some(&a, 5, 7) && image_access_allows_some(&a, 0, UINT32_MAX));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("image_access");
    TCase *tc = tcase_create("image_access");
    tcase_add_checked_fixture(tc, setup, NULL);
    tcase_add_test(tc, test_the_first_image_is_granted);
    tcase_add_test(tc, test_an_exec_is_out_until_granted);
    tcase_add_test(tc, test_a_grant_for_a_later_image_does_not_reach_back);
    tcase_add_test(tc, test_what_was_not_looked_at_is_taken_back);
    tcase_add_test(tc, test_one_who_was_checked_late_sees_what_runs_since);
    tcase_add_test(tc, test_more_images_than_room_are_not_granted);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
