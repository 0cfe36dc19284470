/* Memory that runs out at any allocation: no crash, no leak, and never a profile that lacks something and
 * looks whole. */
#include <errno.h>
#include <stdio.h>

#include "tests/unit/pprof_reader.h"
#include "util/cleanup.h"

/* The linker sends the calls of what is under test here (--wrap). */
void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_reallocarray(void *p, size_t n, size_t size);
int __real_vasprintf(char **ret, const char *fmt, va_list args);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_reallocarray(void *p, size_t n, size_t size);
int __wrap_vasprintf(char **ret, const char *fmt, va_list args);
int __real_deflateInit2_(z_stream *z, int level, int method, int bits, int memory, int strategy,
                         const char *version, int size);
int __wrap_deflateInit2_(z_stream *z, int level, int method, int bits, int memory, int strategy,
                         const char *version, int size);

static bool counting;
static long allocations_left; /* the one after these fails; negative: never */
static bool failed;

static bool fails(void)
{
    if (!counting || allocations_left < 0)
        return false;
    if (allocations_left-- > 0)
        return false;
    allocations_left = -1; /* only once: what comes after must not hide it */
    failed = true;
    return true;
}

void *__wrap_malloc(size_t size) { return fails() ? NULL : __real_malloc(size); }
void *__wrap_calloc(size_t n, size_t size) { return fails() ? NULL : __real_calloc(n, size); }

void *__wrap_reallocarray(void *p, size_t n, size_t size)
{
    return fails() ? NULL : __real_reallocarray(p, n, size);
}

int __wrap_vasprintf(char **ret, const char *fmt, va_list args)
{
    return fails() ? -1 : __real_vasprintf(ret, fmt, args);
}

int __wrap_deflateInit2_(z_stream *z, int level, int method, int bits, int memory, int strategy,
                         const char *version, int size)
{
    if (fails())
        return Z_MEM_ERROR;
    return __real_deflateInit2_(z, level, method, bits, memory, strategy, version, size);
}

static const struct profile_value_type types[] = {{"samples", "count"}, {"cpu", "nanoseconds"}};

static void add_samples(struct profile *p)
{
    for (uint64_t i = 0; i < 100; i++) {
        char name[32];
        (void)snprintf(name, sizeof(name), "function%d", (int)i);
        struct profile_line lines[] = {
            {.name = name, .filename = "/src/a.c", .line = 3}, {.name = "bad\xff"},
        };
        struct profile_label labels[] = {{.key = "tid", .num = (int64_t)i}, {.key = "thread", .str = name}};
        struct profile_mapping m = {.start = 4096 * (i / 8), .filename = "/bin/x", .build_id = "ab"};
        uint64_t id = profile_location(p, profile_mapping(p, &m), i / 2, lines, 2);
        (void)profile_sample(p, &id, 1, (int64_t[]){1, 10}, labels, 2);
    }
}

/* A profile whose maker reads no result. */
static struct profile *build(void)
{
    struct profile *p = profile_new(types, 2, "cpu");
    if (!p)
        return NULL;
    profile_set_period(p, (struct profile_value_type){"cpu", "nanoseconds"}, 10);
    (void)profile_set_doc_url(p, "https://example.org");
    for (int i = 0; i < 20; i++)
        (void)profile_comment(p, "comment %d", i);
    add_samples(p);
    return p;
}

/* Either an error, or the very same bytes as with memory. */
static void expect_all_or_nothing(int r, uint8_t *body, size_t len, const uint8_t *whole, size_t whole_len)
{
    if (failed) {
        ck_assert_int_eq(r, -ENOMEM);
        ck_assert_ptr_null(body);
    } else {
        ck_assert_int_eq(r, 0);
        ck_assert_uint_eq(len, whole_len);
        ck_assert_mem_eq(body, whole, len);
    }
}

static void run_until_memory_suffices(int (*encode)(const struct profile *, uint8_t **, size_t *))
{
    AUTO_FREE uint8_t *whole = NULL;
    size_t whole_len = 0;
    struct profile *p = build();
    ck_assert_int_eq(encode(p, &whole, &whole_len), 0);
    profile_free(p);
    long n = 0;
    do {
        AUTO_FREE uint8_t *body = NULL;
        size_t len = 0;
        allocations_left = n++;
        failed = false;
        counting = true;
        p = build();
        int r = p ? encode(p, &body, &len) : -ENOMEM;
        counting = false;
        expect_all_or_nothing(r, body, len, whole, whole_len);
        profile_free(p);
    } while (failed);
    ck_assert_int_gt(n, 50); /* it did fail before it did not */
}

START_TEST(test_pprof) { run_until_memory_suffices(profile_encode_pprof); }
END_TEST

START_TEST(test_folded) { run_until_memory_suffices(profile_encode_folded); }
END_TEST

int main(void)
{
    Suite *suite = suite_create("profile_memory");
    TCase *tc = tcase_create("profile_memory");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, test_pprof);
    tcase_add_test(tc, test_folded);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int n_failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return n_failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
