/* Which requests may come in: by Host, Origin, Sec-Fetch-Site, headers of proxies, and framing. */
#include <check.h>
#include <errno.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

#include "config/settings.h"
#include "daemon/asker.h"
#include "daemon/http_checks.h"

static struct settings settings;
static char host_name[300], host_label[300];

static void setup(void)
{
    ck_assert_int_eq(settings_init(&settings), 0);
    ck_assert_int_eq(settings_set(&settings, "hosts", "profiler.example.org", stderr), 0);
    ck_assert_int_eq(gethostname(host_name, sizeof(host_name) - 1), 0);
    strcpy(host_label, host_name);
    host_label[strcspn(host_label, ".")] = '\0';
}

static void teardown(void)
{
    settings_deinit(&settings);
}

/* "Name: value\n..." as a list. */
static void parse_headers(const char *text, struct evkeyvalq *ret)
{
    TAILQ_INIT(ret);
    while (*text) {
        char name[128], value[512] = "";
        size_t name_len = strcspn(text, ":"), len = strcspn(text, "\n");
        snprintf(name, sizeof(name), "%.*s", (int)name_len, text);
        if (len > name_len + 2)
            snprintf(value, sizeof(value), "%.*s", (int)(len - name_len - 2), text + name_len + 2);
        ck_assert_int_eq(evhttp_add_header(ret, name, value), 0);
        text += len + (text[len] == '\n');
    }
}

static int source_status(const char *headers, const struct asker *asker, const char *scheme, const char *uri_host)
{
    struct evkeyvalq list;
    struct http_refusal refusal = {0};
    parse_headers(headers, &list);
    const struct http_check_input in = {
        .headers = &list, .uri_scheme = scheme, .uri_host = uri_host, .major = 1, .minor = 1, .asker = asker,
        .settings = &settings,
    };
    int r = http_check_source(&in, &refusal);
    evhttp_clear_headers(&list);
    if (r == 0)
        return 0;
    ck_assert_int_eq(r, -EINVAL);
    ck_assert_uint_gt(strlen(refusal.message), 20);
    return refusal.status;
}

static const struct asker tcp = {.known = true}, local = {.known = true, .local = true}, proxied = {.proxied = true};

static const struct {
    const char *host;
    int status;
} hosts[] = {
    {"localhost", 0}, {"LocalHost:6060", 0}, {"localhost.", 0}, {"127.0.0.1", 0}, {"127.0.0.1:6060", 0}, {"[::1]:6060", 0}, {"[::1]", 0},
    {"192.168.1.7:1", 0}, {"[2001:db8::1]", 0}, {"localhost:", 0}, {"profiler.example.org", 0}, {"Profiler.Example.org:443", 0},
    {"evil.example", 403}, {"localhost.evil.example", 403}, {"evil.localhost", 403}, {"127.0.0.1.evil.example", 403},
    {"127.0.0.1:6060.evil.example", 403}, {"localhost:x", 403}, {"localhost:60 60", 403}, {"", 403}, {":6060", 403}, {".", 403},
    {"[::1", 403}, {"[]", 403}, {"::1", 403}, {"[evil.example]", 403}, {"localhost@evil.example", 403}, {"localhost/", 403},
    {"2130706433", 403}, {"0x7f.1", 403}, {"127.1", 403}, {"[::1]evil", 403}, {"profiler.example.org.evil.example", 403},
};

START_TEST(test_host)
{
    char headers[256];
    snprintf(headers, sizeof(headers), "Host: %s", hosts[_i].host);
    ck_assert_msg(source_status(headers, &tcp, NULL, NULL) == hosts[_i].status, "%s", headers);
    ck_assert_int_eq(source_status(headers, &local, NULL, NULL), 0);
    /* the name of an absolute target counts as much */
    if (*hosts[_i].host)
        ck_assert_int_eq(source_status("Host: localhost", &tcp, "http", hosts[_i].host), hosts[_i].status);
}
END_TEST

START_TEST(test_machine_name)
{
    char headers[1024];
    snprintf(headers, sizeof(headers), "Host: %s:6060", host_name);
    ck_assert_int_eq(source_status(headers, &tcp, NULL, NULL), 0);
    snprintf(headers, sizeof(headers), "Host: %s", host_label);
    ck_assert_int_eq(source_status(headers, &tcp, NULL, NULL), 0);
    snprintf(headers, sizeof(headers), "Host: %sx", host_name);
    ck_assert_int_eq(source_status(headers, &tcp, NULL, NULL), 403);
}
END_TEST

START_TEST(test_a_long_host_is_refused)
{
    char headers[400] = "Host: ";
    memset(headers + 6, 'a', 300);
    ck_assert_int_eq(source_status(headers, &tcp, NULL, NULL), 403);
    memset(headers + 6, '1', 300);
    ck_assert_int_eq(source_status(headers, &tcp, NULL, NULL), 403);
}
END_TEST

START_TEST(test_absolute_target)
{
    ck_assert_int_eq(source_status("Host: localhost", &tcp, "http", "localhost"), 0);
    ck_assert_int_eq(source_status("Host: localhost", &tcp, "HTTP", "localhost"), 0);
    ck_assert_int_eq(source_status("Host: localhost", &tcp, "https", "localhost"), 400);
    ck_assert_int_eq(source_status("Host: localhost", &tcp, "ftp", "localhost"), 400);
    ck_assert_int_eq(source_status("Host: localhost", &tcp, NULL, "localhost"), 400);
    ck_assert_int_eq(source_status("Host: localhost", &local, "https", "localhost"), 400);
}
END_TEST

static const struct {
    const char *headers;
    int status;
} sources[] = {
    {"", 0}, /* HTTP/1.0 */
    {"Host: localhost:6060\nOrigin: http://localhost:6060", 0}, {"Host: localhost:6060\nOrigin: HTTP://LOCALHOST:6060", 0},
    {"Host: profiler.example.org\nOrigin: https://profiler.example.org", 0},
    {"Host: localhost:6060\nOrigin: https://profiler.example.org:8443", 0}, /* a proxy that rewrites Host */
    {"Host: localhost:6060\nOrigin: http://localhost:3000", 403}, {"Host: localhost:6060\nOrigin: http://localhost", 403},
    {"Host: localhost:6060\nOrigin: null", 403}, {"Host: localhost:6060\nOrigin: ", 403},
    {"Host: localhost:6060\nOrigin: ftp://localhost:6060", 403}, {"Host: localhost:6060\nOrigin: http://evil.example", 403},
    {"Host: localhost:6060\nOrigin: http://localhost:6060.evil.example", 403},
    {"Host: localhost:6060\nOrigin: http://localhost:6060\nOrigin: http://evil.example", 403},
    {"Origin: http://localhost", 403}, {"Host: localhost\nOrigin: localhost", 403},
    {"Sec-Fetch-Site: cross-site", 403}, {"sec-fetch-site: Cross-Site", 403},
    {"Sec-Fetch-Site: same-origin", 0}, {"Sec-Fetch-Site: same-site", 0}, {"Sec-Fetch-Site: none", 0},
};

START_TEST(test_source)
{
    ck_assert_msg(source_status(sources[_i].headers, &tcp, NULL, NULL) == sources[_i].status, "%s", sources[_i].headers);
    /* Host alone is not checked on Unix sockets */
    ck_assert_int_eq(source_status(sources[_i].headers, &local, NULL, NULL), sources[_i].status);
}
END_TEST

static const char *const forwarded[] = {
    "Forwarded: for=1.2.3.4", "forwarded: for=x", "X-Forwarded-For: 1.2.3.4", "X-FORWARDED-PROTO: https", "X-Forwarded-: ", "Via: 1.1 proxy",
};

START_TEST(test_forwarded)
{
    ck_assert_int_eq(source_status(forwarded[_i], &tcp, NULL, NULL), 403);
    ck_assert_int_eq(source_status(forwarded[_i], &local, NULL, NULL), 403);
    ck_assert_int_eq(source_status(forwarded[_i], &(struct asker){0}, NULL, NULL), 403);
    ck_assert_int_eq(source_status(forwarded[_i], &proxied, NULL, NULL), 0);
    ck_assert_int_eq(source_status("X-Forwarded: 1", &tcp, NULL, NULL), 0);
}
END_TEST

static const struct {
    const char *headers;
    int major, minor, no_body, status;
} framings[] = {
    {"Host: a", 1, 1, 0, 0}, {"", 1, 0, 0, 0}, {"Host: a\nContent-Length: 12", 1, 1, 0, 0}, {"Host: a\nTransfer-Encoding: Chunked", 1, 1, 0, 0},
    {"Host: a\nContent-Length: 00", 1, 1, 1, 0},
    {"", 1, 1, 0, 400}, {"Host: a\nHost: a", 1, 1, 0, 400}, {"Host: a\nHost: a", 1, 0, 0, 400},
    {"Host: a", 2, 0, 0, 505}, {"Host: a", 1, 2, 0, 505}, {"Host: a", 0, 9, 0, 505}, {"Host: a", -1, 1, 0, 505}, {"Host: a", 1, -1, 0, 505},
    {"Host: a\nContent-Length: 1\nContent-Length: 1", 1, 1, 0, 400}, {"Host: a\nContent-Length: 1, 1", 1, 1, 0, 400},
    {"Host: a\nContent-Length: +1", 1, 1, 0, 400}, {"Host: a\nContent-Length: -0", 1, 1, 0, 400}, {"Host: a\nContent-Length: 0x1", 1, 1, 0, 400},
    {"Host: a\nContent-Length: ", 1, 1, 0, 400}, {"Host: a\nContent-Length: 1\nTransfer-Encoding: chunked", 1, 1, 0, 400},
    {"Host: a\nTransfer-Encoding: chunked\nTransfer-Encoding: chunked", 1, 1, 0, 400}, {"Host: a\nTransfer-Encoding: identity", 1, 1, 0, 501},
    {"Host: a\nTransfer-Encoding: gzip, chunked", 1, 1, 0, 501}, {"Host: a\nTransfer-Encoding: ", 1, 1, 0, 501},
    {"Host: a\nContent-Length: 1", 1, 1, 1, 400}, {"Host: a\nTransfer-Encoding: chunked", 1, 1, 1, 400},
    {"Host: a\nX Y: 1", 1, 1, 0, 400}, {"Host: a\nContent-Length : 1", 1, 1, 0, 400}, {"Host: a\n: 1", 1, 1, 0, 400},
    {"Host: a\nX\x80: 1", 1, 1, 0, 400},
    {"Host: a\nX\x01: 1", 1, 1, 0, 400}, {"Host: a\nX(: 1", 1, 1, 0, 400},
};

START_TEST(test_framing)
{
    struct evkeyvalq list;
    struct http_refusal refusal = {0};
    parse_headers(framings[_i].headers, &list);
    const struct http_check_input in = {
        .headers = &list, .major = framings[_i].major, .minor = framings[_i].minor, .asker = &tcp, .settings = &settings,
    };
    int r = http_check_framing(&in, framings[_i].no_body, &refusal);
    evhttp_clear_headers(&list);
    ck_assert_int_eq(r, framings[_i].status ? -EINVAL : 0);
    ck_assert_int_eq(refusal.status, framings[_i].status);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("http_checks");
    TCase *tc = tcase_create("http_checks");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, test_host, 0, sizeof(hosts) / sizeof(hosts[0]));
    tcase_add_test(tc, test_machine_name);
    tcase_add_test(tc, test_a_long_host_is_refused);
    tcase_add_test(tc, test_absolute_target);
    tcase_add_loop_test(tc, test_source, 0, sizeof(sources) / sizeof(sources[0]));
    tcase_add_loop_test(tc, test_forwarded, 0, sizeof(forwarded) / sizeof(forwarded[0]));
    tcase_add_loop_test(tc, test_framing, 0, sizeof(framings) / sizeof(framings[0]));
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
