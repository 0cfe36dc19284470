/* For tests of the encoders: a finished profile decoded by zlib and protobuf-c, and what must hold for every
 * one. */
#pragma once

#include <check.h>
#include <iconv.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "pprof/profile.h"
#include "pprof/profile.pb-c.h"

static inline void reader_inflate(const uint8_t *body, size_t len, uint8_t **ret_raw, size_t *ret_len)
{
    size_t cap = 1 << 20;
    uint8_t *raw = malloc(cap);
    z_stream z = {.next_in = (Bytef *)body, .avail_in = (uInt)len, .next_out = raw, .avail_out = (uInt)cap};
    ck_assert_int_eq(inflateInit2(&z, 15 + 16), Z_OK);
    for (;;) {
        int r = inflate(&z, Z_NO_FLUSH);
        if (r == Z_STREAM_END)
            break;
        ck_assert_int_eq(r, Z_OK);
        if (z.avail_out == 0) {
            raw = realloc(raw, cap * 2);
            z.next_out = raw + cap;
            z.avail_out = (uInt)cap;
            cap *= 2;
        }
    }
    ck_assert_uint_eq(z.avail_in, 0); /* one member, nothing after it */
    *ret_raw = raw;
    *ret_len = z.total_out;
    (void)inflateEnd(&z);
}

/* Decodes a body; the message's canonical encoding must be the very bytes that came. */
static inline Perftools__Profiles__Profile *reader_decode(const uint8_t *body, size_t len)
{
    uint8_t *raw;
    size_t raw_len;
    reader_inflate(body, len, &raw, &raw_len);
    Perftools__Profiles__Profile *pb = perftools__profiles__profile__unpack(NULL, raw_len, raw);
    ck_assert_ptr_nonnull(pb);
    ck_assert_uint_eq(perftools__profiles__profile__get_packed_size(pb), raw_len);
    uint8_t *again = malloc(raw_len + 1);
    perftools__profiles__profile__pack(pb, again);
    ck_assert_mem_eq(again, raw, raw_len);
    free(again);
    free(raw);
    return pb;
}

static inline Perftools__Profiles__Profile *reader_encode(const struct profile *p)
{
    uint8_t *body = NULL;
    size_t len = 0;
    ck_assert_int_eq(profile_encode_pprof(p, &body, &len), 0);
    Perftools__Profiles__Profile *pb = reader_decode(body, len);
    free(body);
    return pb;
}

static inline void reader_free(Perftools__Profiles__Profile *pb)
{
    perftools__profiles__profile__free_unpacked(pb, NULL);
}

static inline const char *reader_string(const Perftools__Profiles__Profile *pb, int64_t index)
{
    ck_assert(index >= 0 && (uint64_t)index < pb->n_string_table);
    return pb->string_table[index];
}

/* By another decoder than the one under test. */
static inline bool reader_is_utf8(const char *text)
{
    char *in = (char *)text;
    size_t in_len = strlen(text), out_len = in_len * 4 + 4;
    char *buffer = malloc(out_len), *out = buffer;
    iconv_t cd = iconv_open("UTF-32LE", "UTF-8");
    ck_assert(cd != (iconv_t)-1);
    bool valid = iconv(cd, &in, &in_len, &out, &out_len) != (size_t)-1 && in_len == 0;
    iconv_close(cd);
    free(buffer);
    return valid;
}

static inline int reader_compare_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static inline void reader_check_strings(const Perftools__Profiles__Profile *pb)
{
    ck_assert_uint_ge(pb->n_string_table, 1);
    ck_assert_str_eq(pb->string_table[0], "");
    char **sorted = malloc(pb->n_string_table * sizeof(*sorted));
    memcpy(sorted, pb->string_table, pb->n_string_table * sizeof(*sorted));
    qsort(sorted, pb->n_string_table, sizeof(*sorted), reader_compare_text);
    for (size_t i = 0; i < pb->n_string_table; i++) {
        ck_assert(reader_is_utf8(sorted[i]));
        if (i > 0)
            ck_assert_str_ne(sorted[i - 1], sorted[i]);
    }
    free(sorted);
}

static inline void reader_check_samples(const Perftools__Profiles__Profile *pb)
{
    for (size_t i = 0; i < pb->n_sample; i++) {
        const Perftools__Profiles__Sample *s = pb->sample[i];
        ck_assert_uint_eq(s->n_value, pb->n_sample_type);
        for (size_t j = 0; j < s->n_location_id; j++)
            ck_assert(s->location_id[j] >= 1 && s->location_id[j] <= pb->n_location);
        for (size_t j = 0; j < s->n_label; j++) {
            const Perftools__Profiles__Label *l = s->label[j];
            ck_assert_str_ne(reader_string(pb, l->key), "");
            (void)reader_string(pb, l->str);
            (void)reader_string(pb, l->num_unit);
            if (l->str != 0)
                ck_assert(l->num == 0 && l->num_unit == 0);
            else
                ck_assert(l->num != 0 || l->num_unit != 0);
        }
    }
}

static inline int reader_compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static inline void reader_check_locations(const Perftools__Profiles__Profile *pb)
{
    uint64_t *addresses = malloc((pb->n_location + 1) * sizeof(*addresses));
    for (size_t i = 0; i < pb->n_location; i++) {
        const Perftools__Profiles__Location *l = pb->location[i];
        ck_assert_uint_eq(l->id, i + 1);
        ck_assert(l->mapping_id >= 1 && l->mapping_id <= pb->n_mapping);
        ck_assert_uint_ne(l->address, 0);
        addresses[i] = l->address;
        for (size_t j = 0; j < l->n_line; j++)
            ck_assert(l->line[j]->function_id >= 1 && l->line[j]->function_id <= pb->n_function);
    }
    qsort(addresses, pb->n_location, sizeof(*addresses), reader_compare_u64);
    for (size_t i = 1; i < pb->n_location; i++)
        ck_assert_uint_ne(addresses[i - 1], addresses[i]);
    free(addresses);
}

/* Ids without a gap are in the order of first use too: each function appears first after those before it. */
static inline void reader_check_functions(const Perftools__Profiles__Profile *pb)
{
    uint64_t seen = 0;
    for (size_t i = 0; i < pb->n_location; i++)
        for (size_t j = 0; j < pb->location[i]->n_line; j++) {
            uint64_t id = pb->location[i]->line[j]->function_id;
            ck_assert_uint_le(id, seen + 1);
            seen = id > seen ? id : seen;
        }
    ck_assert_uint_eq(seen, pb->n_function);
    for (size_t i = 0; i < pb->n_function; i++) {
        const Perftools__Profiles__Function *f = pb->function[i];
        ck_assert_uint_eq(f->id, i + 1);
        ck_assert_str_ne(reader_string(pb, f->name), "");
        ck_assert_str_ne(reader_string(pb, f->system_name), "");
        (void)reader_string(pb, f->filename);
    }
}

/* What every reader needs. */
static inline void reader_check(const Perftools__Profiles__Profile *pb)
{
    reader_check_strings(pb);
    ck_assert_uint_ge(pb->n_sample_type, 1);
    for (size_t i = 0; i < pb->n_sample_type; i++) {
        ck_assert_str_ne(reader_string(pb, pb->sample_type[i]->type), "");
        ck_assert_str_ne(reader_string(pb, pb->sample_type[i]->unit), "");
    }
    for (size_t i = 0; i < pb->n_mapping; i++) {
        ck_assert_uint_eq(pb->mapping[i]->id, i + 1);
        (void)reader_string(pb, pb->mapping[i]->filename);
        (void)reader_string(pb, pb->mapping[i]->build_id);
    }
    reader_check_samples(pb);
    reader_check_locations(pb);
    reader_check_functions(pb);
    for (size_t i = 0; i < pb->n_comment; i++)
        (void)reader_string(pb, pb->comment[i]);
    (void)reader_string(pb, pb->default_sample_type);
    (void)reader_string(pb, pb->doc_url);
    ck_assert_int_eq(pb->drop_frames, 0);
    ck_assert_int_eq(pb->keep_frames, 0);
}
