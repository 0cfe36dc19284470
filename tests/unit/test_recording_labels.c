/* From what workers say of files, whoever they are, to where the BPF programs look for labels. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/recording_impl.h"
#include "util/cleanup.h"

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

/* While they are changed nothing is known of them; what comes within the window is late. */
START_TEST(test_late)
{
    struct recording rec = {.server = NULL};

    begin();
    entries[1].has_labels = true;
    recording_labels_find(&u);
    u.known_epoch = 1;
    recording_labels_publish(&u, &ctl);
    u.opened = true;
    recording_labels_find(&u);
    ck_assert_uint_eq(u.n_labels_late, 0);
    entries[2].has_labels = true;
    recording_labels_find(&u);
    ck_assert_uint_eq(u.n_labels_late, 1);
    u.known_epoch = 2;
    recording_labels_publish(&u, &ctl);
    ck_assert_uint_eq(ctl.labels.known_epoch, 2);
    rec.unwind = u;
    recording_labels_withdraw(&rec); /* before events are there */
    ck_assert_uint_eq(rec.unwind.known_epoch, 0);
}
END_TEST

/* The facts of the recording, each on a line. */
static const char *facts(void)
{
    static char text[1024];
    struct raw_profile p;
    struct raw_writer *w = raw_writer_new();

    ck_assert_int_eq(recording_labels_facts(&u, w), 0);
    ck_assert_int_eq(raw_writer_section(w, RAW_PARAMS, &(struct raw_params){.format = RAW_FORMAT_SYMBOL, .period = 1}, sizeof(struct raw_params)), 0);
    AUTO_CLOSE int fd = raw_writer_finish(w);
    raw_writer_free(w);
    ck_assert_int_eq(raw_profile_open(fd, &p), 0);
    for (size_t i = 0; i < p.facts_len; i++)
        text[i] = p.facts[i] ? p.facts[i] : '\n';
    text[p.facts_len] = '\0';
    raw_profile_close(&p);
    return text;
}

START_TEST(test_facts)
{
    begin();
    for (int i = 0; i < FILES; i++)
        entries[i].state = UNWIND_READY;
    ck_assert_str_eq(facts(), "labels.unknown=unwind=copy reads none: threads may have labels\n");
    u.observing = u.labels_known = true;
    ck_assert_str_eq(facts(), "");
    /* What a worker has read, whatever came of its table, is known. */
    entries[0].state = entries[1].state = entries[2].state = entries[3].state = UNWIND_NONE;
    entries[0].why = UNWIND_WHY_NO_CFI;
    entries[1].why = UNWIND_WHY_NO_ROOM;
    entries[2].why = UNWIND_WHY_NOT_ELF;
    entries[3].why = UNWIND_WHY_MALFORMED;
    ck_assert_str_eq(facts(), "");
    entries[0].why = UNWIND_WHY_CRASH;
    entries[4].state = UNWIND_BUILDING;
    uses[1].why = UNWIND_WHY_NO_ROOM;
    uses[5].why = UNWIND_WHY_UNREADABLE;
    u.labels_known = false;
    u.n_labels_most = 2;
    u.n_labels_late = 1;
    u.n_labels_left_out = 3;
    ck_assert_str_eq(facts(), "labels.unknown=not all files of the process were read in time: its threads may have labels\n"
                              "labels.files_unread=4: whether threads have labels in these is not known\nlabels.places=2\n"
                              "labels.places_late=1: labels there were not read from the beginning\nlabels.places_left_out=3\n");
    uses[1].why = uses[5].why = 0;
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
    tcase_add_test(tests, test_late);
    tcase_add_test(tests, test_facts);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
