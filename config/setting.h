/* One row of the table of settings, for the modules of this folder and the generator of the manuals. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "config/settings.h"

#define SETTINGS_MAX 64 /* struct settings.by_switch has a bit for each */

/* What a value is, and what the field in struct settings is. */
enum setting_type {
    SETTING_INTEGER,   /* uint32_t within bounds */
    SETTING_NUMBER,    /* double within bounds */
    SETTING_BYTES,     /* uint64_t within bounds; suffixes K, M, G */
    SETTING_WORD,      /* uint32_t, the index into words */
    SETTING_PATH,      /* char[SETTINGS_MAX_PATH], absolute */
    SETTING_ADDRESSES, /* struct settings_list of addresses to listen on */
    SETTING_HOSTS,     /* struct settings_list of host names */
    SETTING_USERS,     /* struct settings_list of decimal uids */
    SETTING_URLS,      /* struct settings_list of http and https URLs */
    SETTING_WATCHES,   /* struct settings_list of rules of what is watched */
    SETTING_GRANTS,    /* grant and n_grants */
};

struct setting {
    const char *name;     /* the file's key and, after "--", the switch */
    const char *section;  /* of the file and of cprofd.conf(5) */
    enum setting_type type;
    size_t offset;        /* of the field */
    double min, max;      /* of numbers, inclusive */
    const char *const *words;
    size_t n_words;
    const char *value;    /* what stands for the value in --help and in the manuals: "N", "SIZE" */
    const char *fallback; /* the default, as one would write it; NULL: an empty list */
    const char *example;  /* a further value for the example file, or NULL */
    const char *brief;    /* for --help and cprofd(8): one line, no capital, no full stop */
    const char *manual;   /* for cprofd.conf(5) and the example: sentences in plain text */
};

struct setting_section {
    const char *name;
    const char *title;
};

extern const struct setting settings_table[];
extern const size_t n_settings;
extern const struct setting_section setting_sections[];
extern const size_t n_setting_sections;

static inline bool setting_is_list(const struct setting *setting)
{
    return setting->type >= SETTING_ADDRESSES;
}
