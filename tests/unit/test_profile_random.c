/* Profiles made at random, from few values so that much of it meets again: every one must keep all rules, and
 * hold what a naive model of the same calls holds. */
#include <inttypes.h>
#include <stdio.h>

#include "tests/unit/pprof_reader.h"

#define MAX_SAMPLES 300
#define MAX_LOCATIONS 100
#define MAX_DEPTH 12
#define MAX_LABELS 4
#define KEY_BYTES 512

static unsigned int seed;

static unsigned int random_below(unsigned int n)
{
    return (unsigned int)rand_r(&seed) % n;
}

/* Some names, and how they must read. */
struct name {
    const char *given, *reads;
};

static const struct name names[] = {
    {"main", "main"}, {"spin", "spin"}, {"operator;()", "operator;()"}, {"", ""}, {NULL, ""},
    {"a\nb", "a\nb"}, {"f\xff", "f\xef\xbf\xbd"}, {"f\xfe", "f\xef\xbf\xbd"}, {"\xc3\xa4", "\xc3\xa4"},
    {"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
};

/* Most are the same, so that most things differ in little. */
static struct name random_name(void)
{
    return names[random_below(3) ? 0 : random_below(sizeof(names) / sizeof(names[0]))];
}

static unsigned int random_bit(void)
{
    return random_below(3) == 0;
}

struct model_sample {
    char key[KEY_BYTES]; /* location ids and labels */
    int64_t values[2];
};

struct model_location {
    char key[KEY_BYTES]; /* mapping and lines */
    uint64_t address;
};

struct model {
    struct profile *profile;
    struct model_location locations[MAX_LOCATIONS]; /* by id - 1 */
    size_t n_locations;
    struct model_sample samples[MAX_SAMPLES];
    size_t n_samples;
};

__attribute__((format(printf, 3, 4)))
static size_t key_add(char key[KEY_BYTES], size_t at, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    at += (size_t)vsnprintf(key + at, KEY_BYTES - at, fmt, args);
    va_end(args);
    ck_assert_uint_lt(at, KEY_BYTES);
    return at;
}

static void mapping_key(char key[KEY_BYTES], uint64_t start, uint64_t limit, uint64_t offset,
                        const char *filename, const char *build_id)
{
    (void)key_add(key, 0, "%" PRIx64 "-%" PRIx64 "+%" PRIx64 " %s %s", start, limit, offset, filename,
                  build_id);
}

static uint64_t random_mapping(struct model *m, char key[KEY_BYTES])
{
    struct name filename = random_name(), build_id = random_name();
    struct profile_mapping mapping = {
        .start = 4096 * random_bit(), .limit = (1 << 20) + random_bit(), .offset = random_bit(),
        .filename = filename.given, .build_id = build_id.given, .has_functions = random_bit(),
    };
    mapping_key(key, mapping.start, mapping.limit, mapping.offset, filename.reads, build_id.reads);
    return profile_mapping(m->profile, &mapping);
}

static void line_key(char key[KEY_BYTES], const char *name, const char *system_name, const char *filename,
                     int64_t start_line, int64_t line)
{
    (void)key_add(key, strlen(key), "|%s,%s,%s,%" PRId64 ",%" PRId64, name, system_name, filename, start_line,
                  line);
}

static struct profile_line random_line(char key[KEY_BYTES])
{
    struct name name = random_name(), system_name = random_name(), filename = random_name();
    struct profile_line line = {
        .name = name.given, .system_name = system_name.given, .filename = filename.given,
        .start_line = random_bit(), .line = random_bit(),
    };
    const char *either = *name.reads ? name.reads : *system_name.reads ? system_name.reads : "[unnamed]";
    const char *name_reads = *name.reads ? name.reads : either;
    const char *system_reads = *system_name.reads ? system_name.reads : either;
    line_key(key, name_reads, system_reads, filename.reads, line.start_line, line.line);
    return line;
}

/* The same content must give the same id, other content the next free one. */
static void model_add_location(struct model *m, const struct model_location *l, uint64_t id)
{
    size_t i = 0;
    while (i < m->n_locations &&
           (strcmp(m->locations[i].key, l->key) != 0 || m->locations[i].address != l->address))
        i++;
    ck_assert_uint_eq(id, i + 1);
    if (i == m->n_locations)
        m->locations[m->n_locations++] = *l;
}

/* Neighbours of a location: they differ from it in one thing alone. */
static void add_neighbours(struct model *m, const struct model_location *l, uint64_t mapping_id,
                           struct profile_line *lines, size_t n_lines)
{
    struct model_location other = *l;
    other.address++;
    model_add_location(m, &other, profile_location(m->profile, mapping_id, other.address, lines, n_lines));
    if (n_lines == 0)
        return;
    other = *l;
    lines[n_lines - 1].line += 10;
    char *last = strrchr(other.key, ',');
    (void)key_add(other.key, (size_t)(last - other.key), ",%" PRId64, lines[n_lines - 1].line);
    model_add_location(m, &other, profile_location(m->profile, mapping_id, l->address, lines, n_lines));
    *strrchr(other.key, '|') = '\0';
    model_add_location(m, &other, profile_location(m->profile, mapping_id, l->address, lines, n_lines - 1));
}

static void random_location(struct model *m)
{
    struct model_location l;
    struct profile_line lines[3];
    uint64_t mapping_id = random_mapping(m, l.key);
    size_t n_lines = random_below(4);
    for (size_t i = 0; i < n_lines; i++)
        lines[i] = random_line(l.key);
    /* Few addresses, 0 and those that are like made-up ones among them. */
    l.address = (uint64_t)random_below(2) << 60 | random_below(5);
    model_add_location(m, &l, profile_location(m->profile, mapping_id, l.address, lines, n_lines));
    add_neighbours(m, &l, mapping_id, lines, n_lines);
}

static void check_location(const Perftools__Profiles__Profile *pb, const Perftools__Profiles__Location *l,
                           const struct model_location *wanted)
{
    const Perftools__Profiles__Mapping *m = pb->mapping[l->mapping_id - 1];
    char key[KEY_BYTES];
    mapping_key(key, m->memory_start, m->memory_limit, m->file_offset, reader_string(pb, m->filename),
                reader_string(pb, m->build_id));
    for (size_t i = 0; i < l->n_line; i++) {
        const Perftools__Profiles__Function *f = pb->function[l->line[i]->function_id - 1];
        line_key(key, reader_string(pb, f->name), reader_string(pb, f->system_name),
                 reader_string(pb, f->filename), f->start_line, l->line[i]->line);
    }
    ck_assert_str_eq(key, wanted->key);
    ck_assert(l->address == wanted->address || l->address >> 60 == 1);
}

/* No table has the same twice. */
static void check_distinct(const Perftools__Profiles__Profile *pb)
{
    for (size_t i = 0; i < pb->n_function; i++)
        for (size_t j = 0; j < i; j++) {
            const Perftools__Profiles__Function *a = pb->function[i], *b = pb->function[j];
            ck_assert(a->name != b->name || a->system_name != b->system_name || a->filename != b->filename ||
                      a->start_line != b->start_line);
        }
    for (size_t i = 0; i < pb->n_mapping; i++)
        for (size_t j = 0; j < i; j++) {
            const Perftools__Profiles__Mapping *a = pb->mapping[i], *b = pb->mapping[j];
            ck_assert(a->filename != b->filename || a->build_id != b->build_id ||
                      a->memory_start != b->memory_start || a->memory_limit != b->memory_limit ||
                      a->file_offset != b->file_offset);
        }
}

static int compare_texts(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* Location ids and sorted labels as text: what makes a sample one. */
static void sample_key(char key[KEY_BYTES], const uint64_t *ids, size_t n_ids, char labels[][64],
                       size_t n_labels)
{
    size_t at = key_add(key, 0, "%zu:", n_ids);
    for (size_t i = 0; i < n_ids; i++)
        at = key_add(key, at, "%" PRIu64 ",", ids[i]);
    qsort(labels, n_labels, sizeof(labels[0]), compare_texts);
    for (size_t i = 0; i < n_labels; i++)
        at = key_add(key, at, "|%s", labels[i]);
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
        ids[i] = 1 + random_below((unsigned int)m->n_locations);
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
    unsigned int n_locations = 4 + random_below(MAX_LOCATIONS - 3), n_samples = random_below(MAX_SAMPLES);
    for (unsigned int i = 0; i < n_locations + n_samples; i++) {
        if (m.n_locations == 0 || (m.n_locations + 4 <= n_locations && random_below(3) == 0))
            random_location(&m);
        if (random_below(20) == 0)
            ck_assert_int_eq(profile_comment(m.profile, "%s", random_name().given ?: ""), 0);
        if (n_samples > i)
            random_sample(&m);
    }
    Perftools__Profiles__Profile *pb = reader_encode(m.profile);
    reader_check(pb);
    check_distinct(pb);
    ck_assert_uint_eq(pb->n_location, m.n_locations);
    for (size_t i = 0; i < m.n_locations; i++)
        check_location(pb, pb->location[i], &m.locations[i]);
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
