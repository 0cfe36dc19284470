/* Sets of labels, from what a target had in memory to a sample's labels. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/render_job.h"
#include "daemon/render_labels.h"

static uint64_t words[sizeof(struct stack_record) / 8 + 2 + LABELS_MAX_WORDS];
static struct stack_record *const record = (struct stack_record *)words;
static struct render_labels labels;
static struct render_job job;

static void begin(void)
{
    memset(words, 0, sizeof(words));
    record->n_kernel = 1;
    record->n_user = 1;
}

static void add_set(const void *entries, size_t n)
{
    uint64_t *to = words + sizeof(*record) / 8 + 2 + record->label_words;
    to[0] = n;
    memcpy(to + 1, entries, n);
    record->label_words += 1 + (n + 7) / 8;
}

/* "key=value ..." of what is read, with what went wrong behind it. */
static const char *text(void)
{
    static char all[65536];
    size_t n = 0;
    render_labels_read(&job, record, &labels);
    all[0] = '\0';
    for (size_t i = 0; i < labels.n; i++)
        n += (size_t)snprintf(all + n, sizeof(all) - n, "%s%s=%s", i ? " " : "", labels.list[i].key, labels.list[i].str);
    snprintf(all + n, sizeof(all) - n, "%s%s", labels.cut ? " cut" : "", labels.left_out ? " left_out" : "");
    return all;
}

START_TEST(test_pairs)
{
    begin();
    ck_assert_str_eq(text(), "");
    add_set("\xff\x03" "a\0b" "\xff\x04" "key\0" "\xff\x02" "\0x", 15);
    ck_assert_str_eq(text(), "a=b key= label.=x");
    ck_assert_ptr_null(labels.lost);
}
END_TEST

START_TEST(test_what_was_lost)
{
    begin();
    add_set("\xfe\x02\x01\x00", 4);
    ck_assert_str_eq(text(), " cut");
    add_set("\xfe\x02\x00\x09", 4);
    ck_assert_str_eq(text(), " cut left_out");
    record->label_state = LABELS_UNREADABLE;
    ck_assert_str_eq(text(), "cprofd.labels=unreadable cut left_out");
    record->label_state = LABELS_NO_ROOM;
    ck_assert_str_eq(text(), "cprofd.labels=no_room cut left_out");
    record->label_state = LABELS_LATE;
    ck_assert_str_eq(text(), " cut left_out"); /* of a program that has none, as far as anybody knows */
    job.has_labels = true;
    ck_assert_str_eq(text(), "cprofd.labels=late cut left_out");
    record->label_state = 200;
    ck_assert_str_eq(text(), "cprofd.labels=unreadable cut left_out");
}
END_TEST

/* Of two objects with labels of one key, the last. */
START_TEST(test_several_sets)
{
    begin();
    add_set("\xff\x03" "a\0b" "\xff\x03" "c\0d", 10);
    add_set("\xff\x03" "a\0e", 5);
    ck_assert_str_eq(text(), "a=e c=d");
}
END_TEST

START_TEST(test_our_keys)
{
    begin();
    add_set("\xff\x06" "tid\0" "77" "\xff\x08" "thread\0" "x" "\xff\x0a" "cprofd.a\0" "y", 30);
    ck_assert_str_eq(text(), "label.tid=77 label.thread=x label.cprofd.a=y");
}
END_TEST

START_TEST(test_text_that_is_none)
{
    begin();
    add_set("\xff\x06" "k\n\0" "\x1b\xff" "v", 8);
    ck_assert_str_eq(text(), "k?=??v");
    begin();
    add_set("\xff\x06" "k\0" "a\0b\xc3", 8); /* no end, but a byte as others */
    ck_assert_str_eq(text(), "k=a?b?");
    begin();
    add_set("\xff\x04" "\xc3\xa4\0" "x" "\xff\x04" "\xc3\xc3\0" "y" "\xff\x04" "\xfe\xfe\0" "z", 18);
    ck_assert_str_eq(text(), "\xc3\xa4=x ?""?=z");
}
END_TEST

START_TEST(test_malformed)
{
    static const struct { const char *entries; size_t n; } sets[] = {
        {"\xff", 1},                 /* no length */
        {"\xff\x04" "a\0b", 5},      /* one that goes beyond */
        {"\xff\x02" "ab", 4},        /* no end of the key */
        {"\xff\x00", 2},
        {"\x01\x03" "a\0b", 5},      /* a kind that nobody knows */
        {"\xfe\x01\x01", 3},
        {"\xff\x03" "a\0b" "\xff", 6},
    };
    for (size_t i = 0; i < sizeof(sets) / sizeof(sets[0]); i++) {
        begin();
        add_set(sets[i].entries, sets[i].n);
        ck_assert_str_eq(text(), "cprofd.labels=malformed");
    }
    begin();
    add_set("\xff\x03" "a\0b", 5);
    words[sizeof(*record) / 8 + 2] = 9; /* more than there are */
    ck_assert_str_eq(text(), "cprofd.labels=malformed");
    words[sizeof(*record) / 8 + 2] = UINT64_MAX;
    ck_assert_str_eq(text(), "cprofd.labels=malformed");
    begin();
    for (int i = 0; i <= LABELS_PLACES; i++)
        add_set("\xff\x03" "a\0b", 5);
    ck_assert_str_eq(text(), "a=b cprofd.labels=malformed");
}
END_TEST

/* As many as there can be. */
START_TEST(test_full)
{
    uint8_t entries[LABELS_SET_BYTES];
    begin();
    for (int set = 0; set < LABELS_PLACES; set++) {
        for (size_t i = 0; i < LABELS_SET_BYTES / 6; i++)
            memcpy(entries + 6 * i, (uint8_t[]){255, 4, (uint8_t)('a' + set), (uint8_t)(128 + i % 100), (uint8_t)('0' + i / 100), 0}, 6);
        add_set(entries, sizeof(entries));
    }
    text();
    ck_assert_uint_le(labels.n, RENDER_MAX_LABELS);
    begin();
    for (int set = 0; set < LABELS_PLACES; set++) {
        for (size_t i = 0; i < LABELS_SET_BYTES / 6; i++)
            memcpy(entries + 6 * i, (uint8_t[]){255, 4, (uint8_t)('a' + set), (uint8_t)('!' + i % 90), (uint8_t)('0' + i / 90), 0}, 6);
        add_set(entries, sizeof(entries));
    }
    text();
    ck_assert_uint_eq(labels.n, RENDER_MAX_LABELS);
    ck_assert(labels.left_out);
    record->label_state = LABELS_UNREADABLE;
    text();
    ck_assert_uint_eq(labels.n, RENDER_MAX_LABELS + 1);
    begin();
    for (int set = 0; set < LABELS_PLACES; set++) { /* the shortest: their prefix takes the most room */
        for (size_t i = 0; i < LABELS_SET_BYTES / 3; i++)
            memcpy(entries + 3 * i, (uint8_t[]){255, 1, 0}, 3);
        add_set(entries, sizeof(entries));
    }
    ck_assert_str_eq(text(), "label.=");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("render_labels");
    TCase *tests = tcase_create("render_labels");
    tcase_add_test(tests, test_pairs);
    tcase_add_test(tests, test_what_was_lost);
    tcase_add_test(tests, test_several_sets);
    tcase_add_test(tests, test_our_keys);
    tcase_add_test(tests, test_text_that_is_none);
    tcase_add_test(tests, test_malformed);
    tcase_add_test(tests, test_full);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
