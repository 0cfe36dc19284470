/* Facts in the order in which they came. Owns the copies of keys and values. */
#include "daemon/facts.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "pprof/profile.h"
#include "pprof/utf8.h"
#include "util/cleanup.h"

void facts_deinit(struct facts *f)
{
    for (size_t i = 0; i < f->n; i++) {
        free(f->items[i].key);
        free(f->items[i].value);
    }
    free(f->items);
    *f = (struct facts){0};
}

static struct fact *facts_find(const struct facts *f, const char *key)
{
    for (size_t i = 0; i < f->n; i++)
        if (strcmp(f->items[i].key, key) == 0)
            return &f->items[i];
    return NULL;
}

/* As JSON writes an integer or a fraction. */
static bool fact_is_number(const char *value)
{
    size_t whole = strspn(value, "0123456789"), end = whole;

    if (whole == 0 || whole > 20 || (whole > 1 && value[0] == '0'))
        return false;
    if (value[whole] == '.') {
        size_t fraction = strspn(value + whole + 1, "0123456789");
        if (fraction == 0)
            return false;
        end = whole + 1 + fraction;
    }
    return value[end] == '\0';
}

static void facts_add(struct facts *f, const char *key, size_t key_len, const char *value)
{
    if (f->n == FACTS_MAX)
        return;
    struct fact *grown = reallocarray(f->items, f->n + 1, sizeof(*grown));
    if (grown) {
        f->items = grown;
        struct fact fact = {
            .key = strndup(key, key_len), .value = strdup(value), .number = fact_is_number(value)};
        if (fact.key && fact.value) {
            f->items[f->n++] = fact;
            return;
        }
        free(fact.key);
        free(fact.value);
    }
    f->failed = true;
}

void facts_copy(const struct facts *f, struct facts *ret)
{
    ret->failed = f->failed;
    for (size_t i = 0; i < f->n; i++)
        facts_add(ret, f->items[i].key, strlen(f->items[i].key), f->items[i].value);
}

void facts_read(struct facts *f, const char *text, size_t len)
{
    for (size_t pos = 0; pos < len; pos += strlen(text + pos) + 1) {
        const char *equals = strchr(text + pos, '=');
        facts_add(f, text + pos, (size_t)(equals - (text + pos)), equals + 1);
    }
}

void facts_set(struct facts *f, const char *key, const char *value)
{
    struct fact *fact = facts_find(f, key);

    if (!fact) {
        facts_add(f, key, strlen(key), value);
        return;
    }
    char *copy = strdup(value);
    if (!copy) {
        f->failed = true;
        return;
    }
    free(fact->value);
    fact->value = copy;
    fact->number = fact_is_number(value);
}

bool facts_number(const struct facts *f, const char *key, uint64_t *ret)
{
    const struct fact *fact = facts_find(f, key);

    if (!fact || !fact->number)
        return false;
    char *end;
    errno = 0;
    uint64_t n = strtoull(fact->value, &end, 10);
    if (errno != 0 || *end != '\0') /* too large, or a fraction */
        return false;
    *ret = n;
    return true;
}

static uint64_t facts_plus(uint64_t a, uint64_t b)
{
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

void facts_count(struct facts *f, const char *key, uint64_t n)
{
    char text[24];
    uint64_t before = 0;

    (void)facts_number(f, key, &before);
    (void)snprintf(text, sizeof(text), "%" PRIu64, facts_plus(before, n));
    facts_set(f, key, text);
}

void facts_note(struct facts *f, const char *key, const char *fmt, ...)
{
    char text[4096 + 256]; /* a path and what became of it */
    size_t have = 0;
    va_list args;

    for (size_t i = 0; i < f->n; i++)
        have += strcmp(f->items[i].key, key) == 0;
    if (have >= FACTS_MAX_NOTES) {
        (void)snprintf(text, sizeof(text), "%s_more", key);
        facts_count(f, text, 1);
        return;
    }
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    facts_add(f, key, strlen(key), text);
}

uint64_t facts_sum(const struct facts *f, const char *prefix)
{
    uint64_t sum = 0, n;

    for (size_t i = 0; i < f->n; i++)
        if (strncmp(f->items[i].key, prefix, strlen(prefix)) == 0 && facts_number(f, f->items[i].key, &n))
            sum = facts_plus(sum, n);
    return sum;
}

int facts_to_comments(const struct facts *f, struct profile *p)
{
    for (size_t i = 0; i < f->n; i++) {
        int r = profile_comment(p, "cprofd.%s=%s", f->items[i].key, f->items[i].value);
        if (r < 0)
            return r;
    }
    return f->failed ? -ENOMEM : 0;
}

int facts_json_string(FILE *out, const char *text)
{
    size_t len = strlen(text);
    AUTO_FREE char *clean = malloc(UTF8_SANITIZED_BYTES(len) + 1);

    fputc('"', out);
    len = clean ? utf8_sanitize(text, len, clean) : 0;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)clean[i];
        if (c == '"' || c == '\\')
            fprintf(out, "\\%c", c);
        else if (c < 0x20 || c == 0x7f)
            fprintf(out, "\\u%04x", c);
        else
            fputc(c, out);
    }
    fputc('"', out);
    return clean ? 0 : -ENOMEM;
}

/* Keys of notes: any number of them, so always an array. */
static bool fact_is_list(const char *key)
{
    static const char *const lists[] = {"warning", "excluded", "unavailable", "debuginfod", "no_symbols", "symbols.pending_in",
                                        "unwind.no_table", "jit"};

    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
        if (strcmp(key, lists[i]) == 0)
            return true;
    return false;
}

static void fact_value_to_json(const struct fact *fact, FILE *out)
{
    if (fact->number)
        fputs(fact->value, out);
    else
        (void)facts_json_string(out, fact->value);
}

static void fact_list_to_json(const struct facts *f, size_t first, FILE *out)
{
    const char *separator = "";

    fputc('[', out);
    for (size_t i = first; i < f->n; i++) {
        if (strcmp(f->items[i].key, f->items[first].key) != 0)
            continue;
        fputs(separator, out);
        (void)facts_json_string(out, f->items[i].value);
        separator = ", ";
    }
    fputc(']', out);
}

void facts_to_json(const struct facts *f, FILE *out)
{
    const char *separator = "";

    for (size_t i = 0; i < f->n; i++) {
        if (facts_find(f, f->items[i].key) != &f->items[i])
            continue; /* a key stands once; the others of a list follow the first */
        fputs(separator, out);
        (void)facts_json_string(out, f->items[i].key);
        fputs(": ", out);
        if (fact_is_list(f->items[i].key))
            fact_list_to_json(f, i, out);
        else
            fact_value_to_json(&f->items[i], out);
        separator = ", ";
    }
}
