/* Pages and lists whose every text is hostile: nothing gets out of the place that it stands in. */
#include <check.h>
#include <event2/buffer.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/collector.h"
#include "daemon/custom_list.h"
#include "daemon/kind.h"
#include "daemon/kind_custom.h"
#include "daemon/params.h"
#include "daemon/pages.h"
#include "daemon/quote.h"
#include "daemon/session_params.h"

#define HOSTILE "<script>\"'&\x01\n\xff\xed\xa0\x80</td>"
#define FFFD "\xef\xbf\xbd"

static const struct profile_note notes[] = {
    {.name = "blob'store.<Open>", .description = HOSTILE, .unit = "count"},
    {.name = "bytes", .description = "Bytes.", .unit = "by\"tes"},
    {.name = "profile", .description = "It has a kind's name.", .unit = "count"},
};
static const struct custom_declared declared = {.notes = notes, .n = 3, .left_out = 7};

/* A table of kinds of the test's own. */
static const struct kind tame = {
    .name = "profile", .path = "profile", .description = "CPU time.", .params = &profile_params,
    .types = {.type = {"samples", "cpu"}, .unit = {"count", "nanoseconds"}, .n = 2, .period_type = "cpu", .period_unit = "nanoseconds"},
    .windowed = true,
};
static const struct param_spec accruing_specs[] = {PARAM_TID, PARAM_MAX_OVERHEAD};
static const struct param_table accruing_params = PARAM_TABLE(accruing_specs);
static const struct kind accruing = {.name = "<accrues>", .path = "accrues", .description = "", .params = &accruing_params, .cumulative = true};
static const struct kind wild = {
    .name = "wi<ld>", .path = "wild?a='&b=\"", .description = HOSTILE,
};

const struct kind *kind_at(size_t i)
{
    return i == 0 ? &tame : i == 1 ? &accruing : i == 2 ? &wild : NULL;
}

const struct kind kind_custom;

const struct kind *custom_kind(struct watches *ws, const char *name)
{
    return NULL;
}

const struct kind *custom_kind_any(const char *name)
{
    return NULL;
}

const struct kind *custom_kind_in_use(const struct watches *ws, const char *name)
{
    return NULL;
}

const struct kind *kind_find(const char *name)
{
    return strcmp(name, tame.name) == 0 ? &tame : NULL;
}

static char text[65536];

static const char *take(struct evbuffer *out)
{
    size_t len = evbuffer_get_length(out);
    ck_assert_uint_lt(len, sizeof(text));
    evbuffer_remove(out, text, len);
    text[len] = '\0';
    evbuffer_free(out);
    for (size_t n, i = 0; i < len; i += n) {
        n = utf8_char_len(text + i, len - i);
        ck_assert_msg(n > 0, "not UTF-8 at %zu", i);
        ck_assert(text[i] == '\n' || (unsigned char)text[i] >= 0x20);
    }
    return text;
}

static size_t count(const char *in, const char *what)
{
    size_t n = 0;
    for (; (in = strstr(in, what)); in++)
        n++;
    return n;
}

static void assert_html(const char *html)
{
    ck_assert(strncmp(html, "<!DOCTYPE html>", 15) == 0);
    ck_assert_ptr_null(strstr(html, "<script"));
    ck_assert_ptr_null(strstr(html, "href=\"/"));
    ck_assert_ptr_null(strstr(html, "href='/"));
    ck_assert_uint_eq(count(html, "<td>"), count(html, "</td>"));
    ck_assert_uint_eq(count(html, "<tr>"), count(html, "</tr>"));
}

static struct process_entry entries[2];

static void fill_entries(void)
{
    entries[0] = (struct process_entry){.pid = 1234, .uid = 1000, .comm = "nginx", .exe = "/usr/sbin/nginx"};
    entries[1] = (struct process_entry){.pid = 4194304, .uid = 4294967295u, .comm = "<i>\"'&\x01\n\xff", .exe = HOSTILE};
}

START_TEST(test_processes)
{
    struct evbuffer *out = evbuffer_new();
    fill_entries();
    page_processes(out, entries, 2);
    const char *html = take(out);
    assert_html(html);
    ck_assert_ptr_nonnull(strstr(html, "<a href=\"pid/1234\">1234</a></td><td>1000</td><td>nginx</td><td>/usr/sbin/nginx</td>"));
    ck_assert_ptr_nonnull(strstr(html, "<td>4294967295</td><td>&lt;i&gt;&quot;&#39;&amp;" FFFD FFFD FFFD "</td>"));
    ck_assert_ptr_nonnull(strstr(html, "&lt;script&gt;&quot;&#39;&amp;" FFFD FFFD FFFD FFFD FFFD FFFD "&lt;/td&gt;</td>"));
    ck_assert_ptr_nonnull(strstr(html, "2 processes that"));
}
END_TEST

START_TEST(test_processes_json)
{
    struct evbuffer *out = evbuffer_new();
    fill_entries();
    page_processes_json(out, entries, 2);
    ck_assert_str_eq(take(out),
        "[\n{\"pid\":1234,\"comm\":\"nginx\",\"uid\":1000,\"path\":\"/usr/sbin/nginx\"},"
        "\n{\"pid\":4194304,\"comm\":\"\\u003ci\\u003e\\\"'\\u0026\\u0001\\u000a" FFFD "\",\"uid\":4294967295,"
        "\"path\":\"\\u003cscript\\u003e\\\"'\\u0026\\u0001\\u000a" FFFD FFFD FFFD FFFD "\\u003c/td\\u003e\"}\n]\n");
    out = evbuffer_new();
    page_processes_json(out, NULL, 0);
    ck_assert_str_eq(take(out), "[]\n");
}
END_TEST

/* A name that fills its field has no zero byte at its end. */
START_TEST(test_unterminated_names)
{
    struct evbuffer *out = evbuffer_new();
    struct process_entry e = {.pid = 7};
    memset(e.comm, 'c', sizeof(e.comm));
    memset(e.exe, 'e', sizeof(e.exe));
    page_processes(out, &e, 1);
    page_processes_json(out, &e, 1);
    const char *all = take(out);
    ck_assert_ptr_nonnull(strstr(all, ">cccccccccccccccc<"));
    ck_assert_ptr_nonnull(strstr(all, "\"cccccccccccccccc\""));
    ck_assert_ptr_nonnull(strstr(all, "1 process that"));
}
END_TEST

START_TEST(test_process)
{
    struct evbuffer *out = evbuffer_new();
    page_process(out, NULL, 1234);
    const char *html = take(out);
    assert_html(html);
    ck_assert_ptr_nonnull(strstr(html, "action=\"1234/debug/pprof/profile\""));
    ck_assert_ptr_nonnull(strstr(html, "href=\"1234/debug/pprof/\""));
    ck_assert_ptr_nonnull(strstr(html, "href=\"../\""));
}
END_TEST

START_TEST(test_index)
{
    struct evbuffer *out = evbuffer_new();
    page_index(out, NULL, 1234, &declared);
    const char *html = take(out);
    assert_html(html);
    ck_assert_ptr_nonnull(strstr(html, "<title>/debug/pprof/</title>"));
    ck_assert_ptr_nonnull(strstr(html, "<th>Count</th><th>Profile</th>"));
    ck_assert_ptr_nonnull(strstr(html, "<tr><td>0</td><td><a href='profile'>profile</a></td></tr>"));
    ck_assert_ptr_nonnull(strstr(html, "<a href='wild?a=&#39;&amp;b=&quot;'>wi&lt;ld&gt;</a>"));
    ck_assert_ptr_nonnull(strstr(html, "<li>profile: CPU time.</li>"));
    ck_assert_ptr_nonnull(strstr(html, "<tr><td>0</td><td><a href='./blob%27store.%3COpen%3E?debug=1'>"
                                       "blob&#39;store.&lt;Open&gt;</a> (not watched)"));
    ck_assert_ptr_nonnull(strstr(html, "<li>bytes: Bytes.</li>"));
    ck_assert_ptr_null(strstr(html, "It has a kind"));
    ck_assert_ptr_nonnull(strstr(html, "<li>7 profiles that the process declares"));
    ck_assert_ptr_nonnull(strstr(html, "href=\"../../../1234\""));
    ck_assert_ptr_nonnull(strstr(html, "curl -X PUT 'http://ADDRESS/pid/1234/watch?kinds=&lt;accrues&gt;'"));
}
END_TEST

START_TEST(test_index_json)
{
    struct evbuffer *out = evbuffer_new();
    page_index_json(out, NULL, 1234, &declared);
    const char *json = take(out);
    ck_assert_ptr_eq(strstr(json, "[\n{\"name\":\"profile\",\"description\":\"CPU time.\",\"path\":\"profile\","
                            "\"sample_types\":[\"samples/count\",\"cpu/nanoseconds\"],\"period_type\":\"cpu/nanoseconds\","
                            "\"windowed\":true,\"cumulative\":false,\"watched\":false,\"parameters\":["), json);
    ck_assert_ptr_nonnull(strstr(json, "{\"name\":\"seconds\",\"type\":\"number\",\"bounds\":\"(0, 3600]\",\"default\":\"30\","));
    ck_assert_ptr_nonnull(strstr(json, "{\"name\":\"event\",\"type\":\"event\",\"bounds\":\"cpu-clock, "));
    ck_assert_uint_eq(count(json, ",\"watch\":true}"), 1);
    ck_assert_ptr_nonnull(strstr(strstr(json, "{\"name\":\"max_overhead\",\"type\":\"number\""), ",\"watch\":true}"));
    ck_assert_ptr_nonnull(strstr(json, "{\"name\":\"wi\\u003cld\\u003e\""));
    ck_assert_ptr_nonnull(strstr(json, "\"sample_types\":[],\"period_type\":\"\",\"windowed\":false,"
                          "\"cumulative\":false,\"watched\":false,\"parameters\":[]},\n"));
    ck_assert_ptr_nonnull(strstr(json, "{\"name\":\"blob'store.\\u003cOpen\\u003e\",\"description\":"));
    ck_assert_ptr_nonnull(strstr(json, "\"path\":\"./blob%27store.%3COpen%3E\",\"sample_types\":[\"blob'store.\\u003cOpen\\u003e/count\"],"));
    ck_assert_ptr_nonnull(strstr(json, "\"sample_types\":[\"bytes/count\",\"weight/by\\\"tes\"],"));
    ck_assert_ptr_null(strstr(json, "It has a kind"));
}
END_TEST

START_TEST(test_csp)
{
    ck_assert(strncmp(page_csp(), "default-src 'none'; style-src 'sha256-", 38) == 0);
    ck_assert_ptr_null(strstr(page_csp(), "unsafe"));
}
END_TEST

/* ---- quote.c */

static const struct {
    const char *text;
    size_t len;
} characters[] = {
    {"", 0}, {"a", 1}, {"\xc3\xa4", 2}, {"\xe2\x82\xac", 3}, {"\xf0\x9f\x92\xa9", 4}, {"\xf4\x8f\xbf\xbf", 4}, {"\xed\x9f\xbf", 3},
    {"\x80", 0}, {"\xbf", 0}, {"\xc0\x80", 0}, {"\xc1\xbf", 0}, {"\xe0\x9f\xbf", 0}, {"\xf0\x8f\xbf\xbf", 0}, {"\xed\xa0\x80", 0},
    {"\xf4\x90\x80\x80", 0}, {"\xf5\x80\x80\x80", 0}, {"\xff", 0}, {"\xc3", 0}, {"\xe2\x82", 0}, {"\xf0\x9f\x92", 0}, {"\xc3(", 0},
};

START_TEST(test_utf8)
{
    ck_assert_uint_eq(utf8_char_len(characters[_i].text, strlen(characters[_i].text)), characters[_i].len);
    /* never beyond the end, whatever follows */
    if (characters[_i].len > 1)
        ck_assert_uint_eq(utf8_char_len(characters[_i].text, characters[_i].len - 1), 0);
}
END_TEST

START_TEST(test_quote)
{
    char out[QUOTE_LEN], longer[200];
    ck_assert_str_eq(quote("abc", out), "\"abc\"");
    ck_assert_str_eq(quote("", out), "\"\"");
    ck_assert_str_eq(quote("\x1b[31m\"\xff", out), "\"?[31m??\"");
    memset(longer, 'x', sizeof(longer));
    longer[199] = '\0';
    ck_assert_uint_eq(strlen(quote(longer, out)), QUOTE_LEN - 1);
    ck_assert_str_eq(out + QUOTE_LEN - 5, "...\"");
}
END_TEST

START_TEST(test_plain)
{
    ck_assert(is_plain_utf8(""));
    ck_assert(is_plain_utf8("a\xc3\xa4"));
    ck_assert(!is_plain_utf8("\n"));
    ck_assert(!is_plain_utf8("\x7f"));
    ck_assert(!is_plain_utf8("a\xff"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("pages");
    TCase *tc = tcase_create("pages");
    tcase_add_test(tc, test_processes);
    tcase_add_test(tc, test_processes_json);
    tcase_add_test(tc, test_unterminated_names);
    tcase_add_test(tc, test_process);
    tcase_add_test(tc, test_index);
    tcase_add_test(tc, test_index_json);
    tcase_add_test(tc, test_csp);
    tcase_add_loop_test(tc, test_utf8, 0, sizeof(characters) / sizeof(characters[0]));
    tcase_add_test(tc, test_quote);
    tcase_add_test(tc, test_plain);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
