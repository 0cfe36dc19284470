/* The profile builder and its pprof encoding, decoded again. */
#include <errno.h>

#include "pprof/model.h"
#include "tests/unit/pprof_reader.h"
#include "util/cleanup.h"

static const struct profile_value_type cpu_types[] = {{"samples", "count"}, {"cpu", "nanoseconds"}};

static const struct profile_mapping main_binary = {
    .start = 0x400000, .limit = 0x500000, .offset = 0x1000,
    .filename = "/usr/bin/demo", .build_id = "abcdef01", .has_functions = true,
};
static const struct profile_mapping library = {
    .start = 0x7f0000000000, .limit = 0x7f0000100000, .filename = "/usr/lib/libc.so.6", .has_functions = true,
};
static const struct profile_line line_main = {
    .name = "main", .filename = "/src/main.c", .start_line = 10, .line = 12,
};
static const struct profile_line line_spin = {
    .name = "ns::spin(int)", .system_name = "_ZN2ns4spinEi",
    .filename = "/src/spin.cc", .start_line = 3, .line = 7,
};

static struct profile *new_cpu(void)
{
    struct profile *p = profile_new(cpu_types, 2, NULL);
    ck_assert_ptr_nonnull(p);
    return p;
}

START_TEST(test_empty_profile_is_valid)
{
    struct profile *p = new_cpu();
    Perftools__Profiles__Profile *pb = reader_encode(p);
    reader_check(pb);
    ck_assert_uint_eq(pb->n_sample_type, 2);
    ck_assert_str_eq(reader_string(pb, pb->sample_type[1]->type), "cpu");
    ck_assert_str_eq(reader_string(pb, pb->sample_type[1]->unit), "nanoseconds");
    ck_assert_uint_eq(pb->n_sample, 0);
    ck_assert_ptr_null(pb->period_type);
    ck_assert_int_eq(pb->default_sample_type, 0);
    reader_free(pb);
    profile_free(p);
    profile_free(NULL);
}
END_TEST

START_TEST(test_header)
{
    struct profile *p = profile_new(cpu_types, 2, "samples");
    profile_set_period(p, (struct profile_value_type){"cpu", "nanoseconds"}, 10000000);
    profile_set_time(p, 1700000000000000000, 5000000000);
    ck_assert_int_eq(profile_set_doc_url(p, "https://example.org/doc"), 0);
    ck_assert_int_eq(profile_comment(p, "cprofd.samples=%d", 7), 0);
    ck_assert_int_eq(profile_comment(p, "%s", ""), 0);
    ck_assert_int_eq(profile_comment(p, "cprofd.samples=%d", 7), 0);
    Perftools__Profiles__Profile *pb = reader_encode(p);
    reader_check(pb);
    ck_assert_str_eq(reader_string(pb, pb->period_type->type), "cpu");
    ck_assert_str_eq(reader_string(pb, pb->period_type->unit), "nanoseconds");
    ck_assert_int_eq(pb->period, 10000000);
    ck_assert_int_eq(pb->time_nanos, 1700000000000000000);
    ck_assert_int_eq(pb->duration_nanos, 5000000000);
    ck_assert_str_eq(reader_string(pb, pb->doc_url), "https://example.org/doc");
    ck_assert_str_eq(reader_string(pb, pb->default_sample_type), "samples");
    ck_assert_uint_eq(pb->n_comment, 3);
    ck_assert_str_eq(reader_string(pb, pb->comment[0]), "cprofd.samples=7");
    ck_assert_str_eq(reader_string(pb, pb->comment[1]), "");
    ck_assert_int_eq(pb->comment[2], pb->comment[0]);
    reader_free(pb);
    profile_free(p);
}
END_TEST

START_TEST(test_mappings)
{
    struct profile *p = new_cpu();
    struct profile_mapping with_flags = main_binary, rebuilt = main_binary;
    with_flags.has_functions = false;
    with_flags.has_inline_frames = true;
    rebuilt.build_id = "abcdef02"; /* a new file under the old name, after an exec */
    ck_assert_uint_eq(profile_mapping(p, &main_binary), 1);
    ck_assert_uint_eq(profile_mapping(p, &library), 2);
    ck_assert_uint_eq(profile_mapping(p, &with_flags), 1);
    ck_assert_uint_eq(profile_mapping(p, &rebuilt), 3);
    struct profile_mapping other = main_binary;
    other.offset++;
    ck_assert_uint_eq(profile_mapping(p, &other), 4);
    Perftools__Profiles__Profile *pb = reader_encode(p);
    reader_check(pb);
    ck_assert_uint_eq(pb->n_mapping, 4);
    const Perftools__Profiles__Mapping *m = pb->mapping[0];
    ck_assert_uint_eq(m->memory_start, 0x400000);
    ck_assert_uint_eq(m->memory_limit, 0x500000);
    ck_assert_uint_eq(m->file_offset, 0x1000);
    ck_assert_str_eq(reader_string(pb, m->filename), "/usr/bin/demo");
    ck_assert_str_eq(reader_string(pb, m->build_id), "abcdef01");
    ck_assert(m->has_functions && m->has_inline_frames && !m->has_filenames && !m->has_line_numbers);
    ck_assert_str_eq(reader_string(pb, pb->mapping[1]->build_id), "");
    reader_free(pb);
    profile_free(p);
}
END_TEST

START_TEST(test_locations_and_functions)
{
    struct profile *p = new_cpu();
    uint64_t m = profile_mapping(p, &main_binary);
    struct profile_line inlined[] = {line_spin, line_main};
    ck_assert_uint_eq(profile_location(p, m, 0x400100, inlined, 2), 1);
    ck_assert_uint_eq(profile_location(p, m, 0x400200, &line_main, 1), 2);
    ck_assert_uint_eq(profile_location(p, m, 0x400100, inlined, 2), 1);
    ck_assert_uint_eq(profile_location(p, m, 0x400300, NULL, 0), 3);
    ck_assert_uint_eq(profile_location(p, m, 0x400300, NULL, 0), 3);
    Perftools__Profiles__Profile *pb = reader_encode(p);
    reader_check(pb);
    ck_assert_uint_eq(pb->n_location, 3);
    ck_assert_uint_eq(pb->n_function, 2);
    ck_assert_uint_eq(pb->location[0]->address, 0x400100);
    ck_assert_uint_eq(pb->location[0]->n_line, 2);
    ck_assert_uint_eq(pb->location[0]->line[0]->function_id, 1);
    ck_assert_int_eq(pb->location[0]->line[0]->line, 7);
    ck_assert_uint_eq(pb->location[0]->line[1]->function_id, 2);
    ck_assert_uint_eq(pb->location[2]->n_line, 0);
    ck_assert_str_eq(reader_string(pb, pb->function[0]->name), "ns::spin(int)");
    ck_assert_str_eq(reader_string(pb, pb->function[0]->system_name), "_ZN2ns4spinEi");
    ck_assert_str_eq(reader_string(pb, pb->function[0]->filename), "/src/spin.cc");
    ck_assert_int_eq(pb->function[0]->start_line, 3);
    ck_assert_str_eq(reader_string(pb, pb->function[1]->system_name), "main");
    reader_free(pb);
    profile_free(p);
}
END_TEST

START_TEST(test_nameless_functions_get_a_name)
{
    struct profile *p = new_cpu();
    uint64_t m = profile_mapping(p, &main_binary);
    struct profile_line lines[] = {
        {.name = "", .system_name = "mangled"}, {.name = "plain", .system_name = ""}, {0},
    };
    ck_assert_uint_eq(profile_location(p, m, 0x400100, lines, 3), 1);
    Perftools__Profiles__Profile *pb = reader_encode(p);
    reader_check(pb);
    ck_assert_str_eq(reader_string(pb, pb->function[0]->name), "mangled");
    ck_assert_str_eq(reader_string(pb, pb->function[1]->system_name), "plain");
    ck_assert_str_eq(reader_string(pb, pb->function[2]->name), "[unnamed]");
    reader_free(pb);
    profile_free(p);
}
END_TEST

START_TEST(test_location_needs_a_mapping)
{
    struct profile *p = new_cpu();
    ck_assert_uint_eq(profile_location(p, 0, 0x400100, &line_main, 1), 0);
    ck_assert_uint_eq(profile_location(p, 1, 0x400100, &line_main, 1), 0);
    uint64_t m = profile_mapping(p, &main_binary);
    ck_assert_uint_eq(profile_location(p, m + 1, 0x400100, &line_main, 1), 0);
    Perftools__Profiles__Profile *pb = reader_encode(p);
    reader_check(pb);
    ck_assert_uint_eq(pb->n_location, 0);
    ck_assert_uint_eq(pb->n_function, 0);
    reader_free(pb);
    profile_free(p);
}
END_TEST

START_TEST(test_addresses_are_made_distinct)
{
    struct profile *p = new_cpu();
    uint64_t m = profile_mapping(p, &main_binary), exec = profile_mapping(p, &library);
    ck_assert_uint_eq(profile_location(p, m, 0x400100, &line_main, 1), 1);
    ck_assert_uint_eq(profile_location(p, m, 0x400100, &line_spin, 1), 2);
    ck_assert_uint_eq(profile_location(p, exec, 0x400100, &line_main, 1), 3);
    ck_assert_uint_eq(profile_location(p, m, 0, &line_main, 1), 4);
    ck_assert_uint_eq(profile_location(p, m, 0x400100, &line_spin, 1), 2);
    ck_assert_uint_eq(profile_location(p, exec, 0x400100, &line_main, 1), 3);
    ck_assert_uint_eq(profile_location(p, m, 0, &line_main, 1), 4);
    Perftools__Profiles__Profile *pb = reader_encode(p);
    reader_check(pb);
    ck_assert_uint_eq(pb->n_location, 4);
    ck_assert_uint_eq(pb->location[0]->address, 0x400100);
    uint64_t taken = pb->location[1]->address;
    reader_free(pb);

    /* Even where code claims to be at a made-up address, or was there first. */
    ck_assert_uint_eq(profile_location(p, m, taken, &line_main, 1), 5);
    pb = reader_encode(p);
    reader_check(pb);
    ck_assert_uint_eq(pb->location[1]->address, taken);
    reader_free(pb);
    profile_free(p);

    p = new_cpu();
    m = profile_mapping(p, &main_binary);
    profile_location(p, m, taken, &line_main, 1);
    profile_location(p, m, 0x400100, &line_main, 1);
    profile_location(p, m, 0x400100, &line_spin, 1);
    pb = reader_encode(p);
    reader_check(pb);
    ck_assert_uint_eq(pb->location[2]->address, taken + 1);
    reader_free(pb);
    profile_free(p);
}
END_TEST

static uint64_t made_up_address(bool other_things_first)
{
    struct profile *p = new_cpu();
    if (other_things_first) {
        uint64_t m = profile_mapping(p, &library);
        profile_location(p, m, 0x7f0000000010, &line_spin, 1);
        profile_comment(p, "unrelated");
    }
    uint64_t m = profile_mapping(p, &main_binary);
    profile_location(p, m, 0x400100, &line_main, 1);
    uint64_t id = profile_location(p, m, 0x400100, &line_spin, 1);
    Perftools__Profiles__Profile *pb = reader_encode(p);
    uint64_t address = pb->location[id - 1]->address;
    reader_free(pb);
    profile_free(p);
    return address;
}

START_TEST(test_made_up_addresses_are_stable)
{
    ck_assert_uint_eq(made_up_address(false), made_up_address(true));
    ck_assert_uint_eq(made_up_address(false) >> 60, 1);
}
END_TEST

START_TEST(test_samples_merge)
{
    struct profile *p = new_cpu();
    uint64_t m = profile_mapping(p, &main_binary);
    uint64_t a = profile_location(p, m, 0x400100, &line_spin, 1);
    uint64_t b = profile_location(p, m, 0x400200, &line_main, 1);
    struct profile_label labels[] = {{.key = "tid", .num = 7}, {.key = "thread", .str = "worker"}};
    struct profile_label swapped[] = {labels[1], labels[0]};
    int64_t one[] = {1, 10};
    ck_assert_int_eq(profile_sample(p, (uint64_t[]){a, b}, 2, one, labels, 2), 0);
    ck_assert_int_eq(profile_sample(p, (uint64_t[]){b, a}, 2, one, labels, 2), 0);
    ck_assert_int_eq(profile_sample(p, (uint64_t[]){a, b}, 2, one, labels, 1), 0);
    ck_assert_int_eq(profile_sample(p, (uint64_t[]){a}, 1, one, labels, 2), 0);
    ck_assert_int_eq(profile_sample(p, NULL, 0, one, NULL, 0), 0);
    ck_assert_int_eq(profile_sample(p, (uint64_t[]){a, b}, 2, (int64_t[]){2, 5}, swapped, 2), 0);
    Perftools__Profiles__Profile *pb = reader_encode(p);
    reader_check(pb);
    ck_assert_uint_eq(pb->n_sample, 5);
    const Perftools__Profiles__Sample *s = pb->sample[0];
    ck_assert_int_eq(s->value[0], 3);
    ck_assert_int_eq(s->value[1], 15);
    ck_assert_uint_eq(s->n_location_id, 2);
    ck_assert_uint_eq(s->location_id[0], a);
    ck_assert_uint_eq(s->location_id[1], b);
    ck_assert_uint_eq(s->n_label, 2);
    ck_assert_str_eq(reader_string(pb, s->label[0]->key), "tid");
    ck_assert_int_eq(s->label[0]->num, 7);
    ck_assert_str_eq(reader_string(pb, s->label[1]->str), "worker");
    ck_assert_uint_eq(pb->sample[1]->location_id[0], b);
    ck_assert_uint_eq(pb->sample[4]->n_location_id, 0);
    reader_free(pb);
    profile_free(p);
}
END_TEST

START_TEST(test_what_was_merged_takes_no_room)
{
    struct profile *p = new_cpu();
    uint64_t m = profile_mapping(p, &main_binary);
    struct profile_label label = {.key = "tid", .num = 7};
    for (int i = 0; i < 1000; i++) {
        struct profile_line lines[] = {line_spin, line_main};
        uint64_t id = profile_location(p, m, 0x400100, lines, 2);
        ck_assert_int_eq(profile_sample(p, (uint64_t[]){id, id}, 2, (int64_t[]){1, 1}, &label, 1), 0);
    }
    ck_assert_uint_eq(p->lines.n, 2);
    ck_assert_uint_eq(p->functions.n, 2);
    ck_assert_uint_eq(p->locations.n, 1);
    ck_assert_uint_eq(p->stacks.n, 2);
    ck_assert_uint_eq(p->labels.n, 1);
    ck_assert_uint_eq(p->values.n, 2);
    profile_free(p);
}
END_TEST

START_TEST(test_sums_stay_at_the_bounds)
{
    struct profile *p = new_cpu();
    ck_assert_int_eq(profile_sample(p, NULL, 0, (int64_t[]){INT64_MAX - 1, INT64_MIN + 1}, NULL, 0), 0);
    ck_assert_int_eq(profile_sample(p, NULL, 0, (int64_t[]){5, -5}, NULL, 0), 0);
    Perftools__Profiles__Profile *pb = reader_encode(p);
    ck_assert_int_eq(pb->sample[0]->value[0], INT64_MAX);
    ck_assert_int_eq(pb->sample[0]->value[1], INT64_MIN);
    reader_free(pb);
    profile_free(p);
}
END_TEST

START_TEST(test_foreign_location_is_refused)
{
    struct profile *p = new_cpu();
    uint64_t m = profile_mapping(p, &main_binary), a = profile_location(p, m, 0x400100, &line_main, 1);
    int64_t one[] = {1, 1};
    ck_assert_int_eq(profile_sample(p, (uint64_t[]){a, 0}, 2, one, NULL, 0), -EINVAL);
    ck_assert_int_eq(profile_sample(p, (uint64_t[]){a + 1}, 1, one, NULL, 0), -EINVAL);
    ck_assert_int_eq(profile_sample(p, (uint64_t[]){a + (1ull << 32)}, 1, one, NULL, 0), -EINVAL);
    ck_assert_int_eq(profile_sample(p, (uint64_t[]){a}, 1, one, NULL, 0), 0);
    Perftools__Profiles__Profile *pb = reader_encode(p);
    reader_check(pb);
    ck_assert_uint_eq(pb->n_sample, 1);
    reader_free(pb);
    profile_free(p);
}
END_TEST

START_TEST(test_label_values_that_would_vanish)
{
    struct profile *p = new_cpu();
    struct profile_label labels[] = {
        {.key = "tid", .num = 0}, {.key = "size", .num = 0, .unit = "bytes"},
        {.key = "pid", .num = 5, .unit = ""},
        {.key = "thread", .str = ""}, {.key = "far", .num = INT64_MIN},
    };
    ck_assert_int_eq(profile_sample(p, NULL, 0, (int64_t[]){1, 1}, labels, 5), 0);
    Perftools__Profiles__Profile *pb = reader_encode(p);
    reader_check(pb);
    const Perftools__Profiles__Sample *s = pb->sample[0];
    ck_assert_uint_eq(s->n_label, 4);
    for (size_t i = 0; i < s->n_label; i++) {
        const char *key = reader_string(pb, s->label[i]->key);
        const char *unit = reader_string(pb, s->label[i]->num_unit);
        if (strcmp(key, "tid") == 0)
            ck_assert_str_eq(unit, "tid");
        else if (strcmp(key, "size") == 0)
            ck_assert_str_eq(unit, "bytes");
        else
            ck_assert_str_eq(unit, "");
    }
    reader_free(pb);
    profile_free(p);
}
END_TEST

START_TEST(test_foreign_bytes_become_utf8)
{
    struct profile *p = new_cpu();
    struct profile_mapping m = main_binary;
    struct profile_line line = {.name = "f\xff\xfe", .system_name = "\xc3", .filename = "/\xed\xa0\x80.c"};
    struct profile_label label = {.key = "thread", .str = "w\x80rk"};
    m.filename = "/bin/\xf0\x9f\x92\xa9\xf0\x9f";
    uint64_t id = profile_location(p, profile_mapping(p, &m), 0x400100, &line, 1);
    ck_assert_int_eq(profile_sample(p, &id, 1, (int64_t[]){1, 1}, &label, 1), 0);
    ck_assert_int_eq(profile_comment(p, "path=%s", "\xe2\x82"), 0);
    Perftools__Profiles__Profile *pb = reader_encode(p);
    reader_check(pb);
    ck_assert_str_eq(reader_string(pb, pb->mapping[0]->filename), "/bin/\xf0\x9f\x92\xa9\xef\xbf\xbd");
    ck_assert_str_eq(reader_string(pb, pb->function[0]->name), "f\xef\xbf\xbd\xef\xbf\xbd");
    ck_assert_str_eq(reader_string(pb, pb->sample[0]->label[0]->str), "w\xef\xbf\xbdrk");
    ck_assert_str_eq(reader_string(pb, pb->comment[0]), "path=\xef\xbf\xbd");
    reader_free(pb);
    profile_free(p);
}
END_TEST

static void encode_sample_profile(uint8_t **ret_body, size_t *ret_len)
{
    struct profile *p = new_cpu();
    uint64_t m = profile_mapping(p, &main_binary);
    for (uint64_t i = 0; i < 300; i++) {
        uint64_t id = profile_location(p, m, 0x400000 + i % 50, i & 1 ? &line_main : &line_spin, 1);
        ck_assert_int_eq(profile_sample(p, &id, 1, (int64_t[]){1, (int64_t)i}, NULL, 0), 0);
    }
    ck_assert_int_eq(profile_encode_pprof(p, ret_body, ret_len), 0);
    profile_free(p);
}

START_TEST(test_output_is_deterministic)
{
    AUTO_FREE uint8_t *a = NULL, *b = NULL;
    size_t a_len, b_len;
    static const uint8_t header[] = {0x1f, 0x8b, 8, 0, 0, 0, 0, 0}; /* deflate, no flags, no time */
    encode_sample_profile(&a, &a_len);
    encode_sample_profile(&b, &b_len);
    ck_assert_uint_eq(a_len, b_len);
    ck_assert_mem_eq(a, b, a_len);
    ck_assert_mem_eq(a, header, sizeof(header));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("profile");
    TCase *tc = tcase_create("profile");
    tcase_add_test(tc, test_empty_profile_is_valid);
    tcase_add_test(tc, test_header);
    tcase_add_test(tc, test_mappings);
    tcase_add_test(tc, test_locations_and_functions);
    tcase_add_test(tc, test_nameless_functions_get_a_name);
    tcase_add_test(tc, test_location_needs_a_mapping);
    tcase_add_test(tc, test_addresses_are_made_distinct);
    tcase_add_test(tc, test_made_up_addresses_are_stable);
    tcase_add_test(tc, test_samples_merge);
    tcase_add_test(tc, test_what_was_merged_takes_no_room);
    tcase_add_test(tc, test_sums_stay_at_the_bounds);
    tcase_add_test(tc, test_foreign_location_is_refused);
    tcase_add_test(tc, test_label_values_that_would_vanish);
    tcase_add_test(tc, test_foreign_bytes_become_utf8);
    tcase_add_test(tc, test_output_is_deterministic);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
