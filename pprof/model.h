/* The inside of a profile, for the builder (profile.c, locations.c, samples.c), which alone writes it, and
 * the encoders, which read it. Ids count from 1: the thing with id N is items[N - 1]. Strings are ids of
 * struct strings. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pprof/strings.h"
#include "pprof/table.h"
#include "pprof/vec.h"

struct value_type {
    uint32_t type, unit;
};

struct mapping {
    uint64_t start, limit, offset;
    uint32_t filename, build_id;
    bool has_functions, has_filenames, has_line_numbers, has_inline_frames;
};

struct function {
    uint32_t name, system_name, filename;
    int64_t start_line;
};

struct line {
    uint32_t function_id;
    int64_t line;
};

struct location {
    uint32_t mapping_id;
    uint32_t n_lines;
    size_t first_line;      /* in profile.lines; innermost inlined function first */
    uint64_t given_address; /* part of its identity */
    uint64_t address;       /* the profile's: the same, or made up where that one is taken */
};

struct label {
    uint32_t key, str, unit;
    int64_t num;
};

struct sample {
    size_t first_location; /* in profile.stacks; leaf first */
    size_t first_label;    /* in profile.labels */
    uint32_t n_locations, n_labels;
};

struct profile {
    uint64_t hash_key;
    int error; /* the first failure of a builder call: what is missing can't be told, so nothing is encoded */
    struct strings strings;

    VEC(struct value_type) sample_types;
    size_t default_type;   /* index: what is shown first */
    bool has_default_type; /* and it was asked for by name */
    struct value_type period_type;
    int64_t period, time_ns, duration_ns;
    uint32_t doc_url;
    VEC(int64_t) comments;

    VEC(struct mapping) mappings;
    struct table mapping_index;
    VEC(struct function) functions;
    struct table function_index;
    VEC(struct line) lines;
    VEC(struct location) locations;
    struct table location_index;
    struct table address_index; /* location index by location.address */

    VEC(uint32_t) stacks; /* location ids */
    VEC(struct label) labels;
    VEC(struct sample) samples;
    VEC(int64_t) values; /* sample_types.n of them for each sample */
    struct table sample_index;
};

/* Keeps the first error for the encoders. Returns r. */
int profile_keep_error(struct profile *p, int r);
