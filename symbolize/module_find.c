/* Functions by name, for probes. A name as the linker has it goes first; a demangled one is compared with
 * every function's, which is slow, and only taken where it means one function. */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "symbolize/demangle.h"
#include "symbolize/module.h"
#include "util/cleanup.h"

/* A search for one name over the tables of a module. */
struct function_search {
    struct symbol_wanted wanted;
    bool anywhere;
    uint64_t start; /* else only the one that begins there */
    const struct elf_symbol *found;
    bool several;
};

bool symbol_is_wanted(const struct symbol_wanted *wanted, const char *raw)
{
    if (!wanted->demangled)
        return strncmp(raw, wanted->name, wanted->len) == 0 && (!raw[wanted->len] || raw[wanted->len] == '@');
    if (raw[0] != '_')
        return false;
    AUTO_FREE char *plain = strndup(raw, strcspn(raw, "@"));
    AUTO_FREE char *readable = plain ? demangle(plain) : NULL;
    if (!readable || strncmp(readable, wanted->name, wanted->len) != 0)
        return false;
    /* Whole, or up to its parameters. */
    return readable[wanted->len] == '\0' || (readable[wanted->len] == '(' && !memchr(wanted->name, '(', wanted->len));
}

/* Cuts "@0xADDRESS" off the end of what is wanted. */
static void cut_start(struct function_search *s)
{
    const char *at = strrchr(s->wanted.name, '@');
    char *end;

    if (!at || strncmp(at, "@0x", 3) != 0 || !isxdigit((unsigned char)at[3]))
        return;
    s->start = strtoull(at + 3, &end, 16);
    s->anywhere = *end != '\0';
    if (!s->anywhere)
        s->wanted.len = (size_t)(at - s->wanted.name);
}

/* Of several versions the default one is what new programs are linked with. */
static bool is_old_version(const struct elf_symbol *symbol, const char *raw)
{
    const char *version = strchr(raw, '@');
    return symbol->hidden_version || (version && version[1] != '@');
}

static void search_table(struct function_search *s, Elf *elf, const struct elf_symbols *symbols,
                         bool old_versions)
{
    for (size_t i = 0; i < symbols->n; i++) {
        const struct elf_symbol *symbol = &symbols->list[i];
        const char *raw = symbol->ifunc || symbol->stub ? NULL : elf_symbol_raw_name(elf, symbol);
        if (!raw || is_old_version(symbol, raw) != old_versions || (!s->anywhere && symbol->start != s->start) ||
            !symbol_is_wanted(&s->wanted, raw))
            continue;
        if (!s->found)
            s->found = symbol;
        else if (s->found->start != symbol->start)
            s->several = true;
    }
}

static void search_module(struct function_search *s, struct module *m)
{
    for (int old = 0; old < 2 && !s->found; old++) {
        search_table(s, m->file.elf, &m->symbols, old);
        if (!s->found && m->debug.separate.elf)
            search_table(s, m->debug.separate.elf, &m->debug_symbols, old);
    }
}

int module_search_function(struct module *m, const char *name, struct probe_range *ret)
{
    struct function_search s = {.wanted = {.name = name, .len = strlen(name)}, .anywhere = true};
    cut_start(&s);
    if (s.wanted.len == 0)
        return -ENOENT;
    int r = module_need_debug(m);
    if (r < 0)
        return r;
    search_module(&s, m);
    if (!s.found) {
        s.wanted.demangled = true;
        search_module(&s, m);
    }
    if (!s.found)
        return -ENOENT;
    if (s.several)
        return -ENOTUNIQ;
    *ret = (struct probe_range){s.found->start, s.found->end};
    return 0;
}

int module_find_function(struct module *m, const char *name, uint64_t offset, uint64_t *ret_file_offset)
{
    struct probe_range found;
    uint64_t file_offset;
    int r = module_search_function(m, name, &found);
    if (r < 0)
        return r;
    if (offset >= found.end - found.start)
        return -ERANGE;
    if (!elf_segments_offset(&m->segments, found.start + offset, &file_offset))
        return -ENOENT;
    *ret_file_offset = file_offset;
    return 0;
}
