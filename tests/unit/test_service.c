/* What the service manager is told, over a socket that plays the manager, and the sockets that it passes. */
#include <check.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/service.h"
#include "util/cleanup.h"

static struct event_base *base;
static struct service *service;
static int manager = -1;
static char path[64];

static void setup(void)
{
    base = event_base_new();
    ck_assert_ptr_nonnull(base);
    (void)snprintf(path, sizeof(path), "/tmp/cprofd-service-%d", getpid());
}

static void teardown(void)
{
    service_free(service);
    service = NULL;
    close_fd(&manager);
    (void)unlink(path);
    event_base_free(base);
}

static void bind_manager(const char *name)
{
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name));
    strcpy(sun.sun_path, name);
    if (*name == '@')
        sun.sun_path[0] = '\0';
    manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(manager, (struct sockaddr *)&sun, len), 0);
    ck_assert_int_eq(setenv("NOTIFY_SOCKET", name, 1), 0);
}

/* The next message; "" where none waits. */
static const char *received(void)
{
    static char text[1024];
    ssize_t n = recv(manager, text, sizeof(text) - 1, MSG_DONTWAIT);
    text[n > 0 ? n : 0] = '\0';
    return text;
}

static void talk(void)
{
    ck_assert_int_eq(service_new(base, &service), 0);
    ck_assert_ptr_null(getenv("NOTIFY_SOCKET"));
    service_ready(service, "Listening on 127.0.0.1:6060\nMAINPID=1");
    ck_assert_str_eq(received(), "READY=1\nSTATUS=Listening on 127.0.0.1:6060 MAINPID=1");
    service_reloading(service);
    const char *text = received();
    ck_assert_ptr_eq(strstr(text, "RELOADING=1\nMONOTONIC_USEC="), text);
    ck_assert(strtoull(text + strlen("RELOADING=1\nMONOTONIC_USEC="), NULL, 10) > 0);
    service_stopping(service);
    ck_assert_ptr_nonnull(strstr(received(), "STOPPING=1\n"));
    ck_assert_str_eq(received(), "");
    ck_assert_int_eq(event_base_dispatch(base), 1); /* no watchdog: nothing waits */
}

START_TEST(test_path)
{
    bind_manager(path);
    talk();
}
END_TEST

START_TEST(test_abstract)
{
    char name[64];
    (void)snprintf(name, sizeof(name), "@cprofd-service-%d", getpid());
    bind_manager(name);
    talk();
}
END_TEST

START_TEST(test_long_status_is_cut)
{
    char status[2048];
    memset(status, 'x', sizeof(status));
    status[sizeof(status) - 1] = '\0';
    bind_manager(path);
    ck_assert_int_eq(service_new(base, &service), 0);
    service_ready(service, status);
    ck_assert_uint_eq(strlen(received()), 511);
}
END_TEST

START_TEST(test_no_manager)
{
    ck_assert_int_eq(unsetenv("NOTIFY_SOCKET"), 0);
    ck_assert_int_eq(setenv("WATCHDOG_USEC", "1000", 1), 0);
    ck_assert_int_eq(service_new(base, &service), 0);
    service_ready(service, "x");
    service_reloading(service);
    service_stopping(service);
    ck_assert_int_eq(event_base_dispatch(base), 1);
    service_ready(NULL, "x");
    service_free(NULL);
}
END_TEST

START_TEST(test_manager_that_went_away)
{
    bind_manager(path);
    ck_assert_int_eq(service_new(base, &service), 0);
    close_fd(&manager);
    service_ready(service, "x"); /* logged, and life goes on */
}
END_TEST

static const struct {
    const char *socket;
    int error;
} bad_sockets[] = {
    {"", -EAFNOSUPPORT},
    {"/", -EAFNOSUPPORT},
    {"@", -EAFNOSUPPORT},
    {"vsock:2:1234", -EAFNOSUPPORT},
    {"relative", -EAFNOSUPPORT},
    {"/nonexistent/socket", -ENOENT},
    {"/012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901"
     "2345678",
     -ENAMETOOLONG},
};

START_TEST(test_bad_socket)
{
    ck_assert_int_eq(setenv("NOTIFY_SOCKET", bad_sockets[_i].socket, 1), 0);
    ck_assert_int_eq(service_new(base, &service), bad_sockets[_i].error);
    ck_assert_ptr_null(service);
}
END_TEST

START_TEST(test_watchdog)
{
    char pid[16];
    (void)snprintf(pid, sizeof(pid), "%d", getpid());
    bind_manager(path);
    ck_assert_int_eq(setenv("WATCHDOG_USEC", "2000", 1), 0);
    ck_assert_int_eq(setenv("WATCHDOG_PID", pid, 1), 0);
    ck_assert_int_eq(service_new(base, &service), 0);
    ck_assert_ptr_null(getenv("WATCHDOG_USEC"));
    ck_assert_ptr_null(getenv("WATCHDOG_PID"));
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(event_base_loop(base, EVLOOP_ONCE), 0);
        ck_assert_str_eq(received(), "WATCHDOG=1");
    }
}
END_TEST

static const struct {
    const char *usec, *pid;
} no_watchdog[] = {
    {"0", NULL},  {"-5", NULL}, {"x", NULL}, {"2000x", NULL}, {"99999999999999999999999", NULL},
    {"2000", "1"}};

START_TEST(test_no_watchdog)
{
    bind_manager(path);
    ck_assert_int_eq(setenv("WATCHDOG_USEC", no_watchdog[_i].usec, 1), 0);
    if (no_watchdog[_i].pid)
        ck_assert_int_eq(setenv("WATCHDOG_PID", no_watchdog[_i].pid, 1), 0);
    ck_assert_int_eq(service_new(base, &service), 0);
    ck_assert_int_eq(event_base_dispatch(base), 1);
    ck_assert_str_eq(received(), "");
}
END_TEST

/* ---- passed sockets: in a child, whose descriptors from 3 on are free to be replaced */

enum passed { PASS_LISTENING, PASS_CONNECTED, PASS_DATAGRAM, PASS_FILE, PASS_NOTHING };

static int make_passed(enum passed what)
{
    int fd;
    switch (what) {
    case PASS_FILE:
        return open("/dev/null", O_RDONLY);
    case PASS_DATAGRAM:
        return socket(AF_INET, SOCK_DGRAM, 0);
    case PASS_LISTENING:
        fd = socket(AF_INET, SOCK_STREAM, 0); /* listen binds it to a free port */
        return listen(fd, 5) < 0 ? -1 : fd;
    case PASS_CONNECTED:
        return socket(AF_INET, SOCK_STREAM, 0);
    case PASS_NOTHING:
        break;
    }
    return -1;
}

/* In the child: places them at 3 and 4. Returns what service_sockets returned, or the number of sockets; 100
 * and up: a promise broken. */
static int run_passed(enum passed first, enum passed second, const char *n, bool ours)
{
    enum passed what[2] = {first, second};
    int fds[SERVICE_MAX_SOCKETS];
    size_t count = 77;
    char pid[16];

    for (int i = 0; i < 2; i++) {
        int fd = make_passed(what[i]);
        (void)dup2(fd, 10 + i);
    }
    (void)close(3);
    (void)close(4);
    for (int i = 0; i < 2; i++)
        if (what[i] != PASS_NOTHING)
            (void)dup2(10 + i, 3 + i);
    (void)snprintf(pid, sizeof(pid), "%d", ours ? getpid() : 1);
    (void)setenv("LISTEN_PID", pid, 1);
    (void)setenv("LISTEN_FDS", n, 1);
    int r = service_sockets(fds, &count);
    if (getenv("LISTEN_PID") || getenv("LISTEN_FDS"))
        return 100;
    if (r < 0)
        return count != 77 || fcntl(3, F_GETFD) >= 0 || fcntl(4, F_GETFD) >= 0 ? 101 : r;
    for (size_t i = 0; i < count; i++)
        if (fds[i] != 3 + (int)i || fcntl(fds[i], F_GETFD) != FD_CLOEXEC)
            return 102;
    return (int)count;
}

static const struct {
    enum passed first, second;
    const char *n;
    bool ours;
    int result;
} passed_cases[] = {
    {PASS_LISTENING, PASS_LISTENING, "2", true, 2},       {PASS_LISTENING, PASS_LISTENING, "1", true, 1},
    {PASS_LISTENING, PASS_LISTENING, "2", false, 0}, /* meant for another process */
    {PASS_LISTENING, PASS_LISTENING, "", true, 0},        {PASS_LISTENING, PASS_LISTENING, "-1", true, 0},
    {PASS_LISTENING, PASS_CONNECTED, "2", true, -EINVAL}, {PASS_LISTENING, PASS_DATAGRAM, "2", true, -EINVAL},
    {PASS_LISTENING, PASS_FILE, "2", true, -ENOTSOCK},    {PASS_LISTENING, PASS_NOTHING, "2", true, -EBADF},
    {PASS_LISTENING, PASS_LISTENING, "33", true, -E2BIG},
};

START_TEST(test_passed_sockets)
{
    pid_t pid = fork();
    if (pid == 0) {
        int r = run_passed(passed_cases[_i].first, passed_cases[_i].second, passed_cases[_i].n,
                           passed_cases[_i].ours);
        _exit(r == passed_cases[_i].result ? 0 : 1);
    }
    int status;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
}
END_TEST

START_TEST(test_no_sockets)
{
    int fds[SERVICE_MAX_SOCKETS];
    size_t n = 77;
    (void)unsetenv("LISTEN_PID");
    ck_assert_int_eq(service_sockets(fds, &n), 0);
    ck_assert_uint_eq(n, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("service");
    TCase *tc = tcase_create("service");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, test_path);
    tcase_add_test(tc, test_abstract);
    tcase_add_test(tc, test_long_status_is_cut);
    tcase_add_test(tc, test_no_manager);
    tcase_add_test(tc, test_manager_that_went_away);
    tcase_add_loop_test(tc, test_bad_socket, 0, sizeof(bad_sockets) / sizeof(bad_sockets[0]));
    tcase_add_test(tc, test_watchdog);
    tcase_add_loop_test(tc, test_no_watchdog, 0, sizeof(no_watchdog) / sizeof(no_watchdog[0]));
    tcase_add_loop_test(tc, test_passed_sockets, 0, sizeof(passed_cases) / sizeof(passed_cases[0]));
    tcase_add_test(tc, test_no_sockets);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
