/* From the text of one value to what it means. Each parser refuses with a message that quotes the value and
 * says what would be right; the caller prefixes it with where the value stood. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct settings_grant;

struct value_error {
    char text[512];
};

/* Writes the message; returns -EINVAL, so that a parser can end with it. */
int value_refuse(struct value_error *error, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* 0, or -EINVAL with a message; *ret is untouched then. Bounds are inclusive. */
int value_integer(const char *text, uint64_t min, uint64_t max, uint64_t *ret, struct value_error *error);
/* Bytes, with an optional suffix K, M or G (powers of 1,024). */
int value_bytes(const char *text, uint64_t min, uint64_t max, uint64_t *ret, struct value_error *error);
/* A decimal fraction. */
int value_number(const char *text, double min, double max, double *ret, struct value_error *error);
/* One of n words; *ret is its index. */
int value_word(const char *text, const char *const *words, size_t n, uint32_t *ret,
               struct value_error *error);
/* "ADDRESS:PORT", "[ADDRESS]:PORT" or "unix:/PATH", in form alone. */
int value_listen_address(const char *text, struct value_error *error);
/* A host name or address as in a Host header, without scheme and port. */
int value_host(const char *text, struct value_error *error);
/* An absolute path of fewer than room bytes, without "..", in form alone. */
int value_path(const char *text, size_t room, struct value_error *error);
/* "http://..." or "https://...", in form alone. */
int value_url(const char *text, struct value_error *error);
/* A name of the user database, or a number. */
int value_user(const char *text, uint32_t *ret_uid, struct value_error *error);
/* "WHO WHOM [kernel]". */
int value_grant(const char *text, struct settings_grant *ret, struct value_error *error);

/* "64M", "1G", "1000": the text that value_bytes reads. */
void value_bytes_text(uint64_t bytes, char ret[32]);
