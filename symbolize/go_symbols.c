/* The table tells file and line of the innermost inlined call. Which call that is, PCDATA tells: an index into the function's tree of
 * inlined calls (FUNCDATA); a node has a name, and an address whose place is the call site, and so on outwards. Where the tree can't be
 * read, the place is that of a call without a name: then the function is named, and no place. */
#include "symbolize/go_symbols.h"

#include <string.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "symbolize/symbol_names.h"

#define PCDATA_INLINED 2
#define FUNCDATA_INLINED 3
#define GO_NAME_MAX_BYTES 65536u
#define GO_PATH_MAX_BYTES 4096u
#define GO_BUDGET (1ull << 28)
#define NEAR_LAST "runtime.systemstack"

/* By its place in the table, and for names the line where their function starts. */
struct go_string {
    uint64_t key;
    const void *value; /* struct symbol_name, or a path */
    UT_hash_handle hh;
};

static int kind_of(const struct go_pclntab *t, const struct go_function *function)
{
    bool ok = true;
    uint64_t kind = go_pclntab_get(t, function->record + (t->version == GO_1_20 ? GO_KIND_1_20 : GO_KIND), 1, &ok);
    return ok ? (int)kind : -1;
}

/* The kinds of functions are numbered anew in each release, but that of wrappers comes last, the second behind this one's. */
static int find_wrapper_kind(const struct go_pclntab *t)
{
    for (uint64_t i = 0; i < t->n; i++) {
        struct go_function function;
        const char *name = go_pclntab_function(t, i, &function) ? go_pclntab_name(t, function.name, sizeof(NEAR_LAST)) : NULL;
        if (name && strcmp(name, NEAR_LAST) == 0)
            return kind_of(t, &function) + 2;
    }
    return -1;
}

void go_symbols_open(const struct elf_file *file, const struct elf_segments *segments, struct go_symbols *ret)
{
    *ret = (struct go_symbols){.budget = GO_BUDGET, .wrapper = -1};
    go_module_open(file, segments, &ret->module);
    if (ret->module.table.data)
        ret->wrapper = find_wrapper_kind(&ret->module.table);
}

void go_symbols_deinit(struct go_symbols *go)
{
    HASH_CLEAR(hh, go->names);
    HASH_CLEAR(hh, go->files);
    *go = (struct go_symbols){0};
}

/* ---- strings */

static const void *find_string(const struct go_string *strings, uint64_t key)
{
    struct go_string *found;
    HASH_FIND(hh, strings, &key, sizeof(key), found);
    return found ? found->value : NULL;
}

/* Not remembered where memory is short: it is made again. */
static void keep_string(struct go_string **strings, struct arena *arena, uint64_t key, const void *value)
{
    struct go_string *string = value ? arena_alloc(arena, sizeof(*string)) : NULL;
    if (!string)
        return;
    string->key = key;
    string->value = value;
    HASH_ADD(hh, *strings, key, sizeof(string->key), string);
}

static const struct symbol_name *name_of(struct go_symbols *go, struct arena *arena, uint32_t name, uint32_t start_line)
{
    uint64_t key = (uint64_t)name << 32 | start_line;
    const struct symbol_name *known = find_string(go->names, key);
    const char *raw = known ? NULL : go_pclntab_name(&go->module.table, name, GO_NAME_MAX_BYTES);
    if (raw && raw[0] != '\0') {
        known = symbol_name_new(arena, raw, start_line <= INT32_MAX ? start_line : 0);
        keep_string(&go->names, arena, key, known);
    }
    return known;
}

static const char *path_of(struct go_symbols *go, struct arena *arena, const struct go_function *function, int64_t number)
{
    const char *recorded = go_pclntab_file(&go->module.table, function, number, GO_PATH_MAX_BYTES);
    if (!recorded || recorded[0] == '\0')
        return NULL;
    uint64_t key = (uint64_t)(recorded - (const char *)go->module.table.data);
    const char *known = find_string(go->files, key);
    if (!known) {
        known = arena_strndup(arena, recorded, GO_PATH_MAX_BYTES);
        keep_string(&go->files, arena, key, known);
    }
    return known;
}

/* ---- values by address */

/* -1: none, which is no value that a table has. */
static int64_t value_at(struct go_symbols *go, const struct go_function *function, uint32_t table, uint64_t address)
{
    struct go_values v;
    go_values_begin(&go->module.table, function, table, &v);
    while (go->budget > 0 && go_values_next(&v)) {
        go->budget--;
        if (address < v.to)
            return v.value >= 0 && v.value <= INT32_MAX ? v.value : -1;
    }
    return -1;
}

static int64_t field_value_at(struct go_symbols *go, const struct go_function *function, enum go_field field, uint64_t address)
{
    bool ok = true;
    uint64_t table = go_pclntab_get(&go->module.table, function->record + field, 4, &ok);
    return ok ? value_at(go, function, (uint32_t)table, address) : -1;
}

/* False where the address has none: behind a function's code, up to the next one. C code that Go's linker took has no places at all. */
static bool find_place(struct go_symbols *go, struct arena *arena, const struct go_function *function, uint64_t address,
                       struct symbol_frame *ret)
{
    int64_t file = field_value_at(go, function, GO_FILE, address), line = field_value_at(go, function, GO_LINE, address);
    bool ok = true;
    if (file < 0 || line < 0)
        return go_pclntab_get(&go->module.table, function->record + GO_FILE, 4, &ok) == 0 && ok;
    ret->filename = path_of(go, arena, function, file);
    ret->line = line;
    return true;
}

/* ---- inlined calls */

struct go_inlined {
    uint32_t name, start_line;
    int kind; /* as go_symbols.wrapper */
    uint64_t call_site; /* an address */
};

static const uint8_t *find_tree(const struct go_symbols *go, const struct go_function *function, size_t *ret_room)
{
    const struct go_module *module = &go->module;
    uint32_t offset = go_pclntab_funcdata(&module->table, function, FUNCDATA_INLINED);
    if (!module->further || offset >= module->further_bytes)
        return NULL;
    *ret_room = module->further_bytes - offset;
    return module->further + offset;
}

/* Up to 1.19 nodes have a parent's index, a file, a line, the name and the call site; later function id, name, call site, start line. */
static bool read_inlined(const struct go_symbols *go, const struct go_function *function, int64_t index, struct go_inlined *ret)
{
    bool is_new = go->module.table.version == GO_1_20;
    size_t bytes = is_new ? 16 : 20, name_at = is_new ? 4 : 12, room = 0;
    const uint8_t *tree = find_tree(go, function, &room);
    if (!tree || (uint64_t)index >= room / bytes)
        return false;
    struct cfi_cursor c = {tree + (uint64_t)index * bytes + name_at, tree + room, false};
    ret->kind = tree[(uint64_t)index * bytes + (is_new ? 0 : 2)];
    ret->name = (uint32_t)cfi_get(&c, 4);
    uint64_t offset = cfi_get(&c, 4);
    ret->start_line = is_new ? (uint32_t)cfi_get(&c, 4) : 0;
    ret->call_site = function->start + offset;
    return !c.bad && offset < function->end - function->start;
}

static void set_name(struct symbol_frame *frame, const struct symbol_name *name)
{
    frame->name = name->name;
    frame->system_name = name->system_name;
    frame->start_line = name->start_line;
}

/* Frames of the inlined calls at an address, each with its place. *ret_at: the call site of the outermost. False: the tree is malformed. */
static bool inlined_frames(struct go_symbols *go, struct arena *arena, const struct go_function *function, uint64_t address,
                           struct symbol_frame out[SYMBOL_MAX_INLINED], size_t *ret_n, uint64_t *ret_at)
{
    uint32_t table = go_pclntab_pcdata(&go->module.table, function, PCDATA_INLINED);
    int64_t index;
    size_t n = 0;
    while ((index = value_at(go, function, table, address)) >= 0) {
        struct go_inlined call;
        const struct symbol_name *name = n < SYMBOL_MAX_INLINED - 1 && read_inlined(go, function, index, &call)
                                             ? name_of(go, arena, call.name, call.start_line) : NULL;
        if (!name)
            return false;
        (void)find_place(go, arena, function, address, &out[n]);
        set_name(&out[n], name);
        out[n++].wrapper = call.kind == go->wrapper;
        out[n] = (struct symbol_frame){0};
        address = call.call_site;
    }
    *ret_n = n;
    *ret_at = address;
    return true;
}

static uint32_t start_line_of(const struct go_pclntab *t, const struct go_function *function)
{
    bool ok = t->version == GO_1_20;
    uint64_t line = ok ? go_pclntab_get(t, function->record + GO_START_LINE, 4, &ok) : 0;
    return ok ? (uint32_t)line : 0;
}

size_t go_symbols_resolve(struct go_symbols *go, struct arena *arena, uint64_t address, bool with_lines,
                          struct symbol_frame out[SYMBOL_MAX_INLINED])
{
    const struct go_pclntab *t = &go->module.table;
    struct go_function function;
    uint64_t at;
    size_t n = 0;
    if (!t->data || !go_pclntab_find(t, address, &function))
        return 0;
    const struct symbol_name *name = name_of(go, arena, function.name, start_line_of(t, &function));
    if (!name)
        return 0;
    out[0] = (struct symbol_frame){0};
    bool is_whole = with_lines && inlined_frames(go, arena, &function, address, out, &n, &at);
    if (!is_whole)
        out[n = 0] = (struct symbol_frame){0};
    else if (!find_place(go, arena, &function, at, &out[n]))
        return 0;
    set_name(&out[n++], name);
    return go->budget > 0 ? n : 0; /* what was cut short isn't true */
}

bool go_symbols_is_wrapper(const struct go_symbols *go, uint64_t address)
{
    struct go_function function;
    return go->wrapper >= 0 && go_pclntab_find(&go->module.table, address, &function) && kind_of(&go->module.table, &function) == go->wrapper;
}
