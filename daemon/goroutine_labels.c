/* Up to 1.23 they are a map (src/runtime/map.go: struct hmap, and buckets of eight slots with their successors), from 1.24 on a slice of
 * pairs. A map is not changed once it is made, but may have been made while its buckets were being moved: then what has not moved yet is
 * in the old ones. */
#include "daemon/goroutine_labels.h"

#include <string.h>

#define STRING_BYTES 16u  /* an address, a length */
#define SLOTS 8u
#define BUCKET_BYTES (SLOTS + 2 * SLOTS * STRING_BYTES + GO_WORD_BYTES)
#define MAX_BUCKET_BITS 4u /* 16 buckets hold more than the labels that are read */
#define MAX_BUCKETS 64u    /* read in all, successors too */

/* What a slot's first byte says. */
enum slot_state { SLOT_EMPTY_REST = 0, SLOT_EMPTY = 1, SLOT_MOVED_FIRST = 2, SLOT_MOVED_LAST = 4 };

struct reading {
    const struct goroutine_source *source;
    struct goroutine_labels *set;
    uint64_t n;
    size_t text_bytes;
};

static bool read_all(const struct goroutine_source *source, uint64_t address, void *to, size_t len)
{
    return source->read(source->userdata, address, to, len) == (ssize_t)len;
}

static uint64_t word(const uint8_t *at)
{
    uint64_t value;

    memcpy(&value, at, sizeof(value));
    return value;
}

/* key, value: strings as they lie in memory. */
static bool add_label(struct reading *r, const uint8_t *key, const uint8_t *value)
{
    uint64_t key_bytes = word(key + GO_WORD_BYTES), value_bytes = word(value + GO_WORD_BYTES);

    if (r->n == GOROUTINES_MAX_LABELS || key_bytes > GOROUTINES_MAX_LABEL_BYTES || value_bytes > GOROUTINES_MAX_LABEL_BYTES
        || r->text_bytes + key_bytes + value_bytes > GOROUTINES_MAX_LABEL_BYTES)
        return false;
    struct raw_label label = {(uint32_t)key_bytes, (uint32_t)value_bytes};
    uint8_t *at = r->set->data + r->set->bytes;
    size_t len = key_bytes + value_bytes, padded = (len + 7) & ~(size_t)7;
    memcpy(at, &label, sizeof(label));
    at += sizeof(label);
    memset(at + len, 0, padded - len);
    if (!read_all(r->source, word(key), at, key_bytes) || !read_all(r->source, word(value), at + key_bytes, value_bytes))
        return false;
    r->set->bytes += sizeof(label) + padded;
    r->text_bytes += len;
    r->n++;
    return true;
}

/* ---- a slice */

static bool read_list(struct reading *r, uint64_t address)
{
    uint8_t slice[2 * GO_WORD_BYTES], pairs[GOROUTINES_MAX_LABELS * 2 * STRING_BYTES];

    if (!read_all(r->source, address, slice, sizeof(slice)))
        return false;
    uint64_t n = word(slice + GO_WORD_BYTES);
    if (n > GOROUTINES_MAX_LABELS || !read_all(r->source, word(slice), pairs, n * 2 * STRING_BYTES))
        return false;
    for (uint64_t i = 0; i < n; i++)
        if (!add_label(r, pairs + i * 2 * STRING_BYTES, pairs + (2 * i + 1) * STRING_BYTES))
            return false;
    return true;
}

/* ---- a map */

static bool is_moved(const uint8_t *bucket)
{
    return bucket[0] >= SLOT_MOVED_FIRST && bucket[0] <= SLOT_MOVED_LAST;
}

static bool read_bucket(struct reading *r, const uint8_t *bucket)
{
    for (size_t i = 0; i < SLOTS; i++) {
        const uint8_t *key = bucket + SLOTS + i * STRING_BYTES;
        if (bucket[i] > SLOT_MOVED_LAST && !add_label(r, key, key + SLOTS * STRING_BYTES))
            return false;
    }
    return true;
}

/* An array of buckets with their successors; *left of them may still be read. */
static bool read_buckets(struct reading *r, uint64_t address, uint64_t n, unsigned *left)
{
    uint8_t bucket[BUCKET_BYTES];

    for (uint64_t i = 0; i < n; i++) {
        bool moved = false;
        for (uint64_t at = address + i * BUCKET_BYTES, first = at; at != 0 && !moved; at = word(bucket + BUCKET_BYTES - GO_WORD_BYTES)) {
            if ((*left)-- == 0 || !read_all(r->source, at, bucket, sizeof(bucket))) {
                *left = 0;
                return false;
            }
            moved = at == first && is_moved(bucket);
            if (!moved && !read_bucket(r, bucket))
                return false;
        }
    }
    return true;
}

/* struct hmap: count, flags, bits, overflow, seed, buckets, old buckets. */
static bool read_map(struct reading *r, uint64_t address)
{
    uint8_t header[32], pointer[GO_WORD_BYTES];
    unsigned left = MAX_BUCKETS;

    if (!read_all(r->source, address, pointer, sizeof(pointer)))
        return false;
    if (word(pointer) == 0)
        return true;
    if (!read_all(r->source, word(pointer), header, sizeof(header)))
        return false;
    uint64_t count = word(header), bits = header[9], buckets = word(header + 16), old = word(header + 24);
    if (bits > MAX_BUCKET_BITS || count > GOROUTINES_MAX_LABELS)
        return false;
    if (count > 0 && !read_buckets(r, buckets, 1ull << bits, &left))
        return false;
    bool is_same_size = header[8] & 8;
    if (count > 0 && old && !read_buckets(r, old, 1ull << (bits > 0 && !is_same_size ? bits - 1 : bits), &left))
        return false;
    return r->n == count;
}

bool goroutine_labels_read(const struct goroutine_source *source, uint64_t address, struct goroutine_labels *ret)
{
    struct reading r = {.source = source, .set = ret};

    ret->bytes = sizeof(struct raw_label_set);
    bool ok = source->runtime->labels == GO_LABELS_LIST  ? read_list(&r, address)
              : source->runtime->labels == GO_LABELS_MAP ? read_map(&r, address)
                                                         : false;
    struct raw_label_set set = {r.n};
    memcpy(ret->data, &set, sizeof(set));
    return ok;
}
