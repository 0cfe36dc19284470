/* For one who named a function that is not in a file, or is there several times: what else there is. Reads symbol tables that anybody wrote, for a
 * bounded time. Owns nothing. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "symbolize/demangle.h"
#include "symbolize/elf_plt.h"
#include "symbolize/module.h"
#include "symbolize/name_likeness.h"
#include "symbolize/usdt.h"
#include "util/cleanup.h"
#include "util/clock.h"

/* For all of a file's functions; how often the clock is looked at; and what name nobody wrote. */
#define SUGGEST_MAX_NS (300 * NSEC_PER_MSEC)
#define SUGGEST_CLOCK_EVERY 256
#define SUGGEST_MAX_NAME 4096

/* What a message can show, as it is. */
static bool is_showable(const char *name)
{
    size_t len = strlen(name);

    for (size_t i = 0; i < len; i++)
        if (name[i] < 0x20 || name[i] > 0x7e)
            return false;
    return len > 0 && len < SUGGESTION_BYTES;
}

/* ---- all functions that could be probed, one by one */

struct function_walk {
    struct module *module;
    size_t table, next, n_seen;
    const struct elf_symbol *symbol;
    const char *raw;
};

static bool walk_next(struct function_walk *w)
{
    struct module *m = w->module;
    const struct elf_symbols *tables[] = {&m->symbols, &m->debug_symbols};
    Elf *files[] = {m->file.elf, m->debug.separate.elf};

    for (; w->table < 2; w->table++, w->next = 0) {
        while (files[w->table] && w->next < tables[w->table]->n) {
            w->symbol = &tables[w->table]->list[w->next++];
            w->raw = w->symbol->names != PLT_CHOSEN ? elf_symbol_raw_name(files[w->table], w->symbol) : NULL;
            w->n_seen++;
            if (w->raw && *w->raw)
                return true;
        }
    }
    return false;
}

enum symbol_absence module_absence(struct module *m, const char *name)
{
    const struct symbol_wanted wanted = {.name = name, .len = strlen(name)};
    struct function_walk w = {.module = m};
    enum symbol_absence found = SYMBOL_TABLES_ABSENT;

    while (walk_next(&w)) {
        if ((w.symbol->ifunc || w.symbol->stub) && symbol_is_wanted(&wanted, w.raw))
            return w.symbol->ifunc ? SYMBOL_CHOSEN_AT_RUN_TIME : SYMBOL_OF_ANOTHER_FILE;
        if (!w.symbol->stub)
            found = SYMBOL_ABSENT;
    }
    return found;
}

/* ---- alike */

struct candidate {
    unsigned likeness;
    char name[SUGGESTION_BYTES];
};

/* Of what is equally alike the shorter one has less that nobody asked for. */
static bool is_better(const struct candidate *a, const struct candidate *b)
{
    size_t len_a = strlen(a->name), len_b = strlen(b->name);

    if (a->likeness != b->likeness)
        return a->likeness < b->likeness;
    return len_a != len_b ? len_a < len_b : strcmp(a->name, b->name) < 0;
}

static void keep_best(struct candidate *best, size_t *n, const struct candidate *new)
{
    size_t at = *n;

    for (size_t i = 0; i < *n; i++)
        if (strcmp(best[i].name, new->name) == 0)
            return;
    while (at > 0 && is_better(new, &best[at - 1]))
        at--;
    if (at == SUGGESTIONS_MAX)
        return;
    *n += *n < SUGGESTIONS_MAX;
    memmove(&best[at + 1], &best[at], (*n - at - 1) * sizeof(*best));
    best[at] = *new;
}

static void compare_name(const struct name_form *wanted, const char *raw, struct candidate *best, size_t *n)
{
    AUTO_FREE char *plain = strnlen(raw, SUGGEST_MAX_NAME) < SUGGEST_MAX_NAME ? strndup(raw, strcspn(raw, "@")) : NULL;
    AUTO_FREE char *readable = plain && raw[0] == '_' ? demangle(plain) : NULL;
    const char *name = readable && is_showable(readable) ? readable : plain;
    struct candidate new;
    struct name_form form;

    if (!name || !is_showable(name) || strstr(plain, ".cold")) /* the unlikely part of some function */
        return;
    name_form_make(readable ? readable : plain, &form);
    new.likeness = name_likeness(wanted, &form);
    if (new.likeness == NAME_UNLIKE)
        return;
    (void)strcpy(new.name, name);
    keep_best(best, n, &new);
}

size_t module_similar(struct module *m, const char *name, struct symbol_suggestion ret[SUGGESTIONS_MAX])
{
    struct function_walk w = {.module = m};
    struct candidate best[SUGGESTIONS_MAX];
    uint64_t until_ns = monotonic_ns() + SUGGEST_MAX_NS;
    struct name_form wanted;
    size_t n = 0;

    name_form_make(name, &wanted);
    while (walk_next(&w) && (w.n_seen % SUGGEST_CLOCK_EVERY || monotonic_ns() < until_ns))
        if (!w.symbol->ifunc && !w.symbol->stub)
            compare_name(&wanted, w.raw, best, &n);
    for (size_t i = 0; i < n; i++)
        (void)strcpy(ret[i].name, best[i].name);
    return n;
}

/* ---- the same */

/* The linker's name alone means one function, but for static ones, which are told apart by where they begin. */
static void write_namesake(const struct function_walk *w, bool linkers, struct symbol_suggestion *ret)
{
    int len = (int)strcspn(w->raw, "@");

    if (linkers)
        (void)snprintf(ret->name, sizeof(ret->name), "%.*s@%#llx", len, w->raw, (unsigned long long)w->symbol->start);
    else
        (void)snprintf(ret->name, sizeof(ret->name), "%.*s", len, w->raw);
}

static size_t find_namesakes(struct module *m, const struct symbol_wanted *wanted, struct symbol_suggestion ret[SUGGESTIONS_MAX])
{
    struct function_walk w = {.module = m};
    uint64_t starts[SUGGESTIONS_MAX], until_ns = monotonic_ns() + SUGGEST_MAX_NS;
    size_t n = 0;

    while (n < SUGGESTIONS_MAX && walk_next(&w) && (w.n_seen % SUGGEST_CLOCK_EVERY || monotonic_ns() < until_ns)) {
        bool known = false;
        if (w.symbol->ifunc || w.symbol->stub || !symbol_is_wanted(wanted, w.raw) || !is_showable(w.raw))
            continue;
        for (size_t i = 0; i < n; i++)
            known = known || starts[i] == w.symbol->start;
        if (known)
            continue;
        write_namesake(&w, !wanted->demangled, &ret[n]);
        starts[n++] = w.symbol->start;
    }
    return n;
}

size_t module_namesakes(struct module *m, const char *name, struct symbol_suggestion ret[SUGGESTIONS_MAX])
{
    struct symbol_wanted wanted = {.name = name, .len = strlen(name)};
    size_t n = find_namesakes(m, &wanted, ret);

    wanted.demangled = true;
    return n > 0 ? n : find_namesakes(m, &wanted, ret);
}

/* ---- USDT probes */

struct usdt_names {
    struct symbol_suggestion *list;
    size_t n;
    const struct name_form *wanted;
};

static int usdt_names_visit(void *userdata, const struct usdt_note *note)
{
    struct usdt_names *names = userdata;
    struct name_form form;
    char name[SUGGESTION_BYTES];

    if (snprintf(name, sizeof(name), "%s:%s", note->provider, note->name) >= (int)sizeof(name) || !is_showable(name))
        return 0;
    name_form_make(note->name, &form);
    if (names->wanted && name_likeness(names->wanted, &form) == NAME_UNLIKE)
        return 0;
    for (size_t i = 0; i < names->n; i++)
        if (strcmp(names->list[i].name, name) == 0)
            return 0;
    (void)strcpy(names->list[names->n++].name, name);
    return names->n == SUGGESTIONS_MAX;
}

size_t module_usdt_names(struct module *m, const char *name, struct symbol_suggestion ret[SUGGESTIONS_MAX])
{
    struct name_form wanted;
    struct usdt_names names = {.list = ret, .wanted = &wanted};

    name_form_make(name, &wanted);
    (void)usdt_each(&m->file, usdt_names_visit, &names);
    names.wanted = NULL;
    if (names.n == 0)
        (void)usdt_each(&m->file, usdt_names_visit, &names);
    return names.n;
}
