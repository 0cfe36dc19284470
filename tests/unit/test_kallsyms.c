/* The kernel's symbol table, from text. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "symbolize/kallsyms.h"
#include "util/cleanup.h"

static int parse(const char *text, struct kallsyms **ret)
{
    AUTO_CLOSE int fd = memfd_create("kallsyms", MFD_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    ck_assert_int_eq(lseek(fd, 0, SEEK_SET), 0);
    return kallsyms_new(fd, ret);
}

static void expect(const struct kallsyms *k, uint64_t address, const char *name, const char *module,
                   uint64_t start)
{
    const struct kernel_symbol *s = kallsyms_find(k, address);
    ck_assert_ptr_nonnull(s);
    ck_assert_str_eq(s->name, name);
    ck_assert_pstr_eq(s->module, module);
    ck_assert_uint_eq(s->address, start);
}

START_TEST(test_find)
{
    struct kallsyms *k = NULL;
    uint64_t start, end;
    ck_assert_int_eq(parse("ffffffff81000000 T first_alias\n"
                           "ffffffff81000000 T _stext\n"
                           "ffffffff81000200 D data_is_skipped\n"
                           "ffffffff81000300 t later\n"
                           "ffffffff81000100 W sorted\n"
                           "ffffffff81001000 T _etext\n"
                           "ffffffff81002000 t init_is_gone\n"
                           "ffffffffc0000000 t nf_hook\t[nf_tables]\n"
                           "ffffffffc0001000 t bpf_prog_1_x\t[bpf]", &k), 0);
    ck_assert_ptr_null(kallsyms_find(k, 0));
    ck_assert_ptr_null(kallsyms_find(k, 0xffffffff80ffffff));
    expect(k, 0xffffffff81000000, "first_alias", NULL, 0xffffffff81000000);
    expect(k, 0xffffffff81000250, "sorted", NULL, 0xffffffff81000100);
    expect(k, 0xffffffff81000fff, "later", NULL, 0xffffffff81000300);
    ck_assert_ptr_null(kallsyms_find(k, 0xffffffff81001000));
    ck_assert_ptr_null(kallsyms_find(k, 0xffffffff81002001));
    expect(k, 0xffffffffc0000fff, "nf_hook", "nf_tables", 0xffffffffc0000000);
    expect(k, 0xffffffffc0001001, "bpf_prog_1_x", "bpf", 0xffffffffc0001000);
    kallsyms_text(k, &start, &end);
    ck_assert_uint_eq(start, 0xffffffff81000000);
    ck_assert_uint_eq(end, 0xffffffff81001000);
    kallsyms_free(k);
}
END_TEST

START_TEST(test_restricted_and_empty)
{
    struct kallsyms *k = NULL;
    ck_assert_int_eq(parse("0000000000000000 T _stext\n0000000000000000 t x\t[m]\n", &k), -EPERM);
    ck_assert_int_eq(parse("", &k), -ENODATA);
    ck_assert_int_eq(parse("ffffffff81000200 D data\n", &k), -ENODATA);
    ck_assert_int_eq(kallsyms_new(-1, &k), -EBADF);
    ck_assert_ptr_null(k);
    kallsyms_free(NULL);
}
END_TEST

START_TEST(test_odd_lines)
{
    struct kallsyms *k = NULL;
    const char text[] = "\n \nT\nffff\nffff T\nffff T \nzz T name\n1000 T a\tb\n"
                        "2000 T \t[]\n3000 T c\t[\n4000 t d\t[]\n";
    ck_assert_int_eq(parse(text, &k), 0);
    expect(k, 0x1000, "a", NULL, 0x1000);
    expect(k, 0x3000, "c", NULL, 0x3000);
    expect(k, 0x4000, "d", "", 0x4000);
    kallsyms_free(k);
}
END_TEST

START_TEST(test_many_lines)
{
    enum { LINES = 200000 };
    AUTO_FREE char *text = malloc(LINES * 48);
    size_t len = 0;
    struct kallsyms *k = NULL;
    for (unsigned i = 0; i < LINES; i++)
        len += (size_t)sprintf(text + len, "%016llx t function_%u%s\n",
                               0xffffffff81000000ull + 64ull * (LINES - i), i, i % 3 ? "" : "\t[module]");
    ck_assert_int_eq(parse(text, &k), 0);
    expect(k, 0xffffffff81000000ull + 64 * 7 + 5, "function_199993", NULL, 0xffffffff81000000ull + 64 * 7);
    kallsyms_free(k);
}
END_TEST

START_TEST(test_this_kernel)
{
    struct kallsyms *k = NULL;
    uint64_t start, end;
    AUTO_CLOSE int fd = open("/proc/kallsyms", O_RDONLY | O_CLOEXEC);
    int r = fd < 0 ? -errno : kallsyms_new(fd, &k);
    if (r < 0) {
        /* No privilege: nothing to see. */
        ck_assert(r == -EPERM || r == -ENOENT || r == -EACCES || r == -ENODATA);
        return;
    }
    kallsyms_text(k, &start, &end);
    ck_assert_uint_lt(start, end);
    ck_assert_ptr_nonnull(kallsyms_find(k, start));
    kallsyms_free(k);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("kallsyms");
    TCase *tc = tcase_create("kallsyms");
    tcase_add_test(tc, test_find);
    tcase_add_test(tc, test_restricted_and_empty);
    tcase_add_test(tc, test_odd_lines);
    tcase_add_test(tc, test_many_lines);
    tcase_add_test(tc, test_this_kernel);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
