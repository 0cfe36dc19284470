/* Compression: what comes out is what went in, at any size and in any pieces. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "pprof/gzip.h"
#include "util/cleanup.h"

static void round_trip(const uint8_t *data, size_t len, size_t piece, uint8_t **ret_body, size_t *ret_len)
{
    struct gzip *g = NULL;
    ck_assert_int_eq(gzip_new(&g), 0);
    for (size_t at = 0; at < len; at += piece)
        ck_assert_int_eq(gzip_write(g, data + at, len - at < piece ? len - at : piece), 0);
    ck_assert_int_eq(gzip_finish(g, ret_body, ret_len), 0);
    gzip_free(g);

    AUTO_FREE uint8_t *back = malloc(len + 1);
    z_stream z = {
        .next_in = *ret_body, .avail_in = (uInt)*ret_len, .next_out = back, .avail_out = (uInt)len + 1,
    };
    ck_assert_int_eq(inflateInit2(&z, 15 + 16), Z_OK);
    ck_assert_int_eq(inflate(&z, Z_FINISH), Z_STREAM_END);
    ck_assert_uint_eq(z.total_out, len);
    ck_assert_uint_eq(z.avail_in, 0);
    if (len > 0)
        ck_assert_mem_eq(back, data, len);
    (void)inflateEnd(&z);
}

START_TEST(test_round_trips)
{
    static const size_t sizes[] = {0, 1, 1000, 65535, 65536, 65537, 3000000};
    static const size_t pieces[] = {1, 7, 65536, SIZE_MAX};
    size_t len = sizes[_i];
    AUTO_FREE uint8_t *data = malloc(len + 1);
    unsigned int seed = 1;
    for (size_t i = 0; i < len; i++)
        data[i] = (uint8_t)(rand_r(&seed) >> 8); /* does not compress: output outgrows its buffer */
    for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
        AUTO_FREE uint8_t *body = NULL;
        size_t body_len;
        if (pieces[i] * 100000 >= len)
            round_trip(data, len, pieces[i] < len ? pieces[i] : len + 1, &body, &body_len);
    }
}
END_TEST

START_TEST(test_header_has_no_time)
{
    static const uint8_t header[] = {0x1f, 0x8b, 8, 0, 0, 0, 0, 0};
    AUTO_FREE uint8_t *body = NULL;
    size_t len;
    round_trip((const uint8_t *)"abc", 3, 3, &body, &len);
    ck_assert_mem_eq(body, header, sizeof(header));
}
END_TEST

START_TEST(test_unfinished_leaks_nothing)
{
    struct gzip *g = NULL;
    ck_assert_int_eq(gzip_new(&g), 0);
    ck_assert_int_eq(gzip_write(g, "abc", 3), 0);
    gzip_free(g);
    gzip_free(NULL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("gzip");
    TCase *tc = tcase_create("gzip");
    tcase_add_loop_test(tc, test_round_trips, 0, 7);
    tcase_add_test(tc, test_header_has_no_time);
    tcase_add_test(tc, test_unfinished_leaks_nothing);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
