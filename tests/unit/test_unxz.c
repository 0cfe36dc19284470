/* What was compressed comes back whole, or not at all. */
#include <check.h>
#include <errno.h>
#include <lzma.h>
#include <stdlib.h>
#include <string.h>

#include "symbolize/unxz.h"
#include "util/cleanup.h"

#define PLAIN_BYTES 300000

struct packed {
    uint8_t bytes[PLAIN_BYTES];
    size_t n;
};

static struct packed *pack(const uint8_t *plain, size_t n, uint32_t preset)
{
    struct packed *p = calloc(1, sizeof(*p));
    ck_assert_ptr_nonnull(p);
    ck_assert_int_eq(lzma_easy_buffer_encode(preset, LZMA_CHECK_CRC64, NULL, plain, n, p->bytes, &p->n, sizeof(p->bytes)), LZMA_OK);
    return p;
}

START_TEST(test_whole)
{
    AUTO_FREE uint8_t *plain = calloc(1, PLAIN_BYTES);
    for (size_t i = 0; i < PLAIN_BYTES; i++)
        plain[i] = (uint8_t)(i * i >> 8);
    const size_t sizes[] = {0, 1, 65536, 65537, PLAIN_BYTES};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        AUTO_FREE struct packed *p = pack(plain, sizes[i], 1);
        AUTO_FREE void *out = NULL;
        size_t n = 1;
        ck_assert_int_eq(unxz(p->bytes, p->n, PLAIN_BYTES, &out, &n), 0);
        ck_assert_uint_eq(n, sizes[i]);
        ck_assert(n == 0 || memcmp(out, plain, n) == 0);
    }
}
END_TEST

START_TEST(test_refused)
{
    AUTO_FREE uint8_t *plain = calloc(1, PLAIN_BYTES);
    AUTO_FREE struct packed *p = pack(plain, PLAIN_BYTES, 1);
    void *out = NULL;
    size_t n = 0;
    ck_assert_int_eq(unxz(p->bytes, p->n, PLAIN_BYTES - 1, &out, &n), -EFBIG);
    ck_assert_int_eq(unxz(p->bytes, p->n, 0, &out, &n), -EFBIG);
    for (size_t len = 0; len < p->n; len += 1 + p->n / 64)
        ck_assert_int_eq(unxz(p->bytes, len, PLAIN_BYTES + 1, &out, &n), -ENOEXEC);
    p->bytes[p->n / 2] ^= 1;
    ck_assert_int_eq(unxz(p->bytes, p->n, PLAIN_BYTES, &out, &n), -ENOEXEC);
    ck_assert_int_eq(unxz(plain, PLAIN_BYTES, PLAIN_BYTES, &out, &n), -ENOEXEC);
    ck_assert_ptr_null(out);
}
END_TEST

/* A header may ask for a dictionary of 4 GiB. */
START_TEST(test_memory)
{
    AUTO_FREE uint8_t *plain = calloc(1, PLAIN_BYTES);
    lzma_options_lzma options;
    ck_assert(!lzma_lzma_preset(&options, 0));
    options.dict_size = 512u << 20;
    options.mode = LZMA_MODE_FAST;
    options.mf = LZMA_MF_HC3;
    lzma_filter filters[] = {{LZMA_FILTER_LZMA2, &options}, {LZMA_VLI_UNKNOWN, NULL}};
    AUTO_FREE struct packed *p = calloc(1, sizeof(*p));
    ck_assert_int_eq(lzma_stream_buffer_encode(filters, LZMA_CHECK_NONE, NULL, plain, 1000, p->bytes, &p->n, sizeof(p->bytes)), LZMA_OK);
    void *out = NULL;
    size_t n = 0;
    ck_assert_int_eq(unxz(p->bytes, p->n, PLAIN_BYTES, &out, &n), -EFBIG);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("unxz");
    TCase *c = tcase_create("unxz");
    tcase_set_timeout(c, 60);
    tcase_add_test(c, test_whole);
    tcase_add_test(c, test_refused);
    tcase_add_test(c, test_memory);
    suite_add_tcase(s, c);
    SRunner *runner = srunner_create(s);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
