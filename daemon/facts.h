/* What a profile says of itself: keys and values, as comments of a pprof profile and as members of a JSON
 * object. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct profile;

#define FACTS_MAX 1024
#define FACTS_MAX_NOTES 32 /* of one key */

struct fact {
    char *key, *value;
    bool number; /* a decimal number: in JSON, too */
};

/* Zero-initialized. Where memory is short, failed is set and what follows is lost: ask at the end. */
struct facts {
    struct fact *items;
    size_t n;
    bool failed;
};

void facts_deinit(struct facts *f);
/* Into a zeroed one. */
void facts_copy(const struct facts *f, struct facts *ret);
/* "key=value\0"...: checked by raw_profile_open. */
void facts_read(struct facts *f, const char *text, size_t len);
void facts_set(struct facts *f, const char *key, const char *value);
/* Adds to a number that is there, or sets it. */
void facts_count(struct facts *f, const char *key, uint64_t n);
/* One more value of a key that may have several (a JSON array, always); beyond FACTS_MAX_NOTES they are only
 * counted. */
void facts_note(struct facts *f, const char *key, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* True where the key is there and a number that fits. */
bool facts_number(const struct facts *f, const char *key, uint64_t *ret);
/* The sum of all numbers whose key begins with prefix. */
uint64_t facts_sum(const struct facts *f, const char *prefix);

/* Comments "cprofd.KEY=VALUE". 0 or -ENOMEM. */
int facts_to_comments(const struct facts *f, struct profile *p);
/* Members, "\"key\": value", separated by commas, without the braces. */
void facts_to_json(const struct facts *f, FILE *out);
/* A JSON string, quotes and all, of any bytes. To a FILE (quote.h has one for evbuffers). 0; -ENOMEM: it is empty. */
int facts_json_string(FILE *out, const char *text);
