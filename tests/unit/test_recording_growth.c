/* What the kernel says of a process's memory. */
#include <check.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bpf/control.h"
#include "daemon/raw_profile.h"
#include "daemon/recording_growth.h"

#define HEAD "Name:\tRssAnon: 7 kB\\nVmSwap:\t8 kB\nUmask:\t0022\n"

START_TEST(test_memory)
{
    struct growth_memory m;

    ck_assert_int_eq(growth_memory_parse(HEAD "VmRSS:\t 900 kB\nRssAnon:\t     412 kB\nRssFile:\t 1 kB\nVmSwap:\t       3 kB\nThreads:\t1\n", &m), 0);
    ck_assert_uint_eq(m.anon, 412 * 1024);
    ck_assert_uint_eq(m.swap, 3 * 1024);
    ck_assert_int_eq(growth_memory_parse("RssAnon: 0 kB\nVmSwap: 18014398509481983 kB", &m), 0);
    ck_assert_uint_eq(m.anon, 0);
    ck_assert_uint_eq(m.swap, UINT64_MAX - 1023);
}
END_TEST

START_TEST(test_no_memory)
{
    static const struct {
        const char *text;
        int error;
    } cases[] = {
        {"", -ESRCH}, {HEAD "Threads:\t1\n", -ESRCH}, {HEAD "RssAnon:\t4 kB\n", -ESRCH}, {HEAD "RssAnon:\t\nVmSwap:\t0 kB\n", -EBADMSG},
        {HEAD "RssAnon:\t4\nVmSwap:\t0 kB\n", -EBADMSG}, {HEAD "RssAnon:\t4 MB\nVmSwap:\t0 kB\n", -EBADMSG},
        {HEAD "RssAnon:\t-4 kB\nVmSwap:\t0 kB\n", -EBADMSG}, {HEAD "RssAnon:\t18014398509481984 kB\nVmSwap:\t0 kB\n", -EBADMSG},
        {HEAD "RssAnon:\t99999999999999999999999 kB\nVmSwap:\t0 kB\n", -EBADMSG}, {HEAD "RssAnon:\t4 kB\nVmSwap:\tmuch kB\n", -EBADMSG},
    };
    struct growth_memory m = {.anon = 1, .swap = 2};

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        ck_assert_msg(growth_memory_parse(cases[i].text, &m) == cases[i].error, "case %zu", i);
        ck_assert_uint_eq(m.anon, 1);
        ck_assert_uint_eq(m.swap, 2);
    }
}
END_TEST

/* What events have told in the meantime stays. */
START_TEST(test_open)
{
    struct session_ctl *ctl = calloc(1, sizeof(*ctl));
    struct recording_growth growth = {0};

    ctl->growth.anon = GROWTH_UNKNOWN;
    ctl->growth.swap = 77;
    recording_growth_open(&growth, getpid(), ctl);
    ck_assert(growth.before_known && growth.before.anon > 0);
    ck_assert_uint_eq(ctl->growth.anon, growth.before.anon);
    ck_assert_uint_eq(ctl->growth.swap, 77);
    recording_growth_close(&growth, getpid(), ctl);
    ck_assert(growth.after_known);
    ctl->closed_ns = 1; /* by its end: the number may be another process's by now */
    recording_growth_close(&growth, getpid(), ctl);
    ck_assert(!growth.after_known);
    free(ctl);
}
END_TEST

START_TEST(test_zombie)
{
    struct session_ctl *ctl = calloc(1, sizeof(*ctl));
    struct recording_growth growth = {0};
    pid_t pid = fork();

    if (pid == 0)
        _exit(0);
    siginfo_t info;
    ck_assert_int_eq(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
    ctl->growth.anon = GROWTH_UNKNOWN;
    recording_growth_open(&growth, pid, ctl);
    ck_assert(!growth.before_known && ctl->growth.anon == GROWTH_UNKNOWN);
    (void)waitpid(pid, NULL, 0);
    recording_growth_open(&growth, pid, ctl);
    ck_assert(!growth.before_known);
    free(ctl);
}
END_TEST

static struct raw_profile written(const struct recording_growth *growth, const struct session_ctl *ctl)
{
    struct raw_writer *w = raw_writer_new();
    struct raw_profile profile;

    ck_assert_ptr_nonnull(w);
    ck_assert_int_eq(recording_growth_facts(growth, ctl, w), 0);
    int fd = raw_writer_finish(w);
    ck_assert_int_ge(fd, 0);
    raw_writer_free(w);
    ck_assert_int_eq(raw_table_open(fd, &profile), 0);
    (void)close(fd);
    return profile;
}

static bool says(const struct raw_profile *p, const char *text)
{
    return memmem(p->facts, p->facts_len, text, strlen(text) + 1) != NULL;
}

START_TEST(test_facts)
{
    struct session_ctl *ctl = calloc(1, sizeof(*ctl));
    struct recording_growth growth = {.before = {5000, 0}, .after = {3000, 0}, .before_known = true, .after_known = true};

    ctl->growth.added = 9;
    struct raw_profile p = written(&growth, ctl);
    ck_assert(says(&p, "rss_anon_growth_bytes=-2000") && says(&p, "growth.added_bytes=9") && says(&p, "growth.freed_bytes=0"));
    ck_assert(!memmem(p.facts, p.facts_len, "others", 6) && !memmem(p.facts, p.facts_len, "swap", 4) && !memmem(p.facts, p.facts_len, "batched", 7));
    raw_profile_close(&p);

    growth.after_known = false;
    ctl->growth = (struct session_growth){.others_added = 1, .others_freed = 2, .swap_left = 3, .exec_bytes = 4, .batched = 1};
    p = written(&growth, ctl);
    ck_assert(says(&p, "growth.others_added_bytes=1") && says(&p, "growth.others_freed_bytes=2") && says(&p, "growth.swap_left_bytes=3"));
    ck_assert(says(&p, "growth.exec_bytes=4") && says(&p, "rss_anon_before_bytes=5000"));
    ck_assert(memmem(p.facts, p.facts_len, "warning.swap", 12) && memmem(p.facts, p.facts_len, "growth.batched", 14));
    ck_assert(!memmem(p.facts, p.facts_len, "rss_anon_growth", 15) && !memmem(p.facts, p.facts_len, "rss_anon_after", 14));
    raw_profile_close(&p);
    free(ctl);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("recording_growth");
    TCase *tc = tcase_create("recording_growth");

    tcase_add_test(tc, test_memory);
    tcase_add_test(tc, test_no_memory);
    tcase_add_test(tc, test_open);
    tcase_add_test(tc, test_zombie);
    tcase_add_test(tc, test_facts);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
