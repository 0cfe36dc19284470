/* Which wakings are shown as releases: by the names of functions, and where they tell nothing by the word that was waited for. */
#include <dlfcn.h>

#include "tests/unit/render_fixture.h"

static struct raw_build b;
static struct fixture f;

/* The C library's own: sanitizers put theirs before it. */
static void *libc_function(const char *name)
{
    void *libc = dlopen("libc.so.6", RTLD_NOW | RTLD_NOLOAD), *function = libc ? dlsym(libc, name) : NULL;

    ck_assert_msg(function != NULL, "the C library has no %s", name);
    (void)dlclose(libc);
    return function;
}

static void setup(void)
{
    build_init(&b);
    fixture_init(&f);
    build_own(&b, libc_function("pthread_mutex_unlock"));
    build_own(&b, (const void *)(uintptr_t)setup);
    b.params.releases = 1;
}

static void teardown(void)
{
    renderer_free(f.renderer);
}

__attribute__((noinline)) static void my_unlock(void)
{
    __asm__ volatile("nop; nop; nop; nop");
}

__attribute__((noinline)) static void my_notify_one(void)
{
    __asm__ volatile("nop; nop; nop; nop");
}

/* One more waking, with so many samples, from a function called by another. */
static void wakes(void *leaf, void *caller, enum sample_state state, uint64_t samples)
{
    uint64_t frames[] = {(uintptr_t)leaf, (uintptr_t)caller + 2};

    b.key.state = state;
    build_count(&b, build_stack(&b, NULL, 0, frames, 2, STACK_END_ROOT), samples);
}

static int64_t total(const Perftools__Profiles__Profile *pb)
{
    int64_t sum = 0;

    for (size_t i = 0; i < pb->n_sample; i++)
        sum += pb->sample[i]->value[0];
    return sum;
}

START_TEST(test_names_decide)
{
    wakes(libc_function("pthread_mutex_unlock"), setup, SAMPLE_STATE_LOCK, 1);
    wakes(libc_function("pthread_mutex_unlock"), setup, SAMPLE_STATE_OTHER, 2);
    wakes(libc_function("pthread_rwlock_unlock"), setup, SAMPLE_STATE_OTHER, 4);
    wakes(libc_function("pthread_cond_signal"), setup, SAMPLE_STATE_LOCK, 1000);
    wakes(libc_function("pthread_cond_broadcast"), setup, SAMPLE_STATE_OTHER, 1000);
    wakes(libc_function("sem_post"), setup, SAMPLE_STATE_LOCK, 1000);
    wakes(libc_function("pthread_barrier_wait"), setup, SAMPLE_STATE_LOCK, 1000);
    Perftools__Profiles__Profile *pb = fixture_profile(&f, &b, NULL);
    ck_assert_int_eq(total(pb), 7);
    ck_assert(has_comment(pb, "cprofd.signals=4000"));
    ck_assert(has_comment(pb, "cprofd.samples=7"));
    reader_free(pb);
}
END_TEST

/* What a function is called for matters less than what it calls. */
START_TEST(test_the_innermost_decides)
{
    wakes(libc_function("pthread_mutex_unlock"), my_notify_one, SAMPLE_STATE_OTHER, 1);
    wakes(libc_function("pthread_cond_signal"), my_unlock, SAMPLE_STATE_LOCK, 1000);
    wakes(setup, my_unlock, SAMPLE_STATE_OTHER, 2);
    wakes(setup, my_notify_one, SAMPLE_STATE_LOCK, 1000);
    Perftools__Profiles__Profile *pb = fixture_profile(&f, &b, NULL);
    ck_assert_int_eq(total(pb), 3);
    ck_assert(has_comment(pb, "cprofd.signals=2000"));
    reader_free(pb);
}
END_TEST

START_TEST(test_the_word_decides_where_no_name_tells)
{
    wakes(setup, teardown, SAMPLE_STATE_LOCK, 1);
    wakes(setup, teardown, SAMPLE_STATE_OTHER, 1000);
    Perftools__Profiles__Profile *pb = fixture_profile(&f, &b, NULL);
    ck_assert_int_eq(total(pb), 1);
    ck_assert(has_comment(pb, "cprofd.signals=1000"));
    for (size_t i = 0; i < pb->sample[0]->n_label; i++)
        ck_assert_str_ne(reader_string(pb, pb->sample[0]->label[i]->key), "state");
    reader_free(pb);
}
END_TEST

/* Far from the leaf, names say nothing of the call. */
START_TEST(test_only_what_is_near)
{
    uint64_t frames[20] = {(uintptr_t)setup};

    for (size_t i = 1; i < 20; i++)
        frames[i] = (uintptr_t)teardown + 2;
    frames[19] = (uintptr_t)my_notify_one + 2;
    b.key.state = SAMPLE_STATE_LOCK;
    build_count(&b, build_stack(&b, NULL, 0, frames, 20, STACK_END_ROOT), 1);
    Perftools__Profiles__Profile *pb = fixture_profile(&f, &b, NULL);
    ck_assert_int_eq(total(pb), 1);
    reader_free(pb);
}
END_TEST

START_TEST(test_other_kinds_show_all)
{
    b.params.releases = 0;
    wakes(libc_function("pthread_cond_signal"), setup, SAMPLE_STATE_OTHER, 1);
    Perftools__Profiles__Profile *pb = fixture_profile(&f, &b, NULL);
    ck_assert_int_eq(total(pb), 1);
    ck_assert_ptr_null(comment_of(pb, "cprofd.signals="));
    reader_free(pb);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("render_signals");
    TCase *c = tcase_create("all");

    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, test_names_decide);
    tcase_add_test(c, test_the_innermost_decides);
    tcase_add_test(c, test_the_word_decides_where_no_name_tells);
    tcase_add_test(c, test_only_what_is_near);
    tcase_add_test(c, test_other_kinds_show_all);
    suite_add_tcase(s, c);
    SRunner *runner = srunner_create(s);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
