/* Distinct strings of bytes, each kept once, in the order in which they first came, one behind the other. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct byte_set;

/* Zeroed is empty; seed: what those who choose the strings don't know. */
struct byte_sets {
    struct byte_set *sets;
    uint64_t seed;
    uint64_t bytes; /* of all */
};

/* Where the string stands among all. 0 or -ENOMEM. */
int byte_sets_add(struct byte_sets *s, const void *data, size_t len, uint64_t *ret_offset);
/* All of them, bytes long; the caller's to free. NULL: no memory. */
uint8_t *byte_sets_join(const struct byte_sets *s);
void byte_sets_deinit(struct byte_sets *s);
