/* From what workers say of files, whoever they are, to where the BPF programs look for labels. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/recording_unwind.h"

#define FILES 6

static struct raw_mapping mappings[FILES + 1];
static struct unwind_entry entries[FILES];
static struct recording_use uses[FILES];
static uint32_t use_of[FILES + 1];
static struct recording_unwind u;
static struct session_ctl ctl;

/* Files of a library each, with a slot 0x3000 behind the beginning of their code. */
static void begin(void)
{
    memset(entries, 0, sizeof(entries));
    memset(&u, 0, sizeof(u));
    memset(&ctl, 0, sizeof(ctl));
    for (uint32_t i = 0; i < FILES; i++) {
        uint64_t at = 0x7f0000000000 + i * 0x100000ull;
        mappings[i] = (struct raw_mapping){.start = at + 0x1000, .end = at + 0x3000, .offset = 0x1000, .object = i};
        entries[i].labels = (struct label_place){.slot_address = 0x5000, .slot_offset = 0x4000, .code_offset = 0x1040};
        uses[i].entry = &entries[i];
        use_of[i] = i;
    }
    mappings[FILES] = (struct raw_mapping){.start = 0x7fff00000000, .end = 0x7fff00001000, .object = RAW_NO_OBJECT};
    u.list.mappings = mappings;
    u.list.n_mappings = FILES + 1;
    u.uses = uses;
    u.n_uses = FILES;
    u.use_of = use_of;
    u.place = 1;
}

START_TEST(test_none)
{
    begin();
    recording_labels_find(&u);
    recording_labels_publish(&u, &ctl);
    ck_assert_uint_eq(u.n_labels, 0);
    ck_assert_uint_eq(ctl.labels.places[0], 0);
}
END_TEST

START_TEST(test_slots)
{
    begin();
    entries[1].has_labels = entries[2].has_labels = true;
    recording_labels_find(&u);
    ck_assert_uint_eq(u.n_labels, 2);
    ck_assert_uint_eq(u.labels[0], LABELS_PLACE_SLOT | 0x7f0000104000);
    ck_assert_uint_eq(u.labels[1], LABELS_PLACE_SLOT | 0x7f0000204000);
    mappings[2].offset = 0x2000; /* another part of its code than that which the place is told by */
    recording_labels_find(&u);
    ck_assert_uint_eq(u.n_labels, 1);
}
END_TEST

/* Of an executable, and of no other file that happens to be mapped. */
START_TEST(test_offsets)
{
    begin();
    entries[0].has_labels = entries[1].has_labels = true;
    entries[0].labels = entries[1].labels = (struct label_place){.thread_offset = -64};
    mappings[0].main_binary = 1;
    recording_labels_find(&u);
    ck_assert_uint_eq(u.n_labels, 1);
    ck_assert_uint_eq(u.labels[0], LABELS_PLACE_OFFSET | (uint32_t)-64);
    entries[0].labels.thread_offset = INT64_MIN;
    recording_labels_find(&u);
    ck_assert_uint_eq(u.n_labels, 0);
    mappings[0].main_binary = 0;
}
END_TEST

START_TEST(test_lies)
{
    begin();
    entries[1].has_labels = true;
    entries[1].labels.slot_offset = UINT64_MAX / 2;
    recording_labels_find(&u);
    ck_assert_uint_eq(u.n_labels, 0);
    entries[1].labels.slot_offset = 0x4000;
    entries[1].labels.code_offset = UINT64_MAX;
    recording_labels_find(&u);
    ck_assert_uint_eq(u.n_labels, 0);
}
END_TEST

START_TEST(test_too_many)
{
    begin();
    for (int i = 0; i < FILES; i++)
        entries[i].has_labels = true;
    recording_labels_find(&u);
    ck_assert_uint_eq(u.n_labels, LABELS_PLACES);
    ck_assert_uint_eq(u.n_labels_left_out, FILES - LABELS_PLACES);
}
END_TEST

/* Another image has places of its own, and none while they are not known. */
START_TEST(test_publish)
{
    begin();
    entries[1].has_labels = true;
    recording_labels_find(&u);
    u.place_epoch = 3;
    recording_labels_publish(&u, &ctl);
    ck_assert_uint_eq(ctl.labels.exec_epoch, 3);
    ck_assert_uint_eq(ctl.labels.places[0], u.labels[0]);
    ck_assert_uint_eq(ctl.labels.places[1], 0);
    ck_assert_uint_eq(ctl.labels.known_epoch, 0);
    u.known_epoch = 8;
    recording_labels_publish(&u, &ctl);
    ck_assert_uint_eq(ctl.labels.known_epoch, 8);
    u.place = 0;
    recording_labels_publish(&u, &ctl);
    ck_assert_uint_eq(ctl.labels.places[0], 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("recording_labels");
    TCase *tests = tcase_create("recording_labels");
    tcase_add_test(tests, test_none);
    tcase_add_test(tests, test_slots);
    tcase_add_test(tests, test_offsets);
    tcase_add_test(tests, test_lies);
    tcase_add_test(tests, test_too_many);
    tcase_add_test(tests, test_publish);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
