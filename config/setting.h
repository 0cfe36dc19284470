/* One row of the table of settings, for the modules of this folder and the generator of the manual. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "config/settings.h"
#include "config/value.h"

struct setting {
    const char *name;     /* the file's key and, after "--", the switch */
    const char *section;  /* of the file and of cprofd.conf(5) */
    const char *value;    /* what stands for the value in --help and in manuals: "N", "SIZE" */
    const char *fallback; /* the default, as one would write it; NULL: an empty list */
    const char *example;  /* for the example file, where the default says too little; or NULL */
    const char *brief;    /* for --help: one line, no capital, no full stop */
    const char *manual;   /* for cprofd.conf(5) and the example: sentences, plain text */
    size_t offset;        /* of the field in struct settings */
    double min, max;      /* of numbers, inclusive */
    const char *const *words; /* of enumerations */
    size_t n_words;
    bool list; /* may stand more than once; then parse appends, and clear empties */
    int (*parse)(const struct setting *setting, struct settings *s, const char *text, struct value_error *error);
    void (*clear)(const struct setting *setting, struct settings *s);
};

struct setting_section {
    const char *name;
    const char *title; /* for the manual and the example */
};

extern const struct setting settings_table[];
extern const size_t n_settings;
extern const struct setting_section setting_sections[];
extern const size_t n_setting_sections;

/* The setting of that name, or NULL. */
const struct setting *setting_find(const char *name);
/* What settings_check says where one setting does not go with another (*ret_blamed), or NULL with no fault. */
const char *settings_conflict(const struct settings *s, const struct setting **ret_blamed);
/* A deep copy; *ret is whole or empty. 0 or -ENOMEM. */
int settings_copy(const struct settings *s, struct settings *ret);
