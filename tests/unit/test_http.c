/* The HTTP server's answers over real sockets: good requests, broken ones, forbidden ones. Clients that are slow or leave
 * are test_http_clients.c's. */
#include <check.h>
#include <errno.h>
#include <event2/buffer.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
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

START_TEST(test_get)
{
    client_ask(&f, "GET /a%20b?x=1&y=%41 HTTP/1.1\r\n" HOST "\r\n", &a);
    ck_assert_int_eq(a.status, 200);
    ck_assert_str_eq(a.body, "hello");
    ck_assert(answer_has(&a, "X-Content-Type-Options: nosniff"));
    ck_assert(!answer_has(&a, "X-Go-Pprof: 1"));
    ck_assert(answer_has(&a, "Content-Length: 5"));
    ck_assert(answer_has(&a, "Content-Type: text/plain; charset=utf-8"));
    ck_assert_str_eq(f.seen, "GET /a b?x=1&y=%41 0");
}
END_TEST

START_TEST(test_error)
{
    client_ask(&f, "GET /error HTTP/1.1\r\n" HOST "\r\n", &a);
    assert_error(&a, 429);
    ck_assert(strstr(a.text, "429 Too Many Requests\r\n"));
    ck_assert(answer_has(&a, "Retry-After: 1"));
    ck_assert_str_eq(a.body, "too many sessions\n");
}
END_TEST

START_TEST(test_head_has_no_body)
{
    int fd = client_connect(&f);
    client_puts(&f, fd, "HEAD / HTTP/1.1\r\n" HOST "\r\nGET / HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n");
    client_read_all(&f, fd, &a);
    ck_assert_int_eq(a.status, 200);
    ck_assert(answer_has(&a, "Content-Length: 5"));
    ck_assert(strncmp(a.body, "HTTP/1.1 200", 12) == 0);
    ck_assert_str_eq(a.text + a.len - 5, "hello");
    close(fd);
}
END_TEST

START_TEST(test_post_and_continue)
{
    int fd = client_connect(&f);
    client_ask(&f, "POST /symbol HTTP/1.1\r\n" HOST "Content-Length: 7\r\n\r\n0x1+0x2", &a);
    ck_assert_str_eq(f.seen, "POST /symbol? 7");
    client_puts(&f, fd, "POST /s HTTP/1.1\r\n" HOST "Content-Length: 3\r\nExpect: 100-continue\r\n\r\n");
    client_read(&f, fd, true, &a);
    ck_assert_str_eq(a.text, "HTTP/1.1 100 Continue\r\n\r\n");
    client_puts(&f, fd, "abc");
    client_read(&f, fd, false, &a);
    ck_assert_int_eq(a.status, 200);
    ck_assert_str_eq(f.seen, "POST /s? 3");
    close(fd);
    client_ask(&f, "POST /c HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", &a);
    ck_assert_str_eq(f.seen, "POST /c? 5");
    client_ask(&f, "PUT /w?kinds=a HTTP/1.1\r\n" HOST "\r\n", &a);
    ck_assert_str_eq(f.seen, "PUT /w?kinds=a 0");
    client_ask(&f, "PUT /w HTTP/1.1\r\n" HOST "Content-Length: 2\r\n\r\nab", &a);
    ck_assert_str_eq(f.seen, "PUT /w? 2");
    client_ask(&f, "DELETE /w HTTP/1.1\r\n" HOST "Content-Length: 2\r\n\r\nab", &a);
    ck_assert_str_eq(f.seen, "DELETE /w? 2");
}
END_TEST

START_TEST(test_keep_alive_and_pipelining)
{
    int fd = client_connect(&f);
    for (int i = 0; i < 3; i++) {
        client_puts(&f, fd, "GET / HTTP/1.1\r\n" HOST "\r\n");
        client_read(&f, fd, false, &a);
        ck_assert_int_eq(a.status, 200);
    }
    client_puts(&f, fd, "GET /1 HTTP/1.1\r\n" HOST "\r\nGET /error HTTP/1.1\r\n" HOST "\r\nGET /3 HTTP/1.1\r\n" HOST "\r\n");
    client_read(&f, fd, false, &a);
    ck_assert_int_eq(a.status, 200);
    client_read(&f, fd, false, &a);
    ck_assert_int_eq(a.status, 429);
    client_read(&f, fd, false, &a);
    ck_assert_int_eq(a.status, 200);
    ck_assert_int_eq(f.n_requests, 6);
    close(fd);
    fixture_turn(&f);
    ck_assert_uint_eq(http_server_connections(f.server), 0);
}
END_TEST

START_TEST(test_http_1_0)
{
    int fd = client_connect(&f);
    client_puts(&f, fd, "GET / HTTP/1.0\r\n\r\n");
    client_read_all(&f, fd, &a);
    ck_assert_int_eq(a.status, 200);
    ck_assert_str_eq(a.body, "hello");
    close(fd);
}
END_TEST

/* nc -N and the like: the request, then a half-close. What is answered at once arrives. */
START_TEST(test_half_close_still_gets_a_quick_reply)
{
    int fd = client_connect(&f);
    send(fd, "GET / HTTP/1.1\r\n" HOST "\r\n", strlen("GET / HTTP/1.1\r\n" HOST "\r\n"), 0);
    shutdown(fd, SHUT_WR);
    client_read_all(&f, fd, &a);
    ck_assert_int_eq(a.status, 200);
    ck_assert_str_eq(a.body, "hello");
    close(fd);
}
END_TEST

/* Nor is a long one cut. */
START_TEST(test_half_close_still_gets_a_long_reply)
{
    static char bytes[1 << 20];
    size_t total = 0;
    ssize_t n = 1;
    int fd = client_connect(&f);
    client_puts(&f, fd, "GET /big HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n");
    fixture_turn(&f);
    shutdown(fd, SHUT_WR);
    while (n != 0) {
        n = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);
        ck_assert(n >= 0 || errno == EAGAIN);
        total += n > 0 ? (size_t)n : 0;
        event_base_loop(f.base, EVLOOP_NONBLOCK);
    }
    ck_assert_uint_gt(total, 64 * 1024 * 1024);
    close(fd);
}
END_TEST

static const struct {
    const char *request;
    int status;
} refused[] = {
    /* evhttp's own pages */
    {"NONSENSE\r\n\r\n", 400}, {"\r\n\r\n", 400}, {"GET\r\n\r\n", 400}, {"GET / HTTP/2.0\r\n" HOST "\r\n", 400},
    {"GET / HTTP/x.y\r\n\r\n", 400}, {"GET / HTTP/1.1\r\nnocolon\r\n\r\n", 400}, {"GET http://[::1 HTTP/1.1\r\n" HOST "\r\n", 400},
    {"BREW / HTTP/1.1\r\n" HOST "\r\n", 501}, {"get / HTTP/1.1\r\n" HOST "\r\n", 501},
    {"POST / HTTP/1.1\r\n" HOST "Content-Length: 2000000\r\n\r\n", 413},
    {"POST / HTTP/1.1\r\n" HOST "Content-Length: 9223372036854775807\r\n\r\n", 413},
    {"POST / HTTP/1.1\r\n" HOST "Content-Length: 2000000\r\nExpect: 100-continue\r\n\r\n", 413},
    {"POST / HTTP/1.1\r\n" HOST "Content-Length: 99999999999999999999\r\n\r\n", 413},
    {"POST / HTTP/1.1\r\n" HOST "Content-Length: -1\r\n\r\n", 400}, {"POST / HTTP/1.1\r\n" HOST "Content-Length: 1x\r\n\r\n", 400},
    {"POST / HTTP/1.1\r\n" HOST "Expect: 200-ok\r\nContent-Length: 1\r\n\r\n", 417},
    {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\nzz\r\n", 413},
    {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n-1\r\n", 413},
    {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n7fffffffffffffff\r\n", 413},
    /* ours */
    {"OPTIONS / HTTP/1.1\r\n" HOST "\r\n", 405},
    {"TRACE / HTTP/1.1\r\n" HOST "\r\n", 405}, {"PATCH / HTTP/1.1\r\n" HOST "\r\n", 405},
    {"CONNECT localhost:1 HTTP/1.1\r\n" HOST "\r\n", 405}, {"OPTIONS * HTTP/1.1\r\n" HOST "\r\n", 405},
    {"GET / HTTP/1.1\r\n\r\n", 400}, {"GET / HTTP/1.1\r\n" HOST HOST "\r\n", 400}, {"GET / HTTP/1.1\r\nHost : localhost\r\n\r\n", 400},
    {"GET / HTTP/1.2\r\n" HOST "\r\n", 505}, {"GET / HTTP/-1.1\r\n" HOST "\r\n", 505}, {"GET / HTTP/0.9\r\n" HOST "\r\n", 505},
    {"GET / HTTP/1.1\r\n" HOST "Content-Length: 0\r\nContent-Length: 0\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\n" HOST "Content-Length: +0\r\n\r\n", 400},
    {"POST / HTTP/1.1\r\n" HOST "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
    {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501},
    {"HEAD / HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabc", 400},
    {"GET /%00 HTTP/1.1\r\n" HOST "\r\n", 400}, {"GET /?a=%00 HTTP/1.1\r\n" HOST "\r\n", 400}, {"GET /?%00=a HTTP/1.1\r\n" HOST "\r\n", 400},
    {"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", 403}, {"GET http://evil.example/ HTTP/1.1\r\n" HOST "\r\n", 403},
    {"GET //evil.example/ HTTP/1.1\r\n" HOST "\r\n", 400}, {"GET https://localhost/ HTTP/1.1\r\n" HOST "\r\n", 400},
    {"GET / HTTP/1.1\r\n" HOST "Origin: http://evil.example\r\n\r\n", 403},
    {"GET / HTTP/1.1\r\n" HOST "Sec-Fetch-Site: cross-site\r\n\r\n", 403},
    {"PUT / HTTP/1.1\r\n" HOST "Origin: http://evil.example\r\n\r\n", 403}, {"PUT / HTTP/1.1\r\nHost: evil.example\r\n\r\n", 403},
    {"DELETE / HTTP/1.1\r\n" HOST "Origin: http://evil.example\r\n\r\n", 403},
    {"DELETE / HTTP/1.1\r\n" HOST "Sec-Fetch-Site: cross-site\r\n\r\n", 403},
    {"DELETE / HTTP/1.1\r\n" HOST "Content-Length: 2000000\r\n\r\n", 413},
    {"GET / HTTP/1.1\r\n" HOST "X-Forwarded-For: 1.2.3.4\r\n\r\n", 403},
};

START_TEST(test_refused)
{
    int fd = client_connect(&f);
    ck_assert(client_puts(&f, fd, refused[_i].request));
    client_read(&f, fd, strncmp(refused[_i].request, "HEAD", 4) == 0, &a);
    ck_assert_int_eq(f.n_requests, 0);
    ck_assert_msg(a.status == refused[_i].status, "%s -> %s", refused[_i].request, a.text);
    assert_error(&a, refused[_i].status);
    ck_assert_ptr_null(strstr(a.text, "<HTML>"));
    if (strncmp(refused[_i].request, "HEAD", 4) != 0)
        ck_assert(a.body && a.body[strlen(a.body) - 1] == '\n' && strlen(a.body) > 10);
    if (a.status == 405)
        ck_assert(answer_has(&a, "Allow: GET, HEAD, POST, PUT, DELETE"));
    close(fd);
    fixture_turn(&f);
    ck_assert_uint_eq(http_server_connections(f.server), 0);
    /* and the server goes on */
    client_ask(&f, "GET / HTTP/1.1\r\n" HOST "\r\n", &a);
    ck_assert_int_eq(a.status, 200);
}
END_TEST

/* Where the end of a request is not known, what follows must not be taken for a request. */
START_TEST(test_smuggled_request_is_not_served)
{
    int fd = client_connect(&f);
    client_puts(&f, fd, "POST / HTTP/1.1\r\n" HOST "Content-Length: 30\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
                        "GET /smuggled HTTP/1.1\r\n" HOST "\r\n");
    client_read_all(&f, fd, &a);
    assert_error(&a, 400);
    ck_assert(answer_has(&a, "Connection: close"));
    ck_assert_int_eq(f.n_requests, 0);
    close(fd);
}
END_TEST

static void send_until_answer(int fd, const char *piece, size_t limit)
{
    char probe;
    for (size_t sent = 0; sent < limit; sent += strlen(piece))
        if (!client_puts(&f, fd, piece) || recv(fd, &probe, 1, MSG_DONTWAIT | MSG_PEEK) == 1)
            return;
    ck_abort_msg("no answer after %zu bytes", limit);
}

START_TEST(test_endless_input_is_cut)
{
    static const char *const start[] = {
        "GET /", "GET / HTTP/1.1\r\nX: ", "GET / HTTP/1.1\r\n" HOST,
        "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n",           /* an endless chunk size */
        "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n0\r\nX: ",  /* an endless trailer */
    };
    int fd = client_connect(&f);
    client_puts(&f, fd, start[_i]);
    send_until_answer(fd, _i == 2 ? "A: b\r\n" : "0000000000000000000000000000000000000000000000000000000000000000", 3 * 1024 * 1024);
    client_read(&f, fd, false, &a);
    assert_error(&a, _i < 3 ? 400 : 413);
    ck_assert_int_eq(f.n_requests, 0);
    close(fd);
    fixture_turn(&f);
    ck_assert_uint_eq(http_server_connections(f.server), 0);
}
END_TEST

/* Short lines cost much more memory than bytes: in the head, in a trailer, in one piece or many. */
START_TEST(test_too_many_lines)
{
    static char request[100000];
    int n = 0, lines = _i == 3 ? 3000 : 300;
    if (_i < 3)
        n += sprintf(request, "GET / HTTP/1.1\r\n" HOST);
    else
        n += sprintf(request, "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n0\r\n");
    for (int i = 0; i < lines; i++)
        n += sprintf(request + n, _i == 1 ? " \n" : "a:\r\n");
    strcpy(request + n, "\r\n");
    int fd = client_connect(&f);
    if (_i == 2)
        request[n / 2] = '\0', client_puts(&f, fd, request), request[n / 2] = 'a', client_puts(&f, fd, request + n / 2);
    else
        client_puts(&f, fd, request);
    client_read(&f, fd, false, &a);
    assert_error(&a, _i == 3 ? 413 : 400);
    ck_assert(answer_has(&a, "Connection: close"));
    ck_assert_int_eq(f.n_requests, 0);
    close(fd);
}
END_TEST

START_TEST(test_as_many_lines_as_may_be)
{
    char request[4096];
    int fd = client_connect(&f), n = sprintf(request, "POST /b HTTP/1.1\r\n" HOST "Content-Length: 1000\r\n");
    for (int i = 0; i < HTTP_MAX_HEADER_LINES - 4; i++)
        n += sprintf(request + n, "a:\r\n");
    n += sprintf(request + n, "\r\n");
    memset(request + n, '\n', 1000);
    n += 1000;
    for (int i = 0; i < 3; i++) { /* each request is counted by itself; the next one comes in the same piece */
        client_send(&f, fd, request, (size_t)n);
        client_send(&f, fd, request, (size_t)n);
        client_read(&f, fd, false, &a);
        ck_assert_int_eq(a.status, 200);
        client_read(&f, fd, false, &a);
        ck_assert_int_eq(a.status, 200);
        ck_assert_str_eq(f.seen, "POST /b? 1000");
    }
    close(fd);
}
END_TEST

/* A client that goes on sending still reads what was wrong, and then the end: no reset takes it away. */
START_TEST(test_early_answer_is_not_lost)
{
    static const char *const start[] = {
        "GET / HTTP/1.1\r\n" HOST "X: ", "POST / HTTP/1.1\r\n" HOST "Content-Length: 3000000\r\n\r\n",
        "POST / HTTP/1.1\r\n" HOST "Content-Length: 1000000\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    };
    static char more[1000000];
    char byte;
    memset(more, 'x', sizeof(more));
    int fd = client_connect(&f);
    client_puts(&f, fd, start[_i]);
    ck_assert(client_send(&f, fd, more, sizeof(more)));
    fixture_turn(&f);
    ck_assert(client_send(&f, fd, more, 1000));
    client_read(&f, fd, false, &a);
    assert_error(&a, _i == 1 ? 413 : 400);
    shutdown(fd, SHUT_WR);
    fixture_turn(&f);
    ck_assert_int_eq(recv(fd, &byte, 1, 0), 0); /* the end, not ECONNRESET */
    close(fd);
    fixture_turn(&f);
    ck_assert_uint_eq(http_server_connections(f.server), 0);
    if (_i == 0) { /* a client that never ends is cut */
        fd = client_connect(&f);
        client_puts(&f, fd, start[0]);
        for (int i = 0; i < 64 && client_send(&f, fd, more, sizeof(more)); i++)
            ck_assert_int_lt(i, 32);
        close(fd);
    }
}
END_TEST

START_TEST(test_largest_header_and_body)
{
    static char request[70000];
    static char body[HTTP_MAX_BODY_BYTES];
    int fd = client_connect(&f);
    int n = snprintf(request, sizeof(request), "GET /%060000d HTTP/1.1\r\n" HOST "\r\n", 0);
    client_send(&f, fd, request, (size_t)n);
    client_read(&f, fd, false, &a);
    ck_assert_int_eq(a.status, 200);
    client_puts(&f, fd, "POST /b HTTP/1.1\r\n" HOST "Content-Length: 1048576\r\n\r\n");
    client_send(&f, fd, body, sizeof(body));
    client_read(&f, fd, false, &a);
    ck_assert_int_eq(a.status, 200);
    ck_assert_str_eq(f.seen, "POST /b? 1048576");
    close(fd);
}
END_TEST

START_TEST(test_too_many_parameters)
{
    char request[1024] = "GET /?";
    for (int i = 0; i < HTTP_MAX_QUERY_PARAMS; i++)
        strcat(request, "a=1&");
    size_t len = strlen(request);
    strcat(request, " HTTP/1.1\r\n" HOST "\r\n");
    client_ask(&f, request, &a);
    ck_assert_int_eq(a.status, 200);
    strcpy(request + len, "b HTTP/1.1\r\n" HOST "\r\n");
    client_ask(&f, request, &a);
    assert_error(&a, 400);
}
END_TEST

/* ---- the rest */

static int fd_body = -1;

static void fd_handler(struct http_request *r, void *userdata)
{
    http_reply_fd(r, 200, "application/octet-stream", fd_body, 0, (uint64_t)(uintptr_t)userdata);
}

START_TEST(test_reply_from_a_file)
{
    static const size_t lens[] = {6, 0, 4, 7 /* more than there is */};
    teardown();
    fd_body = memfd_create("body", MFD_CLOEXEC);
    ck_assert_int_eq(write(fd_body, "abcdef", 6), 6);
    fixture_start(&f, fd_handler, (void *)(uintptr_t)lens[_i]);
    client_ask(&f, "GET / HTTP/1.1\r\n" HOST "\r\n", &a);
    if (_i == 3) {
        assert_error(&a, 500);
    } else {
        ck_assert_int_eq(a.status, 200);
        ck_assert_uint_eq(strlen(a.body), lens[_i]);
        ck_assert(strncmp(a.body, "abcdef", lens[_i]) == 0);
    }
    ck_assert_int_eq(lseek(fd_body, 0, SEEK_CUR), 6); /* the caller's still */
    close(fd_body);
}
END_TEST

START_TEST(test_header_with_a_line_break_is_dropped)
{
    int fd = client_ask_pending(&f);
    http_reply_header(f.pending, "X-Name", "a\r\nX-Forged: 1");
    http_reply_header(f.pending, "X-Twice", "1");
    http_reply_header(f.pending, "X-Twice", "2");
    http_reply_error(f.pending, 404, "no");
    client_read(&f, fd, false, &a);
    assert_error(&a, 404);
    ck_assert(!answer_has(&a, "X-Forged: 1"));
    ck_assert(answer_has(&a, "X-Twice: 2"));
    ck_assert(!answer_has(&a, "X-Twice: 1"));
    close(fd);
}
END_TEST

START_TEST(test_stop_listening)
{
    int fd = client_ask_pending(&f);
    http_server_stop_listening(f.server);
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(f.port)};
    int late = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_lt(connect(late, (struct sockaddr *)&in, sizeof(in)), 0);
    close(late);
    http_reply_error(f.pending, 404, "no");
    client_read(&f, fd, false, &a);
    assert_error(&a, 404);
    close(fd);
}
END_TEST

START_TEST(test_answers_are_counted)
{
    struct evbuffer *page = evbuffer_new();
    metrics_reset();
    client_ask(&f, "GET / HTTP/1.1\r\n" HOST "\r\n", &a);
    client_ask(&f, "GET /error HTTP/1.1\r\n" HOST "\r\n", &a);
    client_ask(&f, "BREW / HTTP/1.1\r\n" HOST "\r\n", &a);
    metrics_print(page, &(struct metrics_sources){0});
    evbuffer_add(page, "", 1);
    const char *text = (const char *)evbuffer_pullup(page, -1);
    ck_assert_ptr_nonnull(strstr(text, "cprofd_requests_total{code=\"200\"} 1\n"));
    ck_assert_ptr_nonnull(strstr(text, "cprofd_requests_total{code=\"429\"} 1\n"));
    ck_assert_ptr_nonnull(strstr(text, "cprofd_requests_total{code=\"501\"} 1\n"));
    evbuffer_free(page);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("http");
    TCase *tc = tcase_create("http");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, test_get);
    tcase_add_test(tc, test_error);
    tcase_add_test(tc, test_head_has_no_body);
    tcase_add_test(tc, test_post_and_continue);
    tcase_add_test(tc, test_keep_alive_and_pipelining);
    tcase_add_test(tc, test_http_1_0);
    tcase_add_test(tc, test_half_close_still_gets_a_quick_reply);
    tcase_add_test(tc, test_half_close_still_gets_a_long_reply);
    tcase_add_loop_test(tc, test_refused, 0, sizeof(refused) / sizeof(refused[0]));
    tcase_add_test(tc, test_smuggled_request_is_not_served);
    tcase_add_loop_test(tc, test_endless_input_is_cut, 0, 5);
    tcase_add_loop_test(tc, test_too_many_lines, 0, 4);
    tcase_add_test(tc, test_as_many_lines_as_may_be);
    tcase_add_loop_test(tc, test_early_answer_is_not_lost, 0, 3);
    tcase_add_test(tc, test_largest_header_and_body);
    tcase_add_test(tc, test_too_many_parameters);
    tcase_add_loop_test(tc, test_reply_from_a_file, 0, 4);
    tcase_add_test(tc, test_header_with_a_line_break_is_dropped);
    tcase_add_test(tc, test_stop_listening);
    tcase_add_test(tc, test_answers_are_counted);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
