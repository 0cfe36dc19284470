/* Text of clients and targets, made fit for answers: messages, HTML and JSON. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define QUOTE_LEN 80

struct evbuffer;

/* text in double quotes, cut short, with "?" for what is not printable ASCII. Returns out. */
const char *quote(const char *text, char out[QUOTE_LEN]);

/* The length of the UTF-8 character at text (of len bytes), 0 where it is none: surrogates, overlong forms and what lies
 * beyond U+10FFFF are none. */
size_t utf8_char_len(const char *text, size_t len);
/* Valid UTF-8 without control characters. */
bool is_plain_utf8(const char *text);

/* Appends len bytes as the inside of an HTML text or of a quoted attribute. What is not UTF-8, and control characters, become U+FFFD. */
void html_escape(struct evbuffer *out, const char *text, size_t len);
/* Appends len bytes as a JSON string, quotes included; the same for what is not UTF-8. Safe inside an HTML page as well. */
void json_string(struct evbuffer *out, const char *text, size_t len);
