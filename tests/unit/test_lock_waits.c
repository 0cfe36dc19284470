/* Waits and releases, by made-up events: the code that runs in the kernel, with a table of its own. */
#include <check.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "bpf/lock_waits.h"

#define SPACE 0xffff888012340040ull
#define LOCK 0x7f0000001000ull

static struct lock_bucket *table;
static uint64_t now_ns;
static __u64 since_ns[LOCK_GENERATIONS];

struct thread {
    struct lock_wait wait;
    unsigned id;
    uint64_t stack;
};

static void setup(void)
{
    table = calloc(LOCK_BUCKETS, sizeof(*table));
    ck_assert_ptr_nonnull(table);
    now_ns = 1000000000;
    memset(since_ns, 0, sizeof(since_ns));
}

static void teardown(void)
{
    free(table);
}

static struct lock_bucket *bucket_of(uint64_t address)
{
    struct lock_place place = {SPACE, address};

    return &table[lock_bucket_of(&place)];
}

static bool waits_at(struct thread *t, uint64_t address, uint32_t value)
{
    struct lock_place place = {SPACE, address};

    return lock_wait_begin(bucket_of(address), since_ns, &t->wait, &place, value, t->stack, now_ns);
}

static void waits(struct thread *t)
{
    ck_assert(waits_at(t, LOCK, 2));
}

static struct lock_release releases_at(struct thread *waker, struct thread *t, uint64_t address, unsigned wakes)
{
    struct lock_place place = {SPACE, address};
    struct lock_release release = {0};

    waker->wait.wakes++;
    lock_wait_release(bucket_of(address), since_ns, &t->wait, &place, waker->id, waker->wait.returned_ns, wakes, now_ns, &release);
    lock_wait_quit(bucket_of(t->wait.place.address), since_ns, &t->wait, now_ns, &release);
    t->wait.woken_ns = now_ns;
    return release;
}

static struct lock_release releases(struct thread *waker, struct thread *t)
{
    return releases_at(waker, t, LOCK, 1);
}

static struct lock_release runs(struct thread *t)
{
    struct lock_release release = {0};

    lock_wait_end(bucket_of(t->wait.place.address), since_ns, &t->wait, now_ns, &release);
    return release;
}

static struct lock_release times_out(struct thread *t)
{
    struct lock_release release = {0};

    lock_wait_quit(bucket_of(t->wait.place.address), since_ns, &t->wait, now_ns, &release);
    t->wait.woken_ns = now_ns;
    runs(t);
    return release;
}

static unsigned n_in_table(void)
{
    unsigned n = 0;

    for (unsigned i = 0; i < LOCK_BUCKETS; i++)
        for (unsigned way = 0; way < LOCK_WAYS; way++)
            n += table[i].entries[way].n_waiters;
    return n;
}

#define CHECK_RELEASE(release, n, ns)                 \
    do {                                              \
        struct lock_release r_ = (release);           \
        ck_assert_uint_eq(r_.contentions, (n));       \
        ck_assert_uint_eq(r_.waited_ns, (ns));        \
    } while (0)

/* Four threads take turns of 100; each is charged with those who wait in its own turn. */
START_TEST(test_convoy)
{
    struct thread t[4] = {{.id = 1}, {.id = 2}, {.id = 3}, {.id = 4}};

    waits(&t[1]);
    now_ns += 50;
    waits(&t[2]);
    waits(&t[3]);
    now_ns += 50;
    CHECK_RELEASE(releases(&t[0], &t[1]), 1, 100 + 50 + 50);
    runs(&t[1]);
    now_ns += 100;
    CHECK_RELEASE(releases(&t[1], &t[2]), 1, 200);
    runs(&t[2]);
    now_ns += 100;
    CHECK_RELEASE(releases(&t[2], &t[3]), 1, 100);
    runs(&t[3]);
    ck_assert_uint_eq(n_in_table(), 0);
}
END_TEST

/* A writer wakes three readers with one call, which is one release. */
START_TEST(test_several_woken)
{
    struct thread writer = {.id = 1}, readers[3] = {{.id = 2}, {.id = 3}, {.id = 4}};

    for (unsigned i = 0; i < 3; i++)
        waits(&readers[i]);
    now_ns += 100;
    CHECK_RELEASE(releases_at(&writer, &readers[0], LOCK, INT_MAX), 1, 300);
    now_ns += 3;
    CHECK_RELEASE(releases_at(&writer, &readers[1], LOCK, INT_MAX), 0, 0);
    now_ns += 3;
    CHECK_RELEASE(releases_at(&writer, &readers[2], LOCK, INT_MAX), 0, 0);
    /* A reader that came after it is another's. */
    waits(&readers[0]);
    now_ns += 10;
    CHECK_RELEASE(releases_at(&writer, &readers[0], LOCK, INT_MAX), 1, 10);
    ck_assert_uint_eq(n_in_table(), 0);
}
END_TEST

/* A lock's release wakes one: the next waking by the same thread is another release, of those who waited all along too. */
START_TEST(test_one_by_one)
{
    struct thread holder = {.id = 1}, t[2] = {{.id = 2}, {.id = 3}};

    waits(&t[0]);
    waits(&t[1]);
    now_ns += 100;
    CHECK_RELEASE(releases(&holder, &t[0]), 1, 200);
    now_ns += 10;
    CHECK_RELEASE(releases(&holder, &t[1]), 1, 10);
}
END_TEST

/* Another takes the lock before the woken thread has it: it goes on waiting, and the other's hold costs all of it. */
START_TEST(test_barging)
{
    struct thread holder = {.id = 1}, waiter = {.id = 2, .stack = 7};

    waits(&waiter);
    now_ns += 1000;
    CHECK_RELEASE(releases(&holder, &waiter), 1, 1000);
    now_ns += 200; /* until it runs, */
    runs(&waiter);
    now_ns += 300; /* and sees */
    waits(&waiter);
    ck_assert_uint_eq(waiter.wait.again, 1);
    now_ns += 1000;
    CHECK_RELEASE(releases(&holder, &waiter), 1, 1500);
    runs(&waiter);

    /* It lost its CPU on its way to see. */
    now_ns += LOCK_AGAIN_NS + 5000001;
    lock_wait_queued(&waiter.wait, 5000001);
    waits(&waiter);
    ck_assert_uint_eq(waiter.wait.again, 1);
    releases(&holder, &waiter);
    runs(&waiter);

    /* Later, elsewhere in the program, or after it had the lock: another contention. */
    now_ns += LOCK_AGAIN_NS + 1;
    waits(&waiter);
    ck_assert_uint_eq(waiter.wait.again, 0);
    releases(&holder, &waiter);
    runs(&waiter);
    waiter.stack = 8;
    waits(&waiter);
    ck_assert_uint_eq(waiter.wait.again, 0);
    releases(&holder, &waiter);
    runs(&waiter);
    waiter.wait.wakes++;
    waits(&waiter);
    ck_assert_uint_eq(waiter.wait.again, 0);
    releases(&holder, &waiter);
    runs(&waiter);
    ck_assert(waits_at(&waiter, LOCK, 3));
    ck_assert_uint_eq(waiter.wait.again, 0);
    CHECK_RELEASE(releases(&holder, &waiter), 1, 0);
    runs(&waiter);
    for (unsigned i = 0; i < 2; i++) {
        ck_assert(waits_at(&waiter, LOCK, 0));
        ck_assert_uint_eq(waiter.wait.again, 0);
        CHECK_RELEASE(releases(&holder, &waiter), 1, 0);
        runs(&waiter);
    }
    ck_assert(waits_at(&waiter, LOCK + 4, 2));
    ck_assert_uint_eq(waiter.wait.again, 0);
}
END_TEST

/* What was waited before a release is not charged again, however long the woken thread waits for a CPU. */
START_TEST(test_again_after_others)
{
    struct thread holder = {.id = 1}, first = {.id = 2}, second = {.id = 3};

    waits(&first);
    waits(&second);
    now_ns += 100;
    CHECK_RELEASE(releases(&holder, &first), 1, 200);
    now_ns += 50;
    CHECK_RELEASE(releases(&holder, &second), 1, 50);
    runs(&second);
    now_ns += 30;
    waits(&second);
    now_ns += 10;
    runs(&first);
    waits(&first);
    ck_assert_uint_eq(first.wait.again, 1);
    now_ns += 10;
    CHECK_RELEASE(releases(&holder, &first), 1, 50 + 50);
}
END_TEST

/* Who gives up has waited in the hold all the same. */
START_TEST(test_timeout)
{
    struct thread holder = {.id = 1}, t[2] = {{.id = 2}, {.id = 3}};

    waits(&t[0]);
    waits(&t[1]);
    now_ns += 100;
    ck_assert_uint_eq(times_out(&t[0]).abandoned_ns, 0);
    now_ns += 100;
    CHECK_RELEASE(releases(&holder, &t[1]), 1, 300);
    runs(&t[1]);

    /* The last one: nobody will be charged, the next hold neither. */
    waits(&t[0]);
    now_ns += 100;
    ck_assert_uint_eq(times_out(&t[0]).abandoned_ns, 100);
    now_ns += LOCK_AGAIN_NS + 1;
    waits(&t[1]);
    now_ns += 10;
    CHECK_RELEASE(releases(&holder, &t[1]), 1, 10);
    ck_assert(waits_at(&t[0], LOCK, 0));
    now_ns += 100;
    ck_assert_uint_eq(times_out(&t[0]).abandoned_ns, 0); /* no lock, but a counter */
    ck_assert_uint_eq(n_in_table(), 0);
}
END_TEST

/* Woken before it was counted: the release is charged with the others, and it leaves the count when it runs. */
START_TEST(test_woken_early)
{
    struct thread holder = {.id = 1}, early = {.id = 2}, other = {.id = 3};

    waits(&other);
    now_ns += 100;
    CHECK_RELEASE(releases(&holder, &early), 1, 100);
    waits(&early);
    now_ns += 20;
    ck_assert_uint_eq(runs(&early).abandoned_ns, 20);
    CHECK_RELEASE(releases(&holder, &other), 1, 20);
    /* Alone: nobody waits, so nothing is released that cost anything. */
    CHECK_RELEASE(releases(&holder, &early), 0, 0);
    ck_assert_uint_eq(n_in_table(), 0);
}
END_TEST

/* Waiters of a condition are moved to the lock's word without being woken. They count there since its last release, or not at all. */
START_TEST(test_requeued)
{
    struct thread holder = {.id = 1}, moved = {.id = 2}, other = {.id = 3};

    ck_assert(waits_at(&moved, LOCK + 64, 0));
    now_ns += 500;
    CHECK_RELEASE(releases(&holder, &moved), 1, 0);
    ck_assert(waits_at(&moved, LOCK + 64, 0));
    waits(&other);
    now_ns += 100;
    CHECK_RELEASE(releases_at(&holder, &other, LOCK, 1), 1, 100);
    waits(&other);
    now_ns += 50;
    CHECK_RELEASE(releases(&holder, &moved), 1, 50 + 50);
    CHECK_RELEASE(releases(&holder, &other), 1, 0);
    ck_assert_uint_eq(n_in_table(), 0);
}
END_TEST

/* Who came back from a condition itself, and took the lock when nobody had it, moves the next one there: not before it came back. */
START_TEST(test_moved_by_who_was_woken_itself)
{
    struct thread caster = {.id = 1}, first = {.id = 2}, second = {.id = 3}, other = {.id = 4}, late = {.id = 5};

    waits(&other);
    now_ns += 10;
    CHECK_RELEASE(releases(&caster, &other), 1, 10); /* the lock's last release that was seen */
    (void)runs(&other);
    ck_assert(waits_at(&first, LOCK + 64, 2));
    ck_assert(waits_at(&second, LOCK + 128, 2));
    now_ns += 1000;
    (void)releases_at(&caster, &first, LOCK + 64, 1);
    (void)runs(&first);
    now_ns += 70;
    waits(&late);
    now_ns += 30;
    CHECK_RELEASE(releases(&first, &second), 1, 30 + 100);
}
END_TEST

START_TEST(test_two_clocks)
{
    struct thread holder = {.id = 1}, t[2] = {{.id = 2}, {.id = 3}};

    waits(&t[0]);
    now_ns += 100;
    waits(&t[1]);
    now_ns -= 50; /* another CPU's, read before */
    CHECK_RELEASE(releases(&holder, &t[0]), 1, 100);
    now_ns += 60;
    CHECK_RELEASE(releases(&holder, &t[1]), 1, 10);
}
END_TEST

/* More locks than have room are told, and those that had none disturb nothing. */
START_TEST(test_full)
{
    enum { MANY = LOCK_BUCKETS * LOCK_WAYS * 2 };
    struct thread *t = calloc(MANY, sizeof(*t)), holder = {.id = 1};
    unsigned kept = 0;
    uint64_t charged = 0;

    ck_assert_ptr_nonnull(t);
    for (unsigned i = 0; i < MANY; i++)
        kept += waits_at(&t[i], LOCK + 64ull * i, 2);
    ck_assert_uint_lt(kept, MANY);
    ck_assert_uint_gt(kept, LOCK_BUCKETS * LOCK_WAYS * 9 / 10);
    ck_assert_uint_eq(n_in_table(), kept);
    now_ns += 100;
    for (unsigned i = 0; i < MANY; i++)
        charged += releases_at(&holder, &t[i], LOCK + 64ull * i, 1).waited_ns;
    ck_assert_uint_eq(charged, 100ull * kept);
    ck_assert_uint_eq(n_in_table(), 0);
    free(t);
}
END_TEST

/* Locks that are waited for at once seldom fall together. */
START_TEST(test_spread)
{
    static const unsigned strides[] = {4, 40, 64, 4096, 65536, 1 << 20};

    for (size_t s = 0; s < sizeof(strides) / sizeof(strides[0]); s++) {
        struct thread t[1000] = {0};
        for (unsigned i = 0; i < 1000; i++) {
            ck_assert(waits_at(&t[i], LOCK + (uint64_t)strides[s] * i, 2));
        }
        for (unsigned i = 0; i < 1000; i++)
            times_out(&t[i]);
    }
}
END_TEST

/* Places of two targets fall together. The locks of one are not the other's; and what one that is no target any more left is not there,
 * though another has its generation now. */
START_TEST(test_generation)
{
    struct thread first = {.id = 1}, t = {.id = 2}, holder = {.id = 3};
    struct lock_place place = {SPACE + 1, LOCK}, next = {SPACE + 2, LOCK};
    struct lock_bucket *bucket = &table[0];
    struct lock_release release = {0};

    for (unsigned i = 0; i < LOCK_WAYS; i++) {
        place.address = LOCK + i;
        ck_assert(lock_wait_begin(bucket, since_ns, &first.wait, &place, 2, 0, now_ns));
    }
    place.address = LOCK + LOCK_WAYS;
    ck_assert(!lock_wait_begin(bucket, since_ns, &first.wait, &place, 2, 0, now_ns));
    ck_assert(!lock_wait_begin(bucket, since_ns, &t.wait, &next, 2, 0, now_ns));
    since_ns[1] = LOCK_NOBODY;
    ck_assert(lock_wait_begin(bucket, since_ns, &t.wait, &next, 2, 0, now_ns));
    now_ns += 100;
    since_ns[1] = now_ns;
    place.address = LOCK;
    ck_assert(lock_wait_begin(bucket, since_ns, &first.wait, &place, 2, 0, now_ns));
    now_ns += 100;
    lock_wait_release(bucket, since_ns, &t.wait, &next, holder.id, 0, 1, now_ns, &release);
    CHECK_RELEASE(release, 1, 200);
    lock_wait_release(bucket, since_ns, &first.wait, &place, holder.id, 0, 1, now_ns, &release);
    CHECK_RELEASE(release, 1, 100);
}
END_TEST

/* Another target's locks, in the same places, take nothing away. */
START_TEST(test_targets_side_by_side)
{
    struct thread a = {.id = 1}, b = {.id = 2}, others[LOCK_WAYS], holder = {.id = 3};
    struct lock_place place = {SPACE + 1, LOCK}, other = {SPACE + 2, LOCK};
    struct lock_bucket *bucket = &table[0];
    struct lock_release release = {0};

    memset(others, 0, sizeof(others));
    ck_assert(lock_wait_begin(bucket, since_ns, &a.wait, &place, 2, 0, now_ns));
    for (unsigned i = 0; i < LOCK_WAYS; i++) {
        other.address = LOCK + i;
        ck_assert_int_eq(lock_wait_begin(bucket, since_ns, &others[i].wait, &other, 2, 0, now_ns), i < LOCK_WAYS - 1);
    }
    ck_assert(lock_wait_begin(bucket, since_ns, &b.wait, &place, 2, 0, now_ns));
    now_ns += 100;
    lock_wait_release(bucket, since_ns, &a.wait, &place, holder.id, 0, 1, now_ns, &release);
    CHECK_RELEASE(release, 1, 200);
    lock_wait_release(bucket, since_ns, &b.wait, &place, a.id, 0, 1, now_ns, &release);
    CHECK_RELEASE(release, 1, 0);
    ck_assert_uint_eq(n_in_table(), LOCK_WAYS - 1);
}
END_TEST

/* What is no futex has no lock, and is a wait all the same. */
START_TEST(test_no_lock)
{
    struct thread t = {.id = 1};

    ck_assert(waits_at(&t, 0, 0));
    ck_assert_uint_eq(n_in_table(), 0);
    ck_assert_uint_eq(runs(&t).abandoned_ns, 0);
    ck_assert(waits_at(&t, 0, 0));
    ck_assert_uint_eq(t.wait.again, 0);
}
END_TEST

static struct lock_call call(long number, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e)
{
    struct lock_syscall syscall = {number, {a, b, c, d, e}};
    struct lock_call ret;

    lock_call_of(&syscall, &ret);
    return ret;
}

START_TEST(test_calls)
{
    struct lock_call c = call(LOCK_SYS_FUTEX, LOCK, LOCK_FUTEX_WAIT | LOCK_FUTEX_PRIVATE, 0xffffffff00000002, 0, 0);

    ck_assert_uint_eq(c.type, LOCK_CALL_WAIT);
    ck_assert_uint_eq(c.address, LOCK);
    ck_assert_uint_eq(c.value, 2);
    ck_assert_uint_eq(c.is_shared, 0);
    c = call(LOCK_SYS_FUTEX, LOCK, LOCK_FUTEX_WAIT_BITSET | 256, 0xffffffff00000000, 0, 0);
    ck_assert_uint_eq(c.type, LOCK_CALL_WAIT);
    ck_assert_uint_eq(c.value, 0);
    ck_assert_uint_eq(c.is_shared, 1);
    c = call(LOCK_SYS_FUTEX, LOCK, LOCK_FUTEX_LOCK_PI2 | LOCK_FUTEX_PRIVATE, 0, 0, 0);
    ck_assert_uint_eq(c.type, LOCK_CALL_WAIT);
    ck_assert_uint_eq(c.value, 1);
    c = call(LOCK_SYS_FUTEX, LOCK, LOCK_FUTEX_WAKE_OP, 3, 4, LOCK + 8);
    ck_assert_uint_eq(c.type, LOCK_CALL_WAKE);
    ck_assert_uint_eq(c.wakes, 3);
    ck_assert_uint_eq(c.second, LOCK + 8);
    c = call(LOCK_SYS_FUTEX, LOCK, LOCK_FUTEX_UNLOCK_PI | LOCK_FUTEX_PRIVATE, 77, 0, 0);
    ck_assert_uint_eq(c.type, LOCK_CALL_WAKE);
    ck_assert_uint_eq(c.wakes, 1);
    c = call(LOCK_SYS_FUTEX_WAIT, LOCK, 0, 0xffffffff, LOCK_FUTEX_PRIVATE | 2, 0);
    ck_assert_uint_eq(c.type, LOCK_CALL_WAIT);
    ck_assert_uint_eq(c.value, 0);
    ck_assert_uint_eq(c.is_shared, 0);
    c = call(LOCK_SYS_FUTEX_WAKE, LOCK, 0xffffffff, 5, 2, 0);
    ck_assert_uint_eq(c.type, LOCK_CALL_WAKE);
    ck_assert_uint_eq(c.wakes, 5);
    ck_assert_uint_eq(c.is_shared, 1);
    ck_assert_uint_eq(call(LOCK_SYS_FUTEX, LOCK, 3, 1, 2, LOCK + 8).type, LOCK_CALL_OTHER);
    ck_assert_uint_eq(call(-1, LOCK, 1, 1, 0, 0).type, LOCK_CALL_OTHER);
    ck_assert_uint_eq(call(0, LOCK, 1, 1, 0, 0).type, LOCK_CALL_OTHER);
}
END_TEST

/* Neither sum depends on the rate. */
START_TEST(test_rate)
{
    static const uint64_t waited[] = {0, 1, 7, 300, 999, 1000, 1001, 30000};
    uint64_t random = 1;

    for (size_t i = 0; i < sizeof(waited) / sizeof(waited[0]); i++) {
        double n = 0, ns = 0, d = waited[i] ? (double)waited[i] : 1;
        unsigned draws = waited[i] < 10 ? 4000000 : 400000, kept = 0;
        for (unsigned k = 0; k < draws; k++) {
            __u64 weight_ns = 0;
            random = random * 6364136223846793005ull + 1442695040888963407ull;
            uint64_t samples = lock_keep_wait(1000, waited[i], lock_mix(random), &weight_ns);
            n += (double)samples;
            ns += (double)weight_ns;
            kept += samples > 0;
            if (waited[i] >= 1000)
                ck_assert_uint_eq(samples, 1);
        }
        ck_assert_double_eq_tol(n / draws, 1, 0.08);
        ck_assert_double_eq_tol(ns / draws, d, 0.08 * d);
        ck_assert_double_eq_tol(kept / (double)draws, d < 1000 ? d / 1000 : 1, 0.08 * d / 1000);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("lock_waits");
    TCase *c = tcase_create("all");

    tcase_set_timeout(c, 60); /* a busy machine */
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, test_convoy);
    tcase_add_test(c, test_several_woken);
    tcase_add_test(c, test_one_by_one);
    tcase_add_test(c, test_barging);
    tcase_add_test(c, test_again_after_others);
    tcase_add_test(c, test_timeout);
    tcase_add_test(c, test_woken_early);
    tcase_add_test(c, test_requeued);
    tcase_add_test(c, test_moved_by_who_was_woken_itself);
    tcase_add_test(c, test_two_clocks);
    tcase_add_test(c, test_full);
    tcase_add_test(c, test_spread);
    tcase_add_test(c, test_generation);
    tcase_add_test(c, test_targets_side_by_side);
    tcase_add_test(c, test_no_lock);
    tcase_add_test(c, test_calls);
    tcase_add_test(c, test_rate);
    suite_add_tcase(s, c);
    SRunner *runner = srunner_create(s);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
