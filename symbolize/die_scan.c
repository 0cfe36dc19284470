/* Abbreviations by DWARF's section 7.5.3, forms by 7.5.6. Where the unit and its abbreviations are is libdw's
 * word; they are looked for in the sections all the same. Nothing is read outside of those, and a cursor only
 * goes forward. */
#include "symbolize/die_scan.h"

#include <dwarf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "symbolize/cfi_cursor.h"
#include "symbolize/elf_file.h"
#include "util/cleanup.h"

/* Compilers number abbreviations from 1 on, and have some thousands at the most. */
#define DIE_ABBREVIATIONS_MAX 65536u
/* What reading abbreviations costs, in DIEs: one for so many attributes. */
#define ATTRIBUTES_PER_DIE 8u

#define FORM_SIBLING 0x8000u
#define FORM_VARIES (-1)

void die_table_deinit(struct die_table *table)
{
    free(table->list);
    free(table->forms);
    *table = (struct die_table){0};
}

size_t die_table_bytes(const struct die_table *table)
{
    return table->n * sizeof(*table->list) + table->forms_room * sizeof(*table->forms);
}

/* Bytes of a form, where all values of it have the same. */
static int form_bytes(const struct die_table *t, unsigned form)
{
    switch (form) {
    case DW_FORM_flag_present:
    case DW_FORM_implicit_const:
        return 0;
    case DW_FORM_data1: case DW_FORM_ref1: case DW_FORM_flag: case DW_FORM_strx1: case DW_FORM_addrx1:
        return 1;
    case DW_FORM_data2: case DW_FORM_ref2: case DW_FORM_strx2: case DW_FORM_addrx2:
        return 2;
    case DW_FORM_strx3: case DW_FORM_addrx3:
        return 3;
    case DW_FORM_data4: case DW_FORM_ref4: case DW_FORM_strx4: case DW_FORM_addrx4: case DW_FORM_ref_sup4:
        return 4;
    case DW_FORM_data8: case DW_FORM_ref8: case DW_FORM_ref_sig8: case DW_FORM_ref_sup8:
        return 8;
    case DW_FORM_data16:
        return 16;
    case DW_FORM_addr:
        return t->address_bytes;
    case DW_FORM_ref_addr:
        return t->reference_bytes;
    case DW_FORM_strp: case DW_FORM_line_strp: case DW_FORM_sec_offset: case DW_FORM_strp_sup: case DW_FORM_GNU_strp_alt:
    case DW_FORM_GNU_ref_alt:
        return t->offset_bytes;
    default:
        return FORM_VARIES;
    }
}

static void skip_form(struct cfi_cursor *c, const struct die_table *t, unsigned form)
{
    int bytes = form_bytes(t, form);
    if (bytes >= 0) {
        cfi_skip(c, (uint64_t)bytes);
        return;
    }
    switch (form) {
    case DW_FORM_sdata: case DW_FORM_udata: case DW_FORM_ref_udata: case DW_FORM_strx: case DW_FORM_addrx:
    case DW_FORM_loclistx: case DW_FORM_rnglistx: case DW_FORM_GNU_addr_index: case DW_FORM_GNU_str_index:
        (void)cfi_get_uleb(c);
        return;
    case DW_FORM_block: case DW_FORM_exprloc:
        cfi_skip(c, cfi_get_uleb(c));
        return;
    case DW_FORM_block1:
        cfi_skip(c, cfi_get(c, 1));
        return;
    case DW_FORM_block2:
        cfi_skip(c, cfi_get(c, 2));
        return;
    case DW_FORM_block4:
        cfi_skip(c, cfi_get(c, 4));
        return;
    case DW_FORM_string: {
        const uint8_t *end = memchr(c->at, '\0', (size_t)(c->end - c->at));
        cfi_skip(c, end ? (uint64_t)(end + 1 - c->at) : UINT64_MAX);
        return;
    }
    default: /* DW_FORM_indirect too, which nobody writes */
        cfi_cursor_fail(c);
    }
}

static int forms_add(struct die_table *t, unsigned form)
{
    if (t->n_forms == t->forms_room) {
        size_t room = t->forms_room ? 2 * t->forms_room : 256;
        uint16_t *grown = reallocarray(t->forms, room, sizeof(*grown));
        if (!grown)
            return -ENOMEM;
        t->forms = grown;
        t->forms_room = room;
    }
    t->forms[t->n_forms++] = (uint16_t)form;
    return 0;
}

static int read_attributes(struct die_table *t, struct cfi_cursor *c, struct die_abbreviation *a)
{
    *a = (struct die_abbreviation){.known = true, .tag = (uint16_t)cfi_get_uleb(c), .children = cfi_get(c, 1) == 1,
                                   .sibling = DIE_BYTES_VARY, .forms = (uint32_t)t->n_forms};
    for (;; a->n++) {
        uint64_t name = cfi_get_uleb(c), form = cfi_get_uleb(c);
        if (form == DW_FORM_implicit_const)
            (void)cfi_get_sleb(c);
        if (c->bad || form >= FORM_SIBLING)
            return -ENOEXEC;
        if (name == 0 && form == 0)
            return 0;
        int bytes = form_bytes(t, (unsigned)form);
        bool sibling = name == DW_AT_sibling && form == DW_FORM_ref4;
        if (sibling)
            a->sibling = a->bytes;
        a->bytes = bytes < 0 || a->bytes == DIE_BYTES_VARY ? DIE_BYTES_VARY : a->bytes + (uint32_t)bytes;
        a->code = a->code || name == DW_AT_low_pc || name == DW_AT_ranges;
        int r = forms_add(t, (unsigned)form | (sibling ? FORM_SIBLING : 0));
        if (r < 0)
            return r;
    }
}

/* The place of a code; NULL: memory is short. */
static struct die_abbreviation *abbreviation_place(struct die_table *t, size_t *room, size_t code)
{
    if (code >= *room) {
        size_t more = code < 128 ? 256 : 2 * code;
        struct die_abbreviation *grown = reallocarray(t->list, more, sizeof(*grown));
        if (!grown)
            return NULL;
        memset(grown + *room, 0, (more - *room) * sizeof(*grown));
        t->list = grown;
        *room = more;
    }
    if (code >= t->n)
        t->n = code + 1;
    return &t->list[code];
}

static int read_abbreviations(struct cfi_cursor *c, uint64_t *budget, struct die_table *t)
{
    size_t room = 0;
    for (;;) {
        uint64_t code = cfi_get_uleb(c), cost = 1;
        struct die_abbreviation again, *a = &again;
        if (code == 0) /* or the section's end */
            return t->n > 0 ? 0 : -ENOEXEC;
        if (code >= DIE_ABBREVIATIONS_MAX)
            return -ENOEXEC;
        if (code >= t->n || !t->list[code].known) /* the first of a code counts */
            a = abbreviation_place(t, &room, code);
        int r = a ? read_attributes(t, c, a) : -ENOMEM;
        if (r < 0)
            return r;
        cost += a->n / ATTRIBUTES_PER_DIE;
        if (cost > *budget)
            return -ENOEXEC;
        *budget -= cost;
    }
}

/* What is left of the section that is at a place in memory, and its name. */
static struct cfi_cursor section_rest(Elf *elf, const uint8_t *at, const char **ret_name)
{
    Elf_Scn *section = NULL;
    size_t names;
    while (elf_getshdrstrndx(elf, &names) == 0 && (section = elf_nextscn(elf, section))) {
        GElf_Shdr header;
        const Elf_Data *data = elf_rawdata(section, NULL);
        const uint8_t *begin = data ? data->d_buf : NULL;
        if (!begin || at < begin || at >= begin + data->d_size || !gelf_getshdr(section, &header))
            continue;
        *ret_name = elf_strptr(elf, names, header.sh_name);
        return (struct cfi_cursor){at, begin + data->d_size, false};
    }
    return (struct cfi_cursor){0};
}

/* The abbreviations beside the DIEs of a section. */
static struct cfi_cursor abbreviations_at(Elf *elf, const char *info_name, Dwarf_Off offset)
{
    const struct elf_file file = {.elf = elf};
    const char *name = strcmp(info_name, ".debug_info.dwo") == 0 ? ".debug_abbrev.dwo" : ".debug_abbrev";
    GElf_Shdr header;
    Elf_Scn *section = elf_file_section(&file, name, &header);
    const Elf_Data *data = section && header.sh_type != SHT_NOBITS ? elf_rawdata(section, NULL) : NULL;
    if (!data || !data->d_buf || offset >= data->d_size)
        return (struct cfi_cursor){0};
    const uint8_t *begin = data->d_buf;
    return (struct cfi_cursor){begin + offset, begin + data->d_size, false};
}

int die_table_new(Dwarf_Die *unit, uint32_t info_bytes, uint64_t *budget, struct die_table *ret)
{
    CLEANUP(die_table_deinit) struct die_table t = {.cu = unit->cu};
    Elf *elf = dwarf_getelf(dwarf_cu_getdwarf(unit->cu));
    const char *name = NULL;
    Dwarf_Half version;
    Dwarf_Off offset;
    Dwarf_Die die;
    GElf_Ehdr header;
    if (!dwarf_cu_die(unit->cu, &die, &version, &offset, &t.address_bytes, &t.offset_bytes, NULL, NULL)
        || !gelf_getehdr(elf, &header) || header.e_ident[EI_DATA] != ELFDATA2LSB)
        return -ENOEXEC;
    t.reference_bytes = version == 2 ? t.address_bytes : t.offset_bytes;
    Dwarf_Off in_unit = dwarf_cuoffset(unit);
    struct cfi_cursor rest = section_rest(elf, unit->addr, &name);
    if (!name || in_unit >= info_bytes || dwarf_dieoffset(unit) < in_unit)
        return -ENOEXEC;
    t.begin = rest.at - in_unit;
    t.end = cfi_cursor_has(&rest, info_bytes - in_unit) ? rest.at + (info_bytes - in_unit) : rest.end;
    struct cfi_cursor abbreviations = abbreviations_at(elf, name, offset);
    int r = read_abbreviations(&abbreviations, budget, &t);
    if (r < 0)
        return r;
    *ret = t;
    t = (struct die_table){0};
    return 0;
}

/* Where a reference within the unit leads, if that is forward and within it. */
static const uint8_t *sibling_at(const struct die_table *t, const uint8_t *value, const uint8_t *behind)
{
    uint32_t offset;
    memcpy(&offset, value, sizeof(offset));
    return offset < (size_t)(t->end - t->begin) && t->begin + offset >= behind ? t->begin + offset : NULL;
}

static bool skip_attributes(const struct die_table *t, struct cfi_cursor *c, struct die_seen *seen)
{
    const struct die_abbreviation *a = seen->abbreviation;
    const uint8_t *sibling = NULL;
    if (a->bytes != DIE_BYTES_VARY) {
        sibling = a->sibling != DIE_BYTES_VARY ? c->at + a->sibling : NULL;
        cfi_skip(c, a->bytes);
    } else {
        for (uint32_t i = 0; i < a->n; i++) {
            unsigned form = t->forms[a->forms + i];
            if (form & FORM_SIBLING)
                sibling = c->at;
            skip_form(c, t, form & ~FORM_SIBLING);
        }
    }
    if (!c->bad && sibling)
        seen->sibling = sibling_at(t, sibling, c->at);
    return !c->bad;
}

bool die_cursor_next(struct die_cursor *c, struct die_seen *ret)
{
    const struct die_table *t = c->table;
    struct cfi_cursor at = {c->at, t->end, false};
    struct die_seen seen = {.at = c->at};
    if (c->at >= t->end)
        return false;
    uint64_t code = cfi_get_uleb(&at);
    if (at.bad || code >= t->n || (code != 0 && !t->list[code].known))
        return false;
    seen.abbreviation = code ? &t->list[code] : NULL;
    if (code && !skip_attributes(t, &at, &seen))
        return false;
    c->at = at.at;
    *ret = seen;
    return true;
}

bool die_cursor_skip(struct die_cursor *c, const struct die_seen *seen, uint64_t *budget)
{
    size_t depth = 1;
    if (!seen->abbreviation->children)
        return true;
    if (seen->sibling) {
        c->at = seen->sibling;
        return true;
    }
    while (depth > 0) {
        struct die_seen inner;
        if (*budget == 0 || !die_cursor_next(c, &inner))
            return false;
        --*budget;
        if (!inner.abbreviation)
            depth--;
        else if (inner.abbreviation->children && inner.sibling)
            c->at = inner.sibling;
        else if (inner.abbreviation->children)
            depth++;
    }
    return true;
}

Dwarf_Die die_seen_die(const struct die_table *table, const struct die_seen *seen)
{
    return (Dwarf_Die){.addr = (void *)seen->at, .cu = table->cu};
}
