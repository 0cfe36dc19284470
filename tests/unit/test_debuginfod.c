/* The loop's side of debuginfod: who is told what, whatever a client process does. argv[1]: fake_debuginfod. */
#include <check.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config/settings.h"
#include "daemon/child.h"
#include "daemon/debuginfod.h"
#include "daemon/log.h"
#include "util/cleanup.h"
#include "util/clock.h"

#define LONG_NS (60 * NSEC_PER_SEC)
#define ID "00112233445566778899"

static const char *executable;
static struct event_base *base;
static struct debuginfod *d;

/* One who waits, and what he was told. */
struct asked {
    unsigned n;
    int error, fd;
    struct debuginfod_wait *wait;
};

static void on_done(int error, int fd, void *userdata)
{
    struct asked *a = userdata;

    ck_assert_int_eq(error == 0, fd >= 0);
    a->n++;
    a->error = error;
    close_fd(&fd);
    event_base_loopbreak(base);
}

static void set_urls(struct settings *s, const char *urls)
{
    char text[256];

    ck_assert_int_eq(settings_init(s), 0);
    (void)snprintf(text, sizeof(text), "%s", urls);
    for (char *url = strtok(text, " "); url; url = strtok(NULL, " "))
        ck_assert_int_eq(settings_set(s, "debuginfod-urls", url, stderr), 0);
}

static void start(const char *urls)
{
    struct settings s;

    set_urls(&s, urls);
    ck_assert_int_eq(debuginfod_new(base, &s, executable, &d), 0);
    settings_deinit(&s);
}

static void reset(const char *urls)
{
    struct settings s;

    set_urls(&s, urls);
    ck_assert_int_eq(debuginfod_set(d, &s), 0);
    settings_deinit(&s);
}

static void setup(void)
{
    log_set_level(LOG_LEVEL_ERROR);
    base = event_base_new();
    ck_assert_ptr_nonnull(base);
    ck_assert_int_eq(setenv("HOME", "/", 1), 0);
}

static void teardown(void)
{
    debuginfod_free(d);
    d = NULL;
    while (child_count() > 0) /* all are killed, and reaped */
        (void)event_base_loop(base, EVLOOP_ONCE);
    event_base_free(base);
}

static int begin(struct asked *a, const char *build_id, uint64_t wait_ns)
{
    *a = (struct asked){.fd = -1};
    return debuginfod_ask(d, build_id, wait_ns, on_done, a, &a->wait);
}

static int finish(struct asked *a)
{
    while (a->n == 0)
        ck_assert_int_ge(event_base_loop(base, EVLOOP_ONCE), 0);
    ck_assert_uint_eq(a->n, 1);
    return a->error;
}

static int ask(const char *build_id)
{
    struct asked a;
    int r = begin(&a, build_id, LONG_NS);
    return r < 0 ? r : finish(&a);
}

START_TEST(test_off)
{
    start("");
    ck_assert_int_eq(ask("a0" ID), -ENOSYS);
    ck_assert_uint_eq(child_count(), 0);
}
END_TEST

START_TEST(test_no_build_id)
{
    static const char *const wrong[] = {"", "a0", "a0112", "../../../etc/passwd", "A0112233", "a0112233 ", "a0/11223"};
    char longer[131];

    start("http://one");
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        ck_assert_int_eq(ask(wrong[i]), -EINVAL);
    memset(longer, 'a', 130);
    longer[130] = '\0';
    ck_assert_int_eq(ask(longer), -EINVAL);
}
END_TEST

/* What a client says, and what the asker is told. */
static const struct {
    const char *build_id;
    int error;
} answers[] = {
    {"a0" ID, 0},             /* in the cache */
    {"a1" ID, -ENOENT},       /* so is that there is none */
    {"a2" ID, 0},             /* the client of the cache dies: asked for all the same */
    {"b0" ID, 0},             /* the first server has it */
    {"b1" ID, 0},             /* the second one has */
    {"b2" ID, -ENOENT},       /* none has */
    {"b4" ID, -EHOSTUNREACH}, /* the clients die over it */
    {"b5" ID, -EHOSTUNREACH}, /* the servers fail */
    {"b6" ID, -EBADMSG},
    {"b7" ID, -EFBIG},
    {"c0" ID, -EHOSTUNREACH}, /* answers another question */
    {"c1" ID, -EHOSTUNREACH}, /* an error that is none */
    {"c2" ID, -EHOSTUNREACH}, /* success without a file */
    {"c3" ID, -EHOSTUNREACH}, /* a pipe */
    {"c4" ID, -EHOSTUNREACH}, /* a file that whoever gets it could change */
    {"c5" ID, -EHOSTUNREACH}, /* half a message */
    {"c6" ID, -EHOSTUNREACH}, /* the wrong kind of message */
};

START_TEST(test_answers)
{
    start("http://one http://two");
    ck_assert_int_eq(ask(answers[_i].build_id), answers[_i].error);
    struct debuginfod_stats stats;
    debuginfod_stats(d, &stats);
    ck_assert_uint_eq(stats.found + stats.absent + stats.failed, 1);
    ck_assert_uint_eq(stats.found, answers[_i].error == 0);
    ck_assert_uint_eq(stats.absent, answers[_i].error == -ENOENT);
    ck_assert_uint_eq(stats.late, 0);
    ck_assert_uint_gt(debuginfod_cpu_ns(d), 0);
}
END_TEST

/* A server that failed is not asked; the cache, and the other server, are. */
START_TEST(test_left_alone)
{
    start("http://one");
    ck_assert_int_eq(ask("b5" ID), -EHOSTUNREACH);
    ck_assert_int_eq(ask("b0" ID), -EHOSTUNREACH);
    ck_assert_int_eq(ask("a0" ID), 0);
    reset("http://one http://two"); /* begins anew */
    ck_assert_int_eq(ask("b0" ID), 0);
}
END_TEST

START_TEST(test_answers_are_no_failures)
{
    start("http://one");
    ck_assert_int_eq(ask("b2" ID), -ENOENT);
    ck_assert_int_eq(ask("b7" ID), -EFBIG);
    ck_assert_int_eq(ask("b0" ID), 0);
}
END_TEST

/* Who has no time is told so, who has is told with all others, and it is fetched once. */
START_TEST(test_late)
{
    struct asked hurried, patient, also;
    struct debuginfod_stats stats;

    start("http://one");
    ck_assert_int_eq(begin(&hurried, "b8" ID, 0), 0);
    ck_assert_int_eq(begin(&patient, "b8" ID, LONG_NS), 0);
    ck_assert_int_eq(finish(&hurried), -EAGAIN);
    ck_assert_int_eq(begin(&also, "b8" ID, LONG_NS), 0);
    ck_assert_int_eq(begin(&hurried, "b8" ID, 0), -EAGAIN); /* at once */
    ck_assert_int_eq(finish(&patient), 0);
    ck_assert_int_eq(finish(&also), 0);
    debuginfod_stats(d, &stats);
    ck_assert_uint_eq(stats.late, 2);
    ck_assert_uint_eq(stats.found, 2);
}
END_TEST

START_TEST(test_times_out)
{
    struct asked a;

    start("http://one");
    ck_assert_int_eq(begin(&a, "b3" ID, 20 * NSEC_PER_MSEC), 0);
    ck_assert_int_eq(finish(&a), -EAGAIN);
    ck_assert_int_eq(ask("b0" ID), 0); /* another client downloads meanwhile */
}
END_TEST

START_TEST(test_cancel)
{
    struct asked a, b;

    start("http://one");
    ck_assert_int_eq(begin(&a, "b8" ID, LONG_NS), 0);
    debuginfod_cancel(a.wait);
    debuginfod_cancel(NULL);
    ck_assert_int_eq(begin(&b, "b8" ID, LONG_NS), 0);
    ck_assert_int_eq(finish(&b), 0);
    ck_assert_uint_eq(a.n, 0);
}
END_TEST

START_TEST(test_set_user)
{
    struct asked a, b = {0};

    start("http://one");
    ck_assert_int_eq(begin(&a, "b0" ID, LONG_NS), 0);
    debuginfod_set_user(a.wait, &b);
    ck_assert_int_eq(finish(&b), 0);
    ck_assert_uint_eq(a.n, 0);
}
END_TEST

/* There is an end to what can be asked for at one time, and nobody waits for it. */
START_TEST(test_too_many)
{
    static struct asked a[DEBUGINFOD_MAX_FETCHES + 1];
    char build_id[32];

    start("http://one");
    for (int i = 0; i < DEBUGINFOD_MAX_FETCHES; i++) {
        (void)snprintf(build_id, sizeof(build_id), "b3%08x", i);
        ck_assert_int_eq(begin(&a[i], build_id, LONG_NS), 0);
    }
    ck_assert_int_eq(begin(&a[DEBUGINFOD_MAX_FETCHES], "b0" ID, LONG_NS), -EAGAIN);
    (void)event_base_loop(base, EVLOOP_NONBLOCK);
    ck_assert_uint_le(child_count(), 1 + DEBUGINFOD_MAX_DOWNLOADS);
    debuginfod_stop(d);
    for (int i = 0; i < DEBUGINFOD_MAX_FETCHES; i++)
        ck_assert_int_eq(finish(&a[i]), -ELIBACC);
    ck_assert_int_eq(ask("a0" ID), -ELIBACC);
}
END_TEST

START_TEST(test_unusable)
{
    struct asked a;

    log_set_level(LOG_LEVEL_ERROR);
    start(_i == 0 ? "http://unusable" : "http://dies");
    ck_assert_int_eq(begin(&a, "a0" ID, LONG_NS), 0);
    ck_assert_int_eq(finish(&a), -ELIBACC);
    ck_assert_int_eq(ask("a0" ID), -ELIBACC); /* from now on at once */
    reset("http://one");
    ck_assert_int_eq(ask("a0" ID), 0);
}
END_TEST

/* A client that can't be started is one that can't run. */
START_TEST(test_no_executable)
{
    const char *kept = executable;

    executable = "/nonexistent";
    start("http://one");
    executable = kept;
    ck_assert_int_eq(ask("a0" ID), -ELIBACC);
}
END_TEST

START_TEST(test_start_that_hangs)
{
    struct asked a;

    start("http://hangs");
    ck_assert_int_eq(begin(&a, "a0" ID, 0), 0);
    ck_assert_int_eq(finish(&a), -EAGAIN);
}
END_TEST

START_TEST(test_new_settings)
{
    struct asked a;

    start("http://one");
    ck_assert_int_eq(begin(&a, "b3" ID, LONG_NS), 0);
    reset("http://two");
    ck_assert_int_eq(finish(&a), -EAGAIN);
    ck_assert_int_eq(ask("b0" ID), 0);
    reset("");
    ck_assert_int_eq(ask("b0" ID), -ENOSYS);
}
END_TEST

int main(int argc, char **argv)
{
    Suite *suite = suite_create("debuginfod");
    TCase *t = tcase_create("debuginfod");

    if (argc < 2)
        return EXIT_FAILURE;
    executable = argv[1];
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, test_off);
    tcase_add_test(t, test_no_build_id);
    tcase_add_loop_test(t, test_answers, 0, (int)(sizeof(answers) / sizeof(answers[0])));
    tcase_add_test(t, test_left_alone);
    tcase_add_test(t, test_answers_are_no_failures);
    tcase_add_test(t, test_late);
    tcase_add_test(t, test_times_out);
    tcase_add_test(t, test_cancel);
    tcase_add_test(t, test_set_user);
    tcase_add_test(t, test_too_many);
    tcase_add_loop_test(t, test_unusable, 0, 2);
    tcase_add_test(t, test_no_executable);
    tcase_add_test(t, test_start_that_hangs);
    tcase_add_test(t, test_new_settings);
    suite_add_tcase(suite, t);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
