/* What a query, or a rule of the configuration, says of what is to be watched. Owns nothing. */
#include "daemon/watch_query.h"

#include <errno.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "config/watch_rule.h"
#include "daemon/kind.h"
#include "daemon/kind_custom.h"
#include "daemon/params.h"
#include "daemon/quote.h"
#include "daemon/watch.h"
#include "symbolize/name_likeness.h"
#include "util/cleanup.h"

bool watch_query_has(const struct watch_query *q, const struct kind *kind)
{
    for (size_t i = 0; i < q->n; i++)
        if (q->kinds[i] == kind)
            return true;
    return false;
}

const char *watch_query_kinds(const char *separator, char *text, size_t len)
{
    const struct kind *kind;

    *text = '\0';
    for (size_t i = 0; (kind = kind_at(i)); i++)
        if (kind->cumulative && !kind->asks)
            (void)snprintf(text + strlen(text), len - strlen(text), "%s%s", *text ? separator : "", kind->name);
    return text;
}

/* A kind takes it, and none before that one does. */
static bool is_news(const struct kind *of, const char *name)
{
    const struct kind *kind;

    if (!of->cumulative || !watch_kind_takes(of, name))
        return false;
    for (size_t i = 0; (kind = kind_at(i)) != of; i++)
        if (kind->cumulative && watch_kind_takes(kind, name))
            return false;
    return true;
}

/* All that kinds take: ", NAME" each. */
static const char *query_params(char *text, size_t len)
{
    const struct kind *kind;

    *text = '\0';
    for (size_t i = 0; (kind = kind_at(i)); i++)
        for (size_t n = 0; kind->params && n < kind->params->n; n++)
            if (is_news(kind, kind->params->specs[n].name))
                (void)snprintf(text + strlen(text), len - strlen(text), ", %s", kind->params->specs[n].name);
    return text;
}

/* What a query may name, beside kinds. */
struct query_names {
    bool takes_values;       /* profiles that are not watched yet, too */
    bool any;                /* whatever a profile could be called: nobody has looked at a process */
    struct watches *watches; /* else those of processes; NULL: none */
};

/* Who writes "heep" means no profile of his own. One whose name has parts does. */
static const struct kind *query_meant(const char *name)
{
    struct name_form mine, its;
    const struct kind *kind;

    name_form_make(name, &mine);
    for (size_t i = 0; !strpbrk(name, "./:") && (kind = kind_at(i)); i++) {
        name_form_make(kind->name, &its);
        if (name_likeness(&mine, &its) < NAME_UNLIKE)
            return kind;
    }
    return NULL;
}

/* Of all kinds; then of profiles of processes, as far as these may be named. */
static const struct kind *query_find_kind(const char *name, const struct query_names *names)
{
    const struct kind *kind = kind_find(name);

    if (kind || !(names->watches || names->any))
        return kind;
    if (names->any)
        return query_meant(name) ? NULL : custom_kind_any(name);
    return names->takes_values ? custom_kind(names->watches, name) : custom_kind_in_use(names->watches, name);
}

static void query_add_kind(struct watch_query *q, const char *name, const struct query_names *names)
{
    const struct kind *kind = query_find_kind(name, names);
    char quoted[QUOTE_LEN], known[256];

    if (!kind || !kind->cumulative)
        (void)snprintf(q->error, sizeof(q->error), "%s is not a kind that can be watched; these can: %s", quote(name, quoted),
                       watch_query_kinds(", ", known, sizeof(known)));
    else if (watch_query_has(q, kind) && kind != custom_kind_any(name))
        (void)snprintf(q->error, sizeof(q->error), "kind \"%s\" is given twice", kind->name);
    else if (q->n == WATCH_MAX_KINDS)
        (void)snprintf(q->error, sizeof(q->error), "too many kinds: at most %d", WATCH_MAX_KINDS);
    else
        q->kinds[q->n++] = kind;
    q->n_custom += kind && watch_kind_takes(kind, "add");
}

/* Kinds that are read of one watch become that one. */
static void query_merge_kinds(struct watch_query *q)
{
    size_t n = q->n;

    q->n = 0;
    for (size_t i = 0; i < n; i++) {
        const struct kind *kind = kind_watched(q->kinds[i]);
        if (!watch_query_has(q, kind))
            q->kinds[q->n++] = kind;
    }
}

static void query_parse_kinds(struct watch_query *q, const char *value, const struct query_names *names)
{
    AUTO_FREE char *copy = strdup(value);
    char *rest = copy, *name;

    if (!copy)
        (void)snprintf(q->error, sizeof(q->error), "no memory for the query");
    while (!q->error[0] && (name = strsep(&rest, ",")))
        query_add_kind(q, name, names);
    query_merge_kinds(q);
}

/* A parameter beside kinds must be some kind's, of those that are named. */
static void query_check_param(struct watch_query *q, const char *name, bool takes_values)
{
    const struct kind *kind;
    char quoted[QUOTE_LEN], known[256], taken_by[256] = "";

    for (size_t i = 0; takes_values && i < q->n; i++)
        if (watch_kind_takes(q->kinds[i], name))
            return;
    for (size_t i = 0; takes_values && (kind = kind_at(i)); i++)
        if (kind->cumulative && watch_kind_takes(kind, name))
            (void)snprintf(taken_by + strlen(taken_by), sizeof(taken_by) - strlen(taken_by), "%s%s", *taken_by ? ", " : "", kind->name);
    if (*taken_by)
        (void)snprintf(q->error, sizeof(q->error), "parameter %s goes with %s, which \"kinds\" does not name", quote(name, quoted), taken_by);
    else
        (void)snprintf(q->error, sizeof(q->error), "unknown parameter %s; known: kinds%s", quote(name, quoted),
                       takes_values ? query_params(known, sizeof(known)) : "");
}

static size_t count_param(const struct evkeyvalq *query, const char *name)
{
    const struct evkeyval *kv;
    size_t n = 0;

    TAILQ_FOREACH(kv, query, next)
        n += strcmp(kv->key, name) == 0;
    return n;
}

/* The functions of a query are those of one profile. */
static void query_check_functions(struct watch_query *q, const struct evkeyvalq *query)
{
    if (q->n_custom > 1 && count_param(query, "add") > 0)
        (void)snprintf(q->error, sizeof(q->error), "\"add\" and \"remove\" make one profile: name one alone beside them");
}

static bool query_parse(struct watch_query *q, const struct evkeyvalq *query, const struct query_names *names)
{
    const struct evkeyval *kv;

    memset(q, 0, sizeof(*q));
    TAILQ_FOREACH(kv, query, next)
        if (!q->error[0] && count_param(query, kv->key) > 1)
            (void)snprintf(q->error, sizeof(q->error), "a parameter is given twice");
    TAILQ_FOREACH(kv, query, next)
        if (!q->error[0] && strcmp(kv->key, "kinds") == 0)
            query_parse_kinds(q, kv->value, names);
    TAILQ_FOREACH(kv, query, next)
        if (!q->error[0] && strcmp(kv->key, "kinds") != 0)
            query_check_param(q, kv->key, names->takes_values);
    if (!q->error[0])
        query_check_functions(q, query);
    return !q->error[0];
}

bool watch_query_parse(struct watch_query *q, const struct evkeyvalq *query, bool takes_values, struct watches *names)
{
    return query_parse(q, query, &(struct query_names){.takes_values = takes_values, .watches = names});
}

/* ---- rules */

int watch_query_of_rule(const struct watch_rule *rule, struct evkeyvalq *ret)
{
    char copy[WATCH_RULE_MAX_TEXT], *rest = copy, *word;
    int r = evhttp_add_header(ret, "kinds", rule->kinds) < 0 ? -ENOMEM : 0;

    (void)strcpy(copy, rule->values);
    while (r == 0 && *copy && (word = strsep(&rest, " "))) {
        char *equals = strchr(word, '=');
        *equals = '\0'; /* it has one: watch_rule_parse */
        r = evhttp_add_header(ret, word, equals + 1) < 0 ? -ENOMEM : 0;
    }
    return r;
}

int watch_query_check_rule(const struct watch_rule *rule, char *error, size_t error_len)
{
    struct evkeyvalq query;
    struct watch_query q = {0};
    struct watch_wish wish;

    TAILQ_INIT(&query);
    int r = watch_query_of_rule(rule, &query);
    if (r == 0 && !query_parse(&q, &query, &(struct query_names){.takes_values = true, .any = true})) {
        (void)snprintf(error, error_len, "%.400s", q.error);
        r = -EINVAL;
    }
    for (size_t i = 0; r == 0 && i < q.n; i++)
        r = watch_wish_parse(q.kinds[i], &query, 0, &wish, error, error_len);
    evhttp_clear_headers(&query);
    return r;
}
