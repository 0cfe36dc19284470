/* UTF-8 as the Unicode standard defines it (table 3-7): shortest forms, no surrogates, up to U+10FFFF. */
#pragma once

#include <stddef.h>

/* Room that utf8_sanitize needs for len bytes: one bad byte becomes the three of U+FFFD. */
#define UTF8_SANITIZED_BYTES(len) ((len) * 3)

/* How many of the first bytes are valid; len where all are. */
size_t utf8_valid_prefix(const char *text, size_t len);

/* Writes text to out, each part that can't begin or go on a character replaced by one U+FFFD. Returns the
 * bytes written. */
size_t utf8_sanitize(const char *text, size_t len, char *out);
