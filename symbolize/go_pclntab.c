/* The table comes from a file that somebody else wrote: all is read through a cursor that ends where the table does. */
#include "symbolize/go_pclntab.h"

#include <string.h>

#define MAGIC_1_16 0xfffffffau
#define MAGIC_1_18 0xfffffff0u
#define MAGIC_1_20 0xfffffff1u
#define HEADER_BYTES 8
#define MAX_FUNCTIONS (1u << 22)

uint64_t go_pclntab_get(const struct go_pclntab *t, uint64_t offset, size_t n, bool *ok)
{
    struct cfi_cursor c = {t->data, t->data + t->bytes, false};
    cfi_skip(&c, offset);
    uint64_t value = cfi_get(&c, n);
    *ok &= !c.bad;
    return value;
}

static bool find_version(uint64_t magic, enum go_version *ret)
{
    switch (magic) {
    case MAGIC_1_16:
        *ret = GO_1_16;
        return true;
    case MAGIC_1_18:
        *ret = GO_1_18;
        return true;
    case MAGIC_1_20:
        *ret = GO_1_20;
        return true;
    default:
        return false;
    }
}

/* Magic, 2 zeros, the least instruction size, a word's size. */
bool go_pclntab_begins(const uint8_t *bytes)
{
    enum go_version version;
    uint32_t magic;
    memcpy(&magic, bytes, sizeof(magic));
    return find_version(magic, &version) && bytes[4] == 0 && bytes[5] == 0 && (bytes[6] == 1 || bytes[6] == 2 || bytes[6] == 4)
           && bytes[7] == GO_WORD;
}

bool go_pclntab_open(const uint8_t *data, size_t bytes, struct go_pclntab *ret)
{
    struct go_pclntab t = {.data = data, .bytes = bytes};
    bool ok = true;
    if (bytes < HEADER_BYTES || !go_pclntab_begins(data))
        return false;
    (void)find_version(go_pclntab_get(&t, 0, 4, &ok), &t.version);
    t.quantum = data[6];
    uint64_t words = HEADER_BYTES + (t.version == GO_1_16 ? 2 : 3) * GO_WORD;
    t.n = go_pclntab_get(&t, HEADER_BYTES, GO_WORD, &ok);
    t.text = t.version == GO_1_16 ? 0 : go_pclntab_get(&t, HEADER_BYTES + 2 * GO_WORD, GO_WORD, &ok);
    uint64_t *const offsets[] = {&t.names, &t.units, &t.files, &t.values, &t.functions};
    for (size_t i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
        *offsets[i] = go_pclntab_get(&t, words + i * GO_WORD, GO_WORD, &ok);
        ok &= *offsets[i] < bytes;
    }
    if (!ok || t.n == 0 || t.n >= MAX_FUNCTIONS)
        return false;
    *ret = t;
    return true;
}

/* Entries: an address (before 1.18) or what is to be added to text, and where the function's record is; at the end the last one's end. */
static size_t field_bytes(const struct go_pclntab *t)
{
    return t->version == GO_1_16 ? GO_WORD : 4;
}

static uint64_t entry_start(const struct go_pclntab *t, uint64_t index, bool *ok)
{
    uint64_t start = go_pclntab_get(t, t->functions + index * 2 * field_bytes(t), field_bytes(t), ok);
    return t->version == GO_1_16 ? start : t->text + start;
}

bool go_pclntab_function(const struct go_pclntab *t, uint64_t index, struct go_function *ret)
{
    size_t field = field_bytes(t);
    bool ok = true;
    struct go_function f = {.start = entry_start(t, index, &ok), .end = entry_start(t, index + 1, &ok)};
    f.record = t->functions + go_pclntab_get(t, t->functions + (2 * index + 1) * field, field, &ok) + field;
    f.name = (uint32_t)go_pclntab_get(t, f.record + GO_NAME, 4, &ok);
    if (!ok || f.start >= f.end)
        return false;
    *ret = f;
    return true;
}

bool go_pclntab_find(const struct go_pclntab *t, uint64_t address, struct go_function *ret)
{
    uint64_t low = 0, high = t->n;
    bool ok = true;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        if (entry_start(t, middle, &ok) <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return ok && low > 0 && go_pclntab_function(t, low - 1, ret) && address >= ret->start && address < ret->end;
}

static const char *string_at(const struct go_pclntab *t, uint64_t offset, size_t max)
{
    uint64_t room = offset < t->bytes ? t->bytes - offset : 0;
    if (room == 0 || !memchr(t->data + offset, 0, room < max ? room : max))
        return NULL;
    return (const char *)t->data + offset;
}

const char *go_pclntab_name(const struct go_pclntab *t, uint32_t name, size_t max)
{
    return string_at(t, t->names + name, max);
}

const char *go_pclntab_file(const struct go_pclntab *t, const struct go_function *function, int64_t number, size_t max)
{
    bool ok = number >= 0 && number <= INT32_MAX;
    uint64_t unit = go_pclntab_get(t, function->record + GO_UNIT, 4, &ok);
    if (!ok)
        return NULL;
    uint64_t offset = go_pclntab_get(t, t->units + 4 * (unit + (uint64_t)number), 4, &ok);
    return ok && offset != UINT32_MAX ? string_at(t, t->files + offset, max) : NULL;
}

/* Behind a record come its tables of values, one word each, then its further data. The record's last byte says how many of those. */
static uint64_t record_bytes(const struct go_pclntab *t)
{
    return t->version == GO_1_20 ? 40 : 36;
}

uint32_t go_pclntab_pcdata(const struct go_pclntab *t, const struct go_function *function, uint32_t index)
{
    bool ok = true;
    if (index >= go_pclntab_get(t, function->record + GO_N_PCDATA, 4, &ok))
        return 0;
    uint64_t table = go_pclntab_get(t, function->record + record_bytes(t) + 4 * index, 4, &ok);
    return ok ? (uint32_t)table : 0;
}

uint32_t go_pclntab_funcdata(const struct go_pclntab *t, const struct go_function *function, uint32_t index)
{
    bool ok = t->version != GO_1_16;
    uint64_t n_pcdata = go_pclntab_get(t, function->record + GO_N_PCDATA, 4, &ok);
    if (index >= go_pclntab_get(t, function->record + record_bytes(t) - 1, 1, &ok))
        return UINT32_MAX;
    uint64_t offset = go_pclntab_get(t, function->record + record_bytes(t) + 4 * (n_pcdata + index), 4, &ok);
    return ok ? (uint32_t)offset : UINT32_MAX;
}

void go_values_begin(const struct go_pclntab *t, const struct go_function *function, uint32_t table, struct go_values *ret)
{
    *ret = (struct go_values){.c = {t->data, t->data + t->bytes, false}, .start = function->start, .from = function->start,
                              .to = function->start, .quantum = t->quantum, .value = -1};
    cfi_skip(&ret->c, t->values + table);
    if (table == 0)
        cfi_cursor_fail(&ret->c);
}

/* Pairs of differences: of the value (from -1 on; 0 ends), and how many bytes of code have it. */
bool go_values_next(struct go_values *v)
{
    uint64_t difference = cfi_get_uleb(&v->c);
    if (v->c.bad || (difference == 0 && v->to > v->start))
        return false;
    uint64_t bytes = cfi_get_uleb(&v->c) * v->quantum;
    if (v->c.bad)
        return false;
    v->value = (int64_t)((uint64_t)v->value + ((difference >> 1) ^ (0 - (difference & 1))));
    v->from = v->to;
    v->to = bytes == 0 || bytes > UINT64_MAX - v->from ? UINT64_MAX : v->from + bytes;
    return true;
}
