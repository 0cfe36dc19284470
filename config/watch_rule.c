/* Reads rules of what is watched. Owns nothing but who checks kinds. */
#include "config/watch_rule.h"

#include <errno.h>
#include <string.h>

#include "config/value.h"

#define WATCH_NAME_BYTES 15 /* the kernel's names of threads */

static watch_rule_check check_kinds;

void watch_rule_use_check(watch_rule_check check)
{
    check_kinds = check;
}

static int rule_parse_whom(const char *word, struct watch_rule *rule, struct value_error *error)
{
    static const struct {
        const char *prefix;
        enum watch_rule_by by;
    } ways[] = {{"name:", WATCH_BY_NAME}, {"unit:", WATCH_BY_UNIT}, {"cgroup:", WATCH_BY_CGROUP}};

    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        size_t len = strlen(ways[i].prefix);
        if (strncmp(word, ways[i].prefix, len) != 0)
            continue;
        rule->by = ways[i].by;
        (void)strcpy(rule->whom, word + len);
        size_t n = strlen(rule->whom);
        if (n == 0)
            break;
        if (rule->by == WATCH_BY_NAME && n > WATCH_NAME_BYTES)
            return value_refuse(error, "\"%.80s\" is no process's name: the kernel keeps %d bytes of it; write name:%.15s", rule->whom,
                                WATCH_NAME_BYTES, rule->whom);
        if (rule->by == WATCH_BY_UNIT && (!strchr(rule->whom, '.') || strchr(rule->whom, '/')))
            return value_refuse(error, "\"%.80s\" is not the name of a unit; write for example unit:nginx.service", rule->whom);
        if (rule->by == WATCH_BY_CGROUP && value_path(rule->whom, sizeof(rule->whom), error) < 0)
            return -EINVAL;
        while (rule->by == WATCH_BY_CGROUP && n > 1 && rule->whom[n - 1] == '/')
            rule->whom[--n] = '\0';
        return 0;
    }
    return value_refuse(error, "\"%.80s\" does not say whom to watch; write name:NAME, unit:NAME.service or cgroup:/PATH", word);
}

static int rule_add_value(const char *word, struct watch_rule *rule, struct value_error *error)
{
    const char *equals = strchr(word, '=');

    if (!equals || equals == word || !equals[1])
        return value_refuse(error, "\"%.80s\" is not NAME=VALUE; write for example block_rate=10000", word);
    if (rule->values[0])
        (void)strcat(rule->values, " ");
    (void)strcat(rule->values, word);
    return 0;
}

int watch_rule_parse(const char *text, struct watch_rule *ret, struct value_error *error)
{
    struct watch_rule rule = {0};
    char copy[WATCH_RULE_MAX_TEXT], *rest = NULL;

    if (strlen(text) >= sizeof(copy))
        return value_refuse(error, "\"%.80s...\" is longer than the %d bytes that a rule may have", text, WATCH_RULE_MAX_TEXT - 1);
    (void)strcpy(copy, text);
    const char *whom = strtok_r(copy, " \t", &rest), *kinds = strtok_r(NULL, " \t", &rest), *word;
    if (!whom || !kinds)
        return value_refuse(error, "\"%.80s\" is not WHOM KINDS [NAME=VALUE ...]; write for example: unit:nginx.service block,mutex", text);
    int r = rule_parse_whom(whom, &rule, error);
    (void)strcpy(rule.kinds, kinds);
    while (r == 0 && (word = strtok_r(NULL, " \t", &rest)))
        r = rule_add_value(word, &rule, error);
    if (r == 0 && check_kinds)
        r = check_kinds(&rule, error->text, sizeof(error->text));
    if (r == 0)
        *ret = rule;
    return r;
}
