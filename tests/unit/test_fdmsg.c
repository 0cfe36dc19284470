/* Datagrams with descriptors: whole, bounded, and without a leak. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/fdmsg.h"

static int next_fd(void)
{
    AUTO_CLOSE int fd = dup(0);
    return fd;
}

START_TEST(test_message_and_fd_arrive)
{
    int s[2], out[4];
    size_t n = 4;
    char buf[16];
    ck_assert_int_eq(fdmsg_pair(s), 0);
    ck_assert_int_eq(fdmsg_send(s[0], "hello", 5, &s[0], 1), 0);
    ck_assert_int_eq(fdmsg_recv(s[1], buf, sizeof(buf), out, &n), 5);
    ck_assert_uint_eq(n, 1);
    ck_assert_mem_eq(buf, "hello", 5);
    ck_assert(fcntl(out[0], F_GETFD) & FD_CLOEXEC);
    close(out[0]);
    close(s[0]);
    n = 4;
    ck_assert_int_eq(fdmsg_recv(s[1], buf, sizeof(buf), out, &n), 0);
    close(s[1]);
}
END_TEST

START_TEST(test_too_long_closes_fds)
{
    int s[2], out[4], before;
    size_t n = 4;
    char buf[2];
    ck_assert_int_eq(fdmsg_pair(s), 0);
    before = next_fd();
    ck_assert_int_eq(fdmsg_send(s[0], "hello", 5, &s[0], 1), 0);
    ck_assert_int_eq(fdmsg_recv(s[1], buf, sizeof(buf), out, &n), -EMSGSIZE);
    ck_assert_int_eq(next_fd(), before);
    ck_assert_int_eq(fdmsg_send(s[0], "hello", 5, (int[]){s[0], s[0]}, 2), 0);
    n = 1; /* room for one of two */
    ck_assert_int_eq(fdmsg_recv(s[1], (char[16]){0}, 16, out, &n), 5);
    ck_assert_uint_eq(n, 1);
    close(out[0]);
    ck_assert_int_eq(next_fd(), before);
    ck_assert_int_eq(fdmsg_send(s[0], "x", FDMSG_MAX_BYTES + 1, NULL, 0), -EMSGSIZE);
    close(s[1]);
    ck_assert_int_eq(fdmsg_send(s[0], "x", 1, NULL, 0), -EPIPE);
    close(s[0]);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("fdmsg");
    TCase *tc = tcase_create("fdmsg");
    tcase_add_test(tc, test_message_and_fd_arrive);
    tcase_add_test(tc, test_too_long_closes_fds);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
