/* Interned strings: each distinct one is kept once, as valid UTF-8, under an id that counts up from 0, which
 * is "". */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "pprof/table.h"
#include "pprof/vec.h"

/* A name of a target's making could be of any length; longer ones are cut, and end in STRINGS_CUT_MARK.
 * Beyond this Pyroscope cuts by itself, at any byte, and then refuses the profile for what is no UTF-8 any
 * more. */
#define STRINGS_MAX_BYTES 65535
#define STRINGS_CUT_MARK "[cut]"

struct strings_chunk;

struct strings {
    VEC(const char *) by_id;
    struct table index;
    struct strings_chunk *chunks; /* the newest first: it has the room */
    uint64_t hash_key;
};

/* 0 or -ENOMEM. */
int strings_init(struct strings *s, uint64_t hash_key);
void strings_deinit(struct strings *s); /* safe to call twice */

/* The id of a string; NULL is "". 0 or -ENOMEM. */
int strings_intern(struct strings *s, const char *text, uint32_t *ret_id);
/* Valid until strings_deinit. */
const char *strings_get(const struct strings *s, uint32_t id);
