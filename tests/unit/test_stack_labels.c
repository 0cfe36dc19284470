/* How labels are read behind a stack, in the code that the kernel runs: what a thread has published lies in the memory of the fixture. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/stack_fixture.h"

#include "bpf/stack.h"

#include "bpf/stack_labels.h"

#define THREAD (STACK_BASE + 4096) /* the thread pointer */
#define SET_BYTES 640

static struct stack_walk walk;
static struct session_labels session;

static void *at(__u64 address)
{
    return (char *)stack + (address - STACK_BASE);
}

static void begin(void)
{
    memset(stack, 0, sizeof(stack));
    memset(&walk, 0, sizeof(walk));
    memset(&session, 0, sizeof(session));
    walk.n = 2;
    walk.record.n_user = 2;
}

static __u64 offset_place(__s32 offset)
{
    return LABELS_PLACE_OFFSET | (__u32)offset;
}

static void put_variable(__s32 offset, __u64 set, __u64 changes)
{
    memcpy(at(THREAD + (__s64)offset), (__u64[]){set, changes}, 16);
}

static void put_set(__u64 address, __u16 bytes, __u8 fill)
{
    memset(at(address), 0, SET_BYTES);
    ((__u8 *)at(address))[24] = 1;
    memcpy((__u8 *)at(address) + 26, &bytes, 2);
    memset((__u8 *)at(address) + 28, fill, bytes < LABELS_SET_BYTES ? bytes : LABELS_SET_BYTES);
}

static void add(__u32 max)
{
    labels_add(&walk, &session, THREAD, max);
}

START_TEST(test_none)
{
    begin();
    session.places[0] = offset_place(-16);
    add(10);
    ck_assert_uint_eq(walk.record.label_words, 0);
    ck_assert_uint_eq(walk.record.label_state, LABELS_KNOWN);
    ck_assert_uint_eq(walk.n, 2);
    ck_assert_uint_eq(walk.hash[0], 0);
    ck_assert_uint_eq(labels_stamp(&session, THREAD), 0);
}
END_TEST

START_TEST(test_every_length)
{
    __u64 last = 0;
    for (__u16 bytes = 1; bytes <= LABELS_SET_BYTES; bytes++) {
        begin();
        session.places[0] = offset_place(-16);
        put_variable(-16, STACK_BASE + 8192, 2);
        put_set(STACK_BASE + 8192, bytes, 0xab);
        memset(walk.frames, 0xee, sizeof(walk.frames)); /* what was there before is no part of it */
        add(10);
        ck_assert_uint_eq(walk.record.label_words, 1 + (bytes + 7) / 8);
        ck_assert_uint_eq(walk.n, 2u + walk.record.label_words);
        ck_assert_uint_eq(walk.frames[2], bytes);
        const __u8 *entries = (const __u8 *)(walk.frames + 3);
        for (size_t i = 0; i < (size_t)walk.record.label_words * 8 - 8; i++)
            ck_assert_uint_eq(entries[i], i < bytes ? 0xab : 0);
        ck_assert_uint_ne(walk.hash[0], last);
        last = walk.hash[0];
    }
}
END_TEST

START_TEST(test_what_is_no_set)
{
    const struct { __u64 set; __u16 bytes; __u8 valid; } tries[] = {
        {4096, 8, 1},                                          /* nothing there */
        {STACK_BASE + 8192, 65535, 1},
        {STACK_BASE + 8192, LABELS_SET_BYTES + 1, 1},
        {STACK_BASE + 8192, 8, 0},
        {STACK_BASE + 8192, 8, 2},
        {STACK_BASE + sizeof(stack) - 28, 8, 1},               /* it ends before its entries do */
        {STACK_BASE + sizeof(stack) - 20, 8, 1},
        {0x00ffffffffff0000ull, 8, 1},
    };
    for (size_t i = 0; i < sizeof(tries) / sizeof(tries[0]); i++) {
        begin();
        session.places[0] = offset_place(-16);
        put_variable(-16, tries[i].set, 0);
        if (tries[i].set == STACK_BASE + 8192) {
            put_set(tries[i].set, tries[i].bytes, 1);
            ((__u8 *)at(tries[i].set))[24] = tries[i].valid;
        } else if (tries[i].set == STACK_BASE + sizeof(stack) - 28) {
            ((__u8 *)at(tries[i].set))[24] = 1;
            ((__u8 *)at(tries[i].set))[26] = 8;
        }
        add(10);
        ck_assert_uint_eq(walk.record.label_state, LABELS_UNREADABLE);
        ck_assert_uint_eq(walk.record.label_words, 0);
        ck_assert_uint_eq(walk.n, 2);
        ck_assert_uint_ne(walk.hash[0], 0);
        ck_assert_uint_ne(labels_stamp(&session, THREAD), 0);
    }
    begin();
    session.places[0] = offset_place(-(1 << 30)); /* no memory where the variable would be */
    add(10);
    ck_assert_uint_eq(walk.record.label_state, LABELS_UNREADABLE);
}
END_TEST

/* A loader's word says where; before it was written there is nothing. */
START_TEST(test_slot)
{
    begin();
    session.places[0] = LABELS_PLACE_SLOT | (STACK_BASE + 64);
    put_variable(-48, STACK_BASE + 8192, 0);
    put_set(STACK_BASE + 8192, 8, 3);
    add(10);
    ck_assert_uint_eq(walk.record.label_words, 0);
    ck_assert_uint_eq(walk.record.label_state, LABELS_KNOWN);
    *(__s64 *)at(STACK_BASE + 64) = -48;
    add(10);
    ck_assert_uint_eq(walk.record.label_words, 2);
    session.places[0] = LABELS_PLACE_SLOT | 4096; /* it is gone */
    add(10);
    ck_assert_uint_eq(walk.record.label_state, LABELS_UNREADABLE);
}
END_TEST

/* Several places, of which two are the same variable. */
START_TEST(test_several)
{
    begin();
    for (int i = 0; i < LABELS_PLACES; i++) {
        session.places[i] = offset_place(-16 * (i ? i : 1));
        put_variable(-16 * (i + 1), STACK_BASE + 8192 + SET_BYTES * (__u64)i, 0);
        put_set(STACK_BASE + 8192 + SET_BYTES * (__u64)i, LABELS_SET_BYTES, (__u8)i);
    }
    walk.n = STACK_WALK_FRAMES;
    add(10);
    ck_assert_uint_eq(walk.record.label_words, 3 * (1 + (LABELS_SET_BYTES + 7) / 8));
    ck_assert_uint_eq(walk.record.label_state, LABELS_KNOWN);
    begin();
    for (int i = 0; i < LABELS_PLACES; i++) {
        session.places[i] = offset_place(-16 * (i + 1));
        put_variable(-16 * (i + 1), STACK_BASE + 8192 + SET_BYTES * (__u64)i, 0);
        put_set(STACK_BASE + 8192 + SET_BYTES * (__u64)i, LABELS_SET_BYTES, (__u8)i);
    }
    walk.n = STACK_WALK_FRAMES;
    add(10);
    ck_assert_uint_eq(walk.record.label_words, LABELS_PLACES * (1 + (LABELS_SET_BYTES + 7) / 8));
    ck_assert_uint_le(walk.n, STACK_WALK_FRAMES + LABELS_MAX_WORDS);
    ck_assert_uint_eq(walk.record.label_state, LABELS_KNOWN);
}
END_TEST

/* A place that can't be read is said, also behind one that has nothing. */
START_TEST(test_unreadable_behind_none)
{
    begin();
    session.places[0] = offset_place(-16);
    session.places[1] = offset_place(-(1 << 30));
    add(10);
    ck_assert_uint_eq(walk.record.label_words, 0);
    ck_assert_uint_eq(walk.record.label_state, LABELS_UNREADABLE);
}
END_TEST

START_TEST(test_no_room)
{
    begin();
    session.places[0] = offset_place(-16);
    session.stacks = 10;
    add(10);
    ck_assert_uint_eq(walk.record.label_state, LABELS_KNOWN); /* it has none */
    put_variable(-16, STACK_BASE + 8192, 2);
    put_set(STACK_BASE + 8192, 8, 1);
    add(10);
    ck_assert_uint_eq(walk.record.label_state, LABELS_NO_ROOM);
    ck_assert_uint_eq(walk.record.label_words, 0);
    ck_assert_uint_ne(walk.hash[0], 0);
}
END_TEST

/* The stamp is another one whenever something was published. */
START_TEST(test_stamp)
{
    begin();
    session.places[0] = offset_place(-16);
    session.places[1] = offset_place(-32);
    put_variable(-16, STACK_BASE, 2);
    __u64 first = labels_stamp(&session, THREAD);
    ck_assert_uint_eq(labels_stamp(&session, THREAD), first);
    put_variable(-16, STACK_BASE, 4);
    ck_assert_uint_ne(labels_stamp(&session, THREAD), first);
    put_variable(-16, STACK_BASE + 8, 2);
    ck_assert_uint_ne(labels_stamp(&session, THREAD), first);
    put_variable(-16, 0, 2);
    put_variable(-32, STACK_BASE, 2);
    ck_assert_uint_ne(labels_stamp(&session, THREAD), first);
    put_variable(-32, 0, 2);
    ck_assert_uint_eq(labels_stamp(&session, THREAD), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("stack_labels");
    TCase *tests = tcase_create("stack_labels");
    tcase_add_test(tests, test_none);
    tcase_add_test(tests, test_every_length);
    tcase_add_test(tests, test_what_is_no_set);
    tcase_add_test(tests, test_slot);
    tcase_add_test(tests, test_several);
    tcase_add_test(tests, test_unreadable_behind_none);
    tcase_add_test(tests, test_no_room);
    tcase_add_test(tests, test_stamp);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
