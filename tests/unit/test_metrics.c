/* The page of counters: its format, labels that are hostile, and a registry that is full. */
#include <check.h>
#include <event2/buffer.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/metrics.h"

static char text[65536];

static const char *page(const struct metrics_sources *sources)
{
    struct evbuffer *out = evbuffer_new();
    metrics_print(out, sources);
    size_t len = evbuffer_get_length(out);
    ck_assert_uint_lt(len, sizeof(text));
    evbuffer_remove(out, text, len);
    text[len] = '\0';
    evbuffer_free(out);
    return text;
}

static const struct metrics_sources sources = {
    .sessions = 3, .open_sessions = 2, .watches = 1, .worker_restarts = 2, .table_bytes = 5, .cache_bytes = 1234567890123, .cpu_loop_ns = 1000000001,
    .cpu_collector_ns = 999999999, .cpu_worker_ns = 12000000000, .cpu_debuginfod_ns = 7, .debuginfod_found = 1, .debuginfod_absent = 2,
    .debuginfod_failed = 3, .debuginfod_late = 4,
};

START_TEST(test_all_names_are_there)
{
    static const char *const lines[] = {
        "\ncprofd_sessions 3\n", "\ncprofd_sessions_open 2\n", "\ncprofd_watches 1\n",
        "\ncprofd_worker_restarts_total 2\n", "\ncprofd_table_bytes 5\n",
        "\ncprofd_cache_bytes 1234567890123\n", "\ncprofd_cpu_seconds_total{role=\"loop\"} 1.000000001\n",
        "\ncprofd_cpu_seconds_total{role=\"collector\"} 0.999999999\n", "\ncprofd_cpu_seconds_total{role=\"worker\"} 12.000000000\n",
        "\ncprofd_cpu_seconds_total{role=\"debuginfod\"} 0.000000007\n", "\n# TYPE cprofd_debuginfod_total counter\n",
        "\ncprofd_debuginfod_total{result=\"found\"} 1\n", "\ncprofd_debuginfod_total{result=\"absent\"} 2\n",
        "\ncprofd_debuginfod_total{result=\"failed\"} 3\n", "\ncprofd_debuginfod_total{result=\"late\"} 4\n",
        "\ncprofd_build_info{version=\"" CPROFD_VERSION "\"} 1\n", "\n# TYPE cprofd_requests_total counter\n",
        "\n# TYPE cprofd_samples_total counter\n", "\n# TYPE cprofd_lost_total counter\n", "\n# TYPE cprofd_sessions gauge\n",
    };
    char all[66000];
    snprintf(all, sizeof(all), "\n%s", page(&sources));
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
        ck_assert_msg(strstr(all, lines[i]) != NULL, "%s", lines[i]);
    ck_assert_int_eq(all[strlen(all) - 1], '\n');
}
END_TEST

START_TEST(test_counters_add_up)
{
    metrics_add_request(200);
    metrics_add_request(200);
    metrics_add_request(404);
    metrics_add_samples("profile", 100);
    metrics_add_samples("profile", 11);
    metrics_add_lost("profile", "ring_full", 7);
    metrics_add_lost("profile", "kernel", 1);
    metrics_add_lost("profile", "ring_full", 1);
    page(&sources);
    ck_assert_ptr_nonnull(strstr(text, "\ncprofd_requests_total{code=\"200\"} 2\n"));
    ck_assert_ptr_nonnull(strstr(text, "\ncprofd_requests_total{code=\"404\"} 1\n"));
    ck_assert_ptr_nonnull(strstr(text, "\ncprofd_samples_total{kind=\"profile\"} 111\n"));
    ck_assert_ptr_nonnull(strstr(text, "\ncprofd_lost_total{kind=\"profile\",reason=\"ring_full\"} 8\n"));
    ck_assert_ptr_nonnull(strstr(text, "\ncprofd_lost_total{kind=\"profile\",reason=\"kernel\"} 1\n"));
    metrics_reset();
    ck_assert_ptr_null(strstr(page(&sources), "code="));
}
END_TEST

START_TEST(test_hostile_labels)
{
    char longer[200];
    metrics_add_samples("a\"} 1\nx\\\x01\xff", 1);
    memset(longer, 'y', sizeof(longer));
    longer[199] = '\0';
    metrics_add_samples(longer, 1);
    metrics_add_samples(longer, 1); /* found again, though it was cut */
    page(&sources);
    ck_assert_ptr_nonnull(strstr(text, "{kind=\"a\\\"} 1\\nx\\\\??\"} 1\n"));
    ck_assert_ptr_nonnull(strstr(text, "yyy\"} 2\n"));
    metrics_reset();
}
END_TEST

START_TEST(test_full_registry_counts_the_rest_together)
{
    char kind[16];
    for (int i = 0; i < 100; i++) {
        snprintf(kind, sizeof(kind), "kind%d", i);
        metrics_add_lost(kind, "r", 1);
        metrics_add_request(i);
    }
    metrics_add_lost("kind5", "r", 1);
    page(&sources);
    ck_assert_ptr_nonnull(strstr(text, "{kind=\"kind5\",reason=\"r\"} 2\n"));
    ck_assert_ptr_nonnull(strstr(text, "{kind=\"kind62\",reason=\"r\"} 1\n"));
    ck_assert_ptr_null(strstr(text, "kind63"));
    ck_assert_ptr_nonnull(strstr(text, "{kind=\"other\",reason=\"other\"} 37\n"));
    ck_assert_ptr_nonnull(strstr(text, "{code=\"other\"} 37\n"));
    metrics_reset();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("metrics");
    TCase *tc = tcase_create("metrics");
    tcase_add_test(tc, test_all_names_are_there);
    tcase_add_test(tc, test_counters_add_up);
    tcase_add_test(tc, test_hostile_labels);
    tcase_add_test(tc, test_full_registry_counts_the_rest_together);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
