/* Listening sockets: addresses of every form, stale socket files, and sockets that a service manager passes. */
#include <check.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/http_listen.h"
#include "util/cleanup.h"

static char directory[64], path[128], address[160], error[512];
static struct http_listen_path listen_path;

static void setup(void)
{
    strcpy(directory, "/tmp/cprofd-test-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    snprintf(path, sizeof(path), "%s/socket", directory);
    snprintf(address, sizeof(address), "unix:%s", path);
}

static void teardown(void)
{
    (void)unlink(path);
    ck_assert_int_eq(rmdir(directory), 0);
}

static int open_address(const char *text)
{
    error[0] = '\0';
    return http_listen_open(text, &listen_path, error, sizeof(error));
}

START_TEST(test_tcp)
{
    static const char *const good[] = {"127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0"};
    struct sockaddr_storage ss;
    socklen_t len = sizeof(ss);
    int fd = open_address(good[_i]);
    if (fd == -EAFNOSUPPORT || fd == -EADDRNOTAVAIL)
        return; /* no IPv6 here */
    ck_assert_msg(fd >= 0, "%s", error);
    ck_assert_int_eq(http_listen_check(fd), 0);
    ck_assert(fcntl(fd, F_GETFL) & O_NONBLOCK);
    ck_assert(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    ck_assert_str_eq(listen_path.path, "");
    http_listen_unlink(&listen_path);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&ss, &len), 0);
    ck_assert_int_eq(ss.ss_family, _i < 2 ? AF_INET : AF_INET6);
    in_port_t port = _i < 2 ? ((struct sockaddr_in *)&ss)->sin_port : ((struct sockaddr_in6 *)&ss)->sin6_port;
    char name[HTTP_LISTEN_NAME_LEN], due[HTTP_LISTEN_NAME_LEN];
    http_listen_name(fd, good[_i], name);
    snprintf(due, sizeof(due), "%.*s%u", (int)strlen(good[_i]) - 1, good[_i], ntohs(port));
    ck_assert_uint_ne(port, 0);
    ck_assert_str_eq(name, due);
    close(fd);
}
END_TEST

/* The same port of the other family is free, unless somebody else happens to have it. */
START_TEST(test_both_families_on_one_port)
{
    for (int i = 0; i < 20; i++) {
        struct sockaddr_in6 in6;
        socklen_t len = sizeof(in6);
        char other[32];
        AUTO_CLOSE int fd = open_address("[::]:0");
        if (fd == -EAFNOSUPPORT)
            return; /* no IPv6 here */
        ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&in6, &len), 0);
        snprintf(other, sizeof(other), "0.0.0.0:%u", ntohs(in6.sin6_port));
        AUTO_CLOSE int second = open_address(other);
        if (second >= 0)
            return;
    }
    ck_abort_msg("%s", error);
}
END_TEST

START_TEST(test_bad_addresses)
{
    static const char *const bad[] = {
        "", ":", "6060", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536", "127.0.0.1:99999999999", "127.0.0.1:-1", ":6060",
        "::1:6060", "[::1]6060", "[::1:6060", "[]:6060", "localhost:6060", "example.org:80", "127.0.0.1:60 60", "unix:", "unix:relative",
        "1.2.3.4.5:80",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        ck_assert_msg(open_address(bad[i]) == -EINVAL, "%s", bad[i]);
        ck_assert_uint_gt(strlen(error), 10);
    }
}
END_TEST

START_TEST(test_port_in_use)
{
    struct sockaddr_in in;
    socklen_t len = sizeof(in);
    char same[32];
    int fd = open_address("127.0.0.1:0");
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&in, &len), 0);
    snprintf(same, sizeof(same), "127.0.0.1:%u", ntohs(in.sin_port));
    ck_assert_int_eq(open_address(same), -EADDRINUSE);
    ck_assert_ptr_nonnull(strstr(error, same));
    close(fd);
}
END_TEST

START_TEST(test_unix)
{
    struct stat st;
    int fd = open_address(address);
    ck_assert_msg(fd >= 0, "%s", error);
    ck_assert_int_eq(http_listen_check(fd), 0);
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert(S_ISSOCK(st.st_mode));
    ck_assert_uint_eq(st.st_mode & 07777, 0666);
    ck_assert_str_eq(listen_path.path, path);
    /* somebody listens there */
    struct http_listen_path first = listen_path;
    ck_assert_int_eq(open_address(address), -EADDRINUSE);
    ck_assert_ptr_nonnull(strstr(error, "listens there"));
    ck_assert_int_eq(stat(path, &st), 0);
    http_listen_unlink(&first);
    ck_assert_int_lt(stat(path, &st), 0);
    close(fd);
}
END_TEST

START_TEST(test_stale_socket_is_replaced)
{
    close(open_address(address)); /* the file stays */
    struct http_listen_path stale = listen_path;
    struct stat st;
    /* so that the new file can't get the old one's inode number */
    char other[160];
    snprintf(other, sizeof(other), "%s/kept", directory);
    ck_assert_int_eq(link(path, other), 0);
    int fd = open_address(address);
    ck_assert_msg(fd >= 0, "%s", error);
    /* the first one's end does not take the second one's file away */
    http_listen_unlink(&stale);
    ck_assert_int_eq(stat(path, &st), 0);
    http_listen_unlink(&listen_path);
    ck_assert_int_lt(stat(path, &st), 0);
    close(fd);
    unlink(other);
}
END_TEST

START_TEST(test_what_is_no_socket_stays)
{
    struct stat st;
    int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    ck_assert_int_ge(fd, 0);
    close(fd);
    ck_assert_int_eq(open_address(address), -EEXIST);
    ck_assert_ptr_nonnull(strstr(error, "not a socket"));
    ck_assert_int_eq(stat(path, &st), 0);
    unlink(path);
    /* nor is a link followed */
    ck_assert_int_eq(symlink("/dev/null", path), 0);
    ck_assert_int_eq(open_address(address), -EEXIST);
    ck_assert_int_eq(lstat(path, &st), 0);
}
END_TEST

START_TEST(test_unix_paths_that_fail)
{
    char longer[256] = "unix:/";
    memset(longer + 6, 'x', 150);
    ck_assert_int_eq(open_address(longer), -EINVAL);
    ck_assert_ptr_nonnull(strstr(error, "at most 107 bytes"));
    ck_assert_int_eq(open_address("unix:/nonexistent-directory/socket"), -ENOENT);
    ck_assert_ptr_nonnull(strstr(error, "/nonexistent-directory/socket"));
}
END_TEST

START_TEST(test_adopted)
{
    int pair[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    ck_assert_int_eq(http_listen_check(pair[0]), -EINVAL); /* connected */
    close(pair[0]);
    close(pair[1]);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(http_listen_check(fd), -EINVAL); /* does not listen */
    ck_assert_int_eq(listen(fd, 1), 0);
    ck_assert_int_eq(http_listen_check(fd), 0);
    ck_assert(fcntl(fd, F_GETFL) & O_NONBLOCK); /* accept would block the loop */
    close(fd);
    fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(http_listen_check(fd), -EINVAL);
    close(fd);
    fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(http_listen_check(fd), -EAFNOSUPPORT);
    close(fd);
    ck_assert_int_eq(http_listen_check(-1), -EBADF);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("http_listen");
    TCase *tc = tcase_create("http_listen");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, test_tcp, 0, 4);
    tcase_add_test(tc, test_both_families_on_one_port);
    tcase_add_test(tc, test_bad_addresses);
    tcase_add_test(tc, test_port_in_use);
    tcase_add_test(tc, test_unix);
    tcase_add_test(tc, test_stale_socket_is_replaced);
    tcase_add_test(tc, test_what_is_no_socket_stays);
    tcase_add_test(tc, test_unix_paths_that_fail);
    tcase_add_test(tc, test_adopted);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
