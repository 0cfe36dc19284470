/* A unit's DIE tree is walked in two steps, each when an address asks for it: functions first, skipping
 * what is inside of them, and one function's inlined calls later. Few functions of a unit are ever
 * sampled, so most of its DIEs are never read; those without code are not libdw's business (die_scan.h).
 *
 * The tree comes from a file that somebody else wrote. Each walk has a budget of DIEs (a well-formed unit
 * has fewer than it has bytes), a bound on depth, and goes forward only, so that no cycle of siblings
 * holds it. */
#include "symbolize/dwarf_functions.h"

#include <dwarf.h>
#include <errno.h>
#include <stdlib.h>

#include "symbolize/elf_segments.h"
#include "symbolize/symbolizer.h"
#include "util/cleanup.h"

#define DIE_MAX_DEPTH 256u
#define DIE_RANGES_MAX (1u << 22) /* of one unit or function */
#define DIE_FUNCTIONS_MAX (1u << 22)
#define DIE_INLINES_MAX (1u << 20)

struct die_walk {
    struct dwarf_reader *reader;
    uint32_t budget; /* DIEs of this walk */
    bool nested;
    struct range_list ranges;
    struct dwarf_function *functions;
    struct dwarf_inline *inlines;
    size_t n, room; /* of functions or inlines */
};

static void die_walk_deinit(struct die_walk *w)
{
    range_list_deinit(&w->ranges);
    free(w->functions);
    free(w->inlines);
}

static bool spend(struct dwarf_reader *reader)
{
    if (reader->budget == 0)
        return false;
    reader->budget--;
    return true;
}

static bool walk_spend(struct die_walk *w)
{
    return w->budget-- > 0 && spend(w->reader);
}

int dwarf_ranges_add(Dwarf_Die *die, struct dwarf_reader *reader, uint32_t value, uint32_t depth,
                     struct range_list *list)
{
    Dwarf_Addr base, low, high;
    ptrdiff_t offset = 0;
    while ((offset = dwarf_ranges(die, offset, &base, &low, &high)) > 0) {
        if (!spend(reader))
            return -ELOOP;
        low += reader->bias;
        high += reader->bias;
        /* Linkers leave the ranges of code that they dropped at 0, 1 or -1. */
        if (!elf_segments_is_code(reader->segments, low))
            continue;
        int r = range_list_add(list, (struct range){low, high, value, depth}, DIE_RANGES_MAX);
        if (r < 0)
            return r;
    }
    return 0;
}

/* list with room for one more; NULL when memory is short. */
static void *walk_grow(struct die_walk *w, void *list, size_t size)
{
    if (w->n < w->room)
        return list;
    size_t room = w->room ? 2 * w->room : 32;
    void *grown = reallocarray(list, room, size);
    if (grown)
        w->room = room;
    return grown;
}

static int function_add(struct die_walk *w, Dwarf_Die *die, unsigned depth)
{
    size_t before = w->ranges.n;
    if (!dwarf_hasattr(die, DW_AT_low_pc) && !dwarf_hasattr(die, DW_AT_ranges))
        return 0;
    if (w->n >= DIE_FUNCTIONS_MAX)
        return -E2BIG;
    struct dwarf_function *grown = walk_grow(w, w->functions, sizeof(*grown));
    if (!grown)
        return -ENOMEM;
    w->functions = grown;
    int r = dwarf_ranges_add(die, w->reader, (uint32_t)w->n, depth, &w->ranges);
    if (r == 0 && w->ranges.n > before)
        w->functions[w->n++] = (struct dwarf_function){.die = *die, .entry = w->ranges.ranges[before].low};
    return r;
}

/* All functions of the unit behind its own DIE, in scopes that are entered. */
static int functions_walk(struct die_walk *w, const struct die_table *dies, const uint8_t *unit)
{
    struct die_cursor c = {dies, unit};
    struct die_seen seen;
    if (!die_cursor_next(&c, &seen) || !seen.abbreviation || !seen.abbreviation->children)
        return 0;
    for (unsigned depth = 1; depth > 0 && die_cursor_next(&c, &seen);) {
        const struct die_abbreviation *a = seen.abbreviation;
        if (!a) {
            depth--;
            continue;
        }
        if (!walk_spend(w))
            return -ELOOP;
        if (a->tag == DW_TAG_subprogram && a->code) {
            Dwarf_Die die = die_seen_die(dies, &seen);
            int r = function_add(w, &die, depth - 1);
            if (r < 0)
                return r;
        }
        bool enter = (w->nested || a->tag == DW_TAG_namespace || a->tag == DW_TAG_module) && depth < DIE_MAX_DEPTH;
        if (a->children && enter)
            depth++;
        else if (!die_cursor_skip(&c, &seen, &w->reader->budget))
            break;
    }
    return 0;
}

int dwarf_functions_load(Dwarf_Die *unit, uint32_t info_bytes, struct dwarf_reader *reader, bool nested,
                         struct dwarf_functions *ret)
{
    CLEANUP(die_walk_deinit) struct die_walk w = {.reader = reader, .budget = info_bytes, .nested = nested};
    CLEANUP(dwarf_functions_deinit) struct dwarf_functions functions = {.nested = nested};
    int r = die_table_new(unit, info_bytes, &reader->budget, &functions.dies);
    if (r == 0)
        r = functions_walk(&w, &functions.dies, unit->addr);
    if (r == -ENOMEM)
        return r;
    r = range_map_build(w.ranges.ranges, w.ranges.n, &functions.map);
    if (r < 0)
        return r;
    functions.list = TAKE_PTR(w.functions);
    functions.n = w.n;
    *ret = functions;
    functions = (struct dwarf_functions){0};
    return 0;
}

static void inline_call_site(Dwarf_Die *die, struct dwarf_inline *node)
{
    Dwarf_Attribute attr;
    Dwarf_Word value;
    if (dwarf_formudata(dwarf_attr(die, DW_AT_call_file, &attr), &value) == 0 && value <= UINT32_MAX)
        node->call_file = (uint32_t)value;
    if (dwarf_formudata(dwarf_attr(die, DW_AT_call_line, &attr), &value) == 0 && value <= INT32_MAX)
        node->call_line = (uint32_t)value;
}

static int inline_add(struct die_walk *w, Dwarf_Die *die, uint32_t parent, unsigned inlined)
{
    if (w->n >= DIE_INLINES_MAX)
        return -E2BIG;
    struct dwarf_inline *grown = walk_grow(w, w->inlines, sizeof(*grown));
    if (!grown)
        return -ENOMEM;
    w->inlines = grown;
    int r = dwarf_ranges_add(die, w->reader, (uint32_t)w->n, inlined, &w->ranges);
    if (r < 0)
        return r;
    struct dwarf_inline node = {.die = *die, .parent = parent, .call_file = UINT32_MAX};
    inline_call_site(die, &node);
    w->inlines[w->n++] = node;
    return 0;
}

/* What a list of children belongs to. */
struct inline_scope {
    uint32_t parent;
    unsigned inlined; /* how many calls were inlined into one another down to here */
};

/* The DIE's children are of interest: *ret is their scope. */
static bool inline_enter(struct die_walk *w, const struct die_seen *seen, const struct inline_scope *scope,
                         struct inline_scope *ret)
{
    *ret = *scope;
    switch (seen->abbreviation->tag) {
    case DW_TAG_inlined_subroutine:
        *ret = (struct inline_scope){(uint32_t)w->n - 1, scope->inlined + 1};
        return ret->inlined < SYMBOL_MAX_INLINED - 1;
    case DW_TAG_lexical_block:
    case DW_TAG_try_block:
    case DW_TAG_catch_block:
        return true;
    default:
        return false;
    }
}

static int inlines_walk(struct die_walk *w, const struct die_table *dies, const uint8_t *function)
{
    struct inline_scope scopes[DIE_MAX_DEPTH];
    struct die_cursor c = {dies, function};
    struct die_seen seen;
    if (!die_cursor_next(&c, &seen) || !seen.abbreviation || !seen.abbreviation->children)
        return 0;
    scopes[0] = (struct inline_scope){INLINE_NONE, 0};
    for (unsigned depth = 1; depth > 0 && die_cursor_next(&c, &seen);) {
        const struct inline_scope *scope = &scopes[depth - 1];
        struct inline_scope inner;
        if (!seen.abbreviation) {
            depth--;
            continue;
        }
        if (!walk_spend(w))
            return -ELOOP;
        if (seen.abbreviation->tag == DW_TAG_inlined_subroutine) {
            Dwarf_Die die = die_seen_die(dies, &seen);
            int r = inline_add(w, &die, scope->parent, scope->inlined + 1);
            if (r < 0)
                return r;
        }
        bool enter = inline_enter(w, &seen, scope, &inner) && depth < DIE_MAX_DEPTH;
        if (seen.abbreviation->children && enter)
            scopes[depth++] = inner;
        else if (!die_cursor_skip(&c, &seen, &w->reader->budget))
            break;
    }
    return 0;
}

static int inlines_load(struct dwarf_function *function, const struct die_table *dies, uint32_t info_bytes,
                        struct dwarf_reader *reader)
{
    CLEANUP(die_walk_deinit) struct die_walk w = {.reader = reader, .budget = info_bytes};
    int r = inlines_walk(&w, dies, function->die.addr);
    if (r == -ENOMEM)
        return r;
    r = range_map_build(w.ranges.ranges, w.ranges.n, &function->map);
    if (r < 0)
        return r;
    function->inlines = TAKE_PTR(w.inlines);
    function->n_inlines = (uint32_t)w.n;
    return 0;
}

struct dwarf_function *dwarf_functions_find(struct dwarf_functions *functions, struct dwarf_reader *reader,
                                            uint32_t info_bytes, uint64_t address)
{
    uint32_t i = range_map_find(&functions->map, address);
    if (i == RANGE_NONE)
        return NULL;
    struct dwarf_function *function = &functions->list[i];
    if (!function->inlines_loaded)
        function->inlines_loaded = inlines_load(function, &functions->dies, info_bytes, reader) == 0;
    return function;
}

void dwarf_functions_deinit(struct dwarf_functions *functions)
{
    for (size_t i = 0; i < functions->n; i++) {
        free(functions->list[i].inlines);
        range_map_deinit(&functions->list[i].map);
    }
    free(functions->list);
    range_map_deinit(&functions->map);
    die_table_deinit(&functions->dies);
    *functions = (struct dwarf_functions){0};
}

size_t dwarf_functions_bytes(const struct dwarf_functions *functions)
{
    size_t bytes =
        functions->n * sizeof(*functions->list) + range_map_bytes(&functions->map) + die_table_bytes(&functions->dies);
    for (size_t i = 0; i < functions->n; i++)
        bytes += functions->list[i].n_inlines * sizeof(struct dwarf_inline)
                 + range_map_bytes(&functions->list[i].map);
    return bytes;
}
