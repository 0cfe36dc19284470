/* Where a target has its allocators mapped: what is mapped from there is theirs (bpf/heap_maps.h). Owns the list. */
#include <errno.h>
#include <stdlib.h>

#include "bpf/heap.h"
#include "daemon/raw_profile.h"
#include "daemon/recording_impl.h"
#include "daemon/server.h"
#include "util/cleanup.h"

void recording_heap_code_take(struct recording_heap *heap, const struct raw_profile *list)
{
    AUTO_FREE struct recording_heap_code *code = calloc(list->n_mappings + 1, sizeof(*code));
    size_t n = 0;

    for (size_t i = 0; code && i < list->n_mappings; i++) {
        const struct raw_mapping *m = &list->mappings[i];
        if (m->object != RAW_NO_OBJECT)
            code[n++] = (struct recording_heap_code){m->start, m->end, m->object, m->main_binary};
    }
    free(heap->code);
    heap->n_code = n;
    heap->code = TAKE_PTR(code);
}

static bool has_allocator(const struct recording_places *places, uint32_t object)
{
    for (size_t i = 0; i < places->n_files; i++)
        if (places->objects[i] == object)
            return true;
    return false;
}

void recording_heap_code_set(struct recording *rec)
{
    struct recording_heap *heap = rec->heap;
    struct heap_code code = {0};

    heap->own = false;
    for (size_t i = 0; i < heap->n_code; i++) {
        if (!has_allocator(&rec->places, heap->code[i].object))
            continue;
        heap->own = heap->own || heap->code[i].main_binary;
        if (code.n < HEAP_MAX_CODE) {
            code.at[code.n].start = heap->code[i].start;
            code.at[code.n].end = heap->code[i].end;
        }
        code.n++;
    }
    if (heap->own)
        code.n = 0; /* a library's mapping may be cut or given back by the program's own file, which is not looked at */
    heap->no_code = attach_heap_code(&rec->server->sampler, rec->slot, &code) < 0 || code.n == 0 || code.n > HEAP_MAX_CODE;
}

const char *recording_heap_code_why(const struct recording_heap *heap)
{
    if (heap->sites)
        return "not counted: what the allocator tells is all that counts";
    if (heap->own)
        return "not counted: the program's own file has an allocator, and whose mappings are whose can't be told";
    if (heap->no_code)
        return "not counted: it is not known where all allocators are";
    return NULL;
}
