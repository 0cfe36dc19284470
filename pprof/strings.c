/* Interned strings. Owns the bytes, in chunks that never move, and the index by content. */
#include "pprof/strings.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "pprof/hash.h"
#include "pprof/utf8.h"
#include "util/cleanup.h"

#define CHUNK_BYTES 65536

struct strings_chunk {
    struct strings_chunk *next;
    size_t used, size;
    char data[];
};

struct span {
    const char *data;
    size_t len;
};

static bool strings_equal(const void *owner, uint32_t id, const void *key)
{
    const struct strings *s = owner;
    const struct span *span = key;
    const char *text = s->by_id.items[id];
    return strncmp(text, span->data, span->len) == 0 && text[span->len] == '\0';
}

/* A NUL-terminated copy in a chunk; NULL: no memory. */
static const char *strings_store(struct strings *s, const struct span *span)
{
    struct strings_chunk *chunk = s->chunks;
    if (!chunk || chunk->size - chunk->used <= span->len) {
        size_t size = span->len + 1 > CHUNK_BYTES ? span->len + 1 : CHUNK_BYTES;
        chunk = malloc(sizeof(*chunk) + size);
        if (!chunk)
            return NULL;
        *chunk = (struct strings_chunk){.next = s->chunks, .size = size};
        s->chunks = chunk;
    }
    char *copy = chunk->data + chunk->used;
    memcpy(copy, span->data, span->len);
    copy[span->len] = '\0';
    chunk->used += span->len + 1;
    return copy;
}

static int strings_intern_span(struct strings *s, const struct span *span, uint32_t *ret_id)
{
    uint64_t hash = hash_bytes(s->hash_key, span->data, span->len);
    uint32_t id = table_find(&s->index, hash, strings_equal, s, span);
    if (id == TABLE_NONE) {
        if (table_reserve(&s->index) < 0 || vec_reserve(&s->by_id, 1) < 0)
            return -ENOMEM;
        const char *copy = strings_store(s, span);
        if (!copy)
            return -ENOMEM;
        id = (uint32_t)s->by_id.n;
        vec_push(&s->by_id, copy);
        table_insert(&s->index, hash, id);
    }
    *ret_id = id;
    return 0;
}

/* Where to cut valid text, so that the mark finds room and no character is split. */
static size_t strings_cut_length(const char *text)
{
    size_t len = STRINGS_MAX_BYTES - (sizeof(STRINGS_CUT_MARK) - 1);
    while (((unsigned char)text[len] & 0xc0) == 0x80)
        len--;
    return len;
}

/* The rare case: not UTF-8, or too long. */
static int strings_intern_repaired(struct strings *s, const char *text, size_t len, uint32_t *ret_id)
{
    AUTO_FREE char *repaired = malloc(UTF8_SANITIZED_BYTES(len));
    if (!repaired)
        return -ENOMEM;
    struct span span = {.data = repaired, .len = utf8_sanitize(text, len, repaired)};
    if (span.len > STRINGS_MAX_BYTES) {
        span.len = strings_cut_length(repaired);
        memcpy(repaired + span.len, STRINGS_CUT_MARK, sizeof(STRINGS_CUT_MARK) - 1);
        span.len += sizeof(STRINGS_CUT_MARK) - 1;
    }
    return strings_intern_span(s, &span, ret_id);
}

int strings_intern(struct strings *s, const char *text, uint32_t *ret_id)
{
    struct span span = {.data = text ? text : ""};
    span.len = strnlen(span.data, STRINGS_MAX_BYTES + 1);
    if (span.len > STRINGS_MAX_BYTES || utf8_valid_prefix(span.data, span.len) < span.len)
        return strings_intern_repaired(s, span.data, span.len, ret_id);
    return strings_intern_span(s, &span, ret_id);
}

const char *strings_get(const struct strings *s, uint32_t id)
{
    assert(id < s->by_id.n);
    return s->by_id.items[id];
}

int strings_init(struct strings *s, uint64_t hash_key)
{
    uint32_t id;
    *s = (struct strings){.hash_key = hash_key};
    return strings_intern(s, "", &id);
}

void strings_deinit(struct strings *s)
{
    while (s->chunks) {
        struct strings_chunk *next = s->chunks->next;
        free(s->chunks);
        s->chunks = next;
    }
    vec_free(&s->by_id);
    table_deinit(&s->index);
}
