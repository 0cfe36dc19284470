/* The table of settings and what follows from it: defaults, switches, --help. Files are read by settings_file.c,
 * values by value.c.
 *
 * To add a setting: a field in struct settings, and one row here, in the order in which the manual shall
 * show it. A row of a new type needs a parse function (and, for a list, a clear function). File, switch, --help, bounds,
 * errors, cprofd(8), cprofd.conf(5) and the example configuration then follow; nothing else names a setting. */
#include "config/settings.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "config/setting.h"
#include "util/cleanup.h"

#define FIELD(s, setting, type) ((type *)(void *)((char *)(s) + (setting)->offset))

static int parse_u32(const struct setting *setting, struct settings *s, const char *text, struct value_error *error)
{
    uint64_t n;
    int r = value_integer(text, (uint64_t)setting->min, (uint64_t)setting->max, &n, error);
    if (r == 0)
        *FIELD(s, setting, uint32_t) = (uint32_t)n;
    return r;
}

static int parse_bytes(const struct setting *setting, struct settings *s, const char *text, struct value_error *error)
{
    return value_bytes(text, (uint64_t)setting->min, (uint64_t)setting->max, FIELD(s, setting, uint64_t), error);
}

static int parse_number(const struct setting *setting, struct settings *s, const char *text, struct value_error *error)
{
    return value_number(text, setting->min, setting->max, FIELD(s, setting, double), error);
}

static int parse_word(const struct setting *setting, struct settings *s, const char *text, struct value_error *error)
{
    return value_word(text, setting->words, setting->n_words, FIELD(s, setting, uint32_t), error);
}

static int list_append(struct settings_list *list, const char *item, struct value_error *error)
{
    if (list->n == SETTINGS_MAX_LIST)
        return value_refuse(error, "\"%.80s\" is one too many; at most %d are possible", item, SETTINGS_MAX_LIST);
    for (size_t i = 0; i < list->n; i++)
        if (strcmp(list->item[i], item) == 0)
            return value_refuse(error, "\"%.80s\" stands here twice; once is enough", item);
    char *copy = strdup(item);
    if (!copy)
        return -ENOMEM;
    list->item[list->n++] = copy;
    return 0;
}

static void clear_list(const struct setting *setting, struct settings *s)
{
    struct settings_list *list = FIELD(s, setting, struct settings_list);
    while (list->n)
        free(list->item[--list->n]);
}

static int parse_listen(const struct setting *setting, struct settings *s, const char *text, struct value_error *error)
{
    int r = value_listen_address(text, error);
    return r < 0 ? r : list_append(FIELD(s, setting, struct settings_list), text, error);
}

static int parse_host(const struct setting *setting, struct settings *s, const char *text, struct value_error *error)
{
    int r = value_host(text, error);
    return r < 0 ? r : list_append(FIELD(s, setting, struct settings_list), text, error);
}

static int parse_proxy(const struct setting *setting, struct settings *s, const char *text, struct value_error *error)
{
    uint32_t uid;
    char decimal[16];
    int r = value_user(text, &uid, error);
    if (r < 0)
        return r;
    (void)snprintf(decimal, sizeof(decimal), "%u", uid);
    return list_append(FIELD(s, setting, struct settings_list), decimal, error);
}

static bool grant_equal(const struct settings_grant *a, const struct settings_grant *b)
{
    return a->to == b->to && a->to_id == b->to_id && a->target == b->target && a->target_uid == b->target_uid &&
           a->kernel == b->kernel;
}

static int parse_grant(const struct setting *setting, struct settings *s, const char *text, struct value_error *error)
{
    struct settings_grant grant;
    int r = value_grant(text, &grant, error);
    if (r < 0)
        return r;
    if (s->n_grants == SETTINGS_MAX_LIST)
        return value_refuse(error, "\"%.80s\" is one too many; at most %d are possible", text, SETTINGS_MAX_LIST);
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

static const char *const log_levels[] = {"error", "warning", "info", "debug"}; /* as in struct settings */

const struct setting_section setting_sections[] = {
    {"http", "Where the daemon listens, and to whom it speaks"},
    {"access", "Who may profile whom, beyond the kernel's rule"},
    {"limits", "What sessions may cost"},
    {"workers", "The sandboxed processes that read symbols"},
    {"log", "What is logged"},
};
const size_t n_setting_sections = sizeof(setting_sections) / sizeof(setting_sections[0]);

const struct setting settings_table[] = {
    {.name = "listen", .section = "http", .value = "ADDR:PORT|unix:PATH", .fallback = "127.0.0.1:6060",
     .brief = "where to listen",
     .manual = "An address to listen on: an IPv4 address and port, an IPv6 address in brackets and port, or unix: and the "
               "absolute path of a socket. Port 0 takes any free one, which the log names. Off the loopback interface, "
               "askers are strangers: they get only what is granted to everyone. Sockets passed by the service manager "
               "replace this setting.",
     .offset = offsetof(struct settings, listen), .list = true, .parse = parse_listen, .clear = clear_list},
    {.name = "hosts", .section = "http", .value = "NAME", .example = "profiler.example.org",
     .brief = "a further Host name that requests may carry",
     .manual = "A name that requests may carry in their Host header, besides IP addresses, localhost and the machine's own "
               "name. Other names are refused, so that a web page cannot reach the daemon by a name of its own.",
     .offset = offsetof(struct settings, hosts), .list = true, .parse = parse_host, .clear = clear_list},
    {.name = "proxy", .section = "http", .value = "USER", .example = "www-data",
     .brief = "the user of a reverse proxy on this machine",
     .manual = "A user (name or number) whose connections are those of a reverse proxy on this machine. What comes through "
               "it has no user of its own, and gets only what is granted to everyone. Without this setting, requests with "
               "Forwarded, X-Forwarded-* or Via headers are refused.",
     .offset = offsetof(struct settings, proxy_uids), .list = true, .parse = parse_proxy, .clear = clear_list},

    {.name = "grant", .section = "access", .value = "WHO WHOM [kernel]", .example = "group:adm any kernel",
     .brief = "let WHO (everyone, user:NAME, group:NAME) profile WHOM (any, user:NAME)",
     .manual = "Lets WHO (everyone, user:NAME or group:NAME) profile the processes of WHOM (any, or user:NAME), which the "
               "kernel's own rule would not let them trace. With kernel, kernel frames and kernel-only events are granted "
               "as well. Names may be numbers. A group means the asker's primary group.",
     .offset = offsetof(struct settings, grant), .list = true, .parse = parse_grant, .clear = clear_grants},

    {.name = "max-hz", .section = "limits", .value = "N", .fallback = "10000",
     .brief = "the highest sampling rate of one session",
     .manual = "The highest sampling rate of one session, in samples a second and CPU. A higher one is lowered to it, and "
               "the profile says so.",
     .offset = offsetof(struct settings, max_hz), .min = 1, .max = 10000, .parse = parse_u32},
    {.name = "max-sessions", .section = "limits", .value = "N", .fallback = "64",
     .brief = "sessions at one time",
     .manual = "How many sessions may run at one time. Root is not refused because of others.",
     .offset = offsetof(struct settings, max_sessions), .min = 1, .max = 64, .parse = parse_u32},
    {.name = "max-sessions-target", .section = "limits", .value = "N", .fallback = "16",
     .brief = "sessions on one process at one time",
     .manual = "How many sessions may run on one process at one time.",
     .offset = offsetof(struct settings, max_sessions_target), .min = 1, .max = 64, .parse = parse_u32},
    {.name = "max-sessions-asker", .section = "limits", .value = "N", .fallback = "16",
     .brief = "sessions of one user at one time",
     .manual = "How many sessions one user may run at one time. All askers without a user count as one.",
     .offset = offsetof(struct settings, max_sessions_asker), .min = 1, .max = 64, .parse = parse_u32},
    {.name = "max-rate-hz", .section = "limits", .value = "N", .fallback = "20000",
     .brief = "all sessions' sampling rates together",
     .manual = "The sum of all sessions' sampling rates. Each sample's interrupt costs every process on its CPU some "
               "microseconds, whether it is profiled or not.",
     .offset = offsetof(struct settings, max_rate_hz), .min = 1, .max = 640000, .parse = parse_u32},
    {.name = "max-rate-asker-hz", .section = "limits", .value = "N", .fallback = "10000",
     .brief = "one user's sampling rates together",
     .manual = "The sum of the sampling rates of one user's sessions.",
     .offset = offsetof(struct settings, max_rate_asker_hz), .min = 1, .max = 640000, .parse = parse_u32},

    {.name = "workers", .section = "workers", .value = "N", .fallback = "0",
     .brief = "how many symbolizing processes; 0: one a core",
     .manual = "How many worker processes may run; 0 is one for each core. They are started when needed and kept.",
     .offset = offsetof(struct settings, workers), .min = 0, .max = 256, .parse = parse_u32},
    {.name = "worker-memory", .section = "workers", .value = "SIZE", .fallback = "4G",
     .brief = "address space of one worker",
     .manual = "The address space that one worker may use. It maps the files that it reads, so this must exceed the largest "
               "binary with its debug information. A worker that needs more is ended, and the profile names the "
               "file that it could not read.",
     .offset = offsetof(struct settings, worker_memory_bytes), .min = 0x1p28, .max = 0x1p40, .parse = parse_bytes},
    {.name = "worker-cache", .section = "workers", .value = "SIZE", .fallback = "256M",
     .brief = "symbol cache of one worker",
     .manual = "What one worker keeps of symbols between requests. At most half of worker-memory.",
     .offset = offsetof(struct settings, worker_cache_bytes), .min = 0x1p20, .max = 0x1p40, .parse = parse_bytes},
    {.name = "worker-timeout", .section = "workers", .value = "SECONDS", .fallback = "30",
     .brief = "how long one profile may be worked on",
     .manual = "How long a worker may take for one profile. Beyond it the worker is ended, and the profile is made without "
               "the file that it was reading.",
     .offset = offsetof(struct settings, worker_timeout_seconds), .min = 0.1, .max = 3600, .parse = parse_number},

    {.name = "log-level", .section = "log", .value = "LEVEL", .fallback = "info",
     .brief = "error, warning, info or debug",
     .manual = "What is logged: error, warning, info or debug, each with all before it. The audit line of each session is "
               "info.",
     .offset = offsetof(struct settings, log_level), .words = log_levels,
     .n_words = sizeof(log_levels) / sizeof(log_levels[0]), .parse = parse_word},
};
const size_t n_settings = sizeof(settings_table) / sizeof(settings_table[0]);
_Static_assert(sizeof(settings_table) / sizeof(settings_table[0]) <= 64, "by_switch has a bit for each");

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

    memset(s, 0, sizeof(*s));
    for (size_t i = 0; i < n_settings; i++) {
        const struct setting *setting = &settings_table[i];
        int r = setting->fallback ? setting->parse(setting, s, setting->fallback, &error) : 0;
        assert(r == 0 || r == -ENOMEM); /* the table's own text */
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
        if (settings_table[i].list)
            settings_table[i].clear(&settings_table[i], s);
}

static int list_copy(struct settings_list *list)
{
    struct settings_list copy = {0};
    for (; copy.n < list->n; copy.n++) {
        copy.item[copy.n] = strdup(list->item[copy.n]);
        if (!copy.item[copy.n]) {
            while (copy.n)
                free(copy.item[--copy.n]);
            *list = (struct settings_list){0};
            return -ENOMEM;
        }
    }
    *list = copy;
    return 0;
}

int settings_copy(const struct settings *s, struct settings *ret)
{
    struct settings copy = *s;
    /* Every list is visited, so that after a failure none is shared with *s. */
    int r = list_copy(&copy.listen);
    r = list_copy(&copy.hosts) ?: r;
    r = list_copy(&copy.proxy_uids) ?: r;
    if (r < 0)
        settings_deinit(&copy);
    *ret = copy;
    return r;
}

int settings_set(struct settings *s, const char *name, const char *value, FILE *errors)
{
    const struct setting *setting = setting_find(name);
    struct value_error error = {"memory is short"};
    struct settings changed;
    int r;

    if (!setting) {
        fprintf(errors, "--%s: there is no such setting; see --help\n", name);
        return -EINVAL;
    }
    uint64_t bit = 1ull << (setting - settings_table);
    r = settings_copy(s, &changed);
    if (r == 0 && setting->list && !(s->by_switch & bit))
        setting->clear(setting, &changed);
    if (r == 0)
        r = setting->parse(setting, &changed, value, &error);
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
    *ret_blamed = setting_find("worker-cache");
    return s->worker_cache_bytes > s->worker_memory_bytes / 2
        ? "is more than half of worker-memory; raise worker-memory to twice this, or lower it" : NULL;
}

int settings_check(const struct settings *s, FILE *errors)
{
    const struct setting *blamed;
    const char *conflict = settings_conflict(s, &blamed);
    if (!conflict)
        return 0;
    fprintf(errors, "%s: %s\n", blamed->name, conflict);
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
        fprintf(out, "%s\n", setting->list ? "; may be given more than once" : "");
    }
}
