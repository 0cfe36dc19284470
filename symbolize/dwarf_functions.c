/* A unit's DIE tree is walked in two steps, each when an address asks for it: functions first, skipping
 * what is inside of them, and one function's inlined calls later. Few functions of a unit are ever
 * sampled, so most of its DIEs are never read.
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

int dwarf_ranges_add(Dwarf_Die *die, struct dwarf_reader *reader, uint32_t value, uint32_t depth,
                     struct range_list *list)
{
    Dwarf_Addr base, low, high;
    ptrdiff_t offset = 0;
    while ((offset = dwarf_ranges(die, offset, &base, &low, &high)) > 0) {
        if (!spend(reader))
            return -ELOOP;
        /* Linkers leave the ranges of code that they dropped at 0, 1 or -1. */
        if (!elf_segments_is_code(reader->segments, low))
            continue;
        int r = range_list_add(list, (struct range){low, high, value, depth}, DIE_RANGES_MAX);
        if (r < 0)
            return r;
    }
    return 0;
}

/* Goes to the next sibling. False at the end, and where it is not further on. */
static bool die_next(Dwarf_Die *die)
{
    Dwarf_Die next;
    if (dwarf_siblingof(die, &next) != 0 || (const char *)next.addr <= (const char *)die->addr)
        return false;
    *die = next;
    return true;
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

static int functions_walk(struct die_walk *w, Dwarf_Die *parent, unsigned depth)
{
    Dwarf_Die die;
    int r = 0;
    if (depth > DIE_MAX_DEPTH || dwarf_child(parent, &die) != 0)
        return 0;
    do {
        int tag = dwarf_tag(&die);
        if (w->budget-- == 0 || !spend(w->reader))
            return -ELOOP;
        if (tag == DW_TAG_subprogram)
            r = function_add(w, &die, depth);
        if (r == 0 && (w->nested || tag == DW_TAG_namespace || tag == DW_TAG_module))
            r = functions_walk(w, &die, depth + 1);
    } while (r == 0 && die_next(&die));
    return r;
}

int dwarf_functions_load(Dwarf_Die *unit, uint32_t info_bytes, struct dwarf_reader *reader, bool nested,
                         struct dwarf_functions *ret)
{
    CLEANUP(die_walk_deinit) struct die_walk w = {.reader = reader, .budget = info_bytes, .nested = nested};
    struct dwarf_functions functions = {.nested = nested};
    int r = functions_walk(&w, unit, 0);
    if (r == -ENOMEM)
        return r;
    r = range_map_build(w.ranges.ranges, w.ranges.n, &functions.map);
    if (r < 0)
        return r;
    functions.list = TAKE_PTR(w.functions);
    functions.n = w.n;
    *ret = functions;
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

/* inlined: how many calls were inlined into one another down to here. */
static int inlines_walk(struct die_walk *w, Dwarf_Die *parent_die, uint32_t parent, unsigned inlined,
                        unsigned depth)
{
    Dwarf_Die die;
    int r = 0;
    if (depth > DIE_MAX_DEPTH || inlined >= SYMBOL_MAX_INLINED - 1 || dwarf_child(parent_die, &die) != 0)
        return 0;
    do {
        int tag = dwarf_tag(&die);
        if (w->budget-- == 0 || !spend(w->reader))
            return -ELOOP;
        if (tag == DW_TAG_inlined_subroutine) {
            r = inline_add(w, &die, parent, inlined + 1);
            if (r == 0)
                r = inlines_walk(w, &die, (uint32_t)w->n - 1, inlined + 1, depth + 1);
        } else if (tag == DW_TAG_lexical_block || tag == DW_TAG_try_block || tag == DW_TAG_catch_block) {
            r = inlines_walk(w, &die, parent, inlined, depth + 1);
        }
    } while (r == 0 && die_next(&die));
    return r;
}

static int inlines_load(struct dwarf_function *function, uint32_t info_bytes, struct dwarf_reader *reader)
{
    CLEANUP(die_walk_deinit) struct die_walk w = {.reader = reader, .budget = info_bytes};
    int r = inlines_walk(&w, &function->die, INLINE_NONE, 0, 0);
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
        function->inlines_loaded = inlines_load(function, info_bytes, reader) == 0;
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
    *functions = (struct dwarf_functions){0};
}

size_t dwarf_functions_bytes(const struct dwarf_functions *functions)
{
    size_t bytes = functions->n * sizeof(*functions->list) + range_map_bytes(&functions->map);
    for (size_t i = 0; i < functions->n; i++)
        bytes += functions->list[i].n_inlines * sizeof(struct dwarf_inline)
                 + range_map_bytes(&functions->list[i].map);
    return bytes;
}
