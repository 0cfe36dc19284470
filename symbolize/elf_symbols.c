/* Which of several symbols names an address: the one that programmers call. The rules, from strong to
 * weak: one with a size over one without; a function over a label; one that others can link with over a
 * local one (a C library has a dozen local aliases for each function); the default version over an old
 * one; fewer leading underscores (malloc over __libc_malloc); global over weak; the first in the table.
 *
 * A symbol without a size (assembly) reaches to the next one or its section's end. Inside of another one's
 * bounds it is only a label; local ones without a type are taken for labels wherever a better symbol
 * stands before them. */
#include "symbolize/elf_symbols.h"

#include <errno.h>
#include <gelf.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "symbolize/elf_plt.h"
#include "util/cleanup.h"

#define ELF_SYMBOLS_MAX (1u << 24)
#define STUB_RANK UINT8_MAX

struct symbol_table {
    Elf *elf;
    size_t names;
    Elf_Data *symbols, *versions;
    GElf_Shdr *sections; /* by index */
    size_t n_sections;
};

struct symbol_list {
    struct elf_symbol *list;
    size_t n, room;
};

static void symbol_list_deinit(struct symbol_list *l)
{
    free(l->list);
}

static int symbol_list_add(struct symbol_list *l, const struct elf_symbol *symbol)
{
    if (l->n >= ELF_SYMBOLS_MAX)
        return -E2BIG;
    if (l->n == l->room) {
        size_t room = l->room ? 2 * l->room : 256;
        struct elf_symbol *grown = reallocarray(l->list, room, sizeof(*grown));
        if (!grown)
            return -ENOMEM;
        l->list = grown;
        l->room = room;
    }
    l->list[l->n++] = *symbol;
    return 0;
}

/* What has no name can't be shown, and would hide what has one. ARM and RISC-V mark code and data by $x and $d, assemblers leave .L labels
 * behind. */
static bool is_shown(Elf *elf, size_t names, const GElf_Sym *sym)
{
    const char *name = elf_strptr(elf, names, sym->st_name);
    if (!name || name[0] == '\0')
        return false;
    return GELF_ST_TYPE(sym->st_info) != STT_NOTYPE || (name[0] != '$' && (name[0] != '.' || name[1] != 'L'));
}

static uint8_t symbol_rank(const GElf_Sym *sym, bool hidden)
{
    unsigned rank = sym->st_size > 0 ? 8 : 0;
    rank += GELF_ST_TYPE(sym->st_info) != STT_NOTYPE ? 4 : 0;
    rank += GELF_ST_BIND(sym->st_info) != STB_LOCAL ? 2 : 0;
    return (uint8_t)(rank + (hidden ? 0 : 1));
}

static bool is_label(const GElf_Sym *sym)
{
    return sym->st_size == 0 && GELF_ST_TYPE(sym->st_info) == STT_NOTYPE
           && GELF_ST_BIND(sym->st_info) == STB_LOCAL;
}

/* The section that a symbol's code is in; NULL for a symbol that is no code. */
static const GElf_Shdr *symbol_section(const struct symbol_table *t, const GElf_Sym *sym)
{
    unsigned type = GELF_ST_TYPE(sym->st_info);
    if (type != STT_FUNC && type != STT_GNU_IFUNC && type != STT_NOTYPE)
        return NULL;
    if (sym->st_shndx == SHN_UNDEF || sym->st_shndx >= t->n_sections)
        return NULL;
    const GElf_Shdr *section = &t->sections[sym->st_shndx];
    if (!(section->sh_flags & SHF_EXECINSTR) || section->sh_addr + section->sh_size < section->sh_addr)
        return NULL;
    if (sym->st_value < section->sh_addr || sym->st_value - section->sh_addr >= section->sh_size)
        return NULL;
    return is_shown(t->elf, t->names, sym) ? section : NULL;
}

static int symbol_table_collect(const struct symbol_table *t, struct symbol_list *ret)
{
    size_t n = t->symbols->d_size / gelf_fsize(t->elf, ELF_T_SYM, 1, EV_CURRENT);
    for (size_t i = 1; i < n && i <= INT32_MAX; i++) {
        GElf_Sym sym;
        GElf_Versym version = 0;
        if (!gelf_getsym(t->symbols, (int)i, &sym))
            break;
        const GElf_Shdr *section = symbol_section(t, &sym);
        if (!section)
            continue;
        bool hidden = t->versions && gelf_getversym(t->versions, (int)i, &version) && (version & 0x8000);
        uint64_t section_end = section->sh_addr + section->sh_size;
        bool sized = sym.st_size > 0 && sym.st_size <= section_end - sym.st_value;
        struct elf_symbol symbol = {
            .start = sym.st_value,
            .end = sized ? sym.st_value + sym.st_size : section_end,
            .name_offset = sym.st_name,
            .names = (uint32_t)t->names,
            .size_known = sym.st_size > 0,
            .rank = symbol_rank(&sym, hidden),
            .ifunc = GELF_ST_TYPE(sym.st_info) == STT_GNU_IFUNC,
            .hidden_version = hidden,
            .label = is_label(&sym),
            .local = GELF_ST_BIND(sym.st_info) == STB_LOCAL,
            .weak = GELF_ST_BIND(sym.st_info) == STB_WEAK,
            .order = (uint32_t)ret->n,
        };
        int r = symbol_list_add(ret, &symbol);
        if (r < 0)
            return r;
    }
    return 0;
}

static size_t leading_underscores(const char *name)
{
    return name ? strspn(name, "_") : SIZE_MAX;
}

static int symbol_compare(const void *a, const void *b, void *elf)
{
    const struct elf_symbol *x = a, *y = b;
    if (x->start != y->start)
        return x->start < y->start ? -1 : 1;
    if (x->rank != y->rank)
        return x->rank > y->rank ? -1 : 1;
    size_t x_underscores = leading_underscores(elf_symbol_raw_name(elf, x));
    size_t y_underscores = leading_underscores(elf_symbol_raw_name(elf, y));
    if (x_underscores != y_underscores)
        return x_underscores < y_underscores ? -1 : 1;
    if (x->weak != y->weak)
        return x->weak ? 1 : -1;
    return x->order < y->order ? -1 : x->order > y->order;
}

/* Where a symbol without a size ends: at the next one, local labels left aside if it is no such label
 * itself. */
static uint64_t symbol_bound(const struct elf_symbols *symbols, size_t i)
{
    const struct elf_symbol *symbol = &symbols->list[i];
    for (size_t next = i + 1; next < symbols->n && symbols->list[next].start < symbol->end; next++) {
        const struct elf_symbol *other = &symbols->list[next];
        if (other->start > symbol->start && (symbol->label || !other->label))
            return other->start;
    }
    return symbol->end;
}

/* Bounds symbols without a size, and maps all but aliases and labels. */
static int elf_symbols_index(struct elf_symbols *symbols)
{
    CLEANUP(range_list_deinit) struct range_list ranges = {0};
    uint64_t covered = 0, last = UINT64_MAX;
    for (size_t i = 0; i < symbols->n; i++) {
        struct elf_symbol *symbol = &symbols->list[i];
        bool alias = symbol->start == last, inside = !symbol->size_known && symbol->start < covered;
        if (!symbol->size_known)
            symbol->end = alias ? symbols->list[i - 1].end : symbol_bound(symbols, i);
        if (alias || inside)
            continue;
        last = symbol->start;
        if (symbol->end > covered && !symbol->label)
            covered = symbol->end;
        int r = range_list_add(&ranges, (struct range){symbol->start, symbol->end, (uint32_t)i, 0},
                               ELF_SYMBOLS_MAX);
        if (r < 0)
            return r;
    }
    return range_map_build(ranges.ranges, ranges.n, &symbols->map);
}

static int sections_load(Elf *elf, GElf_Shdr **ret, size_t *ret_n)
{
    size_t n = 0;
    Elf_Scn *section = NULL;
    if (elf_getshdrnum(elf, &n) < 0)
        return -ENOEXEC;
    GElf_Shdr *sections = calloc(n + 1, sizeof(*sections));
    if (!sections)
        return -ENOMEM;
    while ((section = elf_nextscn(elf, section))) {
        size_t i = elf_ndxscn(section);
        if (i < n)
            (void)gelf_getshdr(section, &sections[i]);
    }
    *ret = sections;
    *ret_n = n;
    return 0;
}

static Elf_Data *versions_of(Elf *elf, const GElf_Shdr *sections, size_t n_sections, size_t table)
{
    for (size_t i = 0; i < n_sections; i++)
        if (sections[i].sh_type == SHT_GNU_versym && sections[i].sh_link == table)
            return elf_getdata(elf_getscn(elf, i), NULL);
    return NULL;
}

static int stubs_add(Elf *elf, struct symbol_list *ret)
{
    AUTO_FREE struct plt_stub *stubs = NULL;
    size_t n = 0;
    int r = plt_stubs_load(elf, &stubs, &n);
    for (size_t i = 0; r == 0 && i < n; i++) {
        struct elf_symbol symbol = {.start = stubs[i].start,
                                    .end = stubs[i].end,
                                    .name_offset = stubs[i].name_offset,
                                    .names = stubs[i].names,
                                    .rank = STUB_RANK, /* mold has symbols for its stubs, by names of its own */
                                    .size_known = true,
                                    .stub = true,
                                    .order = (uint32_t)ret->n};
        r = symbol_list_add(ret, &symbol);
    }
    return r;
}

int elf_symbols_load(Elf *elf, struct elf_symbols *ret)
{
    CLEANUP(symbol_list_deinit) struct symbol_list list = {0};
    AUTO_FREE GElf_Shdr *sections = NULL;
    size_t n_sections;
    int r = sections_load(elf, &sections, &n_sections);
    for (size_t i = 0; r == 0 && i < n_sections; i++) {
        if (sections[i].sh_type != SHT_SYMTAB && sections[i].sh_type != SHT_DYNSYM)
            continue;
        struct symbol_table t = {elf, sections[i].sh_link, elf_getdata(elf_getscn(elf, i), NULL),
                                 versions_of(elf, sections, n_sections, i), sections, n_sections};
        size_t before = list.n;
        if (t.symbols && t.symbols->d_buf)
            r = symbol_table_collect(&t, &list);
        if (r == -E2BIG) { /* no table that a linker makes: another may still be good */
            list.n = before;
            r = 0;
        }
    }
    if (r == 0)
        r = stubs_add(elf, &list);
    if (r < 0)
        return r;
    struct elf_symbols symbols = {.n = list.n};
    if (list.n > 0)
        qsort_r(list.list, list.n, sizeof(*list.list), symbol_compare, elf);
    symbols.list = reallocarray(list.list, list.n + 1, sizeof(*list.list));
    if (!symbols.list)
        return -ENOMEM;
    list.list = NULL;
    r = elf_symbols_index(&symbols);
    if (r < 0) {
        elf_symbols_deinit(&symbols);
        return r;
    }
    *ret = symbols;
    return 0;
}

void elf_symbols_deinit(struct elf_symbols *symbols)
{
    free(symbols->list);
    range_map_deinit(&symbols->map);
    *symbols = (struct elf_symbols){0};
}

size_t elf_symbols_bytes(const struct elf_symbols *symbols)
{
    return symbols->n * sizeof(*symbols->list) + range_map_bytes(&symbols->map);
}

struct elf_symbol *elf_symbols_find(const struct elf_symbols *symbols, uint64_t address)
{
    uint32_t i = range_map_find(&symbols->map, address);
    return i == RANGE_NONE ? NULL : &symbols->list[i];
}

const char *elf_symbol_raw_name(Elf *elf, const struct elf_symbol *symbol)
{
    return elf_strptr(elf, symbol->names, symbol->name_offset);
}
