/* GCC writes linkage names only for what other files can link with. Lambdas and functions in unnamed namespaces then are called
 * operator() or run, all alike, where they are inlined; so their scopes are looked up. DIEs don't know their parents: the way
 * down from the unit is found by position, as a DIE lies between its parent and its parent's next sibling. */
#include "symbolize/symbol_scope.h"

#include <dwarf.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/cleanup.h"

#define SCOPE_MAX_DEPTH 64
#define SCOPE_MAX_HOPS 8
#define SCOPE_MAX_DIES (1u << 20)

/* What several units share (dwz) stands in a unit that may not name a language. */
static bool is_cxx(Dwarf_Die *unit)
{
    if (dwarf_tag(unit) == DW_TAG_partial_unit && !dwarf_hasattr(unit, DW_AT_language))
        return true;
    switch (dwarf_srclang(unit)) {
    case DW_LANG_C_plus_plus:
    case DW_LANG_C_plus_plus_03:
    case DW_LANG_C_plus_plus_11:
    case DW_LANG_C_plus_plus_14:
        return true;
    default:
        return false;
    }
}

/* Where a function was declared: in its class, while the definition stands outside. */
static Dwarf_Die declaration_of(Dwarf_Die *die)
{
    Dwarf_Die at = *die;
    for (int i = 0; i < SCOPE_MAX_HOPS; i++) {
        Dwarf_Attribute attr;
        Dwarf_Die next;
        if (!dwarf_attr(&at, DW_AT_abstract_origin, &attr) && !dwarf_attr(&at, DW_AT_specification, &attr))
            break;
        if (!dwarf_formref_die(&attr, &next))
            break;
        at = next;
    }
    return at;
}

/* Moves *die, a first child, on to the last one of its siblings that begins at or before target. */
static bool sibling_before(Dwarf_Die *die, const void *target, unsigned *budget)
{
    Dwarf_Die next;
    if ((const char *)die->addr > (const char *)target)
        return false;
    while (dwarf_siblingof(die, &next) == 0 && (const char *)next.addr <= (const char *)target
           && (const char *)next.addr > (const char *)die->addr) {
        if (*budget == 0)
            return false;
        --*budget;
        *die = next;
    }
    return true;
}

/* NULL: a DIE that is no scope (a block). function: the name that is qualified. */
static const char *scope_name(Dwarf_Die *die, const char *function)
{
    const char *name = dwarf_diename(die);
    switch (dwarf_tag(die)) {
    case DW_TAG_namespace:
        return name ? name : "(anonymous namespace)";
    case DW_TAG_class_type:
    case DW_TAG_structure_type:
    case DW_TAG_union_type:
        return name ? name : strcmp(function, "operator()") == 0 ? "{lambda}" : "{unnamed}";
    case DW_TAG_subprogram:
        return name;
    default:
        return NULL;
    }
}

char *symbol_scope_qualify(Dwarf_Die *die, const char *name)
{
    Dwarf_Die target = declaration_of(die), at;
    AUTO_FREE char *qualified = NULL;
    size_t len = 0;
    unsigned budget = SCOPE_MAX_DIES;
    bool any = false;
    if (!dwarf_diecu(&target, &at, NULL, NULL) || !is_cxx(&at))
        return NULL;
    FILE *out = open_memstream(&qualified, &len);
    if (!out)
        return NULL;
    for (int depth = 0; depth < SCOPE_MAX_DEPTH; depth++) {
        Dwarf_Die child;
        if (dwarf_child(&at, &child) != 0 || !sibling_before(&child, target.addr, &budget) || child.addr == target.addr)
            break;
        const char *scope = scope_name(&child, name);
        if (scope) {
            (void)fprintf(out, "%s::", scope);
            any = true;
        }
        at = child;
    }
    (void)fputs(name, out);
    if (fclose(out) != 0 || !any)
        return NULL;
    return TAKE_PTR(qualified);
}
