/* The grammar of functions that add and remove values, names that can be shown, and what samples are called. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "bpf/custom.h"
#include "daemon/custom_spec.h"

static const struct {
    const char *text, *object, *symbol;
    uint64_t offset;
    uint32_t from;
} functions[] = {
    {"f", "", "f", 0, CUSTOM_ARG0},
    {"f:ret", "", "f", 0, CUSTOM_RESULT},
    {"f:arg5", "", "f", 0, CUSTOM_ARG5},
    {"libc.so.6:malloc:ret", "libc.so.6", "malloc", 0, CUSTOM_RESULT},
    {"/usr/lib/x.so:f+0x1f:arg1", "/usr/lib/x.so", "f", 0x1f, CUSTOM_ARG1},
    {"f 0x10", "", "f", 0x10, CUSTOM_ARG0},
    {"ns::f", "", "ns::f", 0, CUSTOM_ARG0},
    {"ns::f(int)::g:ret", "", "ns::f(int)::g", 0, CUSTOM_RESULT},
    {"lib.so:ns::f", "lib.so", "ns::f", 0, CUSTOM_ARG0},
    {"lib.so:::f", "lib.so", "::f", 0, CUSTOM_ARG0},
    {"ret:arg0", "", "ret", 0, CUSTOM_ARG0},
    {"lib:ret:ret", "lib", "ret", 0, CUSTOM_RESULT},
};

START_TEST(test_functions)
{
    struct custom_function f;
    const char *why;

    ck_assert_int_eq(custom_function_parse(functions[_i].text, &f, &why), 0);
    ck_assert_str_eq(f.object, functions[_i].object);
    ck_assert_str_eq(f.symbol, functions[_i].symbol);
    ck_assert_uint_eq(f.offset, functions[_i].offset);
    ck_assert_uint_eq(f.from, functions[_i].from);
}
END_TEST

static const char *const refused[] = {"", ":", ":f:", "a:b:c", "a:b:c:ret", "f+0x11112222333344445", "+0x10", ":ret", "f\n", "\xff", "f:arg6x:g:h"};

START_TEST(test_refused)
{
    struct custom_function f = {.symbol = "untouched"};
    const char *why = NULL;

    ck_assert_int_lt(custom_function_parse(refused[_i], &f, &why), 0);
    ck_assert_str_eq(f.symbol, "untouched");
    ck_assert_uint_gt(strlen(why), 0);
}
END_TEST

START_TEST(test_keys)
{
    uint32_t key = 7;

    ck_assert_int_lt(custom_key_parse("", &key), 0);
    ck_assert_int_lt(custom_key_parse("ints", &key), 0);
    ck_assert_uint_eq(key, 7);
    ck_assert_int_eq(custom_key_parse("int", &key), 0);
    ck_assert_uint_eq(key, CUSTOM_INT);
    ck_assert_int_eq(custom_key_parse("long", &key), 0);
    ck_assert_uint_eq(key, CUSTOM_LONG);
    ck_assert_int_eq(custom_key_parse("pointer", &key), 0);
    ck_assert_uint_eq(key, CUSTOM_POINTER);
}
END_TEST

START_TEST(test_too_long)
{
    struct custom_function f;
    const char *why;
    char text[1200];

    memset(text, 'a', sizeof(text));
    text[511] = '\0';
    ck_assert_int_eq(custom_function_parse(text, &f, &why), 0);
    text[511] = 'a';
    text[512] = '\0';
    ck_assert_int_lt(custom_function_parse(text, &f, &why), 0);
    text[512] = ':';
    text[600] = '\0';
    ck_assert_int_lt(custom_function_parse(text, &f, &why), 0);
}
END_TEST

START_TEST(test_names)
{
    char long_name[CUSTOM_NAME_LEN + 1];

    ck_assert(custom_name_is_usable("blobstore.Open"));
    ck_assert(custom_name_is_usable("my/package.Blobs \xc3\xa4"));
    ck_assert(!custom_name_is_usable(""));
    ck_assert(!custom_name_is_usable("a,b"));
    ck_assert(!custom_name_is_usable("a\nb"));
    ck_assert(!custom_name_is_usable("\xff"));
    memset(long_name, 'a', sizeof(long_name));
    long_name[CUSTOM_NAME_LEN - 1] = '\0'; /* which may have been cut */
    ck_assert(!custom_name_is_usable(long_name));
    long_name[CUSTOM_NAME_LEN - 2] = '\0';
    ck_assert(custom_name_is_usable(long_name));
}
END_TEST

START_TEST(test_checks)
{
    struct custom_spec spec = {.weight = CUSTOM_NOWHERE, .skip = CUSTOM_DEFAULT_SKIP}, declared;
    char error[256] = "";

    ck_assert_int_lt(custom_spec_check(&spec, error, sizeof(error)), 0);
    ck_assert_ptr_nonnull(strstr(error, "needs \"add\""));
    strcpy(spec.name, "blobs");
    ck_assert_int_eq(custom_spec_check(&spec, error, sizeof(error)), 0);
    ck_assert(custom_is_declared(&spec));
    declared = spec;
    declared.skip = 0;
    ck_assert_int_lt(custom_spec_check(&declared, error, sizeof(error)), 0);
    declared = spec;
    declared.weight = CUSTOM_ARG1;
    ck_assert_int_lt(custom_spec_check(&declared, error, sizeof(error)), 0);
    declared = spec;
    declared.key = CUSTOM_INT;
    ck_assert_int_lt(custom_spec_check(&declared, error, sizeof(error)), 0);
    strcpy(declared.add.symbol, "f");
    ck_assert_int_eq(custom_spec_check(&declared, error, sizeof(error)), 0);
    ck_assert(!custom_is_declared(&declared));
    ck_assert(custom_is_counted(&declared));
    strcpy(declared.remove.symbol, "g");
    ck_assert(!custom_is_counted(&declared));
    ck_assert(!custom_is_counted(&spec));
}
END_TEST

START_TEST(test_types_of_functions)
{
    struct custom_spec spec = {.weight = CUSTOM_NOWHERE, .add.symbol = "f"};
    struct raw_types t;

    custom_spec_types(&spec, "", &t);
    ck_assert_str_eq(t.type[0], "custom");
    ck_assert_uint_eq(t.n, 1);
    strcpy(spec.name, "blobs");
    spec.weight = CUSTOM_ARG1;
    custom_spec_types(&spec, "", &t);
    ck_assert_str_eq(t.type[0], "blobs");
    ck_assert_uint_eq(t.n, 2);
    ck_assert_str_eq(t.unit[1], "count");
    custom_spec_types(&spec, "bytes", &t);
    ck_assert_str_eq(t.unit[1], "bytes");
}
END_TEST

START_TEST(test_types)
{
    struct raw_types t;
    char name[80];

    custom_types("blobs", "count", &t);
    ck_assert_uint_eq(t.n, 1);
    ck_assert_str_eq(t.type[0], "blobs");
    ck_assert_str_eq(t.unit[0], "count");
    ck_assert_str_eq(t.default_type, "blobs");
    custom_types("blobs", "bytes", &t);
    ck_assert_uint_eq(t.n, 2);
    ck_assert_str_eq(t.type[1], "weight");
    ck_assert_str_eq(t.unit[1], "bytes");
    custom_types("a\nb\xff", "a unit that is much too long", &t);
    ck_assert_str_eq(t.type[0], "a?b?");
    ck_assert_uint_eq(strlen(t.unit[1]), CUSTOM_UNIT_LEN - 1);
    memset(name, 'a', sizeof(name));
    strcpy(name + 62, "\xc3\xa4"); /* is cut before a character, not in it */
    custom_types(name, "count", &t);
    ck_assert_uint_eq(strlen(t.type[0]), 62);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("custom_spec");
    TCase *all = tcase_create("all");

    tcase_add_loop_test(all, test_functions, 0, sizeof(functions) / sizeof(functions[0]));
    tcase_add_loop_test(all, test_refused, 0, sizeof(refused) / sizeof(refused[0]));
    tcase_add_test(all, test_keys);
    tcase_add_test(all, test_too_long);
    tcase_add_test(all, test_names);
    tcase_add_test(all, test_checks);
    tcase_add_test(all, test_types_of_functions);
    tcase_add_test(all, test_types);
    suite_add_tcase(suite, all);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
