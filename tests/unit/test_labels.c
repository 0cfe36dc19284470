/* Labels as cprofd/labels.h publishes them: nesting, inheritance, limits; what a signal and what another thread reads in the middle of
 * changes; and where a file's variable lies, tried on this very program. */
#include <check.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>

#define CPROFD_LABELS_PTHREAD
#include "bpf/sample.h"
#include "include/cprofd/labels.h"
#include "symbolize/label_place.h"
#include "tests/unit/section_file.h"
#include "util/cleanup.h"

#define TEXT_BYTES 4096

static const char *library_paths[2], *stripped_path; /* the second hides its variable */

/* "key=value ..." of a set, in its order, with "-CUT-LEFTOUT" where some are lost. */
static const char *text_of(const struct cprofd_labels *labels)
{
    static _Thread_local char text[TEXT_BYTES];
    size_t n = 0;
    text[0] = 0;
    if (!labels)
        return "none";
    ck_assert_uint_eq(labels->valid, 1);
    ck_assert_uint_le(labels->bytes, CPROFD_LABELS_MAX_BYTES);
    for (size_t at = 0; at < labels->bytes; at += 2u + labels->entries[at + 1]) {
        const uint8_t *entry = labels->entries + at;
        ck_assert_uint_le(at + 2 + entry[1], labels->bytes);
        if (entry[0] == CPROFD_LABEL_LOST) {
            n += (size_t)snprintf(text + n, TEXT_BYTES - n, "-%u-%u ", entry[2], entry[3]);
            continue;
        }
        ck_assert_uint_eq(entry[0], CPROFD_LABEL_PAIR);
        int key_bytes = (int)strlen((const char *)entry + 2);
        n += (size_t)snprintf(text + n, TEXT_BYTES - n, "%s=%.*s ", (const char *)entry + 2, entry[1] - key_bytes - 1,
                              (const char *)entry + 3 + key_bytes);
    }
    return text;
}

static const char *now(void)
{
    return text_of(cprofd_thread_labels_v1.current);
}

START_TEST(test_layout)
{
    ck_assert_uint_eq(sizeof(struct cprofd_labels), 640);
    ck_assert_uint_eq(offsetof(struct cprofd_labels, valid), 24);
    ck_assert_uint_eq(offsetof(struct cprofd_labels, bytes), 26);
    ck_assert_uint_eq(offsetof(struct cprofd_labels, entries), 28);
    ck_assert_uint_eq(offsetof(struct cprofd_thread_labels, current), 0);
    ck_assert_uint_eq(LABELS_SET_BYTES, CPROFD_LABELS_MAX_BYTES); /* readers have their own */
    ck_assert_uint_eq(LABELS_ENTRY_PAIR, CPROFD_LABEL_PAIR);
    ck_assert_uint_eq(LABELS_ENTRY_LOST, CPROFD_LABEL_LOST);
}
END_TEST

static int returns_early(void)
{
    CPROFD_LABEL(early, "early", "1");
    ck_assert_str_eq(now(), "a=1 b=2 early=1 ");
    return 7;
}

START_TEST(test_nesting)
{
    ck_assert_str_eq(now(), "none");
    {
        CPROFD_LABEL(a, "a", "1");
        CPROFD_LABEL(b, "b", "2");
        ck_assert_str_eq(now(), "a=1 b=2 ");
        ck_assert_int_eq(returns_early(), 7);
        for (int i = 0; i < 2; i++) {
            CPROFD_LABEL(inner, "a", "3");
            ck_assert_str_eq(now(), "b=2 a=3 ");
        }
        ck_assert_str_eq(now(), "a=1 b=2 ");
        CPROFD_LABEL_BEGIN(pair, "", "");
        ck_assert_str_eq(now(), "a=1 b=2 = ");
        CPROFD_LABEL_END(pair);
        ck_assert_str_eq(now(), "a=1 b=2 ");
    }
    ck_assert_str_eq(now(), "none");
    ck_assert_uint_eq(cprofd_thread_labels_v1.changes % 2, 0);
}
END_TEST

/* A key that begins as another is another. */
START_TEST(test_keys)
{
    CPROFD_LABEL(a, "key", "1");
    CPROFD_LABEL(b, "ke", "2");
    CPROFD_LABEL(c, "keys", "3");
    CPROFD_LABEL(d, "key", "4");
    ck_assert_str_eq(now(), "ke=2 keys=3 key=4 ");
}
END_TEST

START_TEST(test_cut_values)
{
    char value[600] = "", want[600];
    memset(value, 'v', 599);
    CPROFD_LABEL(a, "key", value);
    snprintf(want, sizeof(want), "key=%.*s -1-0 ", 250, value);
    ck_assert_str_eq(now(), want);
    memcpy(value + 249, "\xc3\xa4", 2); /* the 250th and 251st byte: one character */
    CPROFD_LABEL(b, "key", value);
    snprintf(want, sizeof(want), "-2-0 key=%.*s ", 249, value);
    ck_assert_str_eq(now(), want);
    CPROFD_LABEL(c, value, "x"); /* a key that has no room at all */
    snprintf(want, sizeof(want), "-2-1 key=%.*s ", 249, value);
    ck_assert_str_eq(now(), want);
}
END_TEST

START_TEST(test_full)
{
    struct cprofd_labels labels;
    char key[8], value[98];
    memset(value, 'v', 97);
    value[97] = 0;
    cprofd_labels_copy(&labels);
    for (int i = 0; i < 300; i++) {
        snprintf(key, sizeof(key), "k%03d", i);
        cprofd_labels_add(&labels, key, value);
    }
    unsigned kept = 0;
    for (const char *found = text_of(&labels); (found = strchr(found, '=')); found++)
        kept++;
    ck_assert_uint_eq(kept, (CPROFD_LABELS_MAX_BYTES - 4) / (3 + 4 + 97));
    ck_assert_ptr_nonnull(strstr(text_of(&labels), "-0-255 ")); /* counted to there */
    cprofd_labels_add(&labels, "k000", "short"); /* in place of a longer one */
    ck_assert_ptr_nonnull(strstr(text_of(&labels), "k000=short"));
}
END_TEST

static void *keep_text(void *ret)
{
    snprintf(ret, TEXT_BYTES, "%s", now());
    CPROFD_LABEL(own, "own", "1");
    return NULL;
}

START_TEST(test_inheritance)
{
    char with[TEXT_BYTES], without[TEXT_BYTES];
    pthread_t threads[2];
    struct cprofd_labels copy;
    {
        CPROFD_LABEL(a, "a", "1");
        cprofd_labels_copy(&copy);
        ck_assert_int_eq(cprofd_pthread_create(&threads[0], NULL, keep_text, with), 0);
    }
    ck_assert_int_eq(pthread_create(&threads[1], NULL, keep_text, without), 0);
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
    ck_assert_str_eq(with, "a=1 ");
    ck_assert_str_eq(without, "none");
    {
        CPROFD_LABELS_OF(handed, &copy);
        ck_assert_str_eq(now(), "a=1 ");
        CPROFD_LABEL(b, "b", "2");
        ck_assert_str_eq(now(), "a=1 b=2 ");
    }
    ck_assert_str_eq(now(), "none");
    ck_assert_str_eq(text_of(&copy), "a=1 ");
}
END_TEST

/* Sets whose pairs belong together: x=N y=N. */
static volatile sig_atomic_t looks, torn;

static bool fits(const struct cprofd_labels *labels)
{
    const uint8_t *e = labels->entries;
    if (labels->valid != 1 || labels->bytes > CPROFD_LABELS_MAX_BYTES)
        return false;
    if (labels->bytes == 0 || labels->bytes == 5)
        return true;
    return labels->bytes == 10 && e[0] == CPROFD_LABEL_PAIR && e[2] == 'x' && e[7] == 'y' && e[4] == e[9];
}

static void look(int number)
{
    (void)number;
    const struct cprofd_labels *labels = cprofd_thread_labels_v1.current;
    looks++;
    torn += labels && !fits(labels);
}

static __attribute__((noinline)) void scribble(char with)
{
    volatile char stack[1500];
    for (size_t i = 0; i < sizeof(stack); i++)
        stack[i] = with;
}

static __attribute__((noinline)) void label_twice(unsigned i)
{
    const char value[] = {(char)('a' + i % 26), 0};
    CPROFD_LABEL(x, "x", value);
    CPROFD_LABEL(y, "y", value);
}

START_TEST(test_signals)
{
    struct itimerval every = {{0, 200}, {0, 200}}, never = {{0, 0}, {0, 0}};
    struct sigaction action = {.sa_handler = look, .sa_flags = SA_RESTART};
    ck_assert_int_eq(sigaction(SIGPROF, &action, NULL), 0);
    ck_assert_int_eq(setitimer(ITIMER_PROF, &every, NULL), 0);
    for (unsigned i = 0; looks < 200; i++) {
        label_twice(i);
        scribble((char)i);
    }
    ck_assert_int_eq(setitimer(ITIMER_PROF, &never, NULL), 0);
    ck_assert_int_eq(torn, 0);
}
END_TEST

struct watched {
    const struct cprofd_thread_labels *labels;
    unsigned whole; /* sets that were read */
    int stop;
};

/* Until the reader has one more: where each reading takes it longer than labels last, it would never have any. */
static __attribute__((noinline)) void label_until_read(const struct watched *watched, unsigned i)
{
    const char value[] = {(char)('a' + i % 26), 0};
    unsigned before = __atomic_load_n(&watched->whole, __ATOMIC_RELAXED);
    CPROFD_LABEL(x, "x", value);
    CPROFD_LABEL(y, "y", value);
    while (__atomic_load_n(&watched->whole, __ATOMIC_RELAXED) == before && !__atomic_load_n(&watched->stop, __ATOMIC_RELAXED))
        (void)sched_yield();
}

static void *label_all_day(void *given)
{
    struct watched *watched = given;
    __atomic_store_n(&watched->labels, &cprofd_thread_labels_v1, __ATOMIC_RELEASE);
    for (unsigned i = 0; !__atomic_load_n(&watched->stop, __ATOMIC_RELAXED); i++) {
        if (i % 16 == 0)
            label_until_read(watched, i);
        label_twice(i);
        scribble((char)i);
    }
    return NULL;
}

/* As one that doesn't interrupt the thread reads: by the count of changes. */
START_TEST(test_reader)
{
    struct watched watched = {0};
    pthread_t thread;
    ck_assert_int_eq(pthread_create(&thread, NULL, label_all_day, &watched), 0);
    const struct cprofd_thread_labels *labels;
    while (!(labels = __atomic_load_n(&watched.labels, __ATOMIC_ACQUIRE)))
        ;
    while (watched.whole < 100) {
        struct cprofd_labels copy;
        uintptr_t changes = __atomic_load_n(&labels->changes, __ATOMIC_ACQUIRE);
        const struct cprofd_labels *current = __atomic_load_n(&labels->current, __ATOMIC_ACQUIRE);
        if (!current || changes % 2)
            continue;
        memcpy(&copy, (const void *)current, sizeof(copy));
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        if (__atomic_load_n(&labels->changes, __ATOMIC_RELAXED) != changes)
            continue;
        ck_assert(fits(&copy));
        __atomic_store_n(&watched.whole, watched.whole + 1, __ATOMIC_RELAXED);
    }
    __atomic_store_n(&watched.stop, 1, __ATOMIC_RELAXED);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
}
END_TEST

static const char *thread_pointer(void)
{
    const char *pointer;
#ifdef __x86_64__
    __asm__("mov %%fs:0, %0" : "=r"(pointer));
#else
    __asm__("mrs %0, tpidr_el0" : "=r"(pointer));
#endif
    return pointer;
}

static int place_in(int given, struct label_place *ret)
{
    AUTO_CLOSE int fd = given;
    struct elf_file file = {0};
    ck_assert_int_eq(elf_file_open(fd, &file), 0);
    int r = label_place_find(&file, ret);
    elf_file_close(&file);
    return r;
}

START_TEST(test_own_place)
{
    struct label_place place = {.slot_address = 1};
    ck_assert_int_eq(place_in(open("/proc/self/exe", O_RDONLY | O_CLOEXEC), &place), 0);
    ck_assert_uint_eq(place.slot_address, 0);
    ck_assert_ptr_eq(thread_pointer() + place.thread_offset, (const char *)&cprofd_thread_labels_v1);
}
END_TEST

static int open_file(const char *path)
{
    return open(path, O_RDONLY | O_CLOEXEC);
}

#ifdef __x86_64__
START_TEST(test_stripped_place)
{
    struct label_place place, own;
    ck_assert_int_eq(place_in(open_file("/proc/self/exe"), &own), 0);
    ck_assert_int_eq(place_in(open_file(stripped_path), &place), 0);
    ck_assert_int_eq(place.thread_offset, own.thread_offset);
    ck_assert_uint_eq(place.slot_address, 0);
}
END_TEST
#endif

START_TEST(test_place_in_library)
{
    struct label_place place = {0};
    int64_t offset;
    Dl_info info;
    const char *library_path = library_paths[_i];
    void *library = dlopen(library_path, RTLD_NOW);
    ck_assert_msg(library != NULL, "%s", dlerror());
    struct cprofd_thread_labels *(*labels)(void) = (struct cprofd_thread_labels * (*)(void)) dlsym(library, "library_labels");
    ck_assert(labels && dladdr((void *)labels, &info));
    ck_assert_int_eq(place_in(open_file(library_path), &place), 0);
    ck_assert_uint_ne(place.slot_address, 0);
    memcpy(&offset, (const char *)info.dli_fbase + place.slot_address, sizeof(offset));
    ck_assert_uint_lt(place.code_offset, place.slot_offset);
    ck_assert_ptr_eq(thread_pointer() + offset, (const char *)labels());
}
END_TEST

START_TEST(test_no_place)
{
    struct label_place place;
    const uint8_t note[] = {7, 0, 0, 0, 8, 0, 0, 0, 3, 0, 0, 0, 'c', 'p', 'r', 'o', 'f', 'd', 0, 0, 16, 0, 0, 0, 0, 0, 0, 0};
    const struct section_given none = {".text", SHF_ALLOC, (const uint8_t *)"x", 1, 0};
    const struct section_given only_note = {".note.cprofd", SHF_ALLOC, note, sizeof(note), SHT_NOTE};
    const struct section_given short_note = {".note.cprofd", SHF_ALLOC, note, sizeof(note) - 1, SHT_NOTE};
    ck_assert_int_eq(place_in(section_file(&none, 1, section_file_ident), &place), -ENOENT);
    ck_assert_int_eq(place_in(section_file(&only_note, 1, section_file_ident), &place), -ENOEXEC); /* no storage */
    ck_assert_int_eq(place_in(section_file(&short_note, 1, section_file_ident), &place), -ENOENT);
}
END_TEST

int main(int argc, char **argv)
{
    if (argc != 4)
        return 99;
    library_paths[0] = argv[1];
    library_paths[1] = argv[2];
    stripped_path = argv[3];
    Suite *suite = suite_create("labels");
    TCase *tests = tcase_create("labels");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, test_layout);
    tcase_add_test(tests, test_nesting);
    tcase_add_test(tests, test_keys);
    tcase_add_test(tests, test_cut_values);
    tcase_add_test(tests, test_full);
    tcase_add_test(tests, test_inheritance);
    tcase_add_test(tests, test_signals);
    tcase_add_test(tests, test_reader);
    tcase_add_test(tests, test_own_place);
#ifdef __x86_64__
    tcase_add_test(tests, test_stripped_place);
#endif
    tcase_add_loop_test(tests, test_place_in_library, 0, 2);
    tcase_add_test(tests, test_no_place);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
