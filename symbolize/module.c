/* What a file holds is read when it is first asked for, and freed together. */
#include "symbolize/module.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "symbolize/symbol_sources.h"
#include "util/cleanup.h"

/* Code at an entry point without a symbol or unwind information: the _start of no known C library is
 * longer. */
#define ENTRY_BYTES 64u
/* What libdw keeps of an entry that it looked up. */
#define CFI_ENTRY_BYTES 128u
/* Pages of its files that a module may have mapped in. What was read is seldom read again: functions and marks
 * of lines are what lookups need of a unit. */
#define PAGES_MAX_BYTES (32u << 20)
/* A lookup reads a function, what was inlined into it, and names; the kernel maps 64 KiB around each. */
#define LOOKUP_BYTES (3u << 16)

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
    go_symbols_open(&m->file, &m->segments, &m->go);
    module_bound_entry(m);
    m->read_bytes = m->file.map_bytes;
    *ret = TAKE_PTR(m);
    return 0;
}

void module_free(struct module *m)
{
    if (!m)
        return;
    (void)dwarf_cfi_end(m->cfi);
    frame_cache_deinit(&m->frames);
    go_symbols_deinit(&m->go);
    code_starts_deinit(&m->starts);
    mini_debug_close(&m->mini);
    symbol_names_deinit(&m->names);
    dwarf_index_free(m->index);
    split_dwarf_free(m->split);
    elf_symbols_deinit(&m->debug_symbols);
    elf_symbols_deinit(&m->symbols);
    debug_files_close(&m->debug);
    elf_segments_deinit(&m->segments);
    elf_file_close(&m->file);
    arena_deinit(&m->arena);
    free(m);
}

/* The first one stays. */
static void module_note_debug_error(struct module *m, int error)
{
    if (m->debug_error == 0)
        m->debug_error = error;
}

int module_need_debug(struct module *m)
{
    int r = 0;
    if (m->debug_tried)
        return 0;
    m->debug_tried = true;
    debug_files_open(&m->file, m->ops, m->userdata, &m->debug);
    m->read_bytes += debug_files_mapped_bytes(&m->debug);
    if (m->debug.separate.elf)
        r = elf_symbols_load(m->debug.separate.elf, &m->debug_symbols);
    if (r != -ENOMEM && m->debug.dwarf.dwarf) {
        m->split = split_dwarf_new(dwarf_getelf(m->debug.dwarf.dwarf), m->ops, &m->userdata);
        r = m->split ? dwarf_index_new(m->debug.dwarf.dwarf, &m->segments, m->split, &m->index) : -ENOMEM;
    }
    m->incomplete = m->incomplete || m->debug.incomplete || r == -ENOMEM;
    module_note_debug_error(m, m->debug.error);
    module_note_debug_error(m, m->debug.dwarf.dwarf || r == -ENOMEM ? r : 0);
    return r == -ENOMEM ? r : 0;
}

void module_shed_debug(struct module *m)
{
    const char *missing;
    m->missing_dwos = module_missing_dwos(m, &missing);
    if (missing && !m->first_missing_dwo)
        m->first_missing_dwo = arena_strndup(&m->arena, missing, SIZE_MAX);
    symbol_names_deinit(&m->names);
    dwarf_index_free(m->index);
    m->index = NULL;
    split_dwarf_free(m->split);
    m->split = NULL;
    elf_symbols_deinit(&m->debug_symbols);
    debug_files_close(&m->debug);
    m->debug_tried = false;
}

void module_drop_pages(struct module *m)
{
    if (m->read_bytes == 0)
        return;
    m->read_bytes = 0;
    elf_file_drop_pages(&m->file);
    debug_files_drop_pages(&m->debug);
}

const struct mini_debug *module_need_mini(struct module *m)
{
    if (!m->mini_tried) {
        m->mini_tried = true;
        m->incomplete = mini_debug_open(&m->file, &m->mini) == -ENOMEM || m->incomplete;
    }
    return &m->mini;
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
           + debug_files_bytes(&m->debug) + mini_debug_bytes(&m->mini) + code_starts_bytes(&m->starts) + m->names.scopes.bytes
           + module_cfi_bytes(m) + (m->index ? dwarf_index_bytes(m->index) : 0) + (m->split ? split_dwarf_bytes(m->split) : 0);
}

size_t module_mapped_bytes(const struct module *m)
{
    return m->file.map_bytes + debug_files_mapped_bytes(&m->debug) + (m->split ? split_dwarf_mapped_bytes(m->split) : 0);
}

bool module_is_incomplete(const struct module *m)
{
    return m->incomplete || (m->split && split_dwarf_is_incomplete(m->split));
}

size_t module_missing_dwos(const struct module *m, const char **ret_first)
{
    const char *first = NULL;
    size_t n = m->split ? split_dwarf_missing(m->split, &first) : 0;
    *ret_first = first ? first : m->first_missing_dwo;
    return n > m->missing_dwos ? n : m->missing_dwos;
}

const char *module_build_id(const struct module *m)
{
    return m->build_id[0] ? m->build_id : NULL;
}

int module_debug_error(const struct module *m)
{
    return m->debug_error;
}

uint64_t module_vaddr(const struct module *m, uint64_t file_offset)
{
    uint64_t address = file_offset;
    (void)elf_segments_address(&m->segments, file_offset, &address);
    return address;
}

void module_keep_for(struct module *m, uint64_t key)
{
    m->key = key;
    m->incomplete = m->incomplete || key == 0;
}

int module_recall(const struct module *m, uint64_t file_offset, struct symbol_frame out[SYMBOL_MAX_INLINED])
{
    return frame_cache_find(&m->frames, file_offset, out);
}

static void module_note_lookup(struct module *m)
{
    m->read_bytes += LOOKUP_BYTES;
    if (m->index) {
        m->incomplete = m->incomplete || m->index->out_of_memory;
        module_note_debug_error(m, m->index->out_of_memory ? -ENOMEM : m->index->reader.budget == 0 ? -E2BIG : 0);
        m->read_bytes += m->index->read_bytes;
        m->index->read_bytes = 0;
    }
    if (m->read_bytes > PAGES_MAX_BYTES)
        module_drop_pages(m);
}

const struct code_starts *module_need_starts(struct module *m)
{
    if (!m->starts_tried) {
        m->starts_tried = true;
        m->incomplete = code_starts_load(&m->file, &m->starts) < 0 || m->incomplete;
    }
    return &m->starts;
}

uint64_t module_code_start(struct module *m, uint64_t file_offset)
{
    struct go_function function;
    if (m->go.module.table.data && go_pclntab_find(&m->go.module.table, module_vaddr(m, file_offset), &function))
        return function.start;
    return code_starts_find(module_need_starts(m), module_vaddr(m, file_offset));
}

size_t module_resolve(struct module *m, uint64_t file_offset, enum symbolize_mode mode,
                      struct symbol_frame out[SYMBOL_MAX_INLINED])
{
    int known = mode == SYMBOLIZE_FULL ? frame_cache_find(&m->frames, file_offset, out) : -1;
    if (known >= 0)
        return (size_t)known;
    size_t n = symbol_sources_resolve(m, module_vaddr(m, file_offset), mode, out);
    if (n > 0 && go_symbols_is_wrapper(&m->go, module_vaddr(m, file_offset)))
        out[n - 1].wrapper = true; /* whoever named it */
    module_note_lookup(m);
    if (mode == SYMBOLIZE_FULL)
        frame_cache_add(&m->frames, &m->arena, file_offset, out, n);
    return n;
}
