/* A hash table of copies. */
#include "daemon/byte_sets.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "pprof/hash.h"

struct byte_set {
    UT_hash_handle hh;
    uint64_t offset;
    size_t len;
    uint8_t bytes[];
};

int byte_sets_add(struct byte_sets *s, const void *data, size_t len, uint64_t *ret_offset)
{
    unsigned hash = (unsigned)hash_bytes(s->seed, data, len);
    struct byte_set *set;

    HASH_FIND_BYHASHVALUE(hh, s->sets, data, len, hash, set);
    if (!set) {
        set = malloc(sizeof(*set) + len);
        if (!set)
            return -ENOMEM;
        set->offset = s->bytes;
        set->len = len;
        memcpy(set->bytes, data, len);
        HASH_ADD_KEYPTR_BYHASHVALUE(hh, s->sets, set->bytes, len, hash, set);
        if (!set->hh.tbl) {
            free(set);
            return -ENOMEM;
        }
        s->bytes += len;
    }
    *ret_offset = set->offset;
    return 0;
}

uint8_t *byte_sets_join(const struct byte_sets *s)
{
    uint8_t *all = malloc(s->bytes + 1);

    for (const struct byte_set *set = s->sets; all && set; set = set->hh.next)
        memcpy(all + set->offset, set->bytes, set->len);
    return all;
}

void byte_sets_deinit(struct byte_sets *s)
{
    struct byte_set *set, *next;

    HASH_ITER(hh, s->sets, set, next) {
        HASH_DEL(s->sets, set);
        free(set);
    }
    s->bytes = 0;
}
