/* Mappings, functions and locations of a profile: each is kept once, found again by its content. */
#include "pprof/profile.h"

#include "pprof/hash.h"
#include "pprof/model.h"

/* Made-up addresses: outside of what x86-64 (57 bits) and aarch64 (52 bits) can map, so that no code is ever
 * there. */
#define MADE_UP_FIRST 0x1000000000000000ull
#define MADE_UP_MASK 0x0fffffffffffffffull

/* Made-up addresses are the same in every profile of the same code, or scrapers see new locations each time:
 * no secret here. */
#define MADE_UP_KEY 0x6370726f66640001ull

static bool mapping_equal(const void *owner, uint32_t id, const void *key)
{
    const struct mapping *a = &((const struct profile *)owner)->mappings.items[id - 1], *b = key;
    return a->start == b->start && a->limit == b->limit && a->offset == b->offset &&
           a->filename == b->filename && a->build_id == b->build_id;
}

static uint64_t mapping_hash(uint64_t state, const struct mapping *m)
{
    state = hash_u64(state, m->start);
    state = hash_u64(state, m->limit);
    state = hash_u64(state, m->offset);
    return hash_u64(state, (uint64_t)m->filename << 32 | m->build_id);
}

static int mapping_find_or_add(struct profile *p, const struct mapping *m, uint32_t *ret_id)
{
    uint64_t hash = mapping_hash(p->hash_key, m);
    uint32_t id = table_find(&p->mapping_index, hash, mapping_equal, p, m);
    if (id == TABLE_NONE) {
        if (table_reserve(&p->mapping_index) < 0 || vec_reserve(&p->mappings, 1) < 0)
            return -ENOMEM;
        vec_push(&p->mappings, *m);
        id = (uint32_t)p->mappings.n;
        table_insert(&p->mapping_index, hash, id);
    }
    *ret_id = id;
    return 0;
}

uint64_t profile_mapping(struct profile *p, const struct profile_mapping *m)
{
    struct mapping wanted = {.start = m->start, .limit = m->limit, .offset = m->offset};
    uint32_t id;
    if (strings_intern(&p->strings, m->filename, &wanted.filename) < 0 ||
        strings_intern(&p->strings, m->build_id, &wanted.build_id) < 0 ||
        mapping_find_or_add(p, &wanted, &id) < 0) {
        (void)profile_keep_error(p, -ENOMEM);
        return 0;
    }
    struct mapping *kept = &p->mappings.items[id - 1];
    kept->has_functions |= m->has_functions;
    kept->has_filenames |= m->has_filenames;
    kept->has_line_numbers |= m->has_line_numbers;
    kept->has_inline_frames |= m->has_inline_frames;
    return id;
}

static bool function_equal(const void *owner, uint32_t id, const void *key)
{
    const struct function *a = &((const struct profile *)owner)->functions.items[id - 1], *b = key;
    return a->name == b->name && a->system_name == b->system_name && a->filename == b->filename &&
           a->start_line == b->start_line;
}

static int function_find_or_add(struct profile *p, const struct function *f, uint32_t *ret_id)
{
    uint64_t hash = hash_u64(p->hash_key, (uint64_t)f->name << 32 | f->system_name);
    hash = hash_u64(hash, f->filename);
    hash = hash_u64(hash, (uint64_t)f->start_line);
    uint32_t id = table_find(&p->function_index, hash, function_equal, p, f);
    if (id == TABLE_NONE) {
        if (table_reserve(&p->function_index) < 0 || vec_reserve(&p->functions, 1) < 0)
            return -ENOMEM;
        vec_push(&p->functions, *f);
        id = (uint32_t)p->functions.n;
        table_insert(&p->function_index, hash, id);
    }
    *ret_id = id;
    return 0;
}

static bool name_is_given(const char *name)
{
    return name && *name;
}

/* Adds lines at the end of profile.lines. */
static int lines_push(struct profile *p, const struct profile_line *lines, size_t n_lines)
{
    if (vec_reserve(&p->lines, n_lines) < 0)
        return -ENOMEM;
    for (size_t i = 0; i < n_lines; i++) {
        const struct profile_line *line = &lines[i];
        struct function f = {.start_line = line->start_line};
        struct line interned = {.line = line->line};
        const char *system_name = name_is_given(line->system_name) ? line->system_name : line->name;
        const char *name = name_is_given(line->name) ? line->name : system_name;
        if (!name_is_given(name)) /* readers show nothing at all for "" */
            name = system_name = "[unnamed]";
        if (strings_intern(&p->strings, name, &f.name) < 0 ||
            strings_intern(&p->strings, system_name, &f.system_name) < 0 ||
            strings_intern(&p->strings, line->filename, &f.filename) < 0 ||
            function_find_or_add(p, &f, &interned.function_id) < 0)
            return -ENOMEM;
        vec_push(&p->lines, interned);
    }
    return 0;
}

static bool location_equal(const void *owner, uint32_t id, const void *key)
{
    const struct profile *p = owner;
    const struct location *a = &p->locations.items[id - 1], *b = key;
    if (a->mapping_id != b->mapping_id || a->given_address != b->given_address || a->n_lines != b->n_lines)
        return false;
    for (size_t i = 0; i < a->n_lines; i++) {
        const struct line *line_a = &p->lines.items[a->first_line + i];
        const struct line *line_b = &p->lines.items[b->first_line + i];
        if (line_a->function_id != line_b->function_id || line_a->line != line_b->line)
            return false;
    }
    return true;
}

static uint64_t location_hash(const struct profile *p, const struct location *l)
{
    uint64_t hash = hash_u64(p->hash_key, l->given_address);
    hash = hash_u64(hash, (uint64_t)l->mapping_id << 32 | l->n_lines);
    for (size_t i = 0; i < l->n_lines; i++) {
        const struct line *line = &p->lines.items[l->first_line + i];
        hash = hash_u64(hash, line->function_id);
        hash = hash_u64(hash, (uint64_t)line->line);
    }
    return hash;
}

static bool address_equal(const void *owner, uint32_t id, const void *key)
{
    return ((const struct profile *)owner)->locations.items[id - 1].address == *(const uint64_t *)key;
}

static bool address_is_taken(const struct profile *p, uint64_t address)
{
    uint64_t hash = hash_u64(p->hash_key, address);
    return table_find(&p->address_index, hash, address_equal, p, &address) != TABLE_NONE;
}

static uint64_t hash_string(const struct profile *p, uint64_t state, uint32_t string_id)
{
    const char *text = strings_get(&p->strings, string_id);
    return hash_bytes(state, text, strlen(text));
}

/* A hash of what a location is, ids apart: they depend on what came before. */
static uint64_t location_content_hash(const struct profile *p, const struct location *l)
{
    const struct mapping *m = &p->mappings.items[l->mapping_id - 1];
    uint64_t hash = hash_u64(MADE_UP_KEY, l->given_address);
    hash = hash_string(p, hash, m->filename);
    hash = hash_string(p, hash, m->build_id);
    for (size_t i = 0; i < l->n_lines; i++) {
        const struct line *line = &p->lines.items[l->first_line + i];
        const struct function *f = &p->functions.items[line->function_id - 1];
        hash = hash_string(p, hash, f->name);
        hash = hash_string(p, hash, f->system_name);
        hash = hash_string(p, hash, f->filename);
        hash = hash_u64(hash, (uint64_t)f->start_line);
        hash = hash_u64(hash, (uint64_t)line->line);
    }
    return hash;
}

/* The address that readers see. Some tell locations apart by it alone, and take 0 for none. */
static uint64_t location_address(const struct profile *p, const struct location *l)
{
    if (l->given_address != 0 && !address_is_taken(p, l->given_address))
        return l->given_address;
    uint64_t hash = location_content_hash(p, l);
    while (address_is_taken(p, MADE_UP_FIRST | (hash & MADE_UP_MASK)))
        hash++;
    return MADE_UP_FIRST | (hash & MADE_UP_MASK);
}

/* The lines of l are at the end of profile.lines. Its id is 0 where it is not there yet and could not be
 * added. */
static uint32_t location_find_or_add(struct profile *p, struct location *l)
{
    uint64_t hash = location_hash(p, l);
    uint32_t id = table_find(&p->location_index, hash, location_equal, p, l);
    if (id != TABLE_NONE) {
        p->lines.n = l->first_line;
        return id;
    }
    if (table_reserve(&p->location_index) < 0 || table_reserve(&p->address_index) < 0 ||
        vec_reserve(&p->locations, 1) < 0)
        return 0;
    l->address = location_address(p, l);
    vec_push(&p->locations, *l);
    id = (uint32_t)p->locations.n;
    table_insert(&p->location_index, hash, id);
    table_insert(&p->address_index, hash_u64(p->hash_key, l->address), id);
    return id;
}

uint64_t profile_location(struct profile *p, uint64_t mapping_id, uint64_t address,
                          const struct profile_line *lines, size_t n_lines)
{
    struct location l = {.given_address = address, .first_line = p->lines.n};
    if (mapping_id == 0 || mapping_id > p->mappings.n)
        return 0;
    l.mapping_id = (uint32_t)mapping_id;
    l.n_lines = (uint32_t)n_lines;
    uint32_t id = n_lines > UINT32_MAX || lines_push(p, lines, n_lines) < 0 ? 0 : location_find_or_add(p, &l);
    if (id == 0) {
        p->lines.n = l.first_line;
        (void)profile_keep_error(p, -ENOMEM);
    }
    return id;
}
