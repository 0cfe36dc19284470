/* A profile's birth, end and header: sample types, period, times, comments. Owns everything in struct
 * profile. */
#include "pprof/profile.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>

#include "pprof/model.h"
#include "util/cleanup.h"

static void cleanup_profile(struct profile **p) { profile_free(*p); }

/* Random bytes that need no system call: encoders run where getrandom may be refused. */
static uint64_t profile_hash_key(void)
{
    uint64_t key = 0;
    const void *random = (const void *)getauxval(AT_RANDOM);
    if (random)
        memcpy(&key, random, sizeof(key));
    return key;
}

int profile_keep_error(struct profile *p, int r)
{
    if (r < 0 && p->error == 0)
        p->error = r;
    return r;
}

static int profile_intern_type(struct profile *p, const struct profile_value_type *type,
                               struct value_type *ret)
{
    struct value_type interned;
    if (strings_intern(&p->strings, type->type, &interned.type) < 0 ||
        strings_intern(&p->strings, type->unit, &interned.unit) < 0)
        return -ENOMEM;
    *ret = interned;
    return 0;
}

static int profile_add_type(struct profile *p, const struct profile_value_type *type)
{
    struct value_type interned;
    assert(type->type && *type->type && type->unit && *type->unit);
    if (profile_intern_type(p, type, &interned) < 0 || vec_reserve(&p->sample_types, 1) < 0)
        return -ENOMEM;
    vec_push(&p->sample_types, interned);
    return 0;
}

struct profile *profile_new(const struct profile_value_type *types, size_t n_types, const char *default_type)
{
    assert(n_types >= 1);
    CLEANUP(cleanup_profile) struct profile *p = calloc(1, sizeof(*p));
    if (!p)
        return NULL;
    p->hash_key = profile_hash_key();
    if (strings_init(&p->strings, p->hash_key) < 0)
        return NULL;
    p->default_type = n_types - 1;
    for (size_t i = 0; i < n_types; i++) {
        if (profile_add_type(p, &types[i]) < 0)
            return NULL;
        if (default_type && strcmp(default_type, types[i].type) == 0) {
            p->default_type = i;
            p->has_default_type = true;
        }
    }
    assert(!default_type || p->has_default_type);
    return TAKE_PTR(p);
}

void profile_free(struct profile *p)
{
    if (!p)
        return;
    vec_free(&p->sample_types);
    vec_free(&p->comments);
    vec_free(&p->mappings);
    vec_free(&p->functions);
    vec_free(&p->lines);
    vec_free(&p->locations);
    vec_free(&p->stacks);
    vec_free(&p->labels);
    vec_free(&p->samples);
    vec_free(&p->values);
    table_deinit(&p->mapping_index);
    table_deinit(&p->function_index);
    table_deinit(&p->location_index);
    table_deinit(&p->address_index);
    table_deinit(&p->sample_index);
    strings_deinit(&p->strings);
    free(p);
}

void profile_set_period(struct profile *p, struct profile_value_type type, int64_t period)
{
    p->period = period;
    (void)profile_keep_error(p, profile_intern_type(p, &type, &p->period_type));
}

void profile_set_time(struct profile *p, int64_t time_ns, int64_t duration_ns)
{
    p->time_ns = time_ns;
    p->duration_ns = duration_ns;
}

int profile_set_doc_url(struct profile *p, const char *url)
{
    return profile_keep_error(p, strings_intern(&p->strings, url, &p->doc_url));
}

static int profile_add_comment(struct profile *p, const char *text)
{
    uint32_t id;
    if (strings_intern(&p->strings, text, &id) < 0 || vec_reserve(&p->comments, 1) < 0)
        return -ENOMEM;
    vec_push(&p->comments, id);
    return 0;
}

int profile_comment(struct profile *p, const char *fmt, ...)
{
    AUTO_FREE char *text = NULL;
    va_list args;
    va_start(args, fmt);
    int n = vasprintf(&text, fmt, args);
    va_end(args);
    if (n < 0) {
        text = NULL;
        return profile_keep_error(p, -ENOMEM);
    }
    return profile_keep_error(p, profile_add_comment(p, text));
}
