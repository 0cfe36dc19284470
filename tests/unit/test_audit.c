/* What clients and targets name can't pass for a field of the audit log. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/asker.h"
#include "daemon/audit.h"

/* The line that a watch of that kind leaves. */
static const char *line_of(const char *kind)
{
    static char line[4096];
    const struct asker asker = {.known = true, .uid = 1000, .address = "unix"};
    int fd = memfd_create("stderr", MFD_CLOEXEC), before = dup(STDERR_FILENO);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_ge(before, 0);
    ck_assert_int_eq(dup2(fd, STDERR_FILENO), STDERR_FILENO);
    audit_watch(&asker, NULL, 42, kind, NULL, 0, 200, "ended");
    ck_assert_int_eq(dup2(before, STDERR_FILENO), STDERR_FILENO);
    ssize_t n = pread(fd, line, sizeof(line) - 1, 0);
    ck_assert_int_gt(n, 0);
    line[n] = '\0';
    (void)close(fd);
    (void)close(before);
    return line;
}

START_TEST(test_kinds)
{
    ck_assert_ptr_nonnull(strstr(line_of("heap"), " kind=heap rule=\"\""));
    ck_assert_ptr_nonnull(strstr(line_of("blobstore.Open"), " kind=\"blobstore.Open\" rule=\"\""));
    ck_assert_ptr_nonnull(strstr(line_of("x uid=0"), " kind=\"x uid=0\" rule=\"\""));
    ck_assert_ptr_nonnull(strstr(line_of("x\" uid=0 y=\""), " kind=\"x\\\" uid=0 y=\\\"\" rule=\"\""));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("audit");
    TCase *tests = tcase_create("audit");
    tcase_add_test(tests, test_kinds);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
