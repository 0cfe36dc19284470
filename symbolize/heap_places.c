/* Where an allocator's functions are probed. The entry of one that allocates stays where the return address is at the stack's top: it is by this
 * that a session's probe sees the call to its end, and that the stack is walked. */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "symbolize/heap_functions.h"
#include "symbolize/symbolizer.h"
#include "util/cleanup.h"

/* More rets than that of one function, and of those that it jumps to, are not probed: each costs on its own. */
#define MAX_RETS 32

static uint32_t arguments_of(uint32_t kind)
{
    switch (kind) {
    case HEAP_CALLOC:
    case HEAP_REALLOC:
    case HEAP_MEMALIGN:
        return 3;
    case HEAP_UNMAP:
        return 3;
    case HEAP_REALLOCARRAY:
    case HEAP_POSIX_MEMALIGN:
        return 7;
    case HEAP_MAP:
    case HEAP_REMAP:
        return 31;
    default:
        return 1;
    }
}

static void note_point(struct heap_function *f, const struct probe_point *point)
{
    f->stepped = point->cost != PROBE_EMULATED;
    (void)snprintf(f->insn, sizeof(f->insn), "%.15s", point->insn);
}

static void place_entry(struct module *m, struct heap_function *f)
{
    CLEANUP(probe_points_deinit) struct probe_points points = {0};
    struct probe_point entry;

    int r = module_find_probe(m, f->name, 0, PROBE_ARGS, arguments_of(f->kind) | PROBE_FAULTS_END, &points);
    if (r == 0 && points.n == 1 && points.entry == f->file_offset && (f->kind == HEAP_FREE || points.list[0].at_entry)) {
        f->into = points.list[0].into;
        f->file_offset = points.list[0].file_offset;
        note_point(f, &points.list[0]);
        return;
    }
    module_probe_point(m, f->file_offset, &entry);
    note_point(f, &entry);
}

static void place_site(struct module *m, struct heap_function *f)
{
    struct probe_point point;

    module_probe_point(m, f->file_offset, &point);
    note_point(f, &point);
}

static bool is_probed(const struct heap_function *list, size_t n, uint64_t file_offset)
{
    for (size_t i = 0; i < n; i++)
        if (list[i].kind == HEAP_NEW_RETURN && list[i].file_offset == file_offset)
            return true;
    return false;
}

/* Results of one that may throw are seen at its own rets, and at those of what it jumps to in the end: the stack pointer tells whose end it is.
 * Where not all calls end there, it is not probed at all. */
static void place_returns(struct module *m, struct heap_function *list, size_t *n, struct heap_function *f, uint64_t entry)
{
    CLEANUP(probe_points_deinit) struct probe_points points = {0};

    int r = module_find_probe(m, f->name, 0, PROBE_ENDS, 0, &points);
    if (r < 0 || points.entry != entry || points.tail_calls > 0 || points.ways_in > 0 || points.n > MAX_RETS ||
        *n + points.n > HEAP_MAX_FUNCTIONS) {
        f->kind = 0;
        return;
    }
    for (size_t i = 0; i < points.n; i++) {
        if (is_probed(list, *n, points.list[i].file_offset))
            continue;
        struct heap_function *ret = &list[(*n)++];
        *ret = (struct heap_function){.file_offset = points.list[i].file_offset, .kind = HEAP_NEW_RETURN};
        ret->into = points.list[i].into == UINT32_MAX ? 0 : points.list[i].into;
        (void)snprintf(ret->name, sizeof(ret->name), "%s", f->name);
        note_point(ret, &points.list[i]);
    }
}

void heap_functions_place(struct module *m, struct heap_function *list, size_t *n)
{
    size_t n_functions = *n;

    for (size_t i = 0; i < n_functions; i++) {
        uint64_t entry = list[i].file_offset;
        if (list[i].kind == 0 && list[i].file_offset == 0) /* it is nowhere */
            continue;
        if (list[i].kind == 0 || list[i].kind >= HEAP_SITE_ALLOC)
            place_site(m, &list[i]);
        else
            place_entry(m, &list[i]);
        if (list[i].kind == HEAP_NEW)
            place_returns(m, list, n, &list[i], entry);
    }
}
