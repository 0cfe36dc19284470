/* What a recording does for its target's tables, with a collector that is played by the test. The first argument is fault_worker's path. */
#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bpf/code_watch.h"
#include "tests/unit/played_recording.h"

/* Facts of a key, joined by "|". */
static const char *facts(const struct recording *rec, const char *key)
{
    static char text[4096];
    struct raw_writer *w = raw_writer_new();
    struct raw_profile p;

    text[0] = '\0';
    ck_assert_int_eq(recording_unwind_facts(&rec->unwind, w), 0);
    AUTO_CLOSE int fd = raw_writer_finish(w);
    raw_writer_free(w);
    ck_assert_int_eq(raw_table_open(fd, &p), 0);
    for (size_t at = 0; at < p.facts_len; at += strlen(p.facts + at) + 1) {
        const char *value = strchr(p.facts + at, '=') + 1;
        if (strncmp(p.facts + at, key, strlen(key)) == 0 && p.facts[at + strlen(key)] == '=')
            (void)snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s", text[0] ? "|" : "", value);
    }
    raw_profile_close(&p);
    return text;
}

START_TEST(each_mapping_has_what_its_file_gives)
{
    struct recording *rec = recording_begin(3);

    scripts[0] = "table 2 10";
    scripts[1] = "error 8";  /* not ELF: JIT code */
    scripts[2] = "error 61"; /* no CFI */
    scripts[3] = "crash";
    scripts[4] = NULL;       /* can't be opened */
    ck_assert(!recording_unwind_is_ready(rec));
    ck_assert_str_ne(facts(rec, "labels.unknown"), "");
    TELL(rec, 0, {0x1000, 0x2000, 0, .main_binary = true}, {0x3000, 0x4000, 1}, {0x5000, 0x6000, 2}, {0x7000, 0x8000, 3},
         {0x9000, 0xa000, 4}, {0xb000, 0xc000, 13}, {0xd000, 0xe000, -1, "//anon"}, {0xe000, 0xf000, -1, "[anon:jit]"},
         {0x10000, 0x11000, -1, "[vdso]"}, {0x12000, 0x13000, 0}, {0xffffffffff600000, 0xffffffffff601000, -1, "[vsyscall]"});
    wait_settled(rec);
    ck_assert_uint_eq(kind_at(rec, 0xfff), 0);
    ck_assert_uint_eq(kind_at(rec, 0x1000), UNWIND_MAPPING_TABLE);
    ck_assert_uint_eq(kind_at(rec, 0x2000), 0);
    ck_assert_uint_eq(kind_at(rec, 0x3000), UNWIND_MAPPING_ANONYMOUS);
    ck_assert_uint_eq(kind_at(rec, 0x5000), UNWIND_MAPPING_NO_CFI);
    ck_assert_uint_eq(kind_at(rec, 0x7000), UNWIND_MAPPING_NO_CFI);
    ck_assert_uint_eq(kind_at(rec, 0x9000), UNWIND_MAPPING_NO_CFI);
    ck_assert_uint_eq(kind_at(rec, 0xb000), UNWIND_MAPPING_NO_CFI);
    ck_assert_uint_eq(kind_at(rec, 0xd000), UNWIND_MAPPING_ANONYMOUS);
    ck_assert_uint_eq(kind_at(rec, 0xefff), UNWIND_MAPPING_ANONYMOUS);
    ck_assert_uint_eq(kind_at(rec, 0x10000), UNWIND_MAPPING_TABLE);
    ck_assert_uint_eq(kind_at(rec, 0x12fff), UNWIND_MAPPING_TABLE);
    ck_assert_uint_eq(kind_at(rec, 0xffffffffff600000), UNWIND_MAPPING_NO_CFI);
    ck_assert_str_eq(facts(rec, "labels.unknown"), "");
    ck_assert_str_eq(facts(rec, "unwind.tables"), "2");
    ck_assert_str_eq(facts(rec, "unwind.tables_missing"), "4"); /* JIT code is not meant to have one */
    ck_assert_ptr_nonnull(strstr(facts(rec, "unwind.no_table"), "/lib/2: the file has no unwind information"));
    ck_assert_ptr_nonnull(strstr(facts(rec, "unwind.no_table"), "/lib/3: reading the file crashed a worker"));
    ck_assert_ptr_nonnull(strstr(facts(rec, "unwind.no_table"), "/lib/4: the file could not be opened"));
    ck_assert_ptr_nonnull(strstr(facts(rec, "unwind.no_table"), "/lib/13: the file could not be opened"));
    ck_assert_ptr_null(strstr(facts(rec, "unwind.no_table"), "/lib/1:"));
    recording_end(rec);
}
END_TEST

START_TEST(a_space_is_of_its_exec)
{
    struct recording *rec = recording_begin(0);

    scripts[0] = scripts[1] = "table 1 10";
    TELL(rec, 0, {0x1000, 0x2000, 0});
    wait_settled(rec);
    ck_assert_uint_eq(server.sampler.ctl[0].space >> 32, 0);
    TELL(rec, 7, {0x1000, 0x2000, 1});
    while (server.sampler.ctl[0].space >> 32 != 7)
        once();
    wait_kind(rec, 0x1000, UNWIND_MAPPING_TABLE);
    recording_end(rec);
}
END_TEST

/* What a dump lacks no later sample has; what is allocated, or opened, has its one stack for as long as it lives. */
START_TEST(what_is_walked_once_waits_longer)
{
    static const enum event_kind events[] = {EVENT_DUMP, EVENT_HEAP, EVENT_CUSTOM};
    struct recording *rec = recording_begin(0);

    rec->params.event = events[_i];
    scripts[0] = "pause 600\ntable 1 10";
    TELL(rec, 0, {0x1000, 0x2000, 0, .main_binary = true});
    wait_ready(rec);
    ck_assert_uint_eq(kind_at(rec, 0x1000), UNWIND_MAPPING_TABLE);
    recording_end(rec);
}
END_TEST

/* But where nobody knows what is mapped, it is a stuck process that is looked at, and waiting longer would not help. */
START_TEST(a_dump_of_a_stuck_process_does_not)
{
    struct recording *rec = recording_begin(0);

    rec->params.event = EVENT_DUMP;
    wait_ready(rec);
    ck_assert(!rec->unwind.prolonged);
    recording_end(rec);
}
END_TEST

/* One that takes its time to be listed is not stuck. */
START_TEST(a_dump_waits_from_a_late_list_on)
{
    struct recording *rec = recording_begin(0);

    rec->params.event = EVENT_DUMP;
    wait_ready(rec);
    scripts[0] = "pause 300\ntable 1 10";
    TELL(rec, 0, {0x1000, 0x2000, 0, .main_binary = true});
    ck_assert(!recording_unwind_is_ready(rec));
    wait_ready(rec);
    ck_assert_uint_eq(kind_at(rec, 0x1000), UNWIND_MAPPING_TABLE);
    recording_end(rec);
}
END_TEST

START_TEST(what_is_mapped_later_is_pending_until_it_is_there)
{
    struct recording *rec = recording_begin(0);
    const struct session_labels *labels = &server.sampler.ctl[0].labels;

    scripts[0] = scripts[1] = "table 1 10";
    TELL(rec, 0, {0x1000, 0x2000, 0});
    wait_settled(rec);
    rec->phase = PHASE_OPEN;
    recording_unwind_on_open(rec);
    uint32_t first = (uint32_t)server.sampler.ctl[0].space;
    ck_assert_uint_eq(labels->known_epoch, 1);
    TELL(rec, 0, {0x1000, 0x2000, 0}, {0x8000, 0x9000, 1});
    ck_assert_uint_eq(labels->known_epoch, 0); /* there may be some in the new file, which no event told of */
    while (kind_at(rec, 0x8000) == 0)
        once();
    ck_assert_uint_eq(kind_at(rec, 0x1000), UNWIND_MAPPING_TABLE);
    ck_assert_uint_ne((uint32_t)server.sampler.ctl[0].space, first); /* never changed in place */
    while (kind_at(rec, 0x8000) == UNWIND_MAPPING_PENDING)
        once();
    ck_assert_uint_eq(kind_at(rec, 0x8000), UNWIND_MAPPING_TABLE);
    ck_assert_uint_eq(labels->known_epoch, 1);
    /* And what went is gone. */
    TELL(rec, 0, {0x8000, 0x9000, 1});
    wait_kind(rec, 0x1000, 0);
    recording_end(rec);
}
END_TEST

/* The programs may search a space until there is another: what it names is nobody else's until then. */
START_TEST(a_table_stays_as_long_as_a_space_names_it)
{
    struct recording *rec = recording_begin(0);

    scripts[0] = scripts[1] = "table 1 10";
    TELL(rec, 0, {0x1000, 0x2000, 0}, {0x3000, 0x4000, 1});
    wait_settled(rec);
    const struct unwind_entry *gone = rec->unwind.uses[rec->unwind.use_of[1]].entry;
    event_add(rec->unwind.pause, &(struct timeval){.tv_sec = 600}); /* holds the next space back */
    TELL(rec, 0, {0x1000, 0x2000, 0});
    ck_assert_uint_eq(gone->refs, 1);
    event_del(rec->unwind.pause);
    recording_unwind_on_mappings(rec, &(struct collector_message){.u.mappings = {.same = 1}}, -1);
    ck_assert_uint_eq(kind_at(rec, 0x3000), 0);
    ck_assert_uint_eq(gone->refs, 0);
    recording_end(rec);
}
END_TEST

/* Something is mapped where a file was: nothing of the old file's is used from then on, until a list is read after that. */
START_TEST(what_is_replaced_is_not_used)
{
    struct recording *rec = recording_begin(0);
    struct collector_message same = {.u.mappings = {.epoch = 4, .same = 1}};

    scripts[0] = scripts[1] = "table 1 10";
    scripts[2] = "error 8"; /* what a JIT compiler writes into a file, and maps again and again */
    TELL(rec, 0, {0x1000, 0x2000, 0}, {0x3000, 0x4000, 1}, {0x5000, 0x6000, -1, "//anon"}, {0x7000, 0x8000, 2});
    wait_settled(rec);
    ck_assert(recording_unwind_maps(rec, 0x1fff, 0x3000));
    ck_assert(!recording_unwind_maps(rec, 0x2000, 0x3000));
    ck_assert(!recording_unwind_maps(rec, 0x5000, 0x6000));
    ck_assert(!recording_unwind_maps(rec, 0x7000, 0x8000));
    recording_unwind_on_replaced(rec, 0x1800, 0x2800, 5);
    ck_assert_uint_eq(kind_at(rec, 0x1000), UNWIND_MAPPING_PENDING); /* at once */
    ck_assert_uint_eq(kind_at(rec, 0x3000), UNWIND_MAPPING_TABLE);
    recording_unwind_on_replaced(rec, 0x7000, 0x8000, 5);
    ck_assert_uint_eq(kind_at(rec, 0x7000), UNWIND_MAPPING_ANONYMOUS);
    recording_unwind_on_mappings(rec, &same, -1); /* it was on its way before */
    for (unsigned i = 0; i < RECORDING_UNWIND_MAX_REPLACED + 2; i++) /* more places than there is room for */
        recording_unwind_on_replaced(rec, 0x3000 + i, 0x3001 + i, 6 + i);
    ck_assert_uint_eq(kind_at(rec, 0x1000), UNWIND_MAPPING_PENDING);
    ck_assert_uint_eq(kind_at(rec, 0x3000), UNWIND_MAPPING_PENDING);
    same.u.mappings.epoch = 5;
    recording_unwind_on_mappings(rec, &same, -1);
    wait_kind(rec, 0x1000, UNWIND_MAPPING_TABLE);
    ck_assert_uint_eq(kind_at(rec, 0x3000), UNWIND_MAPPING_PENDING);
    same.u.mappings.epoch = 6 + RECORDING_UNWIND_MAX_REPLACED + 1;
    recording_unwind_on_mappings(rec, &same, -1);
    wait_kind(rec, 0x3000, UNWIND_MAPPING_TABLE);
    recording_end(rec);
}
END_TEST

/* Records are read late: of a program that has just been started, when its list is there already. */
START_TEST(what_was_mapped_before_the_list_replaces_nothing)
{
    struct recording *rec = recording_begin(0);
    struct new_code code = {.start = 0x1800, .end = 0x2800, .is_file = true, .time_ns = 99};
    struct collector_message same = {.u.mappings = {.same = 1, .read_ns = 100}};

    scripts[0] = "table 1 10";
    TELL(rec, 0, {0x1000, 0x2000, 0});
    wait_settled(rec);
    recording_unwind_on_mappings(rec, &same, -1);
    recording_new_code(rec, &code);
    ck_assert_uint_eq(kind_at(rec, 0x1000), UNWIND_MAPPING_TABLE);
    ck_assert_uint_eq(recording_ctl(rec)->epoch, 0);
    code.time_ns = 100;
    recording_new_code(rec, &code);
    ck_assert_uint_eq(kind_at(rec, 0x1000), UNWIND_MAPPING_PENDING);
    ck_assert_uint_eq(recording_ctl(rec)->epoch, 1);
    recording_end(rec);
}
END_TEST

START_TEST(the_window_waits_for_so_long)
{
    struct recording *rec = recording_begin(0);

    scripts[0] = "table 1 10";
    scripts[1] = "hang";
    scripts[2] = "silence";
    TELL(rec, 0, {0x1000, 0x2000, 0, .main_binary = true}, {0x3000, 0x4000, 1}, {0x5000, 0x6000, 2});
    wait_ready(rec); /* by the deadline: else it waits for ever */
    while (rec->unwind.uses[0].entry->state != UNWIND_READY || kind_at(rec, 0x1000) == UNWIND_MAPPING_PENDING)
        once();
    ck_assert_uint_eq(kind_at(rec, 0x3000), UNWIND_MAPPING_PENDING);
    ck_assert_uint_eq(kind_at(rec, 0x5000), UNWIND_MAPPING_PENDING);
    rec->phase = PHASE_OPEN;
    recording_unwind_on_open(rec);
    ck_assert_str_eq(facts(rec, "unwind.tables_late"), "2");
    ck_assert_str_eq(facts(rec, "unwind.tables_missing"), "2");
    ck_assert_str_eq(facts(rec, "unwind.no_table"), "/lib/1: it was not made in time|/lib/2: it was not made in time");
    recording_end(rec);
}
END_TEST

START_TEST(no_list_no_space)
{
    struct recording *rec = recording_begin(0);

    recording_unwind_on_mappings(rec, &(struct collector_message){0}, memfd_create("unsealed", MFD_CLOEXEC));
    recording_unwind_on_mappings(rec, &(struct collector_message){0}, -1);
    recording_unwind_on_mappings(rec, &(struct collector_message){.u.mappings.same = 1}, -1);
    recording_unwind_on_object(rec, 0, -1); /* nobody asked */
    recording_unwind_on_object(rec, 0, memfd_create("file", MFD_CLOEXEC));
    wait_ready(rec);
    ck_assert_uint_eq(server.sampler.ctl[0].space, 0);
    ck_assert_str_eq(facts(rec, "unwind.tables"), "0");
    recording_end(rec);
}
END_TEST

START_TEST(mappings_that_overlap_are_left_out)
{
    struct recording *rec = recording_begin(0);

    scripts[0] = "table 1 10";
    TELL(rec, 0, {0x1000, 0x3000, 0}, {0x2000, 0x4000, -1, "//anon"}, {0x800, 0x900, -1, "//anon"}, {0x5000, 0x6000, -1, "//anon"});
    wait_settled(rec);
    ck_assert_uint_eq(kind_at(rec, 0x2fff), UNWIND_MAPPING_TABLE);
    ck_assert_uint_eq(kind_at(rec, 0x3000), 0);
    ck_assert_uint_eq(kind_at(rec, 0x800), 0);
    ck_assert_uint_eq(kind_at(rec, 0x5000), UNWIND_MAPPING_ANONYMOUS);
    recording_end(rec);
}
END_TEST

START_TEST(a_target_that_breaks_workers_is_not_read_on)
{
    struct mapped mapped[12];
    struct recording *rec = recording_begin(0);

    for (unsigned i = 0; i < 12; i++) {
        scripts[i] = "crash";
        mapped[i] = (struct mapped){0x1000 * (i + 1), 0x1000 * (i + 1) + 0x800, (int)i};
    }
    tell(rec, 0, mapped, 12);
    while (strcmp(facts(rec, "unwind.tables_missing"), "12") != 0 || strstr(facts(rec, "unwind.no_table"), "in time"))
        once();
    ck_assert_ptr_nonnull(strstr(facts(rec, "unwind.no_table"), "crashed a worker"));
    for (unsigned i = 0; i < 12; i++)
        wait_kind(rec, mapped[i].start, UNWIND_MAPPING_NO_CFI);
    unsigned n_broken = 0;
    for (size_t i = 0; i < rec->unwind.n_uses; i++)
        n_broken += rec->unwind.uses[i].why == UNWIND_WHY_BROKEN;
    ck_assert_uint_ge(n_broken, 12 - RECORDING_UNWIND_MAX_BROKEN - RECORDING_UNWIND_MAX_BEGUN); /* those that were begun are read */
    recording_end(rec);
}
END_TEST

/* Files that broke workers on behalf of another target are not this one's fault. */
START_TEST(others_files_are_not_held_against_a_target)
{
    struct recording *a = recording_begin(0), *b = recording_begin(1);

    scripts[0] = scripts[1] = scripts[2] = scripts[3] = "crash";
    scripts[4] = "table 1 10";
    TELL(a, 0, {0x1000, 0x2000, 0}, {0x3000, 0x4000, 1}, {0x5000, 0x6000, 2});
    wait_settled(a);
    while (a->unwind.n_missing < 3)
        once();
    TELL(b, 0, {0x1000, 0x2000, 0}, {0x3000, 0x4000, 1}, {0x5000, 0x6000, 2}, {0x9000, 0xa000, 4});
    wait_kind(b, 0x9000, UNWIND_MAPPING_TABLE);
    ck_assert_str_eq(facts(b, "unwind.tables_missing"), "3");
    recording_end(a);
    recording_end(b);
}
END_TEST

START_TEST(a_target_with_large_tables_leaves_room)
{
    struct mapped mapped[20];
    struct recording *rec = recording_begin(0);

    for (unsigned i = 0; i < 20; i++) {
        scripts[i] = "table 95 3000"; /* 0.86 MB of 16 */
        mapped[i] = (struct mapped){0x1000 * (i + 1), 0x1000 * (i + 1) + 0x800, (int)i};
    }
    tell(rec, 0, mapped, 13);
    wait_settled(rec);
    ck_assert_ptr_nonnull(strstr(facts(rec, "unwind.no_table"), "table-memory is used up"));
    int n = atoi(facts(rec, "unwind.tables"));
    ck_assert_int_eq(n + atoi(facts(rec, "unwind.tables_missing")), 13);
    ck_assert_int_ge(n, 5); /* a quarter of it */
    ck_assert_int_le(n, 5 + RECORDING_UNWIND_MAX_BEGUN);
    recording_end(rec);
}
END_TEST

START_TEST(recordings_share_tables_and_jobs)
{
    struct recording *a = recording_begin(0), *b = recording_begin(1);

    scripts[0] = "table 1 10";
    TELL(a, 0, {0x1000, 0x2000, 0});
    scripts[0] = "crash"; /* if b read it too */
    TELL(b, 0, {0x7000, 0x8000, 0});
    wait_settled(a);
    wait_settled(b);
    ck_assert_ptr_eq(a->unwind.uses[0].entry, b->unwind.uses[0].entry);
    ck_assert_uint_eq(kind_at(a, 0x1000), kind_at(b, 0x7000));
    recording_end(a);
    recording_end(b);
}
END_TEST

/* One that has claimed a file goes before it has given it, or its target lets nobody open it: the other reads it. */
START_TEST(claims_pass_on)
{
    struct recording *a = recording_begin(0), *b = recording_begin(1);

    scripts[0] = "silence";
    TELL(a, 0, {0x1000, 0x2000, 0});
    scripts[0] = "table 1 10";
    TELL(b, 0, {0x1000, 0x2000, 0});
    ck_assert_uint_eq(a->unwind.n_asked, 1);
    ck_assert_uint_eq(b->unwind.n_asked, 0);
    if (_i == 0) {
        recording_end(a);
    } else if (_i == 1) {
        child_kill(TAKE_PTR(a->collector));
        recording_unwind_on_collector_gone(a);
    }
    wait_kind(b, 0x1000, UNWIND_MAPPING_TABLE);
    recording_end(b);
    if (_i == 0)
        return;
    ck_assert_int_eq(recording_use_why(&a->unwind.uses[0]), UNWIND_WHY_UNREADABLE);
    ck_assert_uint_eq(a->unwind.n_asked, _i == 1 ? 0 : 1); /* the answer may still come, and is for nobody */
    if (_i == 2)
        recording_unwind_on_object(a, 0, memfd_create("late", MFD_CLOEXEC));
    ck_assert_uint_eq(a->unwind.n_asked, 0);
    recording_end(a);
}
END_TEST

START_TEST(nothing_is_left_of_many_recordings)
{
    struct unwind_arena_stats stats;
    uint64_t used = 0;

    scripts[0] = scripts[1] = "table 3 100";
    for (unsigned i = 0; i < 50; i++) {
        struct recording *rec = recording_begin(i % 4);
        TELL(rec, 0, {0x1000, 0x2000, 0});
        TELL(rec, 1, {0x1000, 0x2000, 0}, {0x3000, 0x4000, 1});
        if (i % 3)
            wait_ready(rec);
        recording_end(rec);
        unwind_arena_stats(unwind_tables_arena(server.tables), &stats);
        if (i == 10)
            used = stats.used_bytes;
        if (i > 10)
            ck_assert_uint_eq(stats.used_bytes, used); /* the two tables */
    }
    while (stats.waiting_bytes > 0) {
        once();
        unwind_arena_stats(unwind_tables_arena(server.tables), &stats);
    }
}
END_TEST

int main(int argc, char **argv)
{
    Suite *rec = suite_create("recording_unwind");
    TCase *t = tcase_create("recording");

    if (argc < 2)
        return EXIT_FAILURE;
    fault_worker = argv[1];
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, each_mapping_has_what_its_file_gives);
    tcase_add_test(t, a_space_is_of_its_exec);
    tcase_add_loop_test(t, what_is_walked_once_waits_longer, 0, 3);
    tcase_add_test(t, a_dump_of_a_stuck_process_does_not);
    tcase_add_test(t, a_dump_waits_from_a_late_list_on);
    tcase_add_test(t, what_is_mapped_later_is_pending_until_it_is_there);
    tcase_add_test(t, a_table_stays_as_long_as_a_space_names_it);
    tcase_add_test(t, what_is_replaced_is_not_used);
    tcase_add_test(t, what_was_mapped_before_the_list_replaces_nothing);
    tcase_add_test(t, the_window_waits_for_so_long);
    tcase_add_test(t, no_list_no_space);
    tcase_add_test(t, mappings_that_overlap_are_left_out);
    tcase_add_test(t, a_target_that_breaks_workers_is_not_read_on);
    tcase_add_test(t, others_files_are_not_held_against_a_target);
    tcase_add_test(t, a_target_with_large_tables_leaves_room);
    tcase_add_test(t, recordings_share_tables_and_jobs);
    tcase_add_loop_test(t, claims_pass_on, 0, 3);
    tcase_add_test(t, nothing_is_left_of_many_recordings);
    tcase_set_timeout(t, 120);
    suite_add_tcase(rec, t);

    SRunner *runner = srunner_create(rec);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
