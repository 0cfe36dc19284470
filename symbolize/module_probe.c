/* Where functions of a file are probed: what its tables know of them, for probe_place.c. */
#include <errno.h>
#include <string.h>

#include "symbolize/elf_plt.h"
#include "symbolize/elf_segments.h"
#include "symbolize/module.h"
#include "symbolize/probe_place.h"
#include "util/cleanup.h"

static const char cold[] = ".cold";

/* A table of symbols, and the file that has their names. */
struct symbol_table {
    Elf *elf;
    const struct elf_symbols *symbols;
};

static size_t module_tables(const struct module *m, struct symbol_table ret[2])
{
    ret[0] = (struct symbol_table){m->file.elf, &m->symbols};
    ret[1] = (struct symbol_table){m->debug.separate.elf, &m->debug_symbols};
    return m->debug.separate.elf ? 2 : 1;
}

static bool is_cold(const char *name)
{
    const char *at = name ? strstr(name, cold) : NULL;
    return at && (at[strlen(cold)] == '\0' || at[strlen(cold)] == '.');
}

/* A part that was split off some function, or a function of its own. */
static enum probe_part part_of(void *userdata, uint64_t address, uint64_t *ret_end)
{
    struct module *m = userdata;
    struct symbol_table tables[2];
    const struct code_starts *starts = module_need_starts(m);

    for (size_t i = module_tables(m, tables); i-- > 0;) {
        const struct elf_symbol *symbol = elf_symbols_find(tables[i].symbols, address);
        if (!symbol)
            continue;
        *ret_end = symbol->end;
        return is_cold(elf_symbol_raw_name(tables[i].elf, symbol)) ? PROBE_PART_UNKNOWN : PROBE_PART_FUNCTION;
    }
    for (size_t i = 0; i < starts->n; i++)
        if (starts->list[i] > address && starts->list[i] < *ret_end)
            *ret_end = starts->list[i];
    uint64_t end = code_starts_end(starts, address);
    *ret_end = end < *ret_end ? end : *ret_end;
    return PROBE_PART_UNKNOWN;
}

/* The function that a stub is for, if this file defines it and no other one of that name. */
static bool behind_stub(struct module *m, const struct plt_stub *stub, struct probe_range *ret)
{
    const char *name = stub->names != PLT_CHOSEN ? elf_strptr(m->file.elf, stub->names, stub->name_offset) : NULL;

    return name && module_search_function(m, name, ret) == 0;
}

static bool tail_of(void *userdata, uint64_t address, struct probe_range *ret)
{
    struct module *m = userdata;
    AUTO_FREE struct plt_stub *stubs = NULL;
    size_t n = 0;

    if (plt_stubs_load(m->file.elf, &stubs, &n) < 0)
        return false;
    for (size_t i = 0; i < n; i++)
        if (address >= stubs[i].start && address < stubs[i].end)
            return behind_stub(m, &stubs[i], ret);
    *ret = (struct probe_range){address, UINT64_MAX};
    (void)part_of(m, address, &ret->end);
    return ret->end != UINT64_MAX;
}

/* Where some other thing begins: nearest before the function, but far enough that no jump from before it could be a narrow one, and first in it. */
static void note_start(struct probe_function *f, uint64_t address)
{
    if (address < f->main.start && f->main.start - address >= PROBE_NARROW_REACH && (f->before == f->main.start || address > f->before))
        f->before = address;
    if (address > f->main.start && address < f->other_entry)
        f->other_entry = address;
}

/* Is the part of that function and of no other one: several functions may have one name. */
static bool is_own_part(const char *raw, const char *name, size_t len)
{
    return raw && strncmp(raw, name, len) == 0 && is_cold(raw) && strncmp(raw + len, cold, strlen(cold)) == 0;
}

static void note_part(struct probe_function *f, struct probe_range part)
{
    for (size_t i = 0; i < f->n_parts; i++)
        if (f->parts[i].start == part.start)
            return;
    if (f->n_parts < PROBE_MAX_PARTS)
        f->parts[f->n_parts++] = part;
}

/* How many functions have the linker's name of the one that begins there; ret_name: it. */
static size_t count_namesakes(const struct symbol_table *t, uint64_t start, const char **ret_name)
{
    const struct elf_symbol *own = elf_symbols_find(t->symbols, start);
    const char *name = own && own->start == start ? elf_symbol_raw_name(t->elf, own) : NULL;
    size_t n = 0;

    for (size_t i = 0; name && i < t->symbols->n; i++) {
        const char *raw = elf_symbol_raw_name(t->elf, &t->symbols->list[i]);
        n += raw && strcmp(raw, name) == 0 && t->symbols->list[i].start != start;
    }
    *ret_name = name;
    return n;
}

static void note_table(struct probe_function *f, const struct symbol_table *t)
{
    const char *name;
    bool known = count_namesakes(t, f->main.start, &name) == 0 && name;

    for (size_t i = 0; i < t->symbols->n; i++) {
        const struct elf_symbol *symbol = &t->symbols->list[i];
        note_start(f, symbol->start);
        if (known && is_own_part(elf_symbol_raw_name(t->elf, symbol), name, strlen(name)))
            note_part(f, (struct probe_range){symbol->start, symbol->end});
    }
}

static struct probe_function describe(struct module *m, struct probe_range at)
{
    struct probe_function f = {.main = at, .before = at.start, .other_entry = UINT64_MAX};
    const struct code_starts *starts = module_need_starts(m);
    struct symbol_table tables[2];

    for (size_t i = module_tables(m, tables); i-- > 0;)
        note_table(&f, &tables[i]);
    for (size_t i = 0; i < starts->n; i++)
        note_start(&f, starts->list[i]);
    return f;
}

/* One instruction that the asker names. */
static int find_at(const struct probe_code *code, const struct probe_function *f, uint64_t offset, enum probe_want want, struct probe_points *ret)
{
    CLEANUP(probe_points_deinit) struct probe_points points = {0};

    int r = probe_place_at(code, f, offset, &points);
    if (r < 0)
        return r;
    if (want == PROBE_RESULT && !strstr(points.list[0].insn, "ret"))
        return -ENODATA;
    *ret = points;
    points = (struct probe_points){0};
    return 0;
}

int module_find_probe(struct module *m, const char *name, uint64_t offset, enum probe_want want, uint32_t args, struct probe_points *ret)
{
    const struct probe_code code = {m->file.map, m->file.map_bytes, &m->segments, part_of, tail_of, m};
    struct probe_range at;

    int r = module_search_function(m, name, &at);
    if (r < 0)
        return r;
    if (offset >= at.end - at.start)
        return -ERANGE;
    struct probe_function f = describe(m, at);
    return offset ? find_at(&code, &f, offset, want, ret) : probe_place_find(&code, &f, want, args, ret);
}

void module_probe_point(const struct module *m, uint64_t file_offset, struct probe_point *ret)
{
    const struct probe_code code = {m->file.map, m->file.map_bytes, &m->segments, NULL, NULL, NULL};
    uint64_t address;

    *ret = (struct probe_point){.file_offset = file_offset, .cost = PROBE_STEPPED};
    if (elf_segments_address(&m->segments, file_offset, &address))
        probe_place_describe(&code, address, ret);
}

bool module_is_go(const struct module *m)
{
    return m->go.module.table.data != NULL;
}
