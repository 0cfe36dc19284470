/* The cache of tables with workers that make them, or crash, hang and lie (fault_worker.c, whose path is the first argument): each file is
 * read once, whoever wants it; what fails says why; the budget holds. */
#include <check.h>
#include <errno.h>
#include <event2/event.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/child.h"
#include "daemon/log.h"
#include "daemon/unwind_space.h"
#include "daemon/unwind_tables.h"
#include "daemon/worker_pool.h"
#include "bpf/unwind_arena.h"
#include "util/cleanup.h"

#define SHORT_NS (200 * NSEC_PER_MSEC) /* of jobs that hang on purpose */
#define LONG_NS (600 * NSEC_PER_SEC)
#define MIB (1ull << 20)

static const char *fault_worker;
static struct event_base *base;
static struct worker_pool *pool;
static struct unwind_tables *tables;
static unsigned n_changes;

static void on_changed(void *userdata)
{
    (*(unsigned *)userdata)++;
}

static struct unwind_observer observer = {.changed = on_changed, .userdata = &n_changes};

static void start(uint64_t max_bytes, uint64_t job_ns, uint64_t keep_ns)
{
    struct worker_limits worker_limits = {
        .workers = 1, .memory_bytes = 256 << 20, .cache_bytes = 1 << 20, .job_timeout_ns = job_ns, .executable = fault_worker,
    };
    struct unwind_tables_limits limits = {.max_bytes = max_bytes, .workers = 1, .keep_ns = keep_ns};

    log_set_level(LOG_LEVEL_ERROR);
    base = event_base_new();
    ck_assert_int_eq(worker_pool_new(base, &worker_limits, &pool), 0);
    ck_assert_int_eq(unwind_tables_new(base, pool, -1, &limits, &tables), 0);
    n_changes = 0;
    unwind_tables_observe(tables, &observer);
}

static void stop(void)
{
    unwind_tables_unobserve(tables, &observer);
    unwind_tables_free(tables);
    worker_pool_free(pool);
    child_kill_all();
    event_base_free(base);
    libevent_global_shutdown();
}

static void once(void)
{
    ck_assert_int_eq(event_base_loop(base, EVLOOP_ONCE), 0);
}

static struct file_identity identity(uint64_t ino)
{
    return (struct file_identity){.dev = 1, .ino = ino, .size = 3, .mtime_ns = 4, .ctime_ns = 5};
}

static struct unwind_entry *use(uint64_t ino)
{
    struct file_identity id = identity(ino);
    struct unwind_entry *e = unwind_tables_use(tables, &id, true);
    ck_assert_ptr_nonnull(e);
    return e;
}

static void give(struct unwind_entry *e, const char *script)
{
    int fd = memfd_create("file", MFD_CLOEXEC);
    ck_assert_int_eq(write(fd, script, strlen(script)), (ssize_t)strlen(script));
    unwind_tables_give(tables, e, fd);
}

static void claim_and_give(struct unwind_entry *e, const char *script)
{
    unwind_tables_claim(tables, e, UNWIND_OTHERS);
    give(e, script);
}

static bool is_settled(const struct unwind_entry *e)
{
    return e->state == UNWIND_READY || e->state == UNWIND_NONE;
}

static struct unwind_entry *make(uint64_t ino, const char *script)
{
    struct unwind_entry *e = use(ino);
    ck_assert_int_eq(e->state, UNWIND_WANTED);
    claim_and_give(e, script);
    while (!is_settled(e))
        once();
    return e;
}

static struct unwind_arena_stats stats(void)
{
    struct unwind_arena_stats s;
    unwind_arena_stats(unwind_tables_arena(tables), &s);
    return s;
}

START_TEST(a_file_is_read_once)
{
    start(64 * MIB, LONG_NS, LONG_NS);
    struct unwind_entry *first = use(1), *second = use(1), *other = use(2);
    ck_assert_ptr_eq(first, second);
    ck_assert_ptr_ne(first, other);
    ck_assert_uint_eq(unwind_tables_bytes(tables), 0);
    claim_and_give(first, "table 10 100");
    while (!is_settled(first))
        once();
    ck_assert_int_eq(first->state, UNWIND_READY);
    ck_assert_uint_ne(first->place, 0);
    ck_assert_uint_eq(unwind_tables_bytes(tables), MIB);
    once();
    ck_assert_uint_gt(n_changes, 0);
    uint32_t place = first->place;
    unwind_tables_drop(tables, first);
    unwind_tables_drop(tables, second);
    unwind_tables_drop(tables, other);
    struct unwind_entry *again = use(1);
    ck_assert_int_eq(again->state, UNWIND_READY);
    ck_assert_uint_eq(again->place, place);
    unwind_tables_drop(tables, again);
    stop();
}
END_TEST

/* A file that is replaced or rewritten is another one: each part of who it is counts. */
START_TEST(another_identity_is_another_file)
{
    start(64 * MIB, LONG_NS, LONG_NS);
    struct unwind_entry *first = make(1, "table 1 10");
    for (unsigned i = 0; i < 5; i++) {
        struct file_identity id = identity(1);
        uint64_t *parts[] = {&id.dev, &id.ino, &id.size, &id.mtime_ns, &id.ctime_ns};
        (*parts[i])++;
        struct unwind_entry *other = unwind_tables_use(tables, &id, true);
        ck_assert_int_eq(other->state, UNWIND_WANTED);
        unwind_tables_drop(tables, other);
    }
    unwind_tables_drop(tables, first);
    stop();
}
END_TEST

static const struct {
    const char *script;
    enum unwind_why why;
    bool lasting;
} failures[] = {
    {"error 8", UNWIND_WHY_NOT_ELF, true},       /* ENOEXEC */
    {"error 61", UNWIND_WHY_NO_CFI, true},       /* ENODATA */
    {"error 27", UNWIND_WHY_TOO_LARGE, true},    /* EFBIG */
    {"error 74", UNWIND_WHY_MALFORMED, true},    /* EBADMSG */
    {"error 5", UNWIND_WHY_FAILED, false},       /* EIO */
    {"write no table", UNWIND_WHY_MALFORMED, true},
    {"", UNWIND_WHY_MALFORMED, true},            /* nothing at all */
    {"table 1 10\nlie", UNWIND_WHY_CRASH, true}, /* about its length */
    {"crash", UNWIND_WHY_CRASH, true},
    {"exit", UNWIND_WHY_CRASH, true},
    {"need 1", UNWIND_WHY_CRASH, true},          /* there is nothing to give */
    {"hang", UNWIND_WHY_HANG, true},
    {"hog", UNWIND_WHY_MEMORY, true},
};

START_TEST(failures_say_why)
{
    start(64 * MIB, failures[_i].why == UNWIND_WHY_HANG ? SHORT_NS : LONG_NS, LONG_NS);
    struct unwind_entry *e = make(1, failures[_i].script);
    ck_assert_int_eq(e->state, UNWIND_NONE);
    ck_assert_int_eq(e->why, failures[_i].why);
    ck_assert_uint_gt(strlen(unwind_why_text(e->why)), 5);
    unwind_tables_drop(tables, e);
    e = use(1);
    ck_assert_int_eq(e->state, failures[_i].lasting ? UNWIND_NONE : UNWIND_WANTED);
    unwind_tables_drop(tables, e);
    ck_assert_uint_eq(stats().used_bytes, 0);
    if (failures[_i].why != UNWIND_WHY_HANG) { /* others are not harmed; in that case there is little time for them */
        e = make(2, "table 3 10");
        ck_assert_int_eq(e->state, UNWIND_READY);
        unwind_tables_drop(tables, e);
    }
    stop();
}
END_TEST

START_TEST(what_failed_by_chance_is_tried_again)
{
    start(64 * MIB, LONG_NS, LONG_NS);
    struct unwind_entry *e = make(1, "error 5");
    ck_assert_int_eq(e->why, UNWIND_WHY_FAILED);
    ck_assert_ptr_eq(unwind_tables_use(tables, &(struct file_identity){1, 1, 3, 4, 5}, false), e);
    ck_assert_int_eq(e->state, UNWIND_NONE);
    unwind_tables_drop(tables, e);
    ck_assert_ptr_eq(use(1), e); /* by the next, while the first still uses it */
    ck_assert_int_eq(e->state, UNWIND_WANTED);
    claim_and_give(e, "table 1 10");
    while (!is_settled(e))
        once();
    ck_assert_int_eq(e->state, UNWIND_READY);
    unwind_tables_drop(tables, e);
    unwind_tables_drop(tables, e);
    e = make(2, "crash");
    ck_assert_ptr_eq(use(2), e);
    ck_assert_int_eq(e->state, UNWIND_NONE); /* that was the file */
    unwind_tables_drop(tables, e);
    unwind_tables_drop(tables, e);
    stop();
}
END_TEST

START_TEST(what_broke_a_worker_is_read_again_some_day)
{
    struct file_identity id = identity(1);

    start(64 * MIB, LONG_NS, SHORT_NS);
    struct unwind_entry *e = make(1, "crash");
    ck_assert_int_eq(e->why, UNWIND_WHY_CRASH);
    while (e->state == UNWIND_NONE) {
        ck_assert_ptr_eq(unwind_tables_use(tables, &id, true), e);
        unwind_tables_drop(tables, e);
    }
    claim_and_give(e, "table 1 10");
    while (!is_settled(e))
        once();
    ck_assert_int_eq(e->state, UNWIND_READY);
    unwind_tables_drop(tables, e);
    stop();
}
END_TEST

START_TEST(every_reason_has_words)
{
    for (int why = 1; why < UNWIND_WHYS; why++)
        ck_assert_ptr_nonnull(unwind_why_text((enum unwind_why)why));
}
END_TEST

START_TEST(what_was_claimed_may_be_let_go)
{
    start(64 * MIB, LONG_NS, LONG_NS);
    struct unwind_entry *first = use(1), *second = use(1);
    unwind_tables_claim(tables, first, UNWIND_OTHERS);
    unwind_tables_unclaim(tables, first);
    unwind_tables_drop(tables, first);
    while (n_changes == 0)
        once(); /* the others hear of it */
    ck_assert_int_eq(second->state, UNWIND_WANTED);
    claim_and_give(second, "table 1 10");
    unwind_tables_drop(tables, second); /* nobody waits for it: it is finished all the same, or never begun */
    struct unwind_entry *e = make(2, "table 1 10");
    unwind_tables_drop(tables, e);
    stop();
}
END_TEST

START_TEST(nobody_builds_what_nobody_wants)
{
    start(64 * MIB, LONG_NS, LONG_NS);
    struct unwind_entry *first = use(1), *queued = use(2);
    claim_and_give(first, "table 1 10");
    claim_and_give(queued, "crash"); /* behind the first */
    ck_assert_int_eq(queued->state, UNWIND_QUEUED);
    unwind_tables_drop(tables, queued);
    while (!is_settled(first))
        once();
    queued = use(2);
    ck_assert_int_eq(queued->state, UNWIND_WANTED);
    unwind_tables_drop(tables, queued);
    unwind_tables_drop(tables, first);
    stop();
}
END_TEST

START_TEST(main_binaries_come_first)
{
    static const enum unwind_priority priorities[] = {UNWIND_OTHERS, UNWIND_OTHERS, UNWIND_C_LIBRARY, UNWIND_MAIN_BINARY};
    static const unsigned order[] = {0, 3, 2, 1}; /* the first was begun before the others came */
    struct unwind_entry *e[4];

    start(64 * MIB, LONG_NS, LONG_NS);
    for (unsigned i = 0; i < 4; i++) {
        e[i] = use(i + 1);
        unwind_tables_claim(tables, e[i], priorities[i]);
        give(e[i], "table 1 10");
    }
    for (unsigned i = 0; i < 4; i++)
        while (!is_settled(e[i]))
            once();
    for (unsigned i = 1; i < 4; i++) /* the arena's room is given out from the lowest place on */
        ck_assert_uint_gt(e[order[i]]->place, e[order[i - 1]]->place);
    for (unsigned i = 0; i < 4; i++)
        unwind_tables_drop(tables, e[i]);
    stop();
}
END_TEST

START_TEST(only_so_many_files_wait)
{
    static struct unwind_entry *e[UNWIND_TABLES_MAX_QUEUE + 1];

    start(64 * MIB, LONG_NS, LONG_NS);
    for (unsigned i = 0; i <= UNWIND_TABLES_MAX_QUEUE; i++) {
        ck_assert(unwind_tables_may_claim(tables));
        e[i] = use(i + 1);
        claim_and_give(e[i], "table 1 10");
    }
    ck_assert(!unwind_tables_may_claim(tables)); /* one is being made, the others wait */
    while (!unwind_tables_may_claim(tables))
        once();
    for (unsigned i = 0; i <= UNWIND_TABLES_MAX_QUEUE; i++) {
        while (!is_settled(e[i]))
            once();
        unwind_tables_drop(tables, e[i]);
    }
    stop();
}
END_TEST

/* ---- the budget */

#define LARGE "table 95 3000" /* 0.86 MB */

START_TEST(what_was_not_used_for_longest_goes_first)
{
    start(8 * MIB, LONG_NS, LONG_NS);
    for (uint64_t i = 1; i <= 12; i++) {
        struct unwind_entry *e = make(i, LARGE);
        ck_assert_msg(e->state == UNWIND_READY, "%d: %s", (int)i, unwind_why_text(e->why));
        unwind_tables_drop(tables, e);
        ck_assert_uint_le(unwind_tables_bytes(tables), 8 * MIB);
    }
    struct unwind_entry *oldest = use(1), *newest = use(12);
    ck_assert_int_eq(oldest->state, UNWIND_WANTED);
    ck_assert_int_eq(newest->state, UNWIND_READY);
    unwind_tables_drop(tables, oldest);
    unwind_tables_drop(tables, newest);
    stop();
}
END_TEST

START_TEST(what_is_in_use_stays)
{
    struct unwind_entry *e[12];
    unsigned n = 0;

    start(8 * MIB, LONG_NS, LONG_NS);
    for (; n < 12; n++) {
        e[n] = make(n + 1, LARGE);
        if (e[n]->state == UNWIND_NONE)
            break;
    }
    ck_assert_uint_ge(n, 6);
    ck_assert_uint_lt(n, 12);
    ck_assert_int_eq(e[n]->why, UNWIND_WHY_NO_ROOM);
    ck_assert_uint_le(unwind_tables_bytes(tables), 8 * MIB);
    for (unsigned i = 0; i < n; i++)
        ck_assert_int_eq(e[i]->state, UNWIND_READY);
    /* Mappings still have room. */
    uint32_t place;
    size_t cut;
    int r;
    while ((r = unwind_space_write(unwind_tables_arena(tables), NULL, 0, &place, &cut)) == -ENOSPC) {
        ck_assert_int_eq(unwind_tables_make_room(tables, 65536), 0);
        once();
    }
    ck_assert_int_eq(r, 0);
    unwind_space_put(unwind_tables_arena(tables), place);
    /* Once one is gone, the next finds room. */
    ck_assert_ptr_eq(use(n + 1), e[n]);
    ck_assert_int_eq(e[n]->state, UNWIND_NONE); /* not yet */
    unwind_tables_drop(tables, e[0]);
    ck_assert_ptr_eq(use(n + 1), e[n]);
    ck_assert_int_eq(e[n]->state, UNWIND_WANTED); /* although it is in use all the while */
    claim_and_give(e[n], LARGE);
    while (!is_settled(e[n]))
        once();
    ck_assert_int_eq(e[n]->state, UNWIND_READY);
    for (unsigned i = 0; i < 3; i++)
        unwind_tables_drop(tables, e[n]);
    for (unsigned i = 1; i < n; i++)
        unwind_tables_drop(tables, e[i]);
    stop();
}
END_TEST

START_TEST(one_may_not_take_it_all)
{
    start(6 * MIB, LONG_NS, LONG_NS);
    struct unwind_entry *e = make(1, LARGE); /* more than an eighth */
    ck_assert_int_eq(e->why, UNWIND_WHY_TOO_LARGE);
    unwind_tables_drop(tables, e);
    stop();
}
END_TEST

START_TEST(a_smaller_budget_is_kept_at_once)
{
    struct unwind_tables_limits limits = {.max_bytes = 1 * MIB, .workers = 1, .keep_ns = LONG_NS};

    start(8 * MIB, LONG_NS, LONG_NS);
    for (uint64_t i = 1; i <= 4; i++)
        unwind_tables_drop(tables, make(i, LARGE));
    ck_assert_uint_gt(unwind_tables_bytes(tables), 2 * MIB);
    unwind_tables_set_limits(tables, &limits);
    ck_assert_uint_le(stats().used_bytes, 1 * MIB);
    while (stats().waiting_bytes > 0) /* rounds come by themselves */
        once();
    stop();
}
END_TEST

START_TEST(tables_go_when_nobody_comes_back)
{
    start(8 * MIB, LONG_NS, SHORT_NS);
    struct unwind_entry *kept = make(9, LARGE);
    for (uint64_t i = 1; i <= 3; i++)
        unwind_tables_drop(tables, make(i, LARGE));
    while (stats().used_bytes > MIB)
        once();
    ck_assert_int_eq(kept->state, UNWIND_READY);
    ck_assert_uint_gt(stats().used_bytes, MIB / 2);
    unwind_tables_drop(tables, kept);
    while (unwind_tables_bytes(tables) > 0)
        once();
    stop();
}
END_TEST

START_TEST(files_are_known_up_to_a_number)
{
    struct unwind_entry **e = calloc(UNWIND_TABLES_MAX, sizeof(struct unwind_entry *));
    struct file_identity one_more = identity(UNWIND_TABLES_MAX + 1);

    start(64 * MIB, LONG_NS, LONG_NS);
    struct unwind_entry *idle = make(UNWIND_TABLES_MAX + 2, "table 1 10");
    unwind_tables_drop(tables, idle);
    for (uint64_t i = 0; i < UNWIND_TABLES_MAX; i++)
        e[i] = use(i + 1); /* the last takes the place of the idle one */
    ck_assert_uint_eq(stats().used_bytes, 0);
    ck_assert_ptr_null(unwind_tables_use(tables, &one_more, true));
    unwind_tables_drop(tables, e[0]);
    e[0] = unwind_tables_use(tables, &one_more, true);
    ck_assert_ptr_nonnull(e[0]);
    for (uint64_t i = 0; i < UNWIND_TABLES_MAX; i++)
        unwind_tables_drop(tables, e[i]);
    free(e);
    stop();
}
END_TEST

/* The end of the daemon, in the middle of everything. */
START_TEST(ends_in_any_state)
{
    start(64 * MIB, LONG_NS, LONG_NS);
    struct unwind_entry *building = use(1), *queued = use(2), *claimed = use(3);
    claim_and_give(building, "hang");
    claim_and_give(queued, "hang");
    unwind_tables_claim(tables, claimed, UNWIND_OTHERS);
    unwind_tables_unclaim(tables, claimed);
    ck_assert_int_eq(unwind_tables_make_room(tables, MIB), 0); /* a child is at work */
    unwind_tables_drop(tables, building);
    unwind_tables_drop(tables, queued);
    unwind_tables_drop(tables, claimed);
    stop();
}
END_TEST

int main(int argc, char **argv)
{
    Suite *s = suite_create("unwind_tables");
    TCase *t = tcase_create("cache"), *budget = tcase_create("budget");

    if (argc < 2)
        return EXIT_FAILURE;
    fault_worker = argv[1];
    tcase_add_test(t, a_file_is_read_once);
    tcase_add_test(t, another_identity_is_another_file);
    tcase_add_loop_test(t, failures_say_why, 0, sizeof(failures) / sizeof(failures[0]));
    tcase_add_test(t, what_failed_by_chance_is_tried_again);
    tcase_add_test(t, what_broke_a_worker_is_read_again_some_day);
    tcase_add_test(t, every_reason_has_words);
    tcase_add_test(t, what_was_claimed_may_be_let_go);
    tcase_add_test(t, nobody_builds_what_nobody_wants);
    tcase_add_test(t, main_binaries_come_first);
    tcase_add_test(t, only_so_many_files_wait);
    tcase_add_test(t, files_are_known_up_to_a_number);
    tcase_add_test(t, ends_in_any_state);
    tcase_set_timeout(t, 120);
    suite_add_tcase(s, t);
    tcase_add_test(budget, what_was_not_used_for_longest_goes_first);
    tcase_add_test(budget, what_is_in_use_stays);
    tcase_add_test(budget, one_may_not_take_it_all);
    tcase_add_test(budget, a_smaller_budget_is_kept_at_once);
    tcase_add_test(budget, tables_go_when_nobody_comes_back);
    tcase_set_timeout(budget, 120);
    suite_add_tcase(s, budget);

    SRunner *runner = srunner_create(s);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
