/* custom: values that a program adds and removes, by functions that the query names; and the profiles that programs declare
 * (include/cprofd/profile.h), or that queries give names to, each a kind of its own. Owns the names of these. */
#include "daemon/kind_custom.h"

#include <stdio.h>
#include <string.h>

#include "bpf/custom.h"
#include "daemon/custom_list.h"
#include "daemon/http.h"
#include "daemon/kind.h"
#include "daemon/params.h"
#include "daemon/server.h"
#include "daemon/watch.h"

#define FUNCTION_BOUNDS "[OBJECT:]SYMBOL[+0xOFF][:ret|arg0..arg5], where ns::f is a name; no OBJECT: the main binary; else arg0"

static const struct param_spec specs[] = {
    {"add", "function", FUNCTION_BOUNDS, "none", "whose argument or result is a value that is live from then on", param_custom_add, .watch = true},
    {"remove", "function", FUNCTION_BOUNDS, "none: each value that is added counts", "whose argument is a value that is live no longer",
     param_custom_remove, .watch = true},
    {"key", "enum", "pointer|int|long", "pointer",
     "what values are; of results, those that are errors are not added: NULL and -4095 to -1 of pointers, what is below 0 of numbers",
     param_custom_key, .watch = true},
    {"weight", "enum", "arg0..arg5|ret", "none: values are counted alone", "what is summed up of live values, of the function that adds",
     param_custom_weight, .watch = true},
    {"skip", "integer", "[0, 31]", "1", "how many functions are left out at the leaf; 0 keeps the one that adds", param_custom_skip, .watch = true},
    {"unit", "text", "at most 15 printable bytes", "count", "of weights", param_custom_unit, .watch = true},
    PARAM_DELTA_SECONDS, PARAM_DEBUG("0: a profile; else text"), PARAM_FOCUS, PARAM_FORMAT, PARAM_SYMBOLIZE, PARAM_UNWIND, PARAM_MAX_OVERHEAD,
    PARAM_IGNORED("gc", "none"),
    PARAM_NO_DUTY("a value is open until its remove is seen, so each has to be; profile?event=uprobe:PATH:SYMBOL&duty=PERCENT counts calls"),
};
static const struct param_table custom_params = PARAM_TABLE(specs);

static void custom_record(struct session_params *params)
{
    params->event = EVENT_CUSTOM;
    params->custom = (struct custom_spec){.weight = CUSTOM_NOWHERE, .skip = CUSTOM_DEFAULT_SKIP};
    (void)snprintf(params->event_text, sizeof(params->event_text), "custom");
}

const struct kind kind_custom = {
    .name = "custom",
    .path = "custom",
    .description = "Values that a program has open, each by the stack that opened it: add= and remove= name the functions whose calls do so. "
                   "Those that were open before are not known. With add= alone, each call counts.",
    .types = {.type = {"custom"}, .unit = {"count"}, .n = 1, .period_type = "custom", .period_unit = "count", .default_type = "custom"},
    .params = &custom_params,
    .cumulative = true,
    .asks = true,
    .record = custom_record,
    .start = cumulative_start,
};

/* ---- declared ones */

struct custom_name {
    struct kind kind; /* name "": free */
    char name[CUSTOM_NAME_LEN];
};

static struct custom_name names[CUSTOM_MAX_NAMES];

static struct custom_name *name_find(const char *name)
{
    for (size_t i = 0; i < CUSTOM_MAX_NAMES; i++)
        if (strcmp(names[i].name, name) == 0)
            return &names[i];
    return NULL;
}

/* A place that no watch needs any more. */
static struct custom_name *name_reclaim(const struct watches *ws)
{
    static size_t last;

    for (size_t i = 1; i <= CUSTOM_MAX_NAMES; i++) {
        struct custom_name *n = &names[(last + i) % CUSTOM_MAX_NAMES];
        if (watches_use(ws, &n->kind))
            continue;
        last = (last + i) % CUSTOM_MAX_NAMES;
        return n;
    }
    return NULL;
}

const struct kind *custom_kind(struct watches *ws, const char *name)
{
    struct custom_name *n = *name ? name_find(name) : NULL;

    if (n)
        return &n->kind;
    n = custom_name_is_usable(name) ? name_find("") : NULL;
    if (!n && custom_name_is_usable(name))
        n = name_reclaim(ws);
    if (!n)
        return NULL;
    *n = (struct custom_name){
        .kind = {.types = kind_custom.types, .params = &custom_params, .cumulative = true, .declared = true, .record = custom_record,
                 .unwatched = custom_answer_unwatched, .start = cumulative_start,
                 .description = "A profile that the process declares, or that a query gave the name to."},
    };
    (void)snprintf(n->name, sizeof(n->name), "%s", name);
    n->kind.name = n->kind.path = n->name;
    return &n->kind;
}

const struct kind *custom_kind_in_use(const struct watches *ws, const char *name)
{
    const struct custom_name *n = *name ? name_find(name) : NULL;
    return n && watches_use(ws, &n->kind) ? &n->kind : NULL;
}

const struct kind *custom_kind_any(const char *name)
{
    static const struct kind any = {.name = "NAME", .params = &custom_params, .cumulative = true, .declared = true, .record = custom_record};

    return custom_name_is_usable(name) ? &any : NULL;
}
