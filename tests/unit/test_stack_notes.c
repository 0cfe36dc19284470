/* What a walk notes of the stack that it read: another one from the same registers finds the same as long as these words are the same, and
 * whatever the others are. */
#define STACK_NOTING

#include "tests/unit/stack_fixture.h"

#include "bpf/stack.h"

static struct stack_walk walk;
static struct stack_notes noted;

/* Frames so many words apart, and a walk of them. */
static void note_frames(unsigned n, unsigned apart)
{
    memset(stack, 0, sizeof(stack));
    for (unsigned i = 0; i < n; i++) {
        stack[i * apart] = i + 1 < n ? STACK_BASE + 8 * (i + 1) * apart : 0;
        stack[i * apart + 1] = 0x401000 + i;
    }
    memset(&walk, 0, sizeof(walk));
    walk.window_at = 1;
    walk.pc = 0x400500;
    walk.sp = walk.fp = walk.notes.from = STACK_BASE;
    stack_push(&walk, 0);
    while (stack_step_frame_pointer(&walk))
        ;
    ck_assert_uint_eq(walk.end, STACK_END_UNPROVEN);
    ck_assert_uint_eq(walk.n, n + 1);
    noted = walk.notes;
}

static void check_each_word(unsigned n, unsigned apart)
{
    note_frames(n, apart);
    ck_assert_uint_eq(noted.n, 2 * n);
    ck_assert_uint_eq(noted.words, (n - 1) * apart + 2);
    ck_assert(stack_is_as_noted(&walk, &noted));
    for (unsigned i = 0; i < noted.words; i++) {
        stack[i] ^= 1;
        ck_assert_int_eq(stack_is_as_noted(&walk, &noted), i % apart > 1);
        stack[i] ^= 1;
    }
    stack[noted.words] ^= 1;
    ck_assert(stack_is_as_noted(&walk, &noted));
}

START_TEST(test_words_that_were_read)
{
    check_each_word(1, 2);
    check_each_word(10, 2);
    check_each_word(10, 7);
    check_each_word(STACK_NOTES / 2, 3);
}
END_TEST

/* Further apart than one reading reaches, by one word or by many. */
START_TEST(test_words_far_apart)
{
    check_each_word(3, STACK_LOOK_WORDS - 1);
    check_each_word(3, STACK_LOOK_WORDS);
    check_each_word(4, 3 * STACK_LOOK_WORDS + 5);
}
END_TEST

START_TEST(test_two_that_changed_places)
{
    note_frames(10, 2);
    __u64 word = stack[3];
    stack[3] = stack[5];
    stack[5] = word;
    ck_assert(!stack_is_as_noted(&walk, &noted));
}
END_TEST

START_TEST(test_more_than_can_be_noted)
{
    note_frames(STACK_NOTES / 2 + 1, 2);
    ck_assert_uint_gt(noted.n, STACK_NOTES);
}
END_TEST

/* A stack that ends right behind the last word; and one that is gone. */
START_TEST(test_end_of_the_stack)
{
    note_frames(10, 7);
    noted.from = STACK_BASE + sizeof(stack) - 8 * noted.words;
    memmove(stack + STACK_WORDS - noted.words, stack, 8 * noted.words);
    ck_assert(stack_is_as_noted(&walk, &noted));
    noted.from += 8;
    ck_assert(!stack_is_as_noted(&walk, &noted));
}
END_TEST

/* The kernel's frames of the walk that is about to begin are already there. */
START_TEST(test_leaves_kernel_frames_alone)
{
    note_frames(10, 2);
    for (unsigned i = 0; i < CPROFD_MAX_KERNEL_FRAMES; i++)
        walk.frames[i] = ~(__u64)i;
    ck_assert(stack_is_as_noted(&walk, &noted));
    for (unsigned i = 0; i < CPROFD_MAX_KERNEL_FRAMES; i++)
        ck_assert_uint_eq(walk.frames[i], ~(__u64)i);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("stack_notes");
    TCase *tc = tcase_create("stack_notes");
    tcase_add_test(tc, test_words_that_were_read);
    tcase_add_test(tc, test_words_far_apart);
    tcase_add_test(tc, test_two_that_changed_places);
    tcase_add_test(tc, test_more_than_can_be_noted);
    tcase_add_test(tc, test_end_of_the_stack);
    tcase_add_test(tc, test_leaves_kernel_frames_alone);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
