/* The grammar of functions whose calls add and remove values: a separator is a single colon, ns::f is a name. And what samples are called. Owns
 * nothing. */
#include "daemon/custom_spec.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "bpf/custom.h"
#include "daemon/event_table.h"
#include "daemon/quote.h"

int custom_from_parse(const char *text, size_t len, uint32_t *ret)
{
    if (len == 3 && strncmp(text, "ret", len) == 0) {
        *ret = CUSTOM_RESULT;
        return 0;
    }
    if (len != 4 || strncmp(text, "arg", 3) != 0 || text[3] < '0' || text[3] > '5')
        return -EINVAL;
    *ret = CUSTOM_ARG0 + (uint32_t)(text[3] - '0');
    return 0;
}

int custom_key_parse(const char *text, uint32_t *ret)
{
    static const char *const names[] = {[CUSTOM_POINTER] = "pointer", [CUSTOM_INT] = "int", [CUSTOM_LONG] = "long"};

    for (uint32_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(text, names[i]) == 0) {
            *ret = i;
            return 0;
        }
    }
    return -EINVAL;
}

/* The last separator before `end`; NULL: there is none. */
static const char *last_separator(const char *text, const char *end)
{
    for (const char *p = end; p > text;) {
        const char *last = p;
        while (p > text && p[-1] == ':')
            p--;
        if ((last - p) % 2)
            return p;
        if (p == last)
            p--;
    }
    return NULL;
}

static int copy_part(char *to, size_t size, const char *from, size_t len, const char **ret_why)
{
    if (len >= size) {
        *ret_why = "it is too long";
        return -EINVAL;
    }
    memcpy(to, from, len);
    to[len] = '\0';
    return 0;
}

int custom_function_parse(const char *text, struct custom_function *ret, const char **ret_why)
{
    struct custom_function f = {.from = CUSTOM_ARG0};
    const char *end = text + strlen(text), *separator = last_separator(text, end);

    *ret_why = "control characters, or not UTF-8";
    if (!is_plain_utf8(text))
        return -EINVAL;
    if (separator && custom_from_parse(separator + 1, (size_t)(end - separator - 1), &f.from) == 0) {
        end = separator;
        separator = last_separator(text, end);
    }
    int r = separator ? copy_part(f.object, sizeof(f.object), text, (size_t)(separator - text), ret_why) : 0;
    const char *symbol = separator ? separator + 1 : text;
    r = r < 0 ? r : copy_part(f.symbol, sizeof(f.symbol), symbol, (size_t)(end - symbol), ret_why);
    r = r < 0 ? r : event_cut_offset(f.symbol, &f.offset, ret_why);
    if (r < 0)
        return r;
    if (separator && strncmp(f.symbol, "arg", 3) == 0 && f.symbol[3] && !f.symbol[3 + strspn(f.symbol + 3, "0123456789")]) {
        *ret_why = "arguments that can be read are arg0 to arg5";
        return -EINVAL;
    }
    if (!f.symbol[0] || last_separator(f.object, f.object + strlen(f.object))) {
        *ret_why = "write [OBJECT:]SYMBOL[+0xOFF][:ret|arg0..arg5], where ns::f is a name";
        return -EINVAL;
    }
    *ret = f;
    return 0;
}

int custom_spec_check(const struct custom_spec *spec, char *error, size_t error_len)
{
    if (spec->add.symbol[0])
        return 0;
    if (!spec->name[0])
        (void)snprintf(error, error_len, "custom needs \"add\", a function whose calls add values, and \"remove\", one whose calls remove them; "
                       "without it, what is added is counted");
    else if (spec->weight != CUSTOM_NOWHERE || spec->skip != CUSTOM_DEFAULT_SKIP || spec->key != CUSTOM_POINTER || spec->unit[0])
        (void)snprintf(error, error_len, "\"weight\", \"unit\", \"key\" and \"skip\" go with \"add\" and \"remove\": of a profile that a program "
                       "declares it says these itself");
    else
        return 0;
    return -EINVAL;
}

bool custom_name_is_usable(const char *name)
{
    size_t len = strlen(name);

    return len > 0 && len < CUSTOM_NAME_LEN - 1 && is_plain_utf8(name) && !strpbrk(name, ",?#");
}

/* ---- types */

/* Text of a target, cut at a character's beginning; what is not printable becomes a question mark. */
static void take_text(const char *text, char *ret, size_t size)
{
    size_t n = 0, len = strlen(text);

    for (size_t i = 0; i < len;) {
        size_t bytes = utf8_char_len(text + i, len - i);
        bool plain = bytes > 1 || (bytes == 1 && (unsigned char)text[i] >= 0x20 && text[i] != 0x7f);
        if (n + (plain ? bytes : 1) >= size)
            break;
        if (plain)
            memcpy(ret + n, text + i, bytes);
        else
            ret[n] = '?';
        n += plain ? bytes : 1;
        i += bytes ? bytes : 1;
    }
    ret[n] = '\0';
}

void custom_types(const char *name, const char *unit, struct raw_types *ret)
{
    struct raw_types types = {.unit = {"count"}, .n = 1, .period_unit = "count"};

    take_text(name, types.type[0], sizeof(types.type[0]));
    memcpy(types.period_type, types.type[0], sizeof(types.period_type));
    memcpy(types.default_type, types.type[0], sizeof(types.default_type));
    if (*unit && strcmp(unit, "count") != 0) {
        (void)strcpy(types.type[1], "weight");
        take_text(unit, types.unit[1], sizeof(types.unit[1]));
        types.n = 2;
    }
    *ret = types;
}

void custom_spec_types(const struct custom_spec *spec, const char *unit, struct raw_types *ret)
{
    custom_types(spec->name[0] ? spec->name : "custom", unit, ret);
    if (custom_is_declared(spec) || spec->weight == CUSTOM_NOWHERE || ret->n == 2)
        return;
    (void)strcpy(ret->type[1], "weight"); /* a query may ask for weights that are counts */
    (void)strcpy(ret->unit[1], "count");
    ret->n = 2;
}
