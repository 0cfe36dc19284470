/* From an offset in a file to its functions. DWARF first: it knows inlined calls and lines; then the
 * symbol tables, the separate debug file's before the file's own, which may be stripped. */
#include "symbolize/module.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "util/cleanup.h"

/* Code at an entry point without a symbol or unwind information: the _start of no known C library is
 * longer. */
#define ENTRY_BYTES 64u
/* What libdw keeps of an entry that it looked up. */
#define CFI_ENTRY_BYTES 128u

static void module_cleanup(struct module **m)
{
    module_free(*m);
}

/* An unnamed entry point reaches as far as its row of unwind information says. */
static void module_bound_entry(struct module *m)
{
    GElf_Ehdr header;
    Dwarf_Frame *frame = NULL;
    Dwarf_Addr start, end;
    bool signal;
    if (!gelf_getehdr(m->file.elf, &header) || header.e_entry == 0
        || elf_symbols_find(&m->symbols, header.e_entry))
        return;
    m->entry = header.e_entry;
    m->entry_end = header.e_entry + ENTRY_BYTES < header.e_entry ? UINT64_MAX : header.e_entry + ENTRY_BYTES;
    Dwarf_CFI *cfi = dwarf_getcfi_elf(m->file.elf);
    if (cfi && dwarf_cfi_addrframe(cfi, header.e_entry, &frame) == 0
        && dwarf_frame_info(frame, &start, &end, &signal) >= 0 && end > header.e_entry)
        m->entry_end = end;
    free(frame);
    (void)dwarf_cfi_end(cfi);
}

int module_new(const struct symbolizer_ops *ops, int fd, struct module **ret)
{
    CLEANUP(module_cleanup) struct module *m = calloc(1, sizeof(*m));
    if (!m)
        return -ENOMEM;
    m->ops = ops;
    int r = elf_file_open(fd, &m->file);
    if (r == 0 && !elf_file_is_program(&m->file))
        r = -ENOEXEC;
    if (r == 0)
        r = elf_segments_load(m->file.elf, &m->segments);
    if (r == 0 && elf_symbols_load(m->file.elf, &m->symbols) == -ENOMEM)
        r = -ENOMEM;
    if (r < 0)
        return r;
    elf_file_build_id(&m->file, m->build_id);
    module_bound_entry(m);
    *ret = TAKE_PTR(m);
    return 0;
}

void module_free(struct module *m)
{
    if (!m)
        return;
    (void)dwarf_cfi_end(m->cfi);
    frame_cache_deinit(&m->frames);
    symbol_names_deinit(&m->names);
    dwarf_index_free(m->index);
    elf_symbols_deinit(&m->debug_symbols);
    elf_symbols_deinit(&m->symbols);
    debug_files_close(&m->debug);
    elf_segments_deinit(&m->segments);
    elf_file_close(&m->file);
    arena_deinit(&m->arena);
    free(m);
}

int module_need_debug(struct module *m)
{
    int r = 0;
    if (m->debug_tried)
        return 0;
    m->debug_tried = true;
    debug_files_open(&m->file, m->ops, m->userdata, &m->debug);
    if (m->debug.separate.elf)
        r = elf_symbols_load(m->debug.separate.elf, &m->debug_symbols);
    if (r != -ENOMEM && m->debug.dwarf.dwarf)
        r = dwarf_index_new(m->debug.dwarf.dwarf, &m->segments, &m->index);
    m->incomplete = m->debug.incomplete || r == -ENOMEM;
    return r == -ENOMEM ? r : 0;
}

Dwarf_CFI *module_cfi(struct module *m)
{
    if (!m->cfi_tried) {
        m->cfi_tried = true;
        m->cfi = dwarf_getcfi_elf(m->file.elf);
    }
    m->cfi_lookups++;
    return m->cfi;
}

Dwarf_CFI *module_debug_cfi(struct module *m)
{
    m->cfi_lookups++;
    return module_need_debug(m) == 0 ? debug_files_cfi(&m->debug, &m->file) : NULL;
}

/* No more entries than lookups, and no more than the file has room for. */
static size_t module_cfi_bytes(const struct module *m)
{
    size_t most = module_mapped_bytes(m);
    return m->cfi_lookups < most / CFI_ENTRY_BYTES ? m->cfi_lookups * CFI_ENTRY_BYTES : most;
}

size_t module_bytes(const struct module *m)
{
    return sizeof(*m) + m->arena.bytes + elf_file_bytes(&m->file) + frame_cache_bytes(&m->frames)
           + elf_symbols_bytes(&m->symbols) + elf_symbols_bytes(&m->debug_symbols)
           + debug_files_bytes(&m->debug) + m->names.scopes.bytes + module_cfi_bytes(m)
           + (m->index ? dwarf_index_bytes(m->index) : 0);
}

size_t module_mapped_bytes(const struct module *m)
{
    return m->file.map_bytes + debug_files_mapped_bytes(&m->debug);
}

const char *module_build_id(const struct module *m)
{
    return m->build_id[0] ? m->build_id : NULL;
}

uint64_t module_vaddr(const struct module *m, uint64_t file_offset)
{
    uint64_t address = file_offset;
    (void)elf_segments_address(&m->segments, file_offset, &address);
    return address;
}

static const struct symbol_name *symbol_display(struct module *m, Elf *elf, struct elf_symbol *symbol)
{
    if (!symbol->name) {
        const char *raw = elf_symbol_raw_name(elf, symbol);
        symbol->name = raw ? symbol_name_new(&m->arena, raw, 0) : NULL;
        if (symbol->name && symbol->stub)
            symbol->name = symbol_name_of_stub(&m->arena, symbol->name);
    }
    return symbol->name;
}

static const struct symbol_name *module_symbol(struct module *m, uint64_t address, enum symbolize_mode mode)
{
    static const struct symbol_name start = {.name = "_start", .system_name = "_start"};
    const struct symbol_name *name = NULL;
    struct elf_symbol *symbol = mode == SYMBOLIZE_FULL ? elf_symbols_find(&m->debug_symbols, address) : NULL;
    if (symbol)
        name = symbol_display(m, m->debug.separate.elf, symbol);
    if (!name && (symbol = elf_symbols_find(&m->symbols, address)))
        name = symbol_display(m, m->file.elf, symbol);
    if (!name && address >= m->entry && address < m->entry_end)
        name = &start;
    return name;
}

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

static void frame_name(struct symbol_frame *frame, const struct symbol_name *name)
{
    frame->name = name->name;
    frame->system_name = name->system_name;
    frame->start_line = name->start_line;
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

static size_t module_resolve_dwarf(struct module *m, uint64_t address,
                                   struct symbol_frame out[SYMBOL_MAX_INLINED])
{
    struct dwarf_unit *unit = m->index ? dwarf_index_find(m->index, address) : NULL;
    if (!unit)
        return 0;
    (void)dwarf_lines_find(&unit->lines, &unit->die, &m->arena, address, &out[0].filename, &out[0].line);
    struct dwarf_function *function = dwarf_unit_function(m->index, unit, address);
    if (!function)
        return 0;
    size_t n = frames_inlined(m, unit, function, address, out);
    const struct symbol_name *name = function_name(m, function);
    if (!name)
        name = module_symbol(m, address, SYMBOLIZE_FULL);
    if (!name)
        return n;
    frame_name(&out[n++], name);
    return n;
}

static size_t module_resolve_symbol(struct module *m, uint64_t address, enum symbolize_mode mode,
                                    struct symbol_frame out[SYMBOL_MAX_INLINED])
{
    const struct symbol_name *name = module_symbol(m, address, mode);
    if (!name)
        return 0;
    frame_name(&out[0], name);
    return 1;
}

size_t module_resolve(struct module *m, uint64_t file_offset, enum symbolize_mode mode,
                      struct symbol_frame out[SYMBOL_MAX_INLINED])
{
    uint64_t address = module_vaddr(m, file_offset);
    if (mode == SYMBOLIZE_FAST) {
        out[0] = (struct symbol_frame){0};
        return module_resolve_symbol(m, address, mode, out);
    }
    int known = frame_cache_find(&m->frames, file_offset, out);
    if (known >= 0)
        return (size_t)known;
    (void)module_need_debug(m);
    out[0] = (struct symbol_frame){0};
    size_t n = module_resolve_dwarf(m, address, out);
    if (n == 0)
        n = module_resolve_symbol(m, address, mode, out);
    frame_cache_add(&m->frames, &m->arena, file_offset, out, n);
    return n;
}
