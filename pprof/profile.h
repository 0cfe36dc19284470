/* A pprof profile under construction: interned strings, functions, locations and mappings, samples, and the
 * encoders. Values handed in are copied. Strings may be any bytes: what is not UTF-8 is replaced by U+FFFD,
 * and what is longer than STRINGS_MAX_BYTES (pprof/strings.h) is cut and marked.
 *
 * Where memory is short, in any call, the profile lacks something from then on, so the encoders refuse it: a
 * caller may leave the results of single calls unread.
 *
 * The result satisfies the strictest readers (google/pprof's CheckValid, Parca, Alloy's fastdelta,
 * Pyroscope): ids from 1 without a gap in the order of first use, string_table[0] "", every location with a
 * mapping and an address, addresses distinct within the profile.
 *
 * Source: github.com/google/pprof proto/profile.proto and its field comments. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct profile;

struct profile_value_type {
    const char *type; /* "cpu" */
    const char *unit; /* "nanoseconds" */
};

struct profile_mapping {
    uint64_t start, limit, offset; /* bytes; as in /proc/PID/maps */
    const char *filename;          /* absolute path, or a name such as "[kernel.kallsyms]" */
    const char *build_id;          /* lower-case hex; NULL: none */
    bool has_functions, has_filenames, has_line_numbers, has_inline_frames;
};

struct profile_line {
    const char *name;        /* demangled; NULL or "": system_name, or "[unnamed]" */
    const char *system_name; /* mangled; NULL or "": the same as name */
    const char *filename;    /* absolute; NULL: unknown */
    int64_t start_line;      /* of the function; 0: unknown */
    int64_t line;            /* 0: unknown */
};

struct profile_label {
    const char *key;  /* never "" */
    const char *str;  /* a string label, or NULL: ("" reads as no label, and is left out) */
    int64_t num;      /* a numeric label */
    const char *unit; /* of num; NULL: none (0 gets the key, as pprof would guess, or it reads as no label) */
};

/* An empty profile; NULL when memory is short. n_types >= 1; default_type: NULL, or one of types. */
struct profile *profile_new(const struct profile_value_type *types, size_t n_types, const char *default_type);
void profile_free(struct profile *p);

void profile_set_period(struct profile *p, struct profile_value_type type, int64_t period);
/* time_ns: wall clock, of the window's start (of its end for a delta). */
void profile_set_time(struct profile *p, int64_t time_ns, int64_t duration_ns);
int profile_set_doc_url(struct profile *p, const char *url);

/* A comment, shown by pprof -comments. 0 or -ENOMEM. */
int profile_comment(struct profile *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The id of a mapping. The same start, limit, offset, filename and build id give the same id (flags are
 * or-ed). The first one added is the main binary. 0: no memory. */
uint64_t profile_mapping(struct profile *p, const struct profile_mapping *m);

/* The id of a location: lines[0] is the innermost inlined function. The same mapping, address and lines give
 * the same id; the same address with other lines or in another mapping (another image of an exec), and
 * address 0, get an address made up from the content, where no code can be. n_lines may be 0 (an unsymbolized
 * address, in a mapping without has_functions). 0: no memory, or no such mapping. */
uint64_t profile_location(struct profile *p, uint64_t mapping_id, uint64_t address,
                          const struct profile_line *lines, size_t n_lines);

/* Adds one sample: ids leaf first; values: one for each sample type. Samples of equal locations and labels
 * (in any order) are merged; sums stop at the bounds of int64_t. 0, -ENOMEM, or -EINVAL for an id that is not
 * the profile's. */
int profile_sample(struct profile *p, const uint64_t *location_ids, size_t n_ids, const int64_t *values,
                   const struct profile_label *labels, size_t n_labels);

/* The finished body, gzipped protobuf, the same bytes for the same calls; *ret_data is the caller's to free.
 * 0, -ENOMEM (now or in an earlier call), or -EFBIG (more than the 2 GiB that protobuf allows). */
int profile_encode_pprof(const struct profile *p, uint8_t **ret_data, size_t *ret_len);
/* Collapsed stacks, "root;caller;leaf N\n", N > 0 in the default sample type (else the last); inlined
 * functions are frames, a location without a line is "libfoo.so@0xADDRESS". Equal lines are one. ';' and
 * control characters in names are replaced. 0 or -ENOMEM. */
int profile_encode_folded(const struct profile *p, uint8_t **ret_data, size_t *ret_len);
