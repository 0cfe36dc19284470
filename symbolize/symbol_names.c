/* Names come from the DIE itself, or from what it was made of (abstract origin, specification), linkage
 * names first: those are whole, with scopes and parameters, where DW_AT_name is bare and its scopes must
 * be found. Strings are copied, as DWARF's are in a file that its owner may change. */
#include "symbolize/symbol_names.h"

#include <dwarf.h>
#include <stdlib.h>
#include <string.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "symbolize/demangle.h"
#include "util/cleanup.h"

#define SYMBOL_NAME_MAX_BYTES 65536u

struct symbol_name_entry {
    const void *die; /* of the abstract function: its place in memory */
    const struct symbol_name *name;
    UT_hash_handle hh;
};

const struct symbol_name *symbol_name_new(struct arena *arena, const char *raw, int64_t start_line)
{
    const char *version = strchr(raw, '@');
    size_t len = version && version > raw ? (size_t)(version - raw) : SYMBOL_NAME_MAX_BYTES;
    if (len > SYMBOL_NAME_MAX_BYTES)
        len = SYMBOL_NAME_MAX_BYTES;
    struct symbol_name *name = arena_alloc(arena, sizeof(*name));
    if (!name || raw[0] == '\0')
        return NULL;
    name->system_name = arena_strndup(arena, raw, len);
    if (!name->system_name)
        return NULL;
    AUTO_FREE char *readable = demangle(name->system_name);
    name->name = readable ? arena_strndup(arena, readable, SIZE_MAX) : name->system_name;
    name->start_line = start_line;
    return name->name ? name : NULL;
}

static const char *stub_text(struct arena *arena, const char *function)
{
    size_t len = strlen(function);
    char *text = arena_alloc(arena, len + sizeof("@plt"));
    if (text) {
        memcpy(text, function, len);
        memcpy(text + len, "@plt", sizeof("@plt"));
    }
    return text;
}

const struct symbol_name *symbol_name_of_stub(struct arena *arena, const struct symbol_name *function)
{
    struct symbol_name *name = arena_alloc(arena, sizeof(*name));
    if (!name)
        return NULL;
    name->system_name = stub_text(arena, function->system_name);
    name->name = symbol_name_is_mangled(function) ? stub_text(arena, function->name) : name->system_name;
    return name->name && name->system_name ? name : NULL;
}

static const char *linkage_name(Dwarf_Die *die)
{
    Dwarf_Attribute attr;
    const char *raw = dwarf_formstring(dwarf_attr_integrate(die, DW_AT_linkage_name, &attr));
    return raw ? raw : dwarf_formstring(dwarf_attr_integrate(die, DW_AT_MIPS_linkage_name, &attr));
}

static const struct symbol_name *symbol_name_from_die(struct symbol_names *names, struct arena *arena,
                                                      Dwarf_Die *die)
{
    AUTO_FREE char *qualified = NULL;
    int line = 0;
    const char *raw = linkage_name(die);
    if (!raw) {
        const char *bare = dwarf_diename(die);
        qualified = bare ? symbol_scope_qualify(&names->scopes, die, bare) : NULL;
        raw = qualified ? qualified : bare;
    }
    if (dwarf_decl_line(die, &line) != 0 || line < 0)
        line = 0;
    return raw ? symbol_name_new(arena, raw, line) : NULL;
}

const struct symbol_name *symbol_names_of_die(struct symbol_names *names, struct arena *arena, Dwarf_Die *die)
{
    struct symbol_name_entry *entry = NULL;
    Dwarf_Attribute attr;
    Dwarf_Die origin = *die;
    if (dwarf_attr(die, DW_AT_abstract_origin, &attr) && !dwarf_formref_die(&attr, &origin))
        origin = *die;
    HASH_FIND_PTR(names->entries, &origin.addr, entry);
    if (entry)
        return entry->name;
    const struct symbol_name *name = symbol_name_from_die(names, arena, &origin);
    entry = arena_alloc(arena, sizeof(*entry));
    if (entry) {
        entry->die = origin.addr;
        entry->name = name;
        HASH_ADD_PTR(names->entries, die, entry);
    }
    return name;
}

void symbol_names_deinit(struct symbol_names *names)
{
    HASH_CLEAR(hh, names->entries);
    symbol_scopes_deinit(&names->scopes);
}
