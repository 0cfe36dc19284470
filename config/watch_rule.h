/* A rule of what is watched: WHOM KINDS [NAME=VALUE ...]. What kinds and parameters there are, only the daemon knows. */
#pragma once

#include <stddef.h>

struct value_error;

#define WATCH_RULE_MAX_TEXT 200 /* a line of the file has no room for more */

enum watch_rule_by {
    WATCH_BY_NAME,   /* the main thread's name */
    WATCH_BY_UNIT,   /* a unit of the system's service manager */
    WATCH_BY_CGROUP, /* a control group, and those below it */
};

struct watch_rule {
    enum watch_rule_by by;
    char whom[WATCH_RULE_MAX_TEXT];
    char kinds[WATCH_RULE_MAX_TEXT];  /* "block,mutex" */
    char values[WATCH_RULE_MAX_TEXT]; /* "block_rate=10000 max_overhead=2", one blank between; "" */
};

/* 0, or -EINVAL with a message. */
int watch_rule_parse(const char *text, struct watch_rule *ret, struct value_error *error);

/* Whether there are such kinds, and they take such values: 0, or -EINVAL with a message. */
typedef int (*watch_rule_check)(const struct watch_rule *rule, char *error, size_t error_len);
/* From now on rules are checked by this as well; NULL: by their form alone. */
void watch_rule_use_check(watch_rule_check check);
