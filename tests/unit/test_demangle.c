/* Names of three languages, and names made to hurt. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "symbolize/demangle.h"
#include "util/cleanup.h"

static void expect(const char *mangled, const char *wanted)
{
    AUTO_FREE char *got = demangle(mangled);
    if (wanted)
        ck_assert_pstr_eq(got, wanted);
    else
        ck_assert_ptr_null(got);
}

START_TEST(test_cxx)
{
    expect("_ZN2ns3fooEiPKc", "ns::foo(int, char const*)");
    expect("_ZNSt6vectorIiSaIiEE9push_backERKi",
           "std::vector<int, std::allocator<int> >::push_back(int const&)");
    expect("_Z3foov.constprop.0", "foo() [clone .constprop.0]");
    expect("_ZN12_GLOBAL__N_13barEv", "(anonymous namespace)::bar()");
}
END_TEST

START_TEST(test_rust)
{
    expect("_ZN4core3fmt5Write9write_fmt17h0123456789abcdefE", "core::fmt::Write::write_fmt");
    expect("_ZN71_$LT$Test$u20$$u2b$$u20$$u27$static$u20$as$u20$foo..Bar$LT$Test$GT$$GT$"
           "3bar17h930b740aa94f1d3aE",
           "<Test + 'static as foo::Bar<Test>>::bar");
    expect("_RNvC6_123foo3bar", "123foo::bar");
    expect("_RINvC1a1fFG_RL0_hEuE", "a::f::<for<'a> fn(&'a u8)>");
    expect("_RNvC6socket10DGRAM_SIZE", "socket::DGRAM_SIZE");
    expect("_RNvMCs4fqI2P2rA04_13const_genericINtB2_3FooKpE3foo", "<const_generic::Foo<_>>::foo");
}
END_TEST

START_TEST(test_d)
{
    expect("_D8demangle4testFaZv", "demangle.test(char)");
}
END_TEST

START_TEST(test_not_mangled)
{
    expect("", NULL);
    expect("main", NULL);
    expect("_start", NULL);
    expect("_Z", NULL);
    expect("_ZN", NULL);
    expect("_R", NULL);
    expect("_Dmain_not_d", NULL);
}
END_TEST

START_TEST(test_long_template_name)
{
    char name[2048] = "_Z1f";
    for (int i = 0; i < 200; i++)
        strcat(name, "1AIi");
    ck_assert_ptr_null(demangle(name)); /* unbalanced: fails, and ends */
    strcpy(name, "_Z1f");
    for (int i = 0; i < 300; i++)
        strcat(name, "2ABi");
    AUTO_FREE char *got = demangle(name);
    ck_assert_ptr_nonnull(got);
    ck_assert_int_eq(strncmp(got, "f(AB, int, AB", 13), 0);
}
END_TEST

/* Rust: a binder of as many lifetimes as a number says. */
START_TEST(test_lifetimes_without_end)
{
    ck_assert_ptr_null(demangle("_RINtC3std3i_FFFFFFFFFFFFGFlllllllFFFFFFFGFlllll_RllllllllllEEE"));
    ck_assert_ptr_null(demangle("_RNvMsr_NtYFGFlCsD_3std4pathNtB5_7PNQotk_3sthNtBe")); /* in a part that is not printed */
    ck_assert_ptr_null(demangle("_RINtC3std3i_RlllFFFFFFFFFFFFFFFFllFFFFFFFFFFFFFFFFFFFFFFFFFFGFlllllllFFFFFFFGFlllll_Rllllllllllstd3mevmevE"));
}
END_TEST

START_TEST(test_output_that_doubles)
{
    /* Each argument is a pair of two of the one before: 2^n letters. */
    static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    char name[1024] = "_Z1f1ASt4pairIS_S_E";
    for (int i = 1; i < 34; i++) {
        char part[16];
        snprintf(part, sizeof(part), "S0_IS%c_S%c_E", digits[i], digits[i]);
        strcat(name, part);
        AUTO_FREE char *got = demangle(name);
        if (i < 8)
            ck_assert_msg(got && strlen(got) > 1u << i, "%d", i);
        else if (i > 20)
            ck_assert_ptr_null(got);
    }
}
END_TEST

START_TEST(test_deep_nesting)
{
    AUTO_FREE char *name = malloc(1 << 20);
    strcpy(name, "_Z1f");
    memset(name + 4, 'P', 4000);
    strcpy(name + 4004, "i");
    free(demangle(name));
    memset(name + 4, 'P', (1 << 20) - 6);
    strcpy(name + (1 << 20) - 2, "i");
    ck_assert_ptr_null(demangle(name));
    strcpy(name, "_RMC0");
    memset(name + 5, 'R', 4000);
    strcpy(name + 4005, "p");
    free(demangle(name));
    strcpy(name, "_D4");
    memset(name + 3, 'P', 4000);
    strcpy(name + 4003, "i");
    free(demangle(name));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("demangle");
    TCase *tc = tcase_create("demangle");
    tcase_add_test(tc, test_cxx);
    tcase_add_test(tc, test_rust);
    tcase_add_test(tc, test_d);
    tcase_add_test(tc, test_not_mangled);
    tcase_add_test(tc, test_long_template_name);
    tcase_add_test(tc, test_lifetimes_without_end);
    tcase_add_test(tc, test_output_that_doubles);
    tcase_add_test(tc, test_deep_nesting);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
