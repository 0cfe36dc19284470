/* Profiles made at random, from few values so that much of it meets again: every one must keep all rules, and
 * hold what a naive model of the same calls holds. */
#include <inttypes.h>
#include <stdio.h>

#include "tests/unit/pprof_reader.h"

#define MAX_SAMPLES 300
#define MAX_DEPTH 12
#define MAX_LABELS 4
#define KEY_BYTES 512

static unsigned int seed;

static unsigned int random_below(unsigned int n)
{
    return (unsigned int)rand_r(&seed) % n;
}

static const char *const names[] = {
    "main", "spin", "operator;()", "", "f\xff", "f\xfe", "\xc3\xa4", "\xed\xa0\x80", "a\nb", NULL,
};

static const char *random_name(void)
{
    return names[random_below(sizeof(names) / sizeof(names[0]))];
}

struct model_sample {
    char key[KEY_BYTES]; /* location ids and labels */
    int64_t values[2];
};

struct model {
    struct profile *profile;
    uint64_t location_ids[200];
    size_t n_locations;
    struct model_sample samples[MAX_SAMPLES];
    size_t n_samples;
};

static void random_location(struct model *m)
{
    struct profile_mapping mapping = {
        .start = 4096 * random_below(3), .limit = 1 << 20,
        .filename = random_name(), .build_id = random_name(), .has_functions = random_below(2),
    };
    struct profile_line lines[3];
    size_t n_lines = random_below(4);
    for (size_t i = 0; i < n_lines; i++)
        lines[i] = (struct profile_line){
            .name = random_name(), .system_name = random_name(), .filename = random_name(),
            .start_line = random_below(2), .line = random_below(3),
        };
    /* Few addresses, 0 and those that are like made-up ones among them. */
    uint64_t address = (uint64_t)random_below(2) << 60 | random_below(5);
    uint64_t mapping_id = profile_mapping(m->profile, &mapping);
    ck_assert_uint_ne(mapping_id, 0);
    uint64_t id = profile_location(m->profile, mapping_id, address, lines, n_lines);
    ck_assert_uint_ne(id, 0);
    m->location_ids[m->n_locations++] = id;
}

static int compare_texts(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* Location ids and sorted labels as text: what makes a sample one. */
static void sample_key(char key[KEY_BYTES], const uint64_t *ids, size_t n_ids, char labels[][64],
                       size_t n_labels)
{
    size_t at = 0;
    key[0] = '\0';
    for (size_t i = 0; i < n_ids; i++)
        at += (size_t)snprintf(key + at, KEY_BYTES - at, "%" PRIu64 ",", ids[i]);
    qsort(labels, n_labels, sizeof(labels[0]), compare_texts);
    for (size_t i = 0; i < n_labels; i++)
        at += (size_t)snprintf(key + at, KEY_BYTES - at, "|%s", labels[i]);
    ck_assert_uint_lt(at, KEY_BYTES);
}

/* A label as it must read, "" where it must not be there. */
static void label_text(char text[64], const struct profile_label *l)
{
    const char *unit = l->unit && *l->unit ? l->unit : l->num == 0 ? l->key : "";
    if (!l->str)
        (void)snprintf(text, 64, "%s=%" PRId64 " %s", l->key, l->num, unit);
    else if (*l->str)
        (void)snprintf(text, 64, "%s=%s", l->key, l->str);
    else
        text[0] = '\0';
}

static void model_add(struct model *m, const char *key, const int64_t values[2])
{
    size_t i = 0;
    while (i < m->n_samples && strcmp(m->samples[i].key, key) != 0)
        i++;
    if (i == m->n_samples)
        (void)snprintf(m->samples[m->n_samples++].key, KEY_BYTES, "%s", key);
    m->samples[i].values[0] += values[0];
    m->samples[i].values[1] += values[1];
}

static void random_label(struct profile_label *ret)
{
    static const char *const keys[] = {"tid", "pid", "thread"};
    static const char *const values[] = {"", "a", "b"};
    static const char *const units[] = {NULL, "", "bytes"};
    *ret = (struct profile_label){.key = keys[random_below(3)]};
    if (random_below(2)) {
        ret->str = values[random_below(3)];
    } else {
        ret->num = (int64_t)random_below(3) - 1;
        ret->unit = units[random_below(3)];
    }
}

/* Labels for a call, in any order, and how they must read. */
static void random_labels(struct profile_label labels[MAX_LABELS], size_t *ret_n, char texts[MAX_LABELS][64],
                          size_t *ret_n_texts)
{
    size_t n = random_below(MAX_LABELS + 1), n_texts = 0;
    for (size_t i = 0; i < n; i++) {
        random_label(&labels[i]);
        label_text(texts[n_texts], &labels[i]);
        n_texts += texts[n_texts][0] != '\0';
    }
    *ret_n = n;
    *ret_n_texts = n_texts;
}

static void random_sample(struct model *m)
{
    struct profile_label labels[MAX_LABELS];
    char texts[MAX_LABELS][64], key[KEY_BYTES];
    uint64_t ids[MAX_DEPTH];
    int64_t values[2] = {random_below(3), random_below(1000)};
    size_t n_ids = random_below(random_below(4) ? 3 : MAX_DEPTH);
    for (size_t i = 0; i < n_ids; i++)
        ids[i] = m->location_ids[random_below((unsigned int)m->n_locations)];
    size_t n_labels, n_texts;
    random_labels(labels, &n_labels, texts, &n_texts);
    sample_key(key, ids, n_ids, texts, n_texts);
    ck_assert_int_eq(profile_sample(m->profile, ids, n_ids, values, labels, n_labels), 0);
    model_add(m, key, values);
}

/* Samples come in the order of their first add, so model and profile agree one by one. */
static void check_sample(const Perftools__Profiles__Profile *pb, const Perftools__Profiles__Sample *s,
                         const struct model_sample *wanted)
{
    char texts[MAX_LABELS][64], key[KEY_BYTES];
    ck_assert_uint_le(s->n_label, MAX_LABELS);
    for (size_t i = 0; i < s->n_label; i++) {
        const Perftools__Profiles__Label *l = s->label[i];
        struct profile_label label = {
            .key = reader_string(pb, l->key), .str = l->str ? reader_string(pb, l->str) : NULL,
            .num = l->num, .unit = reader_string(pb, l->num_unit),
        };
        label_text(texts[i], &label);
    }
    sample_key(key, s->location_id, s->n_location_id, texts, s->n_label);
    ck_assert_str_eq(key, wanted->key);
    ck_assert_int_eq(s->value[0], wanted->values[0]);
    ck_assert_int_eq(s->value[1], wanted->values[1]);
}

START_TEST(test_random_profile)
{
    static const struct profile_value_type types[] = {{"samples", "count"}, {"bytes\xff", "b\xe2\x82"}};
    static struct model m;
    seed = (unsigned int)_i;
    m = (struct model){.profile = profile_new(types, 2, random_below(2) ? "samples" : NULL)};
    ck_assert_ptr_nonnull(m.profile);
    unsigned int n_locations = 1 + random_below(60), n_samples = random_below(MAX_SAMPLES);
    for (unsigned int i = 0; i < n_locations + n_samples; i++) {
        if (m.n_locations == 0 || (m.n_locations < n_locations && random_below(3) == 0))
            random_location(&m);
        if (random_below(20) == 0)
            ck_assert_int_eq(profile_comment(m.profile, "%s", random_name() ?: ""), 0);
        if (n_samples > i)
            random_sample(&m);
    }
    Perftools__Profiles__Profile *pb = reader_encode(m.profile);
    reader_check(pb);
    ck_assert_uint_eq(pb->n_sample, m.n_samples);
    for (size_t i = 0; i < m.n_samples; i++)
        check_sample(pb, pb->sample[i], &m.samples[i]);
    reader_free(pb);
    profile_free(m.profile);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("profile_random");
    TCase *tc = tcase_create("profile_random");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, test_random_profile, 0, 40);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
