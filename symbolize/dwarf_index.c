/* Units are found by the ranges that their own DIEs state, which costs one DIE for each unit:
 * .debug_aranges is often missing or incomplete. Units that state none (early debug information of LTO,
 * old assemblers) have their functions looked at, all of them, once an address was found in no other unit. */
#include "symbolize/dwarf_index.h"

#include <dwarf.h>
#include <errno.h>
#include <stdlib.h>

#include "symbolize/elf_segments.h"
#include "util/cleanup.h"

#define DWARF_UNITS_MAX (1u << 21)
#define DWARF_UNIT_BYTES 256u /* what libdw holds for each unit */
/* libdw's abbreviations of a unit that was read: a fortieth of its DIEs, as measured. */
#define DWARF_ABBREVIATIONS_SHARE 40u

static void index_cleanup(struct dwarf_index **index)
{
    dwarf_index_free(*index);
}

static int units_add(struct dwarf_index *index, size_t *room, Dwarf_Die *die)
{
    if (index->n_units >= DWARF_UNITS_MAX)
        return -E2BIG;
    if (index->n_units == *room) {
        size_t more = *room ? 2 * *room : 64;
        struct dwarf_unit *grown = reallocarray(index->units, more, sizeof(*grown));
        if (!grown)
            return -ENOMEM;
        index->units = grown;
        *room = more;
    }
    index->units[index->n_units++] = (struct dwarf_unit){.die = *die};
    return 0;
}

static int units_collect(struct dwarf_index *index, Dwarf *dwarf)
{
    Dwarf_CU *cu = NULL;
    Dwarf_Die die;
    uint8_t type;
    size_t room = 0;
    while (dwarf_get_units(dwarf, cu, &cu, NULL, &type, &die, NULL) == 0) {
        /* libdw takes skeletons that have children for split units, before DWARF 5. */
        if ((type != DW_UT_compile && type != DW_UT_skeleton && type != DW_UT_split_compile)
            || dwarf_tag(&die) == DW_TAG_partial_unit)
            continue;
        int r = units_add(index, &room, &die);
        if (r == 0 && index->split && type != DW_UT_compile)
            r = split_dwarf_note(index->split, &die);
        if (r < 0)
            return r;
    }
    return 0;
}

static int units_map(struct dwarf_index *index)
{
    CLEANUP(range_list_deinit) struct range_list ranges = {0};
    for (size_t i = 0; i < index->n_units; i++) {
        size_t before = ranges.n;
        int r = dwarf_ranges_add(&index->units[i].die, &index->reader, (uint32_t)i, 0, &ranges);
        if (r == -ENOMEM)
            return r;
        index->units[i].ranged = ranges.n > before;
    }
    return range_map_build(ranges.ranges, ranges.n, &index->map);
}

int dwarf_index_new(Dwarf *dwarf, const struct elf_segments *segments, struct split_dwarf *split,
                    struct dwarf_index **ret)
{
    CLEANUP(index_cleanup) struct dwarf_index *index = calloc(1, sizeof(*index));
    if (!index)
        return -ENOMEM;
    index->dwarf = dwarf;
    index->split = split;
    index->reader = (struct dwarf_reader){.segments = segments, .budget = DWARF_BUDGET};
    dwarf_lines_sections(dwarf, &index->reader.lines);
    int r = units_collect(index, dwarf);
    if (r == 0)
        r = units_map(index);
    if (r < 0)
        return r;
    *ret = TAKE_PTR(index);
    return 0;
}

void dwarf_index_free(struct dwarf_index *index)
{
    if (!index)
        return;
    for (size_t i = 0; i < index->n_units; i++) {
        dwarf_functions_deinit(&index->units[i].functions);
        dwarf_lines_deinit(&index->units[i].lines);
        split_unit_close(&index->units[i].split);
    }
    free(index->units);
    range_map_deinit(&index->map);
    range_map_deinit(&index->others);
    free(index);
}

/* A unit's size bounds the work on it. */
static uint32_t unit_info_bytes(Dwarf *dwarf, Dwarf_Die *die)
{
    Dwarf_Off start = dwarf_dieoffset(die) - dwarf_cuoffset(die), end;
    size_t header_bytes;
    if (dwarf_next_unit(dwarf, start, &end, &header_bytes, NULL, NULL, NULL, NULL, NULL, NULL) != 0
        || end <= start)
        return 0;
    return end - start > UINT32_MAX ? UINT32_MAX : (uint32_t)(end - start);
}

/* What reads a unit's functions. */
static struct dwarf_reader *unit_reader(struct dwarf_index *index, const struct dwarf_unit *unit)
{
    index->reader.bias = unit->split.bias;
    return &index->reader;
}

static int unit_load_functions(struct dwarf_index *index, struct dwarf_unit *unit, bool nested)
{
    return dwarf_functions_load(unit->split.image.dwarf ? &unit->split.die : &unit->die, unit->info_bytes,
                                unit_reader(index, unit), nested, &unit->functions);
}

/* What can't be read stays empty: the symbol table may still have a name. */
static void unit_load(struct dwarf_index *index, struct dwarf_unit *unit)
{
    if (unit->loaded)
        return;
    unit->loaded = true;
    if (index->split && split_dwarf_is_skeleton(&unit->die)
        && split_dwarf_open(index->split, &unit->die, &unit->split) == 0)
        unit->info_bytes = unit_info_bytes(unit->split.image.dwarf, &unit->split.die);
    else
        unit->info_bytes = unit_info_bytes(index->dwarf, &unit->die);
    int r = unit_load_functions(index, unit, false), r_lines = dwarf_lines_load(&unit->die, &index->reader, &unit->lines);
    index->out_of_memory = index->out_of_memory || r == -ENOMEM || r_lines == -ENOMEM;
    index->read_bytes += unit->info_bytes + unit->lines.table.header.program.n;
}

static void others_map(struct dwarf_index *index)
{
    CLEANUP(range_list_deinit) struct range_list ranges = {0};
    index->others_made = true;
    for (size_t i = 0; i < index->n_units; i++) {
        struct dwarf_unit *unit = &index->units[i];
        /* A skeleton says where its code is, or there is none. */
        if (unit->ranged || split_dwarf_is_skeleton(&unit->die))
            continue;
        unit_load(index, unit);
        for (size_t f = 0; f < unit->functions.n; f++)
            if (dwarf_ranges_add(&unit->functions.list[f].die, unit_reader(index, unit), (uint32_t)i, 0, &ranges) < 0)
                break;
    }
    (void)range_map_build(ranges.ranges, ranges.n, &index->others);
}

struct dwarf_unit *dwarf_index_find(struct dwarf_index *index, uint64_t address)
{
    uint32_t i = range_map_find(&index->map, address);
    if (i == RANGE_NONE) {
        if (!index->others_made)
            others_map(index);
        i = range_map_find(&index->others, address);
    }
    if (i == RANGE_NONE)
        return NULL;
    unit_load(index, &index->units[i]);
    return &index->units[i];
}

struct dwarf_function *dwarf_unit_function(struct dwarf_index *index, struct dwarf_unit *unit,
                                           uint64_t address)
{
    struct dwarf_functions *functions = &unit->functions;
    struct dwarf_function *function =
        dwarf_functions_find(functions, unit_reader(index, unit), unit->info_bytes, address);
    if (function || functions->nested)
        return function;
    dwarf_functions_deinit(functions);
    functions->nested = true;
    index->out_of_memory = unit_load_functions(index, unit, true) == -ENOMEM || index->out_of_memory;
    return dwarf_functions_find(functions, unit_reader(index, unit), unit->info_bytes, address);
}

size_t dwarf_index_bytes(const struct dwarf_index *index)
{
    size_t bytes = sizeof(*index) + index->n_units * sizeof(*index->units) + range_map_bytes(&index->map)
                   + range_map_bytes(&index->others);
    for (size_t i = 0; i < index->n_units; i++) {
        const struct dwarf_unit *unit = &index->units[i];
        bytes += DWARF_UNIT_BYTES;
        if (unit->loaded)
            bytes += unit->info_bytes / DWARF_ABBREVIATIONS_SHARE + dwarf_functions_bytes(&unit->functions) + dwarf_lines_bytes(&unit->lines);
    }
    return bytes;
}
