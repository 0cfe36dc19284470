/* Splitting and decoding query strings: what people type, and what breaks parsers. */
#include <check.h>
#include <errno.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "daemon/http_query.h"

static const struct {
    const char *query, *result; /* "[name=value]..." */
} queries[] = {
    {"", ""}, {"&", ""}, {"&&&", ""}, {"a=1", "[a=1]"}, {"a=1&b=2", "[a=1][b=2]"}, {"a", "[a=]"}, {"a&b", "[a=][b=]"}, {"a=", "[a=]"},
    {"=a", "[=a]"}, {"=", "[=]"}, {"a=b=c", "[a=b=c]"}, {"a=1&a=2", "[a=1][a=2]"}, {"&a=1&", "[a=1]"}, {"a+b=c+d", "[a b=c d]"},
    {"%61=%62", "[a=b]"}, {"a=%2B%26%3D", "[a=+&=]"}, {"a=%c3%A4", "[a=\xc3\xa4]"}, {"a=%0d%0a", "[a=\r\n]"}, {"a=%", "[a=%]"}, {"a=%4", "[a=%4]"},
    {"a=%4g", "[a=%4g]"}, {"a=%%41", "[a=%A]"}, {"a=%25%34%31", "[a=%41]"}, {"a;b=1", "[a;b=1]"}, {"0xA+0xB", "[0xA 0xB=]"}, {"a=?b", "[a=?b]"},
};

START_TEST(test_query)
{
    struct evkeyvalq list = TAILQ_HEAD_INITIALIZER(list);
    char result[256] = "";
    const struct evkeyval *kv;
    ck_assert_int_eq(http_query_parse(queries[_i].query, 64, &list), 0);
    TAILQ_FOREACH(kv, &list, next) {
        size_t n = strlen(result);
        snprintf(result + n, sizeof(result) - n, "[%s=%s]", kv->key, kv->value);
    }
    ck_assert_str_eq(result, queries[_i].result);
    evhttp_clear_headers(&list);
}
END_TEST

START_TEST(test_refused)
{
    static const char *const zero[] = {"a=%00", "%00=a", "a=b%00c", "a&b%00"};
    for (size_t i = 0; i < sizeof(zero) / sizeof(zero[0]); i++) {
        struct evkeyvalq list = TAILQ_HEAD_INITIALIZER(list);
        ck_assert_int_eq(http_query_parse(zero[i], 64, &list), -EINVAL);
        evhttp_clear_headers(&list);
    }
    struct evkeyvalq list = TAILQ_HEAD_INITIALIZER(list);
    ck_assert_int_eq(http_query_parse("a&b&c&", 3, &list), 0);
    evhttp_clear_headers(&list);
    ck_assert_int_eq(http_query_parse("a&b&c&d", 3, &list), -E2BIG);
    evhttp_clear_headers(&list);
}
END_TEST

START_TEST(test_decode)
{
    char *path = http_query_decode("/a+b%20c", 8, false);
    ck_assert_str_eq(path, "/a+b c");
    free(path);
    path = http_query_decode("abc", 0, false);
    ck_assert_str_eq(path, "");
    free(path);
    ck_assert_ptr_null(http_query_decode("a%00", 4, false));
    /* the end counts, not what lies beyond */
    path = http_query_decode("%41", 2, false);
    ck_assert_str_eq(path, "%4");
    free(path);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("http_query");
    TCase *tc = tcase_create("http_query");
    tcase_add_loop_test(tc, test_query, 0, sizeof(queries) / sizeof(queries[0]));
    tcase_add_test(tc, test_refused);
    tcase_add_test(tc, test_decode);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
