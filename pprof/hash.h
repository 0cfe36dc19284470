/* Keyed hashing for the tables of a profile: what is hashed comes from profiled processes, so a key that they
 * don't know keeps them from choosing collisions. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint64_t hash_u64(uint64_t state, uint64_t value)
{
    __uint128_t product = state ^ value ^ 0x9e3779b97f4a7c15ull;
    product *= state + 0xd1b54a32d192ed03ull;
    return (uint64_t)product ^ (uint64_t)(product >> 64) ^ state;
}

static inline uint64_t hash_bytes(uint64_t state, const void *data, size_t len)
{
    const unsigned char *at = data;
    uint64_t word;
    state = hash_u64(state, len);
    for (; len >= sizeof(word); at += sizeof(word), len -= sizeof(word)) {
        memcpy(&word, at, sizeof(word));
        state = hash_u64(state, word);
    }
    word = 0;
    memcpy(&word, at, len);
    return hash_u64(state, word);
}
