/* The pprof encoding. A serialized message may be cut at any field and its parts joined again, so the profile
 * is written as many small Profile messages into the compressor: no second copy of it ever exists. */
#include <errno.h>
#include <limits.h>

#include "pprof/gzip.h"
#include "pprof/model.h"
#include "pprof/profile.h"
#include "pprof/profile.pb-c.h"
#include "util/cleanup.h"

/* Protobuf's own limit on a message. */
#define ENCODE_MAX_BYTES ((size_t)INT_MAX)
#define ENCODE_FLUSH_BYTES 65536

struct encoder {
    const struct profile *profile;
    struct gzip *gzip;
    size_t total_bytes; /* before compression */
    VEC(uint8_t) pending;
    /* Room for the largest part, made again for each. */
    VEC(uint64_t) ids;
    VEC(Perftools__Profiles__Label) labels;
    VEC(Perftools__Profiles__Label *) label_refs;
    VEC(Perftools__Profiles__Line) lines;
    VEC(Perftools__Profiles__Line *) line_refs;
};

static void encoder_deinit(struct encoder *e)
{
    gzip_free(e->gzip);
    vec_free(&e->pending);
    vec_free(&e->ids);
    vec_free(&e->labels);
    vec_free(&e->label_refs);
    vec_free(&e->lines);
    vec_free(&e->line_refs);
}

static int encoder_flush(struct encoder *e)
{
    int r = gzip_write(e->gzip, e->pending.items, e->pending.n);
    e->pending.n = 0;
    return r;
}

static int encode_part(struct encoder *e, const Perftools__Profiles__Profile *part)
{
    size_t n = perftools__profiles__profile__get_packed_size(part);
    if (n > ENCODE_MAX_BYTES - e->total_bytes)
        return -EFBIG;
    if (vec_reserve(&e->pending, n) < 0)
        return -ENOMEM;
    (void)perftools__profiles__profile__pack(part, e->pending.items + e->pending.n);
    e->pending.n += n;
    e->total_bytes += n;
    return e->pending.n < ENCODE_FLUSH_BYTES ? 0 : encoder_flush(e);
}

static void value_type_fill(Perftools__Profiles__ValueType *out, struct value_type type)
{
    perftools__profiles__value_type__init(out);
    out->type = type.type;
    out->unit = type.unit;
}

static int encode_sample_types(struct encoder *e)
{
    const struct profile *p = e->profile;
    int r = 0;
    for (size_t i = 0; i < p->sample_types.n && r == 0; i++) {
        Perftools__Profiles__ValueType type, *ref = &type;
        Perftools__Profiles__Profile part = PERFTOOLS__PROFILES__PROFILE__INIT;
        value_type_fill(&type, p->sample_types.items[i]);
        part.n_sample_type = 1;
        part.sample_type = &ref;
        r = encode_part(e, &part);
    }
    return r;
}

/* Fills e->ids, e->labels and e->label_refs. */
static int sample_prepare(struct encoder *e, const struct sample *s)
{
    const struct profile *p = e->profile;
    e->ids.n = e->labels.n = e->label_refs.n = 0;
    if (vec_reserve(&e->ids, s->n_locations) < 0 || vec_reserve(&e->labels, s->n_labels) < 0 ||
        vec_reserve(&e->label_refs, s->n_labels) < 0)
        return -ENOMEM;
    for (size_t i = 0; i < s->n_locations; i++)
        vec_push(&e->ids, p->stacks.items[s->first_location + i]);
    for (size_t i = 0; i < s->n_labels; i++) {
        const struct label *label = &p->labels.items[s->first_label + i];
        Perftools__Profiles__Label *out = &e->labels.items[i];
        perftools__profiles__label__init(out);
        out->key = label->key;
        out->str = label->str;
        out->num = label->num;
        out->num_unit = label->unit;
        vec_push(&e->label_refs, out);
    }
    return 0;
}

static int encode_samples(struct encoder *e)
{
    const struct profile *p = e->profile;
    size_t n_values = p->sample_types.n;
    for (size_t i = 0; i < p->samples.n; i++) {
        Perftools__Profiles__Sample sample = PERFTOOLS__PROFILES__SAMPLE__INIT, *ref = &sample;
        Perftools__Profiles__Profile part = PERFTOOLS__PROFILES__PROFILE__INIT;
        int r = sample_prepare(e, &p->samples.items[i]);
        if (r < 0)
            return r;
        sample.n_location_id = e->ids.n;
        sample.location_id = e->ids.items;
        sample.n_value = n_values;
        sample.value = &p->values.items[i * n_values];
        sample.n_label = e->label_refs.n;
        sample.label = e->label_refs.items;
        part.n_sample = 1;
        part.sample = &ref;
        r = encode_part(e, &part);
        if (r < 0)
            return r;
    }
    return 0;
}

static int encode_mappings(struct encoder *e)
{
    const struct profile *p = e->profile;
    int r = 0;
    for (size_t i = 0; i < p->mappings.n && r == 0; i++) {
        const struct mapping *m = &p->mappings.items[i];
        Perftools__Profiles__Mapping mapping = PERFTOOLS__PROFILES__MAPPING__INIT, *ref = &mapping;
        Perftools__Profiles__Profile part = PERFTOOLS__PROFILES__PROFILE__INIT;
        mapping.id = i + 1;
        mapping.memory_start = m->start;
        mapping.memory_limit = m->limit;
        mapping.file_offset = m->offset;
        mapping.filename = m->filename;
        mapping.build_id = m->build_id;
        mapping.has_functions = m->has_functions;
        mapping.has_filenames = m->has_filenames;
        mapping.has_line_numbers = m->has_line_numbers;
        mapping.has_inline_frames = m->has_inline_frames;
        part.n_mapping = 1;
        part.mapping = &ref;
        r = encode_part(e, &part);
    }
    return r;
}

/* Fills e->lines and e->line_refs. */
static int location_prepare(struct encoder *e, const struct location *l)
{
    e->lines.n = e->line_refs.n = 0;
    if (vec_reserve(&e->lines, l->n_lines) < 0 || vec_reserve(&e->line_refs, l->n_lines) < 0)
        return -ENOMEM;
    for (size_t i = 0; i < l->n_lines; i++) {
        const struct line *line = &e->profile->lines.items[l->first_line + i];
        Perftools__Profiles__Line *out = &e->lines.items[i];
        perftools__profiles__line__init(out);
        out->function_id = line->function_id;
        out->line = line->line;
        vec_push(&e->line_refs, out);
    }
    return 0;
}

static int encode_locations(struct encoder *e)
{
    const struct profile *p = e->profile;
    int r = 0;
    for (size_t i = 0; i < p->locations.n && r == 0; i++) {
        const struct location *l = &p->locations.items[i];
        Perftools__Profiles__Location location = PERFTOOLS__PROFILES__LOCATION__INIT, *ref = &location;
        Perftools__Profiles__Profile part = PERFTOOLS__PROFILES__PROFILE__INIT;
        r = location_prepare(e, l);
        if (r < 0)
            return r;
        location.id = i + 1;
        location.mapping_id = l->mapping_id;
        location.address = l->address;
        location.n_line = e->line_refs.n;
        location.line = e->line_refs.items;
        part.n_location = 1;
        part.location = &ref;
        r = encode_part(e, &part);
    }
    return r;
}

static int encode_functions(struct encoder *e)
{
    const struct profile *p = e->profile;
    int r = 0;
    for (size_t i = 0; i < p->functions.n && r == 0; i++) {
        const struct function *f = &p->functions.items[i];
        Perftools__Profiles__Function function = PERFTOOLS__PROFILES__FUNCTION__INIT, *ref = &function;
        Perftools__Profiles__Profile part = PERFTOOLS__PROFILES__PROFILE__INIT;
        function.id = i + 1;
        function.name = f->name;
        function.system_name = f->system_name;
        function.filename = f->filename;
        function.start_line = f->start_line;
        part.n_function = 1;
        part.function = &ref;
        r = encode_part(e, &part);
    }
    return r;
}

static int encode_strings(struct encoder *e)
{
    const struct profile *p = e->profile;
    int r = 0;
    for (size_t i = 0; i < p->strings.by_id.n && r == 0; i++) {
        Perftools__Profiles__Profile part = PERFTOOLS__PROFILES__PROFILE__INIT;
        char *text = (char *)strings_get(&p->strings, (uint32_t)i);
        part.n_string_table = 1;
        part.string_table = &text;
        r = encode_part(e, &part);
    }
    return r;
}

/* Whatever is there once. */
static int encode_header(struct encoder *e)
{
    const struct profile *p = e->profile;
    Perftools__Profiles__ValueType period_type;
    Perftools__Profiles__Profile part = PERFTOOLS__PROFILES__PROFILE__INIT;
    value_type_fill(&period_type, p->period_type);
    part.time_nanos = p->time_ns;
    part.duration_nanos = p->duration_ns;
    part.period_type = p->period_type.type ? &period_type : NULL;
    part.period = p->period;
    part.n_comment = p->comments.n;
    part.comment = p->comments.items;
    if (p->has_default_type)
        part.default_sample_type = p->sample_types.items[p->default_type].type;
    part.doc_url = p->doc_url;
    return encode_part(e, &part);
}

int profile_encode_pprof(const struct profile *p, uint8_t **ret_data, size_t *ret_len)
{
    static int (*const parts[])(struct encoder *) = {
        encode_sample_types, encode_samples, encode_mappings, encode_locations,
        encode_functions, encode_strings, encode_header,
    };
    CLEANUP(encoder_deinit) struct encoder e = {.profile = p};
    int r = p->error;
    if (r == 0)
        r = gzip_new(&e.gzip);
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]) && r == 0; i++)
        r = parts[i](&e);
    if (r == 0)
        r = encoder_flush(&e);
    if (r == 0)
        r = gzip_finish(e.gzip, ret_data, ret_len);
    return r;
}
