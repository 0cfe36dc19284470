/* What queries and rules say of what is to be watched, and whom rules fit. The kinds are the test's own. */
#include <check.h>
#include <errno.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "config/value.h"
#include "config/watch_rule.h"
#include "daemon/kind.h"
#include "daemon/kind_custom.h"
#include "daemon/params.h"
#include "daemon/watch.h"
#include "daemon/watch_query.h"
#include "daemon/watch_scan.h"

static const struct param_spec lock_specs[] = {
    PARAM_DELTA_SECONDS, PARAM_TID, PARAM_RATE("block_rate", "1", "ns"), {"rate", "integer", "", "1", "the same", param_rate}, PARAM_MAX_OVERHEAD,
};
static const struct param_table lock_params = PARAM_TABLE(lock_specs);
static const struct param_spec holder_specs[] = {PARAM_DELTA_SECONDS, PARAM_FRACTION("2", "one in so many"), PARAM_MAX_OVERHEAD};
static const struct param_table holder_params = PARAM_TABLE(holder_specs);

static void record_lock(struct session_params *params)
{
    params->rate = 1;
}

static void record_holder(struct session_params *params)
{
    params->fraction = 2;
}

static const struct kind lock = {.name = "lock", .cumulative = true, .params = &lock_params, .record = record_lock};
static const struct kind holder = {.name = "holder", .cumulative = true, .params = &holder_params, .record = record_holder};
static const struct kind windowed = {.name = "profile", .windowed = true};
static const struct kind *const kinds[] = {&lock, &holder, &windowed};

const struct kind *kind_at(size_t i)
{
    return i < sizeof(kinds) / sizeof(kinds[0]) ? kinds[i] : NULL;
}

const struct kind *custom_kind(struct watches *ws, const char *name)
{
    return NULL;
}

static const struct param_spec custom_specs[] = {{"add", "function", "", "", "", param_custom_add, .watch = true}, PARAM_MAX_OVERHEAD};
static const struct param_table custom_params = PARAM_TABLE(custom_specs);
static const struct kind any = {.name = "NAME", .cumulative = true, .declared = true, .params = &custom_params, .record = record_holder};

const struct kind *custom_kind_any(const char *name)
{
    return *name ? &any : NULL;
}

const struct kind *custom_kind_in_use(const struct watches *ws, const char *name)
{
    return NULL;
}

const struct kind *kind_find(const char *name)
{
    for (size_t i = 0; kind_at(i); i++)
        if (strcmp(kind_at(i)->name, name) == 0)
            return kind_at(i);
    return NULL;
}

static struct evkeyvalq query;
static struct watch_query q;
static char error[1024];

static void setup(void)
{
    TAILQ_INIT(&query);
}

static void teardown(void)
{
    evhttp_clear_headers(&query);
}

/* "a=b&c=d" */
static void ask(const char *text)
{
    evhttp_clear_headers(&query);
    ck_assert_int_eq(evhttp_parse_query_str(text, &query), 0);
}

/* ---- queries */

static const struct {
    const char *query, *error;
} refused[] = {
    {"kinds=", "\"\" is not a kind that can be watched; these can: lock, holder"},
    {"kinds=lock,", "\"\" is not a kind"},
    {"kinds=profile", "\"profile\" is not a kind that can be watched"},
    {"kinds=nonsense", "\"nonsense\" is not a kind"},
    {"kinds=lock,lock", "kind \"lock\" is given twice"},
    {"kinds=lock&kinds=holder", "given twice"},
    {"kinds=lock&max_overhead=1&max_overhead=1", "given twice"},
    {"kinds=lock&fraction=3", "parameter \"fraction\" goes with holder, which \"kinds\" does not name"},
    {"kinds=lock&rate=3", "unknown parameter \"rate\"; known: kinds, block_rate, max_overhead, fraction"},
    {"kinds=lock&tid=3", "unknown parameter \"tid\""},
    {"kinds=lock&seconds=3", "unknown parameter \"seconds\""},
    {"max_overhead=3", "goes with lock, holder"},
};

START_TEST(test_refused)
{
    ask(refused[_i].query);
    ck_assert(!watch_query_parse(&q, &query, true, NULL));
    ck_assert_msg(strstr(q.error, refused[_i].error), "%s -> %s", refused[_i].query, q.error);
}
END_TEST

START_TEST(test_taken)
{
    ask("kinds=holder,lock&fraction=3&block_rate=7&max_overhead=2");
    ck_assert(watch_query_parse(&q, &query, true, NULL));
    ck_assert_uint_eq(q.n, 2);
    ck_assert(watch_query_has(&q, &lock) && watch_query_has(&q, &holder) && !watch_query_has(&q, &windowed));
    ck_assert(!watch_query_parse(&q, &query, false, NULL));
    ask("");
    ck_assert(watch_query_parse(&q, &query, true, NULL));
    ck_assert_uint_eq(q.n, 0);
}
END_TEST

/* ---- wishes */

static struct watch_wish wish(const struct kind *kind, const char *text)
{
    struct watch_wish r;

    ask(text);
    ck_assert_msg(watch_wish_parse(kind, &query, 5, &r, error, sizeof(error)) == 0, "%s", error);
    return r;
}

START_TEST(test_a_wish_has_its_kinds_values_and_what_holds_elsewhere)
{
    struct watch_wish w = wish(&lock, "kinds=holder,lock&fraction=3&block_rate=7");

    ck_assert_uint_eq(w.params.rate, 7);
    ck_assert_uint_eq(w.params.fraction, 0);
    ck_assert_uint_eq(w.params.duration_ns, 0);
    ck_assert(w.params.max_overhead == 5);
    ck_assert_uint_eq(w.n_values, 2);
    ck_assert_str_eq(w.values[0].name, "block_rate");
    ck_assert_str_eq(w.values[0].text, "7");
    ck_assert_str_eq(w.values[1].name, "max_overhead");
    ck_assert_str_eq(w.values[1].text, "5");
    w = wish(&holder, "kinds=holder");
    ck_assert_uint_eq(w.params.fraction, 2);
    ck_assert_str_eq(w.values[0].text, "2");
}
END_TEST

START_TEST(test_wishes_are_equal_where_their_values_are)
{
    struct watch_wish a = wish(&lock, "block_rate=7"), b = wish(&lock, "block_rate=007&max_overhead=5.0"), c = wish(&lock, "block_rate=8"),
                      d = wish(&lock, "block_rate=7&max_overhead=6"), e = wish(&holder, "");

    ck_assert(watch_wish_equal(&a, &a) && watch_wish_equal(&a, &b));
    ck_assert(!watch_wish_equal(&a, &c) && !watch_wish_equal(&a, &d) && !watch_wish_equal(&a, &e));
}
END_TEST

START_TEST(test_a_wish_with_a_wrong_value_is_refused)
{
    struct watch_wish w = {0};

    ask("block_rate=x");
    ck_assert_int_eq(watch_wish_parse(&lock, &query, 5, &w, error, sizeof(error)), -EINVAL);
    ck_assert_ptr_nonnull(strstr(error, "invalid value \"x\" for \"block_rate\""));
    ck_assert_ptr_null(w.kind);
    ask("max_overhead=0");
    ck_assert_int_eq(watch_wish_parse(&lock, &query, 5, &w, error, sizeof(error)), -EINVAL);
}
END_TEST

/* ---- rules */

static const struct {
    const char *rule, *error;
} refused_rules[] = {
    {"", "is not WHOM KINDS"},
    {"name:a", "is not WHOM KINDS"},
    {"name: lock", "does not say whom to watch"},
    {"a lock", "does not say whom to watch"},
    {"pid:1 lock", "does not say whom to watch"},
    {"name:abcdefghijklmnop lock", "keeps 15 bytes"},
    {"unit:nginx lock", "is not the name of a unit"},
    {"unit:a/b.service lock", "is not the name of a unit"},
    {"cgroup:system.slice lock", "is not an absolute path"},
    {"cgroup:/a/../b lock", "is not an absolute path"},
    {"name:a lock x", "\"x\" is not NAME=VALUE"},
    {"name:a lock =x", "is not NAME=VALUE"},
    {"name:a lock x=", "is not NAME=VALUE"},
    {"name:a lock,profile", "\"profile\" is not a kind"},
    {"name:a lock fraction=1", "goes with holder"},
    {"name:a lok", "\"lok\" is not a kind"},
    {"name:a Holder", "\"Holder\" is not a kind"},
    {"name:a lock,", "\"\" is not a kind"},
    {"name:a store.blobs fraction=1", "goes with holder"},
    {"name:a store.blobs,sessions add=f", "make one profile"},
    {"name:a lock block_rate=-1", "invalid value \"-1\""},
    {"name:a lock kinds=holder", "given twice"},
    {"name:aaaaaaaaaaaaaaa lock block_rate=1                                                                                          "
     "                                                                                                    ", "is longer than the 199 bytes"},
};

START_TEST(test_refused_rules)
{
    struct watch_rule rule;
    struct value_error e;

    watch_rule_use_check(watch_query_check_rule);
    ck_assert_int_eq(watch_rule_parse(refused_rules[_i].rule, &rule, &e), -EINVAL);
    ck_assert_msg(strstr(e.text, refused_rules[_i].error), "%s -> %s", refused_rules[_i].rule, e.text);
    watch_rule_use_check(NULL);
}
END_TEST

static struct watch_rule rule_of(const char *text)
{
    struct watch_rule rule;
    struct value_error e;

    ck_assert_msg(watch_rule_parse(text, &rule, &e) == 0, "%s -> %s", text, e.text);
    return rule;
}

START_TEST(test_a_rule_may_name_what_programs_declare)
{
    watch_rule_use_check(watch_query_check_rule);
    ck_assert_str_eq(rule_of("name:a blobstore.Open").kinds, "blobstore.Open");
    ck_assert_str_eq(rule_of("name:a lock,store::lock,sessions max_overhead=2").kinds, "lock,store::lock,sessions");
    watch_rule_use_check(NULL);
}
END_TEST

START_TEST(test_a_rule_says_the_same_as_a_query)
{
    struct watch_rule rule = rule_of("unit:nginx.service\tholder,lock  fraction=3 block_rate=7");

    ck_assert_int_eq(rule.by, WATCH_BY_UNIT);
    ck_assert_str_eq(rule.whom, "nginx.service");
    ck_assert_int_eq(watch_query_of_rule(&rule, &query), 0);
    ck_assert(watch_query_parse(&q, &query, true, NULL));
    ck_assert_uint_eq(q.n, 2);
    ck_assert_str_eq(evhttp_find_header(&query, "fraction"), "3");
    ck_assert_str_eq(evhttp_find_header(&query, "block_rate"), "7");
}
END_TEST

#define UNIFIED(path) "0::" path "\n"
#define HYBRID(path) "12:cpu,cpuacct:/other\n1:name=systemd:" path "\n0::/elsewhere\n"

static const struct {
    const char *rule, *comm, *cgroups;
    int fits;
} cases[] = {
    {"name:nginx x", "nginx", "", 1},
    {"name:nginx x", "nginx-1", "", 0},
    {"name:nginx x", "ngin", "", 0},
    {"unit:a.service x", "a.service", "", 0},
    {"unit:a.service x", "a", UNIFIED("/system.slice/a.service"), 1},
    {"unit:a.service x", "a", UNIFIED("/system.slice/a.service/worker"), 1},
    {"unit:a.service x", "a", HYBRID("/system.slice/a.service"), 1},
    {"unit:elsewhere.service x", "a", HYBRID("/system.slice/a.service"), 0},
    {"unit:a.service x", "a", UNIFIED("/system.slice/aa.service"), 0},
    {"unit:a.service x", "a", UNIFIED("/system.slice/a.service2"), 0},
    /* whoever runs a service manager of his own names units as he likes */
    {"unit:a.service x", "a", UNIFIED("/user.slice/user-1000.slice/user@1000.service/app.slice/a.service"), 0},
    {"unit:user@1000.service x", "a", UNIFIED("/user.slice/user-1000.slice/user@1000.service/app.slice/a.service"), 1},
    {"cgroup:/a/b x", "a", UNIFIED("/a/b"), 1},
    {"cgroup:/a/b/ x", "a", UNIFIED("/a/b/c"), 1},
    {"cgroup:/a/b x", "a", UNIFIED("/a/bc"), 0},
    {"cgroup:/a/b x", "a", UNIFIED("/a"), 0},
    {"cgroup:/ x", "a", UNIFIED("/a"), 1},
    {"cgroup:/a x", "a", "", 0},
    {"cgroup:/other x", "a", HYBRID("/a"), 1},
    {"cgroup:/elsewhere x", "a", HYBRID("/a"), 1},
    {"cgroup:/a x", "a", HYBRID("/a/b"), 1},
    {"cgroup:/b x", "a", HYBRID("/a/b"), 0},
    {"cgroup:/a x", "a", "/a\n0:/a\n:::/a\n", 0},
};

START_TEST(test_whom_a_rule_fits)
{
    struct watch_rule rule = rule_of(cases[_i].rule);
    ck_assert_msg(watch_rule_fits(&rule, cases[_i].comm, cases[_i].cgroups) == cases[_i].fits, "%s: %s", cases[_i].rule, cases[_i].cgroups);
}
END_TEST

#define COUNT(array) (int)(sizeof(array) / sizeof((array)[0]))

int main(void)
{
    Suite *suite = suite_create("watch");
    TCase *tc = tcase_create("watch");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, test_refused, 0, COUNT(refused));
    tcase_add_test(tc, test_taken);
    tcase_add_test(tc, test_a_wish_has_its_kinds_values_and_what_holds_elsewhere);
    tcase_add_test(tc, test_wishes_are_equal_where_their_values_are);
    tcase_add_test(tc, test_a_wish_with_a_wrong_value_is_refused);
    tcase_add_loop_test(tc, test_refused_rules, 0, COUNT(refused_rules));
    tcase_add_test(tc, test_a_rule_may_name_what_programs_declare);
    tcase_add_test(tc, test_a_rule_says_the_same_as_a_query);
    tcase_add_loop_test(tc, test_whom_a_rule_fits, 0, COUNT(cases));
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
