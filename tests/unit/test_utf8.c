/* Repair of UTF-8, against a table and against iconv. */
#include <check.h>
#include <iconv.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "pprof/utf8.h"

#define BAD "\xef\xbf\xbd"

struct utf8_case {
    const char *text;
    const char *repaired; /* NULL: valid as it is */
};

static const struct utf8_case cases[] = {
    {"", NULL},
    {"plain ascii, longer than a word", NULL},
    {"\x7f\xc2\x80\xdf\xbf", NULL},
    {"\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf", NULL},
    {"\xf0\x90\x80\x80\xf4\x8f\xbf\xbf", NULL},
    {"12345678\xff" "12345678", "12345678" BAD "12345678"},
    {"1234567\xc3\xa4" "1234567", NULL}, /* across a word's end */
    {"\x80", BAD},
    {"\xbf\x80", BAD BAD},
    {"\xc0\xaf", BAD BAD},         /* overlong */
    {"\xc1\xbf", BAD BAD},
    {"\xe0\x9f\x80", BAD BAD BAD},
    {"\xf0\x8f\x80\x80", BAD BAD BAD BAD},
    {"\xed\xa0\x80", BAD BAD BAD}, /* a surrogate */
    {"\xf4\x90\x80\x80", BAD BAD BAD BAD}, /* beyond U+10FFFF */
    {"\xf5\x80\x80\x80", BAD BAD BAD BAD},
    {"\xff\xfe", BAD BAD},
    {"a\xc3", "a" BAD},            /* cut short: one mark for what was begun */
    {"a\xe2\x82", "a" BAD},
    {"a\xf0\x9f\x92", "a" BAD},
    {"\xe2\x82z", BAD "z"},
    {"\xf0\x9f\xe2\x82\xac", BAD "\xe2\x82\xac"},
    {"\xc3\xc3\xa4", BAD "\xc3\xa4"},
};

static bool iconv_accepts(const char *text, size_t len)
{
    char out[256], *in_at = (char *)text, *out_at = out;
    size_t in_len = len, out_len = sizeof(out);
    iconv_t cd = iconv_open("UTF-32LE", "UTF-8");
    ck_assert(cd != (iconv_t)-1);
    bool accepted = iconv(cd, &in_at, &in_len, &out_at, &out_len) != (size_t)-1 && in_len == 0;
    iconv_close(cd);
    return accepted;
}

START_TEST(test_case)
{
    const struct utf8_case *c = &cases[_i];
    const char *repaired = c->repaired ? c->repaired : c->text;
    char out[256];
    size_t len = strlen(c->text);
    ck_assert_int_eq(utf8_valid_prefix(c->text, len) == len, !c->repaired);
    size_t n = utf8_sanitize(c->text, len, out);
    ck_assert_uint_eq(n, strlen(repaired));
    ck_assert_mem_eq(out, repaired, n);
}
END_TEST

static void check_against_iconv(const char *text, size_t len)
{
    char out[UTF8_SANITIZED_BYTES(32)];
    size_t valid = utf8_valid_prefix(text, len);
    ck_assert(iconv_accepts(text, valid));
    ck_assert_int_eq(valid == len, iconv_accepts(text, len));
    size_t n = utf8_sanitize(text, len, out);
    ck_assert_uint_le(n, UTF8_SANITIZED_BYTES(len));
    ck_assert(iconv_accepts(out, n));
    ck_assert_uint_eq(utf8_valid_prefix(out, n), n);
    if (valid == len) {
        ck_assert_uint_eq(n, len);
        ck_assert_mem_eq(out, text, len);
    }
}

START_TEST(test_random_bytes)
{
    /* Bytes at which decoders decide. */
    static const unsigned char edges[] = {
        'a',  0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc1, 0xc2,
        0xdf, 0xe0, 0xe1, 0xed, 0xef, 0xf0, 0xf3, 0xf4, 0xf5,
    };
    unsigned int seed = (unsigned int)_i;
    for (int round = 0; round < 2000; round++) {
        char text[20];
        size_t len = (size_t)rand_r(&seed) % sizeof(text);
        for (size_t i = 0; i < len; i++)
            text[i] = (char)edges[(size_t)rand_r(&seed) % sizeof(edges)];
        check_against_iconv(text, len);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("utf8");
    TCase *tc = tcase_create("utf8");
    tcase_add_loop_test(tc, test_case, 0, sizeof(cases) / sizeof(cases[0]));
    tcase_add_loop_test(tc, test_random_bytes, 0, 4);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
