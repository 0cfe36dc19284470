/* What a query, or a rule of the configuration, says of what is to be watched: kinds, and the parameters of these. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct evkeyvalq;
struct kind;
struct watch_rule;
struct watches;

#define WATCH_MAX_KINDS 16

struct watch_query {
    const struct kind *kinds[WATCH_MAX_KINDS];
    size_t n;
    size_t n_custom;  /* of them, as they were named: those that can be made of functions */
    char error[1024]; /* "" unless it is refused */
};

/* takes_values: parameters of kinds may stand beside them. names: profiles that targets declare may be named: where parameters may, any, and
 * otherwise those that are watched; NULL: kinds alone. False where it is refused, with q->error. */
bool watch_query_parse(struct watch_query *q, const struct evkeyvalq *query, bool takes_values, struct watches *names);
bool watch_query_has(const struct watch_query *q, const struct kind *kind);
/* The names of all kinds that can be watched as they are. Returns text. */
const char *watch_query_kinds(const char *separator, char *text, size_t len);

/* A rule as the query that says the same; for evhttp_clear_headers in any case. 0 or -ENOMEM. */
int watch_query_of_rule(const struct watch_rule *rule, struct evkeyvalq *ret);
/* A watch_rule_check. */
int watch_query_check_rule(const struct watch_rule *rule, char *error, size_t error_len);
