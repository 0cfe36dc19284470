/* What a kind is to be watched with, out of a query: the parameters that the kind's own table marks. Owns nothing. */
#include <errno.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "daemon/kind.h"
#include "daemon/params.h"
#include "daemon/watch.h"

bool watch_kind_takes(const struct kind *kind, const char *name)
{
    for (size_t i = 0; kind->params && i < kind->params->n; i++)
        if (kind->params->specs[i].watch && strcmp(kind->params->specs[i].name, name) == 0)
            return true;
    return false;
}

/* The kind's part of the query. 0 or -ENOMEM. */
static int wish_select(const struct kind *kind, const struct evkeyvalq *query, struct evkeyvalq *ret)
{
    const struct evkeyval *kv;

    TAILQ_FOREACH(kv, query, next)
        if (watch_kind_takes(kind, kv->key) && evhttp_add_header(ret, kv->key, kv->value) < 0)
            return -ENOMEM;
    return 0;
}

/* Of a declared profile the program says all but what it may cost. */
static bool wish_says_itself(const struct watch_wish *wish, const char *name)
{
    return custom_is_declared(&wish->params.custom) && strcmp(name, "max_overhead") != 0;
}

static void wish_note_values(const struct evkeyvalq *query, struct watch_wish *wish)
{
    const struct param_table *table = wish->kind->params;

    for (size_t i = 0; i < table->n && wish->n_values < WATCH_MAX_VALUES; i++) {
        const struct param_spec *spec = &table->specs[i];
        const char *text = spec->watch ? evhttp_find_header(query, spec->name) : NULL;
        struct watch_value *value = &wish->values[wish->n_values];
        if (!spec->watch || (!text && wish_says_itself(wish, spec->name)))
            continue;
        value->name = spec->name;
        if (text || strcmp(spec->name, "max_overhead") != 0)
            (void)snprintf(value->text, sizeof(value->text), "%s", text ? text : spec->fallback);
        else
            (void)snprintf(value->text, sizeof(value->text), "%g", wish->params.max_overhead);
        wish->n_values++;
    }
}

int watch_wish_parse(const struct kind *kind, const struct evkeyvalq *query, double max_overhead, struct watch_wish *ret, char *error,
                     size_t error_len)
{
    struct watch_wish wish = {.kind = kind};
    struct evkeyvalq own;

    TAILQ_INIT(&own);
    session_params_init(&wish.params);
    wish.params.duration_ns = 0;
    wish.params.types = kind->types;
    kind_record(kind, &wish.params);
    int r = wish_select(kind, query, &own);
    if (r < 0)
        (void)snprintf(error, error_len, "no memory for the query");
    r = r ? r : session_params_parse(&own, kind->params, 0, &wish.params, error, error_len);
    if (r == 0 && wish.params.event == EVENT_CUSTOM)
        r = custom_spec_check(&wish.params.custom, error, error_len);
    if (wish.params.max_overhead == 0)
        wish.params.max_overhead = max_overhead;
    if (r == 0) {
        wish_note_values(&own, &wish);
        *ret = wish;
    }
    evhttp_clear_headers(&own);
    return r;
}

/* Digits that mean the same number, where they are written otherwise. */
static bool same_value(const char *a, const char *b)
{
    char *end_a, *end_b;
    double number_a = strtod(a, &end_a), number_b = strtod(b, &end_b);

    return strcmp(a, b) == 0 || (*a && *b && !*end_a && !*end_b && number_a == number_b);
}

bool watch_wish_equal(const struct watch_wish *a, const struct watch_wish *b)
{
    if (a->kind != b->kind || a->n_values != b->n_values)
        return false;
    for (size_t i = 0; i < a->n_values; i++)
        if (!same_value(a->values[i].text, b->values[i].text))
            return false;
    return true;
}
