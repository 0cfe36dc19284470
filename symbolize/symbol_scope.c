/* GCC writes linkage names only for what other files can link with. Lambdas and functions in unnamed
 * namespaces then are called operator() or run, all alike, where they are inlined; so their scopes are
 * looked up. DIEs don't know their parents: the way down from the unit is found by position, as a DIE lies
 * between its parent and its parent's next sibling. */
#include "symbolize/symbol_scope.h"

#include <dwarf.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "util/cleanup.h"

#define SCOPE_MAX_DEPTH 64
#define SCOPE_MAX_HOPS 8
#define SCOPE_MAX_CHILDREN (1u << 20) /* of one scope */
#define SCOPE_MAX_BYTES (64u << 20)   /* of all that is remembered */

struct scope_children {
    const void *parent; /* all are places of DIEs in memory */
    void **children;    /* ascending */
    size_t n;
    UT_hash_handle hh;
};

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

/* The children of a DIE; what can't be read ends the list. False: memory is short. */
static bool children_collect(Dwarf_Die *parent, struct scope_children *ret)
{
    Dwarf_Die die;
    size_t room = 0;
    const void *last = parent->addr;
    if (dwarf_child(parent, &die) != 0)
        return true;
    do {
        if (ret->n == room) {
            room = room ? 2 * room : 16;
            void **grown = reallocarray(ret->children, room, sizeof(*grown));
            if (!grown)
                return false;
            ret->children = grown;
        }
        if ((const char *)die.addr <= (const char *)last)
            break;
        last = ret->children[ret->n++] = die.addr;
    } while (ret->n < SCOPE_MAX_CHILDREN && dwarf_siblingof(&die, &die) == 0);
    return true;
}

static const struct scope_children *children_of(struct symbol_scopes *scopes, Dwarf_Die *parent)
{
    struct scope_children *found;
    HASH_FIND_PTR(scopes->parents, &parent->addr, found);
    if (found || scopes->bytes > SCOPE_MAX_BYTES)
        return found;
    found = calloc(1, sizeof(*found));
    if (!found)
        return NULL;
    found->parent = parent->addr;
    bool whole = children_collect(parent, found);
    if (whole)
        HASH_ADD_PTR(scopes->parents, parent, found);
    if (!whole || !found->hh.tbl) {
        free(found->children);
        free(found);
        return NULL;
    }
    scopes->bytes += sizeof(*found) + found->n * sizeof(*found->children);
    return found;
}

/* The child of *at that begins last at or before target, into *at. */
static bool descend(struct symbol_scopes *scopes, Dwarf_Die *at, const void *target)
{
    const struct scope_children *c = children_of(scopes, at);
    size_t low = 0, high = c ? c->n : 0;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if ((const char *)c->children[middle] <= (const char *)target)
            low = middle + 1;
        else
            high = middle;
    }
    return low > 0 && dwarf_die_addr_die(dwarf_cu_getdwarf(at->cu), c->children[low - 1], at) != NULL;
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

char *symbol_scope_qualify(struct symbol_scopes *scopes, Dwarf_Die *die, const char *name)
{
    Dwarf_Die target = declaration_of(die), at;
    AUTO_FREE char *qualified = NULL;
    size_t len = 0;
    bool any = false;
    if (!dwarf_diecu(&target, &at, NULL, NULL) || !is_cxx(&at))
        return NULL;
    FILE *out = open_memstream(&qualified, &len);
    if (!out)
        return NULL;
    for (int depth = 0; depth < SCOPE_MAX_DEPTH; depth++) {
        if (!descend(scopes, &at, target.addr) || at.addr == target.addr)
            break;
        const char *scope = scope_name(&at, name);
        if (scope) {
            (void)fprintf(out, "%s::", scope);
            any = true;
        }
    }
    (void)fputs(name, out);
    if (fclose(out) != 0 || !any)
        return NULL;
    return TAKE_PTR(qualified);
}

void symbol_scopes_deinit(struct symbol_scopes *scopes)
{
    struct scope_children *c, *next;
    HASH_ITER(hh, scopes->parents, c, next) {
        HASH_DEL(scopes->parents, c);
        free(c->children);
        free(c);
    }
    scopes->bytes = 0;
}
