/* Splits and decodes a query string, by the rules of Go's net/url where it has a result. */
#include "daemon/http_query.h"

#include <errno.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "util/cleanup.h"

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

char *http_query_decode(const char *text, size_t len, bool plus)
{
    AUTO_FREE char *out = malloc(len + 1);
    size_t n = 0;
    if (!out)
        return NULL;
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        if (c == '%' && len - i > 2 && hex_digit(text[i + 1]) >= 0 && hex_digit(text[i + 2]) >= 0) {
            c = (char)(hex_digit(text[i + 1]) << 4 | hex_digit(text[i + 2]));
            i += 2;
        } else if (c == '+' && plus) {
            c = ' ';
        }
        if (c == '\0')
            return NULL;
        out[n++] = c;
    }
    out[n] = '\0';
    return TAKE_PTR(out);
}

/* One "NAME=VALUE". evhttp_add_header refuses line breaks, which a value of ours may have: the list is linked by hand. */
static int add_param(const char *text, size_t len, struct evkeyvalq *ret)
{
    const char *equals = memchr(text, '=', len);
    size_t name_len = equals ? (size_t)(equals - text) : len;
    const char *value = equals ? equals + 1 : "";
    AUTO_FREE char *name = http_query_decode(text, name_len, true);
    AUTO_FREE char *decoded = http_query_decode(value, equals ? len - name_len - 1 : 0, true);
    if (!name || !decoded)
        return -EINVAL;
    struct evkeyval *kv = calloc(1, sizeof(*kv));
    if (!kv)
        return -ENOMEM;
    kv->key = TAKE_PTR(name);
    kv->value = TAKE_PTR(decoded);
    TAILQ_INSERT_TAIL(ret, kv, next);
    return 0;
}

int http_query_parse(const char *query, size_t max, struct evkeyvalq *ret)
{
    for (size_t n = 0; *query; query += *query == '&') {
        size_t len = strcspn(query, "&");
        if (len > 0) {
            if (n++ == max)
                return -E2BIG;
            int r = add_param(query, len, ret);
            if (r < 0)
                return r;
        }
        query += len;
    }
    return 0;
}
