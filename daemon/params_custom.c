/* Parses the parameters of custom profiles. Owns nothing. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bpf/custom.h"
#include "daemon/params.h"
#include "daemon/quote.h"

static int parse_function(struct param_parse *p, const struct param_spec *spec, const char *value, struct custom_function *ret)
{
    const char *why;
    return custom_function_parse(value, ret, &why) < 0 ? param_refuse_value(p, spec, value, why) : 0;
}

int param_custom_add(struct param_parse *p, const struct param_spec *spec, const char *value)
{
    return parse_function(p, spec, value, &p->params.custom.add);
}

int param_custom_remove(struct param_parse *p, const struct param_spec *spec, const char *value)
{
    return parse_function(p, spec, value, &p->params.custom.remove);
}

int param_custom_weight(struct param_parse *p, const struct param_spec *spec, const char *value)
{
    return custom_from_parse(value, strlen(value), &p->params.custom.weight) < 0 ? param_refuse_value(p, spec, value, "not one of them") : 0;
}

int param_custom_key(struct param_parse *p, const struct param_spec *spec, const char *value)
{
    return custom_key_parse(value, &p->params.custom.key) < 0 ? param_refuse_value(p, spec, value, "not one of them") : 0;
}

int param_custom_skip(struct param_parse *p, const struct param_spec *spec, const char *value)
{
    if (!*value || strlen(value) > 2 || value[strspn(value, "0123456789")] || atoi(value) > CUSTOM_MAX_SKIP)
        return param_refuse_value(p, spec, value, "not a whole number within the bounds");
    p->params.custom.skip = (uint32_t)atoi(value);
    return 0;
}

int param_custom_unit(struct param_parse *p, const struct param_spec *spec, const char *value)
{
    if (!*value || strlen(value) >= sizeof(p->params.custom.unit) || !is_plain_utf8(value))
        return param_refuse_value(p, spec, value, "empty, too long or not printable");
    (void)snprintf(p->params.custom.unit, sizeof(p->params.custom.unit), "%s", value);
    return 0;
}
