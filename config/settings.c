/* The values of settings: defaults, copies, single changes, switches, --help. What there is to set stands in
 * settings_table.c, files are read by settings_file.c, single values by value.c. */
#include "config/settings.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "config/settings_edit.h"
#include "config/watch_rule.h"
#include "util/cleanup.h"

/* The field of a setting, whose type the row's own type says. */
static void *setting_field(const struct setting *setting, struct settings *s)
{
    return (char *)s + setting->offset;
}

static int parse_integer(const struct setting *setting, struct settings *s, const char *text,
                         struct value_error *error)
{
    uint64_t n;
    int r = value_integer(text, (uint64_t)setting->min, (uint64_t)setting->max, &n, error);
    if (r == 0)
        *(uint32_t *)setting_field(setting, s) = (uint32_t)n;
    return r;
}

static int parse_bytes(const struct setting *setting, struct settings *s, const char *text,
                       struct value_error *error)
{
    return value_bytes(text, (uint64_t)setting->min, (uint64_t)setting->max, setting_field(setting, s),
                       error);
}

static int parse_number(const struct setting *setting, struct settings *s, const char *text,
                        struct value_error *error)
{
    return value_number(text, setting->min, setting->max, setting_field(setting, s), error);
}

static int parse_word(const struct setting *setting, struct settings *s, const char *text,
                      struct value_error *error)
{
    return value_word(text, setting->words, setting->n_words, setting_field(setting, s), error);
}

static int parse_path(const struct setting *setting, struct settings *s, const char *text,
                      struct value_error *error)
{
    int r = value_path(text, SETTINGS_MAX_PATH, error);
    if (r == 0)
        strcpy(setting_field(setting, s), text);
    return r;
}

static int list_append(struct settings_list *list, const char *item, struct value_error *error)
{
    if (list->n == SETTINGS_MAX_LIST)
        return value_refuse(error, "\"%.80s\" is one too many; at most %d are possible", item,
                            SETTINGS_MAX_LIST);
    for (size_t i = 0; i < list->n; i++)
        if (strcmp(list->item[i], item) == 0)
            return value_refuse(error, "\"%.80s\" stands here twice; once is enough", item);
    char *copy = strdup(item);
    if (!copy)
        return -ENOMEM;
    list->item[list->n++] = copy;
    return 0;
}

static void list_clear(struct settings_list *list)
{
    while (list->n)
        free(list->item[--list->n]);
}

static void clear_list(const struct setting *setting, struct settings *s)
{
    list_clear(setting_field(setting, s));
}

static int parse_address(const struct setting *setting, struct settings *s, const char *text,
                         struct value_error *error)
{
    int r = value_listen_address(text, error);
    return r < 0 ? r : list_append(setting_field(setting, s), text, error);
}

static int parse_host(const struct setting *setting, struct settings *s, const char *text,
                      struct value_error *error)
{
    int r = value_host(text, error);
    return r < 0 ? r : list_append(setting_field(setting, s), text, error);
}

static int parse_url(const struct setting *setting, struct settings *s, const char *text,
                     struct value_error *error)
{
    int r = value_url(text, error);
    return r < 0 ? r : list_append(setting_field(setting, s), text, error);
}

static int parse_watch(const struct setting *setting, struct settings *s, const char *text,
                       struct value_error *error)
{
    struct watch_rule rule;
    int r = watch_rule_parse(text, &rule, error);
    return r < 0 ? r : list_append(setting_field(setting, s), text, error);
}

static int parse_user(const struct setting *setting, struct settings *s, const char *text,
                      struct value_error *error)
{
    uint32_t uid;
    char decimal[16];
    int r = value_user(text, &uid, error);
    if (r < 0)
        return r;
    (void)snprintf(decimal, sizeof(decimal), "%u", uid);
    return list_append(setting_field(setting, s), decimal, error);
}

static bool grant_equal(const struct settings_grant *a, const struct settings_grant *b)
{
    return a->to == b->to && a->to_id == b->to_id && a->target == b->target &&
           a->target_uid == b->target_uid && a->kernel == b->kernel;
}

static int parse_grant(const struct setting *setting, struct settings *s, const char *text,
                       struct value_error *error)
{
    struct settings_grant grant;
    int r = value_grant(text, &grant, error);
    if (r < 0)
        return r;
    if (s->n_grants == SETTINGS_MAX_LIST)
        return value_refuse(error, "\"%.80s\" is one too many; at most %d are possible", text,
                            SETTINGS_MAX_LIST);
    for (size_t i = 0; i < s->n_grants; i++)
        if (grant_equal(&s->grant[i], &grant))
            return value_refuse(error, "\"%.80s\" stands here twice; once is enough", text);
    s->grant[s->n_grants++] = grant;
    return 0;
}

static void clear_grants(const struct setting *setting, struct settings *s)
{
    s->n_grants = 0;
}

/* By enum setting_type; lists can be cleared. */
static const struct {
    int (*parse)(const struct setting *setting, struct settings *s, const char *text,
                 struct value_error *error);
    void (*clear)(const struct setting *setting, struct settings *s);
} setting_types[] = {
    [SETTING_INTEGER] = {parse_integer, NULL},
    [SETTING_NUMBER] = {parse_number, NULL},
    [SETTING_BYTES] = {parse_bytes, NULL},
    [SETTING_WORD] = {parse_word, NULL},
    [SETTING_PATH] = {parse_path, NULL},
    [SETTING_ADDRESSES] = {parse_address, clear_list},
    [SETTING_HOSTS] = {parse_host, clear_list},
    [SETTING_USERS] = {parse_user, clear_list},
    [SETTING_URLS] = {parse_url, clear_list},
    [SETTING_WATCHES] = {parse_watch, clear_list},
    [SETTING_GRANTS] = {parse_grant, clear_grants},
};

int setting_parse(const struct setting *setting, struct settings *s, const char *text,
                  struct value_error *error)
{
    return setting_types[setting->type].parse(setting, s, text, error);
}

void setting_clear(const struct setting *setting, struct settings *s)
{
    assert(setting_is_list(setting));
    setting_types[setting->type].clear(setting, s);
}

const struct setting *setting_find(const char *name)
{
    for (size_t i = 0; i < n_settings; i++)
        if (strcmp(settings_table[i].name, name) == 0)
            return &settings_table[i];
    return NULL;
}

const char *settings_name(size_t i)
{
    return i < n_settings ? settings_table[i].name : NULL;
}

int settings_init(struct settings *s)
{
    struct value_error error;

    *s = (struct settings){0};
    for (size_t i = 0; i < n_settings; i++) {
        const char *fallback = settings_table[i].fallback;
        int r = fallback ? setting_parse(&settings_table[i], s, fallback, &error) : 0;
        assert(r == 0 || r == -ENOMEM); /* it is the table's own text */
        if (r < 0) {
            settings_deinit(s);
            return r;
        }
    }
    return 0;
}

void settings_deinit(struct settings *s)
{
    for (size_t i = 0; i < n_settings; i++)
        if (setting_is_list(&settings_table[i]))
            setting_clear(&settings_table[i], s);
}

/* Replaces the items by copies of them; by none where memory is short. */
static int list_unshare(struct settings_list *list)
{
    struct settings_list copy = {0};
    for (; copy.n < list->n; copy.n++) {
        copy.item[copy.n] = strdup(list->item[copy.n]);
        if (!copy.item[copy.n]) {
            list_clear(&copy);
            *list = copy;
            return -ENOMEM;
        }
    }
    *list = copy;
    return 0;
}

int settings_copy(const struct settings *s, struct settings *ret)
{
    int r = 0;

    *ret = *s;
    for (size_t i = 0; i < n_settings;
         i++) /* all of them, so that after a failure nothing is shared with *s */
        if (setting_types[settings_table[i].type].clear == clear_list)
            r = list_unshare(setting_field(&settings_table[i], ret)) < 0 ? -ENOMEM : r;
    if (r < 0)
        settings_deinit(ret);
    return r;
}

int settings_set(struct settings *s, const char *name, const char *value, FILE *errors)
{
    const struct setting *setting = setting_find(name);
    struct value_error error = {"memory is short"};
    struct settings changed;

    if (!setting) {
        fprintf(errors, "--%s: there is no such setting; see --help\n", name);
        return -EINVAL;
    }
    uint64_t bit = UINT64_C(1) << (setting - settings_table);
    int r = settings_copy(s, &changed);
    if (r == 0 && setting_is_list(setting) && !(s->by_switch & bit))
        setting_clear(setting, &changed);
    if (r == 0)
        r = setting_parse(setting, &changed, value, &error);
    if (r < 0) {
        fprintf(errors, "--%s: %s\n", name, error.text);
        settings_deinit(&changed);
        return r;
    }
    changed.by_switch |= bit;
    settings_deinit(s);
    *s = changed;
    return 0;
}

const char *settings_conflict(const struct settings *s, const struct setting **ret_blamed)
{
    if (s->worker_cache_bytes <= s->worker_memory_bytes / 2)
        return NULL;
    *ret_blamed = setting_find("worker-cache");
    return "is more than half of worker-memory; lower it, or raise worker-memory to twice of it";
}

int settings_check(const struct settings *s, FILE *errors)
{
    const struct setting *blamed;
    const char *conflict = settings_conflict(s, &blamed);
    if (!conflict)
        return 0;
    fprintf(errors, "%s %s\n", blamed->name, conflict);
    return -EINVAL;
}

bool settings_is_proxy(const struct settings *s, uid_t uid)
{
    char decimal[16];
    (void)snprintf(decimal, sizeof(decimal), "%u", uid);
    for (size_t i = 0; i < s->proxy_uids.n; i++)
        if (strcmp(s->proxy_uids.item[i], decimal) == 0)
            return true;
    return false;
}

void settings_print_help(FILE *out)
{
    for (size_t i = 0; i < n_settings; i++) {
        const struct setting *setting = &settings_table[i];
        fprintf(out, "  --%s %s\n        %s", setting->name, setting->value, setting->brief);
        if (setting->fallback)
            fprintf(out, " (default %s)", setting->fallback);
        fprintf(out, "%s\n", setting_is_list(setting) ? "; may be given more than once" : "");
    }
}
