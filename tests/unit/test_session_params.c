/* Every parameter of a profile: what is taken, and each way to be refused, with an answer that helps. */
#include <check.h>
#include <errno.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "daemon/http_query.h"
#include "daemon/params.h"
#include "daemon/raw_profile.h"

static int parse_onto(const char *query, uint32_t max_hz, struct session_params *ret, char error[1024])
{
    struct evkeyvalq list = TAILQ_HEAD_INITIALIZER(list);
    ck_assert_int_eq(http_query_parse(query, 64, &list), 0);
    error[0] = '\0';
    int r = session_params_parse(&list, &profile_params, max_hz, ret, error, 1024);
    evhttp_clear_headers(&list);
    return r;
}

static int parse(const char *query, uint32_t max_hz, struct session_params *ret, char error[1024])
{
    session_params_init(ret);
    return parse_onto(query, max_hz, ret, error);
}

static struct session_params good(const char *query)
{
    struct session_params p;
    char error[1024];
    int r = parse(query, 10000, &p, error);
    ck_assert_msg(r == 0, "%s: %s", query, error);
    return p;
}

static const struct {
    const char *query, *says;
} bad[] = {
    {"seconds=", "not a number"}, {"seconds=abc", "\"abc\" for \"seconds\""}, {"seconds=-1", "not a number"},
    {"seconds=%2B1", "not a number"}, {"seconds=0", "(0, 3600]"}, {"seconds=0.0000000001", "out of bounds"},
    {"seconds=3600.1", "(0, 3600]"}, {"seconds=1e3", "not a number"}, {"seconds=0x10", "not a number"},
    {"seconds=inf", "not a number"}, {"seconds=nan", "not a number"}, {"seconds=1%20", "not a number"},
    {"seconds=.", "not a number"}, {"seconds=1.2.3", "not a number"}, {"seconds=1&seconds=1", "\"seconds\" is given twice"},
    {"second=1", "unknown parameter \"second\"; known: seconds, event, hz"}, {"=1", "unknown parameter \"\""},
    {"Seconds=1", "unknown parameter"}, {"%01%22x=1", "unknown parameter \"??x\""},
    {"hz=0", "out of bounds"}, {"hz=-1", "not a number"}, {"hz=1000001", "(0, 1000000]"}, {"hz=0.0000001", "out of bounds"},
    {"hz=x", "not a number"}, {"hz=99&period=1000000", "one of them"}, {"hz=99&event=page-faults", "cpu-clock alone"},
    {"event=page-faults&hz=99", "cpu-clock alone"},
    {"period=0", "out of bounds"}, {"period=1.5", "not a whole number"}, {"period=-1", "not a whole number"},
    {"period=", "not a whole number"}, {"period=99999999999999999999", "out of bounds"},
    {"period=1000000000000001", "out of bounds"},
    {"kernel=2", "neither 0 nor 1"}, {"kernel=true", "give 0|1"}, {"kernel=", "neither"}, {"kernel", "neither"},
    {"tid=0", "out of bounds"}, {"tid=4194305", "[1, 4194304]"}, {"tid=x", "not a whole number"}, {"tid=-1", "not a whole number"},
    {"thread=(", "for \"thread\""}, {"focus=[a", "for \"focus\""}, {"focus=a%00b", NULL}, {"focus=a%0Ab", "control characters"},
    {"focus=%ff", "not UTF-8"}, {"focus=(a)%5C1", "back-references"},
    {"focus=((a%7B99%7D)%7B99%7D)%7B99%7D", "repetitions multiply"}, {"focus=a%7B99999999999999999999%7D", "repetitions"},
    {"focus=(((((((((((a%2B)%2B)%2B)%2B)%2B)%2B)%2B)%2B)%2B)%2B)%2B)%2B", "repetitions"}, {"focus=a%7B99%7D%7B99%7D", "repetitions"},
    {"audit=2", "neither 0 nor 1"}, {"audit=1&unwind=copy", "\"audit=1\" checks"},
    {"unwind=dwarf", "auto|eh|fp|copy"}, {"unwind=", "not one of them"}, {"unwind=copy&event=tracepoint:a:b", "need BPF"},
    {"event=uprobe:/x:f&unwind=copy", "\"unwind=copy\" goes with"},
    {"format=svg", "pprof|folded"}, {"format=", "not one of them"}, {"symbolize=some", "full|fast|none"},
    {"event=", "1 to 4095 bytes"}, {"event=cpu_clock", "no event \"cpu_clock\"; it has: cpu-clock, "}, {"event=CYCLES", "no event"},
    {"event=raw:", "hexadecimal"}, {"event=raw:0x1", "hexadecimal"}, {"event=raw:11111111111111111", "1 to 16"}, {"event=raw:g", "raw:1a2"},
    {"event=uprobe:", "separator is missing"}, {"event=uprobe:main", "separator is missing"}, {"event=uprobe:ns::f", "separator"},
    {"event=uprobe:lib/x.so:f", "must be absolute"},
    {"event=uprobe:./x:f", "must be absolute"}, {"event=uprobe::", "SYMBOL is empty"}, {"event=uprobe:/x:", "SYMBOL is empty"},
    {"event=uprobe:/x:a:b", "single colon in SYMBOL"},
    {"duty=5", "goes with probes"}, {"event=uprobe:/x:f&duty=0", "out of bounds"}, {"event=uprobe:/x:f&duty=101", "out of bounds"},
    {"event=uprobe:/x:f&duty=5&seconds=1.9", "\"seconds\", of 2 at least"},
    {"event=uprobe:/x:f&duty=x", "not a number"},
    {"event=uprobe:/x::ret", "separator"}, {"event=uprobe:/x:f:ret%2B0x4", "single colon"}, {"event=uprobe:/x:f%2B0x11111111111111111", "16 digits"},
    {"event=uprobe:/x:%2B0x1", "SYMBOL is empty"}, {"event=uprobe:/x:%0a", "control characters"}, {"event=uprobe:/x:%ff", "not UTF-8"},
    {"event=usdt:/x:p", "PROVIDER:NAME"}, {"event=usdt:/x::n", "PROVIDER:NAME"}, {"event=usdt:/x:p:", "PROVIDER:NAME"},
    {"event=usdt:/x:p:n:m", "PROVIDER:NAME"}, {"event=usdt:p:n", "PROVIDER:NAME"},
    {"event=usdt:a/b:p:n", "must be absolute"}, {"event=usdt:x", "separator is missing"},
    {"event=tracepoint:sched", "CATEGORY:NAME"}, {"event=tracepoint:a:b:c", "CATEGORY:NAME"}, {"event=tracepoint::b", "CATEGORY:NAME"},
    {"event=tracepoint:../..:x", "letters, digits"}, {"event=tracepoint:a/b:c", "letters, digits"}, {"event=tracepoint:a::b:c", "letters"},
};

START_TEST(test_refused)
{
    struct session_params p, before;
    struct evkeyvalq list = TAILQ_HEAD_INITIALIZER(list);
    char error[1024];
    if (!bad[_i].says) { /* a zero byte never comes so far */
        ck_assert_int_eq(http_query_parse(bad[_i].query, 64, &list), -EINVAL);
        evhttp_clear_headers(&list);
        return;
    }
    session_params_init(&p);
    p.tid = 77;
    before = p;
    ck_assert_msg(parse_onto(bad[_i].query, 10000, &p, error) == -EINVAL, "%s was taken", bad[_i].query);
    ck_assert_msg(strstr(error, bad[_i].says) != NULL, "%s: %s", bad[_i].query, error);
    ck_assert_mem_eq(&p, &before, sizeof(p));
    for (const char *c = error; *c; c++)
        ck_assert(*c >= 0x20);
}
END_TEST

START_TEST(test_defaults)
{
    struct session_params p = good("");
    ck_assert_uint_eq(p.duration_ns, 30000000000);
    ck_assert_int_eq(p.event, EVENT_CPU_CLOCK);
    ck_assert_str_eq(p.event_text, "cpu-clock");
    ck_assert_str_eq(p.event_name, "cpu-clock");
    ck_assert_uint_eq(p.period, 10000000);
    ck_assert(!p.period_raised && !p.kernel && p.tid == 0 && !p.thread[0] && !p.focus[0]);
    ck_assert_uint_eq(p.format, RAW_FORMAT_PPROF);
    ck_assert_uint_eq(p.symbolize, RAW_SYMBOLIZE_FULL);
}
END_TEST

START_TEST(test_taken)
{
    struct session_params p = good("seconds=0.25&hz=99&kernel=1&tid=4194304&thread=work.*"
                                   "&focus=%5Estd%3A%3A&format=folded&symbolize=fast&debug=x&gc=1");
    ck_assert_uint_eq(p.duration_ns, 250000000);
    ck_assert_uint_eq(p.period, 10101010);
    ck_assert(p.kernel);
    ck_assert_int_eq(p.tid, 4194304);
    ck_assert_str_eq(p.thread, "work.*");
    ck_assert_str_eq(p.focus, "^std::");
    ck_assert_uint_eq(p.format, RAW_FORMAT_FOLDED);
    ck_assert_uint_eq(p.symbolize, RAW_SYMBOLIZE_FAST);
    ck_assert_uint_eq(good("seconds=3600").duration_ns, 3600000000000);
    ck_assert_uint_eq(good("seconds=.5").duration_ns, 500000000);
    ck_assert_uint_eq(good("symbolize=none").symbolize, RAW_SYMBOLIZE_NONE);
    ck_assert(good("audit=1&unwind=fp").audit && !good("audit=0").audit && !good("").audit);
    ck_assert_uint_eq(good("").unwind, SESSION_UNWIND_AUTO);
    ck_assert_uint_eq(good("unwind=auto").unwind, SESSION_UNWIND_AUTO);
    ck_assert_uint_eq(good("unwind=eh&event=uprobe:/x:f").unwind, SESSION_UNWIND_TABLES);
    ck_assert(good("event=uprobe:/x:f:ret").symbol_result);
    ck_assert(good("event=uprobe:/x:f").duty == 0 && good("event=uprobe:/x:f&duty=100").duty == 0);
    ck_assert(good("event=usdt:/x:p:f&duty=2.5").duty == 2.5);
    ck_assert(!good("event=uprobe:/x:ns::ret").symbol_result);
    ck_assert_uint_eq(good("unwind=fp").unwind, SESSION_UNWIND_FP);
    ck_assert_uint_eq(good("unwind=copy&event=page-faults").unwind, SESSION_UNWIND_COPY);
    ck_assert(!good("kernel=0&thread=&focus=").kernel);
    ck_assert_str_eq(good("focus=a%2Bb%2Bc%2Bd%2B(e%7C%5C%7B%5C%2B)%2B%5B%7B%5D").focus, "a+b+c+d+(e|\\{\\+)+[{]");
}
END_TEST

START_TEST(test_period_is_raised)
{
    struct session_params p;
    char error[1024];
    p = good("period=100000");
    ck_assert(p.period == 100000 && !p.period_raised);
    p = good("period=99999");
    ck_assert(p.period == 100000 && p.period_raised);
    p = good("hz=10000");
    ck_assert(p.period == 100000 && !p.period_raised);
    p = good("hz=1000000");
    ck_assert(p.period == 100000 && p.period_raised);
    p = good("hz=0.5");
    ck_assert(p.period == 2000000000 && !p.period_raised);
    ck_assert_int_eq(parse("hz=1000", 300, &p, error), 0);
    ck_assert(p.period == 3333334 && p.period_raised);
    ck_assert_int_eq(parse("hz=300", 299, &p, error), 0);
    ck_assert(p.period_raised);
    ck_assert_int_eq(parse("period=1", 0, &p, error), 0);
    ck_assert(p.period == 100000 && p.period_raised);
    /* max_hz bounds time, not events */
    ck_assert_int_eq(parse("event=page-faults&period=3", 1, &p, error), 0);
    ck_assert(p.period == 3 && !p.period_raised);
}
END_TEST

START_TEST(test_periods_of_events)
{
    struct session_params hardware = {.event = EVENT_PERF, .perf_type = PERF_TYPE_HARDWARE};
    struct session_params raw = {.event = EVENT_PERF, .perf_type = PERF_TYPE_RAW};
    struct session_params uprobe = {.event = EVENT_UPROBE};
    struct event_periods periods;
    event_periods(&hardware, &periods);
    ck_assert(periods.fallback == 1000000 && periods.least == 10000);
    event_periods(&raw, &periods);
    ck_assert(periods.fallback == 1000000 && periods.least == 10000);
    event_periods(&uprobe, &periods);
    ck_assert(periods.fallback == 1 && periods.least == 1);
    ck_assert_uint_eq(good("event=page-faults").period, 1);
}
END_TEST

static const struct {
    const char *query;
    enum event_kind kind;
    const char *name, *object, *symbol;
    uint64_t offset;
} events[] = {
    {"event=context-switches", EVENT_PERF, "context-switches", "", "", 0},
    {"event=uprobe:/usr/lib/libc.so.6:malloc", EVENT_UPROBE, "malloc", "/usr/lib/libc.so.6", "malloc", 0},
    {"event=uprobe::main", EVENT_UPROBE, "main", "", "main", 0},
    {"event=uprobe::main%2B0x1aF", EVENT_UPROBE, "main", "", "main", 0x1af},
    {"event=uprobe::main+0x10", EVENT_UPROBE, "main", "", "main", 0x10}, /* a plus that was not encoded */
    {"event=uprobe:/x:ns::f", EVENT_UPROBE, "ns::f", "/x", "ns::f", 0},
    {"event=uprobe::ns::f%2B0x4", EVENT_UPROBE, "ns::f", "", "ns::f", 4},
    {"event=uprobe::::f", EVENT_UPROBE, "::f", "", "::f", 0},
    {"event=uprobe:/a::b:f", EVENT_UPROBE, "f", "/a::b", "f", 0},
    {"event=uprobe:/x:operator%2B", EVENT_UPROBE, "operator+", "/x", "operator+", 0},
    {"event=uprobe:/x:operator%2B%2B0x10", EVENT_UPROBE, "operator+", "/x", "operator+", 16},
    {"event=uprobe:/x:f%2B0x4:ret", EVENT_UPROBE, "f", "/x", "f", 4},
    {"event=uprobe:/x:ns::ret", EVENT_UPROBE, "ns::ret", "/x", "ns::ret", 0},
    {"event=uprobe:/x:f%2Bbeef", EVENT_UPROBE, "f+beef", "/x", "f+beef", 0},
    {"event=usdt:/x:python:function__entry", EVENT_USDT, "function__entry", "/x", "python:function__entry", 0},
    {"event=usdt::p:n", EVENT_USDT, "n", "", "p:n", 0},
    {"event=tracepoint:sched:sched_switch", EVENT_TRACEPOINT, "sched_switch", "", "sched:sched_switch", 0},
};

START_TEST(test_event)
{
    struct session_params p = good(events[_i].query);
    ck_assert_int_eq(p.event, events[_i].kind);
    ck_assert_str_eq(p.event_name, events[_i].name);
    ck_assert_str_eq(p.object, events[_i].object);
    ck_assert_str_eq(p.symbol, events[_i].symbol);
    ck_assert_uint_eq(p.symbol_offset, events[_i].offset);
}
END_TEST

/* What the machine lacks is refused with what it has; what it has is taken. Which is which hangs on the machine. */
START_TEST(test_hardware_events)
{
    static const char *const names[] = {"cycles", "instructions", "cache-references", "cache-misses", "branch-instructions",
                                        "branch-misses", "bus-cycles", "raw:3c"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        struct session_params p;
        char error[1024], query[64];
        snprintf(query, sizeof(query), "event=%s&period=1", names[i]);
        if (parse(query, 0, &p, error) == 0) {
            ck_assert(p.event == EVENT_PERF && p.period == 10000 && p.period_raised);
            ck_assert_str_eq(p.event_name, names[i]);
            if (i == 7)
                ck_assert(p.perf_type == PERF_TYPE_RAW && p.perf_config == 0x3c);
            else
                ck_assert_uint_eq(p.perf_type, PERF_TYPE_HARDWARE);
        } else {
            ck_assert_msg(strstr(error, "no event") && strstr(error, "cpu-clock, ") && strstr(error, "tracepoint:"), "%s", error);
            if (i < 7)
                ck_assert_ptr_null(strstr(strstr(error, "it has"), names[i]));
        }
    }
}
END_TEST

START_TEST(test_long_values)
{
    struct session_params p;
    char query[8192], error[1024];
    memset(query, 'a', sizeof(query));
    memcpy(query, "focus=", 6);
    query[6 + 256] = '\0';
    ck_assert_int_eq(parse(query, 0, &p, error), -EINVAL);
    ck_assert_ptr_nonnull(strstr(error, "too long"));
    query[6 + 255] = '\0';
    ck_assert_int_eq(parse(query, 0, &p, error), 0);
    memset(query, 'a', sizeof(query));
    memcpy(query, "event=uprobe:/x:", 16);
    query[16 + 512] = '\0';
    ck_assert_int_eq(parse(query, 0, &p, error), -EINVAL);
    ck_assert_ptr_nonnull(strstr(error, "longer than 511"));
    query[16 + 511] = '\0';
    ck_assert_int_eq(parse(query, 0, &p, error), 0);
    ck_assert_uint_eq(strlen(p.event_name), 127);
    memset(query, 'a', sizeof(query));
    memcpy(query, "event=uprobe:/", 14);
    memcpy(query + 14 + 2048, ":f", 3);
    ck_assert_int_eq(parse(query, 0, &p, error), -EINVAL);
    ck_assert_ptr_nonnull(strstr(error, "PATH is longer"));
    memset(query, 'a', sizeof(query));
    memcpy(query, "event=", 6);
    query[6 + 4096] = '\0';
    ck_assert_int_eq(parse(query, 0, &p, error), -EINVAL);
    ck_assert_ptr_nonnull(strstr(error, "4095 bytes"));
}
END_TEST

/* A name of two-byte characters is cut between two of them. */
START_TEST(test_event_name_is_cut_at_a_character)
{
    char query[1024] = "event=uprobe::";
    for (int i = 0; i < 100; i++)
        strcat(query, "\xc3\xa4");
    struct session_params p = good(query);
    ck_assert_uint_eq(strlen(p.event_name), 126);
}
END_TEST

/* By a table of the test's own. */
START_TEST(test_states)
{
    static const struct param_spec specs[] = {PARAM_STATE};
    static const struct param_table table = PARAM_TABLE(specs);
    const struct {
        const char *query;
        uint32_t states; /* 0: refused */
    } cases[] = {
        {"state=cpu", 1 << SAMPLE_STATE_CPU}, {"state=io,lock,io", 1 << SAMPLE_STATE_IO | 1 << SAMPLE_STATE_LOCK},
        {"state=other,", 1 << SAMPLE_STATE_OTHER}, {"state=", 0}, {"state=,", 0}, {"state=cp", 0}, {"state=cpus", 0}, {"state=CPU", 0},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct evkeyvalq list = TAILQ_HEAD_INITIALIZER(list);
        struct session_params p;
        char error[1024] = "";
        session_params_init(&p);
        ck_assert_int_eq(http_query_parse(cases[i].query, 64, &list), 0);
        int r = session_params_parse(&list, &table, 0, &p, error, sizeof(error));
        evhttp_clear_headers(&list);
        ck_assert_msg((r == 0) == (cases[i].states != 0), "%s: %s", cases[i].query, error);
        ck_assert_uint_eq(p.states, cases[i].states);
        ck_assert(r == 0 || strstr(error, "cpu|runq|lock"));
    }
}
END_TEST

START_TEST(test_table_is_complete)
{
    ck_assert_uint_lt(profile_params.n, 64); /* the bits of what was seen */
    for (size_t i = 0; i < profile_params.n; i++) {
        const struct param_spec *s = &profile_params.specs[i];
        ck_assert(s->name && s->type && s->bounds && s->fallback && s->description && s->parse);
    }
    ck_assert_ptr_nonnull(strstr(events_available(), "cpu-clock, "));
    ck_assert_ptr_nonnull(strstr(events_available(), "page-faults, context-switches, "));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("session_params");
    TCase *tc = tcase_create("session_params");
    tcase_add_loop_test(tc, test_refused, 0, sizeof(bad) / sizeof(bad[0]));
    tcase_add_loop_test(tc, test_event, 0, sizeof(events) / sizeof(events[0]));
    tcase_add_test(tc, test_defaults);
    tcase_add_test(tc, test_taken);
    tcase_add_test(tc, test_period_is_raised);
    tcase_add_test(tc, test_periods_of_events);
    tcase_add_test(tc, test_hardware_events);
    tcase_add_test(tc, test_long_values);
    tcase_add_test(tc, test_event_name_is_cut_at_a_character);
    tcase_add_test(tc, test_table_is_complete);
    tcase_add_test(tc, test_states);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
