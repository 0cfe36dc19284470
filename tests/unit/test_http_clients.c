/* The HTTP server against clients that leave, drip, never read, or are too many. What they ask for is test_http.c's. */
#include <check.h>
#include <event2/buffer.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/metrics.h"
#include "tests/unit/http_client.h"

#define HOST "Host: localhost\r\n"

static struct http_fixture f;
static struct http_answer a;

static void setup(void)
{
    fixture_start(&f, fixture_handler, &f);
}

static void teardown(void)
{
    fixture_stop(&f);
}

/* ---- clients that leave */

static void assert_gone_of(unsigned connections)
{
    while (f.pending)
        event_base_loop(f.base, EVLOOP_ONCE);
    fixture_turn(&f);
    ck_assert_int_eq(f.n_gone, 1);
    ck_assert_uint_eq(http_server_connections(f.server), connections - 1);
}

static void assert_gone(void)
{
    assert_gone_of(1);
}

START_TEST(test_close_is_seen)
{
    close(client_ask_pending(&f));
    assert_gone();
}
END_TEST

START_TEST(test_half_close_is_seen)
{
    int fd = client_ask_pending(&f);
    shutdown(fd, SHUT_WR);
    assert_gone();
    close(fd);
}
END_TEST

START_TEST(test_reset_is_seen)
{
    struct linger now = {.l_onoff = 1};
    int fd = client_ask_pending(&f);
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    close(fd);
    assert_gone();
}
END_TEST

/* A next request in the pipe is no sign of leaving; then the client leaves all the same. */
START_TEST(test_leaves_with_a_request_in_the_pipe)
{
    int fd = client_ask_pending(&f);
    client_puts(&f, fd, "GET / HTTP/1.1\r\n" HOST "\r\n");
    fixture_turn(&f);
    ck_assert_ptr_nonnull(f.pending);
    ck_assert_int_eq(f.n_requests, 1);
    if (_i == 0) {
        close(fd);
        assert_gone();
        ck_assert_int_eq(f.n_requests, 1);
        return;
    }
    http_reply_error(f.pending, 404, "no");
    client_read(&f, fd, false, &a);
    assert_error(&a, 404);
    client_read(&f, fd, false, &a);
    ck_assert_int_eq(a.status, 200);
    close(fd);
}
END_TEST

/* The loop must sleep while a request is pending, whatever the client has sent. */
START_TEST(test_pending_request_does_not_spin)
{
    int fd = client_ask_pending(&f);
    client_puts(&f, fd, "GET /more HTTP/1.1\r\n");
    fixture_turn(&f);
    const struct timeval tv = {.tv_usec = 20000};
    event_base_loopexit(f.base, &tv);
    int turns = 0;
    while (!event_base_got_exit(f.base) && turns < 100) {
        event_base_loop(f.base, EVLOOP_ONCE);
        turns++;
    }
    ck_assert_int_le(turns, 2);
    close(fd);
    assert_gone();
}
END_TEST

/* The client has left, but the loop has not been told yet. */
START_TEST(test_reply_after_the_client_left)
{
    struct linger now = {.l_onoff = 1};
    int fd = client_ask_pending(&f);
    if (_i == 1)
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    close(fd);
    if (_i == 2)
        fixture_reply_big(f.pending, 10 * 1024 * 1024);
    else
        http_reply_error(f.pending, 404, "no");
    fixture_turn(&f);
    ck_assert_int_eq(f.n_gone, 0);
    ck_assert_uint_eq(http_server_connections(f.server), 0);
}
END_TEST

START_TEST(test_leaves_while_the_reply_is_sent)
{
    int fd = client_connect(&f);
    client_puts(&f, fd, "GET /big HTTP/1.1\r\n" HOST "\r\n");
    fixture_turn(&f);
    ck_assert_uint_eq(http_server_connections(f.server), 1);
    close(fd);
    fixture_turn(&f);
    ck_assert_uint_eq(http_server_connections(f.server), 0);
}
END_TEST

START_TEST(test_server_is_freed_with_a_request_under_way)
{
    int waiting = client_ask_pending(&f), idle = client_connect(&f), sending = client_connect(&f);
    client_puts(&f, sending, "GET /big HTTP/1.1\r\n" HOST "\r\n");
    fixture_turn(&f);
    int fresh = client_connect(&f); /* not yet accepted */
    fixture_stop(&f);
    ck_assert_int_eq(f.n_gone, 1);
    close(waiting);
    close(idle);
    close(sending);
    close(fresh);
    setup();
}
END_TEST

/* ---- slow clients, and too many */

static const struct http_limits short_limits = {
    .connections = 4, .root_reserve = 0, .pending = 4, .input_bytes = 1 << 20, .idle_ms = 30, .read_ms = 30, .write_ms = 30,
    .write_rate = 65536,
};

static void assert_closed_by_server(int fd)
{
    client_read_all(&f, fd, &a);
    fixture_turn(&f);
    ck_assert_uint_eq(http_server_connections(f.server), 0);
}

START_TEST(test_idle_connection_is_closed)
{
    http_server_set_limits(f.server, &short_limits);
    int fd = client_connect(&f);
    assert_closed_by_server(fd);
    ck_assert_uint_eq(a.len, 0);
    close(fd);
    fd = client_connect(&f); /* after a reply as well */
    client_puts(&f, fd, "GET / HTTP/1.1\r\n" HOST "\r\n");
    assert_closed_by_server(fd);
    ck_assert_int_eq(a.status, 200);
    close(fd);
}
END_TEST

START_TEST(test_slow_request_is_closed)
{
    static const char *const part[] = {"G", "GET / HTTP/1.1\r\nX", "POST / HTTP/1.1\r\n" HOST "Content-Length: 9\r\n\r\nabc"};
    http_server_set_limits(f.server, &short_limits);
    int fd = client_connect(&f);
    client_puts(&f, fd, part[_i]);
    while (http_server_connections(f.server) == 1) { /* drips */
        (void)send(fd, "x", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
        event_base_loop(f.base, EVLOOP_NONBLOCK);
        poll(NULL, 0, 20);
        if (_i == 2)
            break;
    }
    assert_closed_by_server(fd);
    if (a.len > 0)
        assert_error(&a, 408);
    close(fd);
}
END_TEST

START_TEST(test_client_that_does_not_read_is_closed)
{
    struct http_limits limits = short_limits;
    limits.write_rate = UINT_MAX;
    http_server_set_limits(f.server, &limits);
    int fd = client_connect(&f);
    client_puts(&f, fd, "GET /big HTTP/1.1\r\n" HOST "\r\n");
    while (http_server_connections(f.server) == 1)
        event_base_loop(f.base, EVLOOP_ONCE);
    ck_assert_int_eq(f.n_requests, 1);
    close(fd);
}
END_TEST

START_TEST(test_longest_idle_connection_makes_room)
{
    struct http_limits limits = http_default_limits;
    limits.connections = 3;
    http_server_set_limits(f.server, &limits);
    int fd[4];
    for (int i = 0; i < 3; i++) {
        fd[i] = client_connect(&f);
        fixture_turn(&f);
    }
    client_puts(&f, fd[0], "GET / HTTP/1.1\r\n" HOST "\r\n"); /* now fd[1] has been idle for longest */
    client_read(&f, fd[0], false, &a);
    fd[3] = client_connect(&f);
    fixture_turn(&f);
    ck_assert_uint_eq(http_server_connections(f.server), 3);
    client_read_all(&f, fd[1], &a);
    ck_assert_uint_eq(a.len, 0);
    for (int i = 0; i < 4; i++) {
        if (i != 1) {
            client_puts(&f, fd[i], "GET / HTTP/1.1\r\n" HOST "\r\n");
            client_read(&f, fd[i], false, &a);
            ck_assert_int_eq(a.status, 200);
        }
        close(fd[i]);
    }
}
END_TEST

START_TEST(test_too_many_busy_connections)
{
    struct http_limits limits = http_default_limits;
    limits.connections = 1;
    limits.root_reserve = 0;
    http_server_set_limits(f.server, &limits);
    int busy = client_ask_pending(&f), fd = client_connect(&f);
    client_puts(&f, fd, "GET / HTTP/1.1\r\n" HOST "\r\n");
    client_read_all(&f, fd, &a);
    assert_error(&a, 503);
    ck_assert(answer_has(&a, "Retry-After: 1"));
    ck_assert_int_eq(f.n_requests, 1);
    ck_assert_ptr_nonnull(f.pending);
    close(fd);
    close(busy);
    assert_gone();
}
END_TEST

/* Others may take all connections, but root still gets in. */
START_TEST(test_root_is_not_locked_out)
{
    struct http_limits limits = http_default_limits;
    limits.connections = 1;
    limits.root_reserve = 1;
    http_server_set_limits(f.server, &limits);
    int busy = client_ask_pending(&f), fd = client_connect(&f);
    client_puts(&f, fd, "GET / HTTP/1.1\r\n" HOST "\r\n");
    client_read(&f, fd, false, &a);
    if (getuid() == 0)
        ck_assert_int_eq(a.status, 200);
    else
        assert_error(&a, 503);
    close(fd);
    fixture_turn(&f);
    close(busy);
    assert_gone();
}
END_TEST

/* One asker's pending requests are bounded, root's are not. */
START_TEST(test_too_many_pending_requests)
{
    struct http_limits limits = http_default_limits;
    limits.pending = 1;
    http_server_set_limits(f.server, &limits);
    if (_i == 1) { /* a stranger, as a proxy's clients are */
        char uid[16];
        snprintf(uid, sizeof(uid), "%u", getuid());
        ck_assert_int_eq(settings_set(&f.settings, "proxy", uid, stderr), 0);
    }
    int busy = client_ask_pending(&f), fd = client_connect(&f);
    client_puts(&f, fd, "GET / HTTP/1.1\r\n" HOST "\r\n");
    client_read(&f, fd, false, &a);
    if (_i == 0 && getuid() == 0) {
        ck_assert_int_eq(a.status, 200);
    } else {
        assert_error(&a, 429);
        ck_assert(answer_has(&a, "Retry-After: 1"));
    }
    close(busy);
    assert_gone_of(2);
    client_puts(&f, fd, "GET / HTTP/1.1\r\n" HOST "\r\n");
    client_read(&f, fd, false, &a);
    ck_assert_int_eq(a.status, 200);
    close(fd);
}
END_TEST

/* What all clients together may have sent of unfinished requests: the largest goes first. */
START_TEST(test_input_of_all_is_bounded)
{
    static char bytes[300000];
    struct http_limits limits = http_default_limits;
    limits.input_bytes = 512 * 1024;
    http_server_set_limits(f.server, &limits);
    int small = client_connect(&f), large = client_connect(&f), fd = client_connect(&f);
    client_puts(&f, small, "POST /small HTTP/1.1\r\n" HOST "Content-Length: 100001\r\n\r\n");
    client_send(&f, small, bytes, 100000);
    client_puts(&f, large, "POST /large HTTP/1.1\r\n" HOST "Content-Length: 400000\r\n\r\n");
    client_send(&f, large, bytes, 300000);
    client_puts(&f, fd, "POST /third HTTP/1.1\r\n" HOST "Content-Length: 200000\r\n\r\n");
    client_send(&f, fd, bytes, 200000);
    client_read(&f, fd, false, &a);
    ck_assert_int_eq(a.status, 200);
    client_read_all(&f, large, &a);
    assert_error(&a, 503);
    client_puts(&f, small, "x");
    client_read(&f, small, false, &a);
    ck_assert_int_eq(a.status, 200);
    ck_assert_str_eq(f.seen, "POST /small? 100001");
    close(small);
    close(large);
    close(fd);
}
END_TEST

/* Out of descriptors: the loop does not spin, the longest idle client makes room, and the next one is served. */
START_TEST(test_out_of_descriptors)
{
    const struct rlimit few = {.rlim_cur = 64, .rlim_max = 64}; /* each test has a process of its own */
    int idle = client_connect(&f), hog[64], n = 0;
    fixture_turn(&f);
    int fd = client_connect(&f);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
    while (n < 64 && (hog[n] = dup(0)) >= 0)
        n++;
    for (int i = 0; i < 50; i++) {
        event_base_loop(f.base, EVLOOP_NONBLOCK);
        poll(NULL, 0, 10);
    }
    client_read_all(&f, idle, &a);
    ck_assert_uint_eq(a.len, 0);
    close(idle);
    client_puts(&f, fd, "GET / HTTP/1.1\r\n" HOST "\r\n");
    client_read(&f, fd, false, &a); /* 503, where no descriptor was left for the watch */
    ck_assert_msg(a.status == 200 || a.status == 503, "%d %s", a.closed, a.text);
    while (n > 0)
        close(hog[--n]);
    client_puts(&f, fd, "GET / HTTP/1.1\r\n" HOST "\r\n");
    client_read(&f, fd, false, &a);
    ck_assert_int_eq(a.status, 200);
    close(fd);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("http_clients");
    TCase *tc = tcase_create("http");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, test_close_is_seen);
    tcase_add_test(tc, test_half_close_is_seen);
    tcase_add_test(tc, test_reset_is_seen);
    tcase_add_loop_test(tc, test_leaves_with_a_request_in_the_pipe, 0, 2);
    tcase_add_test(tc, test_pending_request_does_not_spin);
    tcase_add_loop_test(tc, test_reply_after_the_client_left, 0, 3);
    tcase_add_test(tc, test_leaves_while_the_reply_is_sent);
    tcase_add_test(tc, test_server_is_freed_with_a_request_under_way);
    tcase_add_test(tc, test_idle_connection_is_closed);
    tcase_add_loop_test(tc, test_slow_request_is_closed, 0, 3);
    tcase_add_test(tc, test_client_that_does_not_read_is_closed);
    tcase_add_test(tc, test_longest_idle_connection_makes_room);
    tcase_add_test(tc, test_too_many_busy_connections);
    tcase_add_test(tc, test_root_is_not_locked_out);
    tcase_add_loop_test(tc, test_too_many_pending_requests, 0, 2);
    tcase_add_test(tc, test_input_of_all_is_bounded);
    tcase_add_test(tc, test_out_of_descriptors);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
