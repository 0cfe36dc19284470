/* The command line: its own switches, one for each setting, and what is wrong with it. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/options.h"
#include "util/cleanup.h"

static struct options o;
static struct settings s;
static char *errors; /* of the last call */

static void teardown(void)
{
    settings_deinit(&s);
    free(TAKE_PTR(errors));
}

static FILE *open_errors(void)
{
    static size_t len;
    free(TAKE_PTR(errors));
    FILE *f = open_memstream(&errors, &len);
    ck_assert_ptr_nonnull(f);
    return f;
}

/* Up to five words behind the program's name. */
static int parse(const char *a, const char *b, const char *c, const char *d, const char *e)
{
    const char *argv[] = {"cprofd", a, b, c, d, e, NULL};
    int argc = 1;
    while (argv[argc])
        argc++;
    FILE *f = open_errors();
    int r = options_parse(argc, (char **)argv, &o, f);
    fclose(f);
    return r;
}

static int settle(void)
{
    FILE *f = open_errors();
    int r = options_settings(&o, &s, f);
    fclose(f);
    return r;
}

/* A configuration file; its path. */
static const char *write_file(char path[32], const char *text)
{
    strcpy(path, "/tmp/cprofd-options-XXXXXX");
    AUTO_CLOSE int fd = mkstemp(path);
    ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    return path;
}

START_TEST(test_own_switches)
{
    ck_assert_int_eq(parse(NULL, NULL, NULL, NULL, NULL), 0);
    ck_assert(!o.help && !o.version && !o.check_config && !o.config && !o.n_switches);
    ck_assert_int_eq(parse("--help", NULL, NULL, NULL, NULL), 0);
    ck_assert(o.help);
    ck_assert_int_eq(parse("-h", "--version", NULL, NULL, NULL), 0);
    ck_assert(o.help && o.version);
    ck_assert_int_eq(parse("--check-config", "--config", "file", NULL, NULL), 0);
    ck_assert(o.check_config && !o.help);
    ck_assert_str_eq(o.config, "file");
}
END_TEST

START_TEST(test_every_setting_is_a_switch)
{
    for (size_t i = 0; settings_name(i); i++) {
        char name[64];
        (void)snprintf(name, sizeof(name), "--%s", settings_name(i));
        ck_assert_int_eq(parse(name, "value", NULL, NULL, NULL), 0);
        ck_assert_uint_eq(o.n_switches, 1);
        ck_assert_str_eq(o.switches[0].name, settings_name(i));
        ck_assert_str_eq(o.switches[0].value, "value");
    }
}
END_TEST

static const struct {
    const char *a, *b, *help;
} wrong[] = {
    {"--nonsense", NULL, "--nonsense: no such switch"},
    {"--max", "5", "--max: no such switch, or an ambiguous one"},
    {"-x", NULL, "no such switch"},
    {"--max-hz", NULL, "--max-hz: a value is missing"},
    {"--config", NULL, "--config: a value is missing"},
    {"--help=yes", NULL, "--help=yes: "},
    {"stray", NULL, "stray: only switches"},
    {"--", "stray", "stray: only switches"},
};

START_TEST(test_wrong)
{
    ck_assert_int_eq(parse(wrong[_i].a, wrong[_i].b, NULL, NULL, NULL), -EINVAL);
    ck_assert_msg(strstr(errors, wrong[_i].help), "%s", errors);
}
END_TEST

START_TEST(test_too_many)
{
    static char *argv[2 * OPTIONS_MAX_SWITCHES + 4];
    size_t n = 0;
    argv[n++] = "cprofd";
    while (n < 2 * (OPTIONS_MAX_SWITCHES + 1)) {
        argv[n++] = "--max-hz";
        argv[n++] = "5";
    }
    FILE *f = open_errors();
    ck_assert_int_eq(options_parse((int)n, argv, &o, f), -EINVAL);
    fclose(f);
    ck_assert_ptr_nonnull(strstr(errors, "--max-hz: too many switches (at most 128)"));
}
END_TEST

START_TEST(test_switches_win_over_the_file)
{
    char path[32];
    write_file(path, "[http]\nlisten = 127.0.0.1:1\n[limits]\nmax-hz = 2\nmax-sessions = 3\n");
    ck_assert_int_eq(parse("--max-hz", "7", "--listen=[::1]:0", "--config", path), 0);
    ck_assert_int_eq(settle(), 0);
    ck_assert_uint_eq(s.max_hz, 7);
    ck_assert_uint_eq(s.max_sessions, 3);
    ck_assert_uint_eq(s.listen.n, 1);
    ck_assert_str_eq(s.listen.item[0], "[::1]:0");
    (void)unlink(path);
}
END_TEST

START_TEST(test_all_faults_of_file_and_switches)
{
    char path[32], where[64];
    write_file(path, "[limits]\nmax-hz = none\n");
    ck_assert_int_eq(parse("--max-sessions", "0", "--config", path, "--log-level=loud"), 0);
    ck_assert_int_eq(settle(), -EINVAL);
    (void)snprintf(where, sizeof(where), "%s:2: max-hz: ", path);
    ck_assert_ptr_nonnull(strstr(errors, where));
    ck_assert_ptr_nonnull(strstr(errors, "--max-sessions: "));
    ck_assert_ptr_nonnull(strstr(errors, "--log-level: "));
    (void)unlink(path);
}
END_TEST

START_TEST(test_no_such_file)
{
    ck_assert_int_eq(parse("--config", "/nonexistent/cprofd.conf", NULL, NULL, NULL), 0);
    ck_assert_int_eq(settle(), -ENOENT);
    ck_assert_str_eq(errors, "/nonexistent/cprofd.conf: cannot be read: No such file or directory\n");
}
END_TEST

START_TEST(test_settings_that_do_not_fit_together)
{
    ck_assert_int_eq(parse("--worker-memory", "512M", "--worker-cache", "512M", NULL), 0);
    ck_assert_int_eq(settle(), -EINVAL);
    ck_assert_ptr_nonnull(strstr(errors, "worker-cache is more than half"));
}
END_TEST

START_TEST(test_help)
{
    FILE *f = open_errors();
    options_print_help(f);
    fclose(f);
    ck_assert_ptr_nonnull(strstr(errors, "--check-config"));
    ck_assert_ptr_nonnull(strstr(errors, "--max-hz N"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("options");
    TCase *tc = tcase_create("options");
    tcase_add_checked_fixture(tc, NULL, teardown);
    tcase_add_test(tc, test_own_switches);
    tcase_add_test(tc, test_every_setting_is_a_switch);
    tcase_add_loop_test(tc, test_wrong, 0, sizeof(wrong) / sizeof(wrong[0]));
    tcase_add_test(tc, test_too_many);
    tcase_add_test(tc, test_switches_win_over_the_file);
    tcase_add_test(tc, test_all_faults_of_file_and_switches);
    tcase_add_test(tc, test_no_such_file);
    tcase_add_test(tc, test_settings_that_do_not_fit_together);
    tcase_add_test(tc, test_help);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
