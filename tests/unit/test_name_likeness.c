/* Names that are alike, and by how much. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "symbolize/name_likeness.h"

static unsigned likeness(const char *wanted, const char *other)
{
    struct name_form a, b;

    name_form_make(wanted, &a);
    name_form_make(other, &b);
    return name_likeness(&a, &b);
}

START_TEST(test_forms)
{
    static const struct {
        const char *name, *whole, *base;
    } forms[] = {
        {"blob_open", "blobopen", "blobopen"},
        {"BlobOpen@@V1", "blobopen", "blobopen"},
        {"a::B<c::d>::e_f(int, g<h>)", "a::b::ef", "ef"},
        {"(anonymous namespace)::f", "::f", "f"},
        {"<T as a::B>::f", "::f", "f"},
        {"a::operator<", "a::operator<", "operator<"},
        {"f((((", "f((((", "f(((("},
        {"", "", ""},
        {"a::", "a::", ""},
    };

    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        struct name_form form;
        name_form_make(forms[i].name, &form);
        ck_assert_str_eq(form.whole, forms[i].whole);
        ck_assert_str_eq(form.base, forms[i].base);
    }
}
END_TEST

START_TEST(test_order)
{
    static const char *const likest_first[] = {
        "store::blob_open(int)", "big::Store::blobOpen", "other::blob_open", "store::blob_opem", "store::blop_opem", "other::do_blob_open_now",
    };
    unsigned last = 0;

    for (size_t i = 0; i < sizeof(likest_first) / sizeof(likest_first[0]); i++) {
        unsigned now = likeness("store::blob_open", likest_first[i]);
        ck_assert_msg(now < NAME_UNLIKE && (i == 0 || now > last), "%s: %u", likest_first[i], now);
        last = now;
    }
}
END_TEST

START_TEST(test_unlike)
{
    static const char *const pairs[][2] = {
        {"", ""}, {"", "f"}, {"f", ""}, {"ab", "ac"}, {"cat", "catalogue"}, {"open", "close"}, {"abcdef", "abcxyz"},
    };

    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++)
        ck_assert_msg(likeness(pairs[i][0], pairs[i][1]) == NAME_UNLIKE, "%s %s", pairs[i][0], pairs[i][1]);
    ck_assert_uint_lt(likeness("abd", "abc"), NAME_UNLIKE);
    ck_assert_uint_lt(likeness("bca", "abca"), NAME_UNLIKE);
    ck_assert_uint_lt(likeness("open", "reopen"), NAME_UNLIKE);
}
END_TEST

START_TEST(test_long)
{
    char a[3 * NAME_FORM_BYTES], b[3 * NAME_FORM_BYTES];
    struct name_form form;

    memset(a, 'a', sizeof(a));
    memset(b, 'a', sizeof(b));
    a[sizeof(a) - 1] = b[sizeof(b) - 1] = '\0';
    b[1] = 'b';
    name_form_make(a, &form);
    ck_assert_uint_eq(strlen(form.whole), NAME_FORM_BYTES - 1);
    ck_assert_uint_lt(likeness(a, b), NAME_UNLIKE);
    memset(b, 'b', sizeof(b) - 1);
    ck_assert_uint_eq(likeness(a, b), NAME_UNLIKE);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("name_likeness");
    TCase *all = tcase_create("all");

    tcase_add_test(all, test_forms);
    tcase_add_test(all, test_order);
    tcase_add_test(all, test_unlike);
    tcase_add_test(all, test_long);
    suite_add_tcase(suite, all);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
