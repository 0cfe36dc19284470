/* Functions by name, and what is said to one who named what is not there: in the sample program. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "symbolize/symbolizer.h"

static const char *sample_path;

static int no_debug_file(void *userdata, const struct debug_file_request *request, int *ret_fd)
{
    return -ENOENT;
}

static struct module *open_sample(struct symbolizer **ret)
{
    static const struct symbolizer_ops ops = {.open_debug_file = no_debug_file};
    struct module *m = NULL;

    *ret = symbolizer_new(&ops, SIZE_MAX);
    ck_assert_int_eq(symbolizer_module(*ret, &(struct file_identity){.ino = 1}, open(sample_path, O_RDONLY | O_CLOEXEC), NULL, &m), 0);
    return m;
}

START_TEST(test_find_function)
{
    uint64_t start, inner, alias, offset = 77;
    struct symbolizer *s = NULL;
    struct module *m = open_sample(&s);
    ck_assert_int_eq(module_find_function(m, "original", 0, &start), 0);
    ck_assert_int_eq(module_find_function(m, "original", 1, &inner), 0);
    ck_assert_uint_eq(inner, start + 1);
    ck_assert_int_eq(module_find_function(m, "weak_alias_of_it", 0, &alias), 0);
    ck_assert_uint_eq(alias, start);
    ck_assert_int_eq(module_find_function(m, "original", 4096, &offset), -ERANGE);
    ck_assert_int_eq(module_find_function(m, "original", UINT64_MAX, &offset), -ERANGE);
    ck_assert_int_eq(module_find_function(m, "no such function", 0, &offset), -ENOENT);
    ck_assert_int_eq(module_find_function(m, "", 0, &offset), -ENOENT);
    ck_assert_int_eq(module_find_function(m, "abort", 0, &offset),
                     -ENOENT); /* called through a stub, not here */
    ck_assert_int_eq(module_find_function(m, "abort@plt", 0, &offset), -ENOENT);
    ck_assert_int_eq(module_find_function(m, "sink", 0, &offset), -ENOENT);      /* data */
    ck_assert_int_eq(module_find_function(m, "innermost", 0, &offset), -ENOENT); /* inlined everywhere */
    ck_assert_int_eq(module_find_function(m, "chosen_at_load", 0, &offset),
                     -ENOENT); /* an ifunc's resolver is no function of that name */
    ck_assert_int_eq(module_find_function(m, "named_twice", 0, &offset), -ENOTUNIQ);
    ck_assert_uint_eq(offset, 77);
    symbolizer_free(s);
}
END_TEST

START_TEST(test_find_demangled)
{
    uint64_t mangled, demangled, offset;
    struct symbolizer *s = NULL;
    struct module *m = open_sample(&s);
    ck_assert_int_eq(module_find_function(m, "_ZN2ns6markedEi", 0, &mangled), 0);
    ck_assert_int_eq(module_find_function(m, "ns::marked(int)", 0, &demangled), 0);
    ck_assert_uint_eq(mangled, demangled);
    ck_assert_int_eq(module_find_function(m, "ns::overloaded(int)", 0, &offset), 0);
    ck_assert_int_eq(module_find_function(m, "ns::overloaded(long)", 0, &offset), 0);
    ck_assert_int_eq(module_find_function(m, "ns::overloaded", 0, &offset), -ENOTUNIQ);
    ck_assert_int_eq(module_find_function(m, "ns::marked", 0, &demangled), 0);
    ck_assert_uint_eq(mangled, demangled);
    ck_assert_int_eq(module_find_function(m, "ns::mark", 0, &offset), -ENOENT);
    symbolizer_free(s);
}
END_TEST

static bool suggests(const struct symbol_suggestion *list, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(list[i].name, name) == 0)
            return true;
    return false;
}

START_TEST(test_suggestions)
{
    static const char *const mistaken[][2] = {
        {"Original", "original"}, {"orignal", "original"}, {"orig_inal", "original"}, {"weakalias_of_it", "weak_alias_of_it"},
        {"marked", "ns::marked(int)"}, {"ns::mark", "ns::marked(int)"}, {"other::marked", "ns::marked(int)"}, {"ns::marked(long)", "ns::marked(int)"},
        {"outermos", "outermost"},
    };
    struct symbol_suggestion list[SUGGESTIONS_MAX];
    uint64_t offset;
    struct symbolizer *s = NULL;
    struct module *m = open_sample(&s);
    for (size_t i = 0; i < sizeof(mistaken) / sizeof(mistaken[0]); i++) {
        ck_assert_int_eq(module_find_function(m, mistaken[i][0], 0, &offset), -ENOENT);
        size_t n = module_similar(m, mistaken[i][0], list);
        ck_assert_msg(suggests(list, n, mistaken[i][1]), "%s: %zu, %s", mistaken[i][0], n, n ? list[0].name : "");
        for (size_t k = 0; k < n; k++)
            ck_assert_int_ne(module_find_function(m, list[k].name, 0, &offset), -ENOENT);
    }
    ck_assert_uint_eq(module_similar(m, "nothing like any of these", list), 0);
    ck_assert_uint_eq(module_similar(m, "", list), 0);
    ck_assert_int_eq(module_absence(m, "original"), SYMBOL_ABSENT);
    ck_assert_int_eq(module_absence(m, "abort"), SYMBOL_OF_ANOTHER_FILE);
    ck_assert_int_eq(module_absence(m, "chosen_at_load"), SYMBOL_CHOSEN_AT_RUN_TIME);
    symbolizer_free(s);
}
END_TEST

static void check_namesakes(struct module *m, const char *name)
{
    struct symbol_suggestion list[SUGGESTIONS_MAX];
    uint64_t offsets[2];

    ck_assert_int_eq(module_find_function(m, name, 0, &offsets[0]), -ENOTUNIQ);
    ck_assert_uint_eq(module_namesakes(m, name, list), 2);
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(module_find_function(m, list[i].name, 0, &offsets[i]), 0);
    ck_assert_uint_ne(offsets[0], offsets[1]);
}

START_TEST(test_namesakes)
{
    uint64_t offset;
    struct symbolizer *s = NULL;
    struct module *m = open_sample(&s);
    check_namesakes(m, "named_twice"); /* static, in two sources */
    check_namesakes(m, "ns::overloaded");
    ck_assert_int_eq(module_find_function(m, "named_twice@0x1", 0, &offset), -ENOENT);
    ck_assert_int_eq(module_find_function(m, "named_twice@0x", 0, &offset), -ENOENT);
    ck_assert_int_eq(module_find_function(m, "@0x10", 0, &offset), -ENOENT);
    ck_assert_int_eq(module_find_function(m, "original@0x10z", 0, &offset), -ENOENT);
    symbolizer_free(s);
}
END_TEST

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: test_module_find SAMPLE\n");
        return EXIT_FAILURE;
    }
    sample_path = argv[1];
    Suite *suite = suite_create("module_find");
    TCase *all = tcase_create("all");

    tcase_add_test(all, test_find_function);
    tcase_add_test(all, test_find_demangled);
    tcase_add_test(all, test_suggestions);
    tcase_add_test(all, test_namesakes);
    suite_add_tcase(suite, all);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
