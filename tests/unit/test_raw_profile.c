/* What a writer writes a reader reads, and nothing that does not add up gets through. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/raw_profile.h"

static const struct raw_params params = {
    .format = RAW_FORMAT_PPROF,
    .pid = 7,
    .period = 10000000,
    .types = {.type = {"samples", "cpu"}, .unit = {"count", "nanoseconds"}, .n = 2},
};
static const struct raw_object object = {.path = 1, .available = 1};
static const struct raw_mapping mapping = {
    .start = 0x1000, .end = 0x2000, .last_epoch = UINT32_MAX, .object = 0};
static const char strings[] = "\0/bin/true";

struct two_records {
    struct stack_record stack;
    uint64_t frames[3];
    struct sample_record sample;
};
static const struct two_records records = {
    .stack = {.type = RECORD_STACK, .n_kernel = 1, .n_user = 2, .end = STACK_END_UNPROVEN},
    .frames = {0xffffffff81000000, 0x1010, 0x1020},
    .sample = {.type = RECORD_SAMPLE, .value = {.samples = 2, .weight = 20000000}},
};

static void put(struct raw_writer *w, enum raw_section_type type, const void *data, size_t len)
{
    ck_assert_int_eq(raw_writer_section(w, type, data, len), 0);
}

/* Finishes, opens and closes; the reader's verdict. */
static int verdict(struct raw_writer *w)
{
    struct raw_profile p = {0};
    int fd = raw_writer_finish(w);
    ck_assert_int_ge(fd, 0);
    raw_writer_free(w);
    int r = raw_profile_open(fd, &p);
    raw_profile_close(&p);
    close(fd);
    return r;
}

static struct raw_writer *writer(const struct raw_params *with)
{
    struct raw_writer *w = raw_writer_new();
    ck_assert_ptr_nonnull(w);
    if (with)
        put(w, RAW_PARAMS, with, sizeof(*with));
    return w;
}

/* One section after valid parameters. */
static int verdict_of(enum raw_section_type type, const void *data, size_t len)
{
    struct raw_writer *w = writer(&params);
    put(w, type, data, len);
    return verdict(w);
}

START_TEST(test_round_trip)
{
    struct raw_profile p;
    size_t pos = 0;
    struct raw_writer *table = writer(NULL), *w = writer(&params);
    put(table, RAW_OBJECTS, &object, sizeof(object));
    put(table, RAW_MAPPINGS, &mapping, sizeof(mapping));
    put(table, RAW_STRINGS, strings, sizeof(strings));
    int table_fd = raw_writer_finish(table);
    ck_assert_int_ge(table_fd, 0);
    raw_writer_free(table);
    put(w, RAW_RECORDS, &records, sizeof(records));
    put(w, RAW_RECORDS, NULL, 0);
    put(w, RAW_COUNTS, &(struct raw_count){.value.samples = 5}, sizeof(struct raw_count));
    put(w, RAW_ADDRESSES, &(uint64_t){0xabc}, 8);
    ck_assert_int_eq(raw_writer_append(w, table_fd), 0);
    ck_assert_int_eq(raw_writer_fact(w, "window_ns", "%d", 3), 0);
    ck_assert_int_eq(raw_writer_fact(w, "target", "%s", "exited"), 0);
    close(table_fd);
    int fd = raw_writer_finish(w);
    ck_assert_int_ge(fd, 0);
    ck_assert(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    ck_assert_int_eq(write(fd, "x", 1), -1);
    raw_writer_free(w);

    ck_assert_int_eq(raw_profile_open(fd, &p), 0);
    close(fd);
    ck_assert_uint_eq(p.params.pid, 7);
    ck_assert_uint_eq(p.n_objects, 1);
    ck_assert_uint_eq(p.n_mappings, 1);
    ck_assert_uint_eq(p.n_counts, 1);
    ck_assert_uint_eq(p.counts[0].value.samples, 5);
    ck_assert_uint_eq(p.addresses[0], 0xabc);
    ck_assert_str_eq(raw_profile_string(&p, p.objects[0].path), "/bin/true");
    ck_assert_str_eq(raw_profile_string(&p, 1000), "");
    ck_assert_mem_eq(p.facts, "window_ns=3\0target=exited", p.facts_len);
    ck_assert_uint_eq(p.n_records, 2);
    const struct stack_record *stack = raw_record_next(p.records[0], &pos);
    ck_assert_uint_eq(stack->n_user, 2);
    const struct sample_record *sample = raw_record_next(p.records[0], &pos);
    ck_assert_uint_eq(sample->value.samples, 2);
    ck_assert_ptr_null(raw_record_next(p.records[0], &pos));
    pos = 0;
    ck_assert_ptr_null(raw_record_next(p.records[1], &pos));
    raw_profile_close(&p);
    raw_profile_close(&p);
}
END_TEST

START_TEST(test_writer_keeps_its_bound)
{
    struct raw_writer *w = writer(NULL);
    ck_assert_int_eq(raw_writer_section(w, RAW_RECORDS, "", RAW_PROFILE_MAX_BYTES + 1), -EFBIG);
    ck_assert_int_eq(raw_writer_section(w, RAW_RECORDS, "", RAW_PROFILE_MAX_BYTES), -EFBIG);
    raw_writer_free(w);
    raw_writer_free(NULL);
}
END_TEST

START_TEST(test_append_wants_sealed_sections)
{
    struct raw_writer *w = writer(&params);
    int fd = memfd_create("x", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    ck_assert_int_eq(write(fd, &(struct raw_section){.type = RAW_STRINGS, .len = 100}, 16), 16);
    ck_assert_int_eq(raw_writer_append(w, fd), -EBADMSG);
    ck_assert_int_eq(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_WRITE), 0);
    ck_assert_int_eq(raw_writer_append(w, fd), -EBADMSG);
    close(fd);
    ck_assert_int_eq(verdict(w), 0); /* nothing of it was taken over */
}
END_TEST

START_TEST(test_unsealed_empty_and_other_files_are_refused)
{
    struct raw_profile p;
    int fd = memfd_create("x", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    ck_assert_int_eq(raw_profile_open(fd, &p), -EBADMSG);
    ck_assert_int_eq(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_WRITE), 0);
    ck_assert_int_eq(raw_profile_open(fd, &p), -EBADMSG);
    close(fd);
    fd = open("/proc/self/exe", O_RDONLY);
    ck_assert_int_eq(raw_profile_open(fd, &p), -EBADMSG);
    close(fd);
    ck_assert_int_eq(raw_profile_parse("", 0, &p), -EBADMSG);
}
END_TEST

START_TEST(test_threads_are_in_order_and_their_texts_end)
{
    struct raw_thread threads[] = {{.tid = 3, .state = "sleep"}, {.tid = 5, .channel = "do_wait"}};

    ck_assert_int_eq(verdict_of(RAW_THREADS, threads, sizeof(threads)), 0);
    ck_assert_int_eq(verdict_of(RAW_THREADS, threads, sizeof(threads) - 1), -EBADMSG);
    threads[0].tid = 5;
    ck_assert_int_eq(verdict_of(RAW_THREADS, threads, sizeof(threads)), -EBADMSG);
    threads[0].tid = 4;
    memset(threads[0].state, 'x', sizeof(threads[0].state));
    ck_assert_int_eq(verdict_of(RAW_THREADS, threads, sizeof(threads)), -EBADMSG);
    threads[0].state[0] = '\0';
    memset(threads[1].channel, 'x', sizeof(threads[1].channel));
    ck_assert_int_eq(verdict_of(RAW_THREADS, threads, sizeof(threads)), -EBADMSG);
}
END_TEST

START_TEST(test_parameters_come_first_and_are_in_bounds)
{
    struct raw_params bad = params;
    struct raw_writer *w = writer(NULL);
    put(w, RAW_STRINGS, "", 1);
    put(w, RAW_PARAMS, &params, sizeof(params));
    ck_assert_int_eq(verdict(w), -EBADMSG);
    w = writer(NULL);
    put(w, RAW_PARAMS, &params, sizeof(params) - 1);
    ck_assert_int_eq(verdict(w), -EBADMSG);
    ck_assert_int_eq(verdict_of(RAW_PARAMS, &params, sizeof(params)), -EBADMSG); /* twice */
    bad.format = RAW_FORMAT_END;
    ck_assert_int_eq(verdict(writer(&bad)), -EBADMSG);
    bad = params;
    bad.symbolize = RAW_SYMBOLIZE_NONE + 1;
    ck_assert_int_eq(verdict(writer(&bad)), -EBADMSG);
    bad = params;
    bad.period = -1;
    ck_assert_int_eq(verdict(writer(&bad)), -EBADMSG);
}
END_TEST

START_TEST(test_texts_of_parameters_end)
{
    const struct {
        size_t offset, size;
    } text[] = {
        {offsetof(struct raw_params, types.type[0]), 64},      {offsetof(struct raw_params, types.type[1]), 64},
        {offsetof(struct raw_params, types.unit[0]), 16},      {offsetof(struct raw_params, types.unit[1]), 16},
        {offsetof(struct raw_params, types.period_type), 64},  {offsetof(struct raw_params, types.period_unit), 16},
        {offsetof(struct raw_params, types.default_type), 64}, {offsetof(struct raw_params, focus), 256},
        {offsetof(struct raw_params, thread), 256},
    };
    for (size_t i = 0; i < sizeof(text) / sizeof(text[0]); i++) {
        struct raw_params bad = params;
        memset((char *)&bad + text[i].offset, 'a', text[i].size);
        ck_assert_int_eq(verdict(writer(&bad)), -EBADMSG);
    }
}
END_TEST

START_TEST(test_sample_types_have_names)
{
    for (int i = 0; i < 4; i++) {
        struct raw_params bad = params;
        *(i < 2 ? bad.types.type[i] : bad.types.unit[i - 2]) = '\0';
        ck_assert_int_eq(verdict(writer(&bad)), -EBADMSG);
        bad.types.n = i % 2; /* that one does not count */
        ck_assert_int_eq(verdict(writer(&bad)), i % 2 ? 0 : -EBADMSG);
        bad.types.n = RAW_MAX_TYPES + 1;
        ck_assert_int_eq(verdict(writer(&bad)), -EBADMSG);
        bad.types.n = 0;
        bad.format = RAW_FORMAT_SYMBOL; /* which has no samples */
        ck_assert_int_eq(verdict(writer(&bad)), 0);
    }
}
END_TEST

START_TEST(test_sections_stand_once_and_hold_whole_items)
{
    struct raw_writer *w = writer(&params);
    put(w, RAW_COUNTS, NULL, 0);
    put(w, RAW_COUNTS, NULL, 0);
    ck_assert_int_eq(verdict(w), -EBADMSG);
    ck_assert_int_eq(verdict_of(RAW_COUNTS, &records, sizeof(struct raw_count) + 1), -EBADMSG);
    ck_assert_int_eq(verdict_of(RAW_ADDRESSES, &records, 7), -EBADMSG);
    ck_assert_int_eq(verdict_of(99, "", 0), -EBADMSG);
}
END_TEST

START_TEST(test_indices_are_in_bounds)
{
    struct raw_mapping bad = mapping;
    ck_assert_int_eq(verdict_of(RAW_MAPPINGS, &mapping, sizeof(mapping)),
                     -EBADMSG); /* of an object that is not there */
    bad.object = RAW_NO_OBJECT;
    ck_assert_int_eq(verdict_of(RAW_MAPPINGS, &bad, sizeof(bad)), 0);
    bad.name = 1;
    ck_assert_int_eq(verdict_of(RAW_MAPPINGS, &bad, sizeof(bad)), -EBADMSG);
    bad = (struct raw_mapping){.start = 2, .end = 2, .object = RAW_NO_OBJECT};
    ck_assert_int_eq(verdict_of(RAW_MAPPINGS, &bad, sizeof(bad)), -EBADMSG);
    bad = (struct raw_mapping){
        .start = 2, .end = 3, .first_epoch = 2, .last_epoch = 1, .object = RAW_NO_OBJECT};
    ck_assert_int_eq(verdict_of(RAW_MAPPINGS, &bad, sizeof(bad)), -EBADMSG);
    ck_assert_int_eq(verdict_of(RAW_OBJECTS, &object, sizeof(object)), -EBADMSG); /* path 1 of no strings */
}
END_TEST

START_TEST(test_texts_end)
{
    ck_assert_int_eq(verdict_of(RAW_STRINGS, "", 1), 0);
    ck_assert_int_eq(verdict_of(RAW_STRINGS, "x", 2), -EBADMSG);
    ck_assert_int_eq(verdict_of(RAW_STRINGS, "\0x", 2), -EBADMSG);
    ck_assert_int_eq(verdict_of(RAW_FACTS, "a=b", 4), 0);
    ck_assert_int_eq(verdict_of(RAW_FACTS, "a=b", 3), -EBADMSG);
    ck_assert_int_eq(verdict_of(RAW_FACTS, "ab", 3), -EBADMSG);
    ck_assert_int_eq(verdict_of(RAW_FACTS, "=b", 3), -EBADMSG);
    ck_assert_int_eq(verdict_of(RAW_FACTS, "", 1), -EBADMSG);
}
END_TEST

START_TEST(test_records_are_whole)
{
    struct two_records bad = records;
    for (size_t len = 1; len < sizeof(records); len++)
        if (len != offsetof(struct two_records, sample))
            ck_assert_int_eq(verdict_of(RAW_RECORDS, &records, len), -EBADMSG);
    bad.stack.n_kernel = CPROFD_MAX_KERNEL_FRAMES + 1;
    ck_assert_int_eq(verdict_of(RAW_RECORDS, &bad, sizeof(bad)), -EBADMSG);
    bad = records;
    bad.stack.n_user = CPROFD_MAX_FRAMES + 1;
    ck_assert_int_eq(verdict_of(RAW_RECORDS, &bad, sizeof(bad)), -EBADMSG);
    bad = records;
    bad.stack.end = STACK_END_COUNT;
    ck_assert_int_eq(verdict_of(RAW_RECORDS, &bad, sizeof(bad)), -EBADMSG);
    bad = records;
    bad.sample.type = 3;
    ck_assert_int_eq(verdict_of(RAW_RECORDS, &bad, sizeof(bad)), -EBADMSG);
}
END_TEST

START_TEST(test_lengths_do_not_overflow)
{
    uint64_t data[sizeof(struct raw_section) / 8 * 2 + (sizeof(params) + 7) / 8] = {0};
    const uint64_t lengths[] = {UINT64_MAX, UINT64_MAX - 7, UINT64_MAX - 15, 1, 8};
    struct raw_section *first = (void *)data, *second;
    struct raw_profile p;
    *first = (struct raw_section){.type = RAW_PARAMS, .len = sizeof(params)};
    memcpy(first + 1, &params, sizeof(params));
    second = (void *)((char *)data + sizeof(data) - sizeof(*second));
    second->type = RAW_STRINGS;
    ck_assert_int_eq(raw_profile_parse(data, sizeof(data), &p), 0);
    raw_profile_close(&p);
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        second->len = lengths[i];
        ck_assert_int_eq(raw_profile_parse(data, sizeof(data), &p), -EBADMSG);
    }
    second->len = 0;
    for (size_t len = 0; len < sizeof(data); len++)
        if (len != sizeof(data) - sizeof(*second))
            ck_assert_int_eq(raw_profile_parse(data, len, &p), -EBADMSG);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("raw_profile");
    TCase *tc = tcase_create("raw_profile");
    tcase_add_test(tc, test_round_trip);
    tcase_add_test(tc, test_writer_keeps_its_bound);
    tcase_add_test(tc, test_append_wants_sealed_sections);
    tcase_add_test(tc, test_unsealed_empty_and_other_files_are_refused);
    tcase_add_test(tc, test_threads_are_in_order_and_their_texts_end);
    tcase_add_test(tc, test_parameters_come_first_and_are_in_bounds);
    tcase_add_test(tc, test_texts_of_parameters_end);
    tcase_add_test(tc, test_sample_types_have_names);
    tcase_add_test(tc, test_sections_stand_once_and_hold_whole_items);
    tcase_add_test(tc, test_indices_are_in_bounds);
    tcase_add_test(tc, test_texts_end);
    tcase_add_test(tc, test_records_are_whole);
    tcase_add_test(tc, test_lengths_do_not_overflow);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
