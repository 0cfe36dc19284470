/* Escaping. Whatever comes in, what goes out is valid UTF-8 and can't end the string, tag or line that it stands in. */
#include "daemon/quote.h"

#include <event2/buffer.h>
#include <stdio.h>
#include <string.h>

#define REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

const char *quote(const char *text, char out[QUOTE_LEN])
{
    size_t n = 0;
    out[n++] = '"';
    while (*text && n < QUOTE_LEN - 5) {
        char c = *text++;
        out[n++] = c >= 0x20 && c < 0x7f && c != '"' ? c : '?';
    }
    (void)snprintf(out + n, QUOTE_LEN - n, "%s\"", *text ? "..." : "");
    return out;
}

static bool is_continuation(unsigned char c)
{
    return (c & 0xc0) == 0x80;
}

size_t utf8_char_len(const char *text, size_t len)
{
    const unsigned char *u = (const unsigned char *)text;
    if (len == 0)
        return 0;
    if (u[0] < 0x80)
        return 1;
    size_t n = u[0] >= 0xc2 && u[0] <= 0xdf ? 2 : u[0] >= 0xe0 && u[0] <= 0xef ? 3 : u[0] >= 0xf0 && u[0] <= 0xf4 ? 4 : 0;
    if (n == 0 || n > len)
        return 0;
    for (size_t i = 1; i < n; i++)
        if (!is_continuation(u[i]))
            return 0;
    /* overlong; surrogates; beyond U+10FFFF */
    if ((u[0] == 0xe0 && u[1] < 0xa0) || (u[0] == 0xed && u[1] > 0x9f) || (u[0] == 0xf0 && u[1] < 0x90) ||
        (u[0] == 0xf4 && u[1] > 0x8f))
        return 0;
    return n;
}

static bool is_control(unsigned char c)
{
    return c < 0x20 || c == 0x7f;
}

bool is_plain_utf8(const char *text)
{
    for (size_t len = strlen(text), n; len > 0; text += n, len -= n) {
        n = utf8_char_len(text, len);
        if (n == 0 || is_control((unsigned char)*text))
            return false;
    }
    return true;
}

void html_escape(struct evbuffer *out, const char *text, size_t len)
{
    for (size_t n; len > 0; text += n, len -= n) {
        static const char special[] = "&<>\"'";
        static const char *const entity[] = {"&amp;", "&lt;", "&gt;", "&quot;", "&#39;"};
        n = utf8_char_len(text, len);
        const char *found = *text ? strchr(special, *text) : NULL;
        if (n == 0 || is_control((unsigned char)*text)) {
            n = 1;
            (void)evbuffer_add(out, REPLACEMENT, strlen(REPLACEMENT));
        } else if (found) {
            (void)evbuffer_add_printf(out, "%s", entity[found - special]);
        } else {
            (void)evbuffer_add(out, text, n);
        }
    }
}

void json_string(struct evbuffer *out, const char *text, size_t len)
{
    (void)evbuffer_add(out, "\"", 1);
    for (size_t n; len > 0; text += n, len -= n) {
        n = utf8_char_len(text, len);
        if (n == 0) {
            n = 1;
            (void)evbuffer_add(out, REPLACEMENT, strlen(REPLACEMENT));
        } else if (is_control((unsigned char)*text) || *text == '<' || *text == '>' || *text == '&') {
            (void)evbuffer_add_printf(out, "\\u%04x", (unsigned char)*text);
        } else if (*text == '"' || *text == '\\') {
            (void)evbuffer_add_printf(out, "\\%c", *text);
        } else {
            (void)evbuffer_add(out, text, n);
        }
    }
    (void)evbuffer_add(out, "\"", 1);
}
