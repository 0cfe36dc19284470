/* Each source is a function that fills frames, or none. DWARF knows places of code that it has no name for (assembly): there the sources
 * behind it give the name. */
#include "symbolize/symbol_sources.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "symbolize/module.h"
#include "util/cleanup.h"

struct symbol_source {
    enum symbolize_mode from; /* SYMBOLIZE_FAST: by that, too */
    size_t (*resolve)(struct module *m, uint64_t address, enum symbolize_mode mode, struct symbol_frame out[SYMBOL_MAX_INLINED]);
};

static size_t dwarf_resolve(struct module *m, uint64_t address, enum symbolize_mode mode, struct symbol_frame out[SYMBOL_MAX_INLINED]);
static size_t go_resolve(struct module *m, uint64_t address, enum symbolize_mode mode, struct symbol_frame out[SYMBOL_MAX_INLINED]);
static size_t old_go_resolve(struct module *m, uint64_t address, enum symbolize_mode mode, struct symbol_frame out[SYMBOL_MAX_INLINED]);
static size_t debug_symbols_resolve(struct module *m, uint64_t address, enum symbolize_mode mode, struct symbol_frame out[SYMBOL_MAX_INLINED]);
static size_t symbols_resolve(struct module *m, uint64_t address, enum symbolize_mode mode, struct symbol_frame out[SYMBOL_MAX_INLINED]);
static size_t mini_resolve(struct module *m, uint64_t address, enum symbolize_mode mode, struct symbol_frame out[SYMBOL_MAX_INLINED]);
static size_t entry_resolve(struct module *m, uint64_t address, enum symbolize_mode mode, struct symbol_frame out[SYMBOL_MAX_INLINED]);

/* The table in symbol_sources.h. */
static const struct symbol_source sources[] = {
    {SYMBOLIZE_FAST, go_resolve},
    {SYMBOLIZE_FULL, dwarf_resolve},
    {SYMBOLIZE_FAST, old_go_resolve},
    {SYMBOLIZE_FULL, debug_symbols_resolve},
    {SYMBOLIZE_FAST, symbols_resolve},
    {SYMBOLIZE_FAST, mini_resolve},
    {SYMBOLIZE_FAST, entry_resolve},
};
#define N_SOURCES (sizeof(sources) / sizeof(sources[0]))

static size_t resolve_from(const struct symbol_source *source, struct module *m, uint64_t address, enum symbolize_mode mode,
                           struct symbol_frame out[SYMBOL_MAX_INLINED])
{
    size_t n = 0;
    for (; n == 0 && source < sources + N_SOURCES; source++) {
        out[0] = (struct symbol_frame){0};
        if (mode == SYMBOLIZE_FULL || source->from == SYMBOLIZE_FAST)
            n = source->resolve(m, address, mode, out);
    }
    return n;
}

size_t symbol_sources_resolve(struct module *m, uint64_t address, enum symbolize_mode mode, struct symbol_frame out[SYMBOL_MAX_INLINED])
{
    return resolve_from(sources, m, address, mode, out);
}

static void frame_name(struct symbol_frame *frame, const struct symbol_name *name)
{
    frame->name = name->name;
    frame->system_name = name->system_name;
    frame->start_line = name->start_line;
}

/* ---- symbol tables */

/* The function that a stub of an IFUNC is for: a symbol of its chooser has its name, where there is one. */
static const struct symbol_name *chosen_name(struct module *m, const struct elf_symbol *stub)
{
    char unnamed[32];
    uint64_t chooser = stub->name_offset;
    const struct elf_symbol *symbol = elf_symbols_find(&m->symbols, chooser), *end = m->symbols.list + m->symbols.n;
    while (symbol && symbol < end && symbol->start == chooser && !symbol->ifunc)
        symbol++;
    bool is_known = symbol && symbol < end && symbol->start == chooser;
    const char *raw = is_known ? elf_symbol_raw_name(m->file.elf, symbol) : NULL;
    (void)snprintf(unnamed, sizeof(unnamed), "*ABS*+0x%" PRIx64, chooser);
    return symbol_name_new(&m->arena, raw ? raw : unnamed, 0);
}

static const struct symbol_name *symbol_display(struct module *m, Elf *elf, struct elf_symbol *symbol)
{
    if (symbol->name)
        return symbol->name;
    const char *raw = elf_symbol_raw_name(elf, symbol);
    symbol->name = raw ? symbol_name_new(&m->arena, raw, 0) : symbol->stub ? chosen_name(m, symbol) : NULL;
    if (symbol->name && symbol->stub)
        symbol->name = symbol_name_of_stub(&m->arena, symbol->name);
    return symbol->name;
}

static size_t table_resolve(struct module *m, Elf *elf, const struct elf_symbols *symbols, uint64_t address, struct symbol_frame *out)
{
    struct elf_symbol *symbol = elf_symbols_find(symbols, address);
    const struct symbol_name *name = symbol ? symbol_display(m, elf, symbol) : NULL;
    if (!name)
        return 0;
    frame_name(out, name);
    return 1;
}

static size_t debug_symbols_resolve(struct module *m, uint64_t address, enum symbolize_mode mode, struct symbol_frame out[SYMBOL_MAX_INLINED])
{
    (void)module_need_debug(m);
    return table_resolve(m, m->debug.separate.elf, &m->debug_symbols, address, out);
}

static size_t symbols_resolve(struct module *m, uint64_t address, enum symbolize_mode mode, struct symbol_frame out[SYMBOL_MAX_INLINED])
{
    return table_resolve(m, m->file.elf, &m->symbols, address, out);
}

static size_t mini_resolve(struct module *m, uint64_t address, enum symbolize_mode mode, struct symbol_frame out[SYMBOL_MAX_INLINED])
{
    const struct mini_debug *mini = module_need_mini(m);
    return table_resolve(m, mini->file.elf, &mini->symbols, address, out);
}

static size_t entry_resolve(struct module *m, uint64_t address, enum symbolize_mode mode, struct symbol_frame out[SYMBOL_MAX_INLINED])
{
    static const struct symbol_name start = {.name = "_start", .system_name = "_start"};
    if (address < m->entry || address >= m->entry_end)
        return 0;
    frame_name(&out[0], &start);
    return 1;
}

/* ---- Go */

static size_t go_resolve(struct module *m, uint64_t address, enum symbolize_mode mode, struct symbol_frame out[SYMBOL_MAX_INLINED])
{
    if (m->go.module.table.version < GO_1_20)
        return 0;
    return go_symbols_resolve(&m->go, &m->arena, address, mode == SYMBOLIZE_FULL, out);
}

static size_t old_go_resolve(struct module *m, uint64_t address, enum symbolize_mode mode, struct symbol_frame out[SYMBOL_MAX_INLINED])
{
    if (m->go.module.table.version >= GO_1_20)
        return 0;
    return go_symbols_resolve(&m->go, &m->arena, address, mode == SYMBOLIZE_FULL, out);
}

/* ---- DWARF */

/* True where a local symbol at the address of symbol, which others can link with, is called name. */
static bool is_local_alias(Elf *elf, const struct elf_symbols *symbols, const struct elf_symbol *symbol,
                           const char *name)
{
    const struct elf_symbol *end = symbols->list + symbols->n;
    for (const struct elf_symbol *s = symbol; s < end && s->start == symbol->start; s++) {
        const char *raw = s->local ? elf_symbol_raw_name(elf, s) : NULL;
        if (raw && strcmp(raw, name) == 0)
            return true;
    }
    return false;
}

/* DWARF's name of a function, unless the symbol at its entry tells more: the public name of what a C
 * library calls by a local alias (__GI___libc_malloc), the scopes and parameters of a C++ function
 * without a linkage name, and which of a class's constructors or destructors it is (GCC's DWARF has one
 * linkage name for all, C4 or D4, which no linker knows). */
static const struct symbol_name *name_choose(struct module *m, const struct symbol_name *name, uint64_t entry)
{
    const struct elf_symbols *symbols = &m->debug_symbols;
    Elf *elf = m->debug.separate.elf;
    struct elf_symbol *symbol = elf_symbols_find(symbols, entry);
    if (!symbol) {
        symbols = &m->symbols;
        elf = m->file.elf;
        symbol = elf_symbols_find(symbols, entry);
    }
    const char *raw = symbol && symbol->start == entry ? elf_symbol_raw_name(elf, symbol) : NULL;
    bool cxx = raw && strncmp(raw, "_Z", 2) == 0, mangled = symbol_name_is_mangled(name);
    if (!raw || (mangled && !cxx))
        return name;
    /* Clones of a C++ function (.constprop.0) are that function. */
    if (!cxx && (symbol->local || !is_local_alias(elf, symbols, symbol, name->system_name)))
        return name;
    AUTO_FREE char *plain = strndup(raw, strcspn(raw, cxx ? "@." : "@"));
    const struct symbol_name *chosen = plain ? symbol_name_new(&m->arena, plain, name->start_line) : NULL;
    return chosen && (!mangled || strcmp(chosen->name, name->name) == 0) ? chosen : name;
}

static const struct symbol_name *function_name(struct module *m, struct dwarf_function *function)
{
    if (!function->named) {
        function->named = true;
        function->name = symbol_names_of_die(&m->names, &m->arena, &function->die);
        if (function->name)
            function->name = name_choose(m, function->name, function->entry);
    }
    return function->name;
}

static const struct symbol_name *inline_name(struct module *m, struct dwarf_inline *node)
{
    if (!node->named) {
        node->named = true;
        node->name = symbol_names_of_die(&m->names, &m->arena, &node->die);
    }
    return node->name;
}

/* The calls inlined at an address, the innermost first; out[0] has its line already. Returns how many
 * frames they fill; the next one's file and line are those of the outermost call. */
static size_t frames_inlined(struct module *m, struct dwarf_unit *unit, struct dwarf_function *function,
                             uint64_t address, struct symbol_frame out[SYMBOL_MAX_INLINED])
{
    size_t n = 0;
    uint32_t i = range_map_find(&function->map, address);
    while (i != RANGE_NONE && n < SYMBOL_MAX_INLINED - 1) {
        struct dwarf_inline *node = &function->inlines[i];
        const struct symbol_name *name = inline_name(m, node);
        if (name) {
            frame_name(&out[n++], name);
            const char *path = dwarf_lines_path(&unit->lines, &m->arena, node->call_file);
            out[n] = (struct symbol_frame){.filename = path, .line = node->call_line};
        }
        i = node->parent;
    }
    return n;
}

/* The name of a function that DWARF has none for, by the sources behind it. */
static size_t unnamed_resolve(struct module *m, uint64_t address, struct symbol_frame *frame)
{
    struct symbol_frame others[SYMBOL_MAX_INLINED];
    const struct symbol_source *dwarf = sources;
    while (dwarf->resolve != dwarf_resolve)
        dwarf++;
    size_t n = resolve_from(dwarf + 1, m, address, SYMBOLIZE_FULL, others);
    if (n == 0)
        return 0;
    frame->name = others[n - 1].name;
    frame->system_name = others[n - 1].system_name;
    frame->start_line = others[n - 1].start_line;
    return 1;
}

static size_t dwarf_resolve(struct module *m, uint64_t address, enum symbolize_mode mode, struct symbol_frame out[SYMBOL_MAX_INLINED])
{
    (void)module_need_debug(m);
    struct dwarf_unit *unit = m->index ? dwarf_index_find(m->index, address) : NULL;
    if (!unit)
        return 0;
    (void)dwarf_lines_find(&unit->lines, &m->arena, address, &out[0].filename, &out[0].line);
    struct dwarf_function *function = dwarf_unit_function(m->index, unit, address);
    if (!function) /* what compilers add (thunks) may have lines alone */
        return unnamed_resolve(m, address, &out[0]);
    size_t n = frames_inlined(m, unit, function, address, out);
    const struct symbol_name *name = function_name(m, function);
    if (name)
        frame_name(&out[n++], name);
    else
        n += unnamed_resolve(m, address, &out[n]);
    return n;
}

