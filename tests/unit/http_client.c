/* The client's end blocks in nothing: it turns the server's loop whenever it would have to wait. A test that waits for what
 * never comes ends by Check's own time limit. */
#include "tests/unit/http_client.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <event2/buffer.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

static int listening_socket(unsigned short *ret_port)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(in);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&in, sizeof(in)), 0);
    ck_assert_int_eq(listen(fd, 128), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&in, &len), 0);
    *ret_port = ntohs(in.sin_port);
    return fd;
}

void fixture_start(struct http_fixture *f, http_handler handler, void *userdata)
{
    *f = (struct http_fixture){.base = event_base_new()};
    ck_assert_int_eq(settings_init(&f->settings), 0);
    ck_assert_int_eq(http_server_new(f->base, &f->settings, handler, userdata, &f->server), 0);
    ck_assert_int_eq(http_server_adopt(f->server, listening_socket(&f->port)), 0);
}

static void on_gone(struct http_request *r, void *userdata)
{
    struct http_fixture *f = userdata;
    ck_assert_ptr_eq(r, f->pending);
    f->pending = NULL;
    f->n_gone++;
}

void fixture_reply_big(struct http_request *r, size_t len)
{
    struct evbuffer *body = evbuffer_new();
    char *bytes = malloc(len);
    memset(bytes, 'x', len);
    evbuffer_add(body, bytes, len);
    http_reply(r, 200, "application/octet-stream", body);
    evbuffer_free(body);
    free(bytes);
}

void fixture_handler(struct http_request *r, void *userdata)
{
    struct http_fixture *f = userdata;
    const char *path = http_request_path(r);
    f->n_requests++;
    static const char *const methods[] = {[HTTP_GET] = "GET", [HTTP_POST] = "POST", [HTTP_PUT] = "PUT", [HTTP_DELETE] = "DELETE"};
    snprintf(f->seen, sizeof(f->seen), "%s %s?%s %zu", methods[http_request_method(r)], path,
             http_request_raw_query(r), evbuffer_get_length(http_request_body(r)));
    if (strcmp(path, "/wait") == 0) {
        f->pending = r;
        http_request_on_gone(r, on_gone, f);
    } else if (strcmp(path, "/big") == 0) {
        fixture_reply_big(r, 64 * 1024 * 1024);
    } else if (strcmp(path, "/error") == 0) {
        http_reply_header(r, "Retry-After", "1");
        http_reply_error(r, 429, "too many %s", "sessions");
    } else {
        struct evbuffer *body = evbuffer_new();
        evbuffer_add_printf(body, "hello");
        http_reply(r, 200, "text/plain; charset=utf-8", body);
        ck_assert_uint_eq(evbuffer_get_length(body), 0);
        evbuffer_free(body);
    }
}

void fixture_stop(struct http_fixture *f)
{
    http_server_free(f->server);
    event_base_free(f->base);
    settings_deinit(&f->settings);
}

void fixture_turn(struct http_fixture *f)
{
    for (int i = 0; i < 20; i++)
        (void)event_base_loop(f->base, EVLOOP_NONBLOCK);
}

int client_connect(struct http_fixture *f)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(f->port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&in, sizeof(in)), 0);
    return fd;
}

bool client_send(struct http_fixture *f, int fd, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = send(fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN)
            return false;
        if (n > 0) {
            data += n;
            len -= (size_t)n;
        }
        (void)event_base_loop(f->base, EVLOOP_NONBLOCK);
    }
    return true;
}

bool client_puts(struct http_fixture *f, int fd, const char *text)
{
    return client_send(f, fd, text, strlen(text));
}

/* Up to want more bytes; waits for at least one, or the end. */
static void read_some(struct http_fixture *f, int fd, struct http_answer *a, size_t want)
{
    for (;;) {
        size_t room = sizeof(a->text) - 1 - a->len;
        ck_assert_uint_gt(room, 0);
        ssize_t n = recv(fd, a->text + a->len, want < room ? want : room, MSG_DONTWAIT);
        if (n > 0) {
            a->len += (size_t)n;
            a->text[a->len] = '\0';
            return;
        }
        if (n == 0 || errno != EAGAIN) {
            a->closed = true;
            return;
        }
        (void)event_base_loop(f->base, EVLOOP_NONBLOCK);
        (void)poll(NULL, 0, 1);
    }
}

static void parse_answer(struct http_answer *a)
{
    const char *end = strstr(a->text, "\r\n\r\n");
    a->body = end ? end + 4 : NULL;
    if (sscanf(a->text, "HTTP/1.%*d %d", &a->status) != 1)
        a->status = 0;
}

void client_read(struct http_fixture *f, int fd, bool head, struct http_answer *ret)
{
    *ret = (struct http_answer){0};
    while (!ret->closed && !strstr(ret->text, "\r\n\r\n")) /* by bytes: a next reply may follow */
        read_some(f, fd, ret, 1);
    parse_answer(ret);
    const char *length = strstr(ret->text, "Content-Length: ");
    if (head || !ret->body || !length)
        return;
    size_t total = (size_t)(ret->body - ret->text) + strtoul(length + 16, NULL, 10);
    while (!ret->closed && ret->len < total)
        read_some(f, fd, ret, total - ret->len);
}

void client_read_all(struct http_fixture *f, int fd, struct http_answer *ret)
{
    *ret = (struct http_answer){0};
    while (!ret->closed)
        read_some(f, fd, ret, SIZE_MAX);
    parse_answer(ret);
}

void client_ask(struct http_fixture *f, const char *request, struct http_answer *ret)
{
    int fd = client_connect(f);
    ck_assert(client_puts(f, fd, request));
    client_read(f, fd, strncmp(request, "HEAD ", 5) == 0, ret);
    close(fd);
    fixture_turn(f);
}

int client_ask_pending(struct http_fixture *f)
{
    int fd = client_connect(f);
    client_puts(f, fd, "GET /wait HTTP/1.1\r\nHost: localhost\r\n\r\n");
    while (!f->pending)
        (void)event_base_loop(f->base, EVLOOP_ONCE);
    return fd;
}

bool answer_has(const struct http_answer *a, const char *header)
{
    size_t len = strlen(header);
    const char *end = a->body ? a->body : a->text + a->len;
    for (const char *line = a->text; line && line < end; line = strstr(line, "\r\n") ? strstr(line, "\r\n") + 2 : NULL)
        if (strncasecmp(line, header, len) == 0 && line[len] == '\r')
            return true;
    return false;
}

void assert_error(const struct http_answer *a, int status)
{
    ck_assert_msg(a->status == status, "expected %d: %s", status, a->text);
    ck_assert_msg(answer_has(a, "X-Content-Type-Options: nosniff"), "%s", a->text);
    ck_assert_msg(answer_has(a, "X-Go-Pprof: 1"), "%s", a->text);
    ck_assert_msg(answer_has(a, "Content-Type: text/plain; charset=utf-8"), "%s", a->text);
}
