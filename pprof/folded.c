/* Collapsed stacks, as flame graph tools read them: one line for each distinct stack of names, root first. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "pprof/hash.h"
#include "pprof/model.h"
#include "pprof/profile.h"
#include "util/cleanup.h"

/* A space, the digits of a positive int64_t, a newline. */
#define FOLDED_NUMBER_BYTES (1 + 19 + 1)

struct folded_line {
    size_t first, len; /* in folded.text */
    int64_t sum;
};

struct folded {
    const struct profile *profile;
    VEC(char) text; /* the stacks, without their numbers, back to back */
    VEC(struct folded_line) lines;
    struct table index;
};

static void folded_deinit(struct folded *f)
{
    vec_free(&f->text);
    vec_free(&f->lines);
    table_deinit(&f->index);
}

/* Part of a frame's name; what separates frames and lines can't be in it. */
static int folded_text(struct folded *f, const char *text)
{
    size_t len = strlen(text);
    if (vec_reserve(&f->text, len) < 0)
        return -ENOMEM;
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        vec_push(&f->text, c == ';' ? ':' : (unsigned char)c < ' ' || c == '\x7f' ? ' ' : c);
    }
    return 0;
}

static int folded_separator(struct folded *f, bool first)
{
    if (first)
        return 0;
    if (vec_reserve(&f->text, 1) < 0)
        return -ENOMEM;
    vec_push(&f->text, ';');
    return 0;
}

/* A location without a name: its file and address. */
static int folded_address(struct folded *f, const struct location *l)
{
    const struct mapping *m = &f->profile->mappings.items[l->mapping_id - 1];
    const char *path = strings_get(&f->profile->strings, m->filename), *slash = strrchr(path, '/');
    char address[24];
    (void)snprintf(address, sizeof(address), "@0x%" PRIx64, l->given_address);
    return folded_text(f, slash ? slash + 1 : path) < 0 || folded_text(f, address) < 0 ? -ENOMEM : 0;
}

static int folded_function(struct folded *f, uint32_t function_id)
{
    const struct profile *p = f->profile;
    return folded_text(f, strings_get(&p->strings, p->functions.items[function_id - 1].name));
}

/* Adds the stack of a sample at the end of folded.text. */
static int folded_stack(struct folded *f, const struct sample *s)
{
    const struct profile *p = f->profile;
    bool first = true;
    for (size_t i = s->n_locations; i-- > 0;) {
        const struct location *l = &p->locations.items[p->stacks.items[s->first_location + i] - 1];
        if (l->n_lines == 0) {
            if (folded_separator(f, first) < 0 || folded_address(f, l) < 0)
                return -ENOMEM;
            first = false;
        }
        for (size_t j = l->n_lines; j-- > 0; first = false)
            if (folded_separator(f, first) < 0 ||
                folded_function(f, p->lines.items[l->first_line + j].function_id) < 0)
                return -ENOMEM;
    }
    return first ? folded_text(f, "[no stack]") : 0;
}

static bool folded_equal(const void *owner, uint32_t id, const void *key)
{
    const struct folded *f = owner;
    const struct folded_line *a = &f->lines.items[id], *b = key;
    return a->len == b->len && memcmp(f->text.items + a->first, f->text.items + b->first, a->len) == 0;
}

static int folded_add(struct folded *f, const struct sample *s, int64_t value)
{
    struct folded_line line = {.first = f->text.n, .sum = value};
    if (folded_stack(f, s) < 0)
        return -ENOMEM;
    line.len = f->text.n - line.first;
    uint64_t hash = hash_bytes(f->profile->hash_key, f->text.items + line.first, line.len);
    uint32_t id = table_find(&f->index, hash, folded_equal, f, &line);
    if (id != TABLE_NONE) {
        int64_t *sum = &f->lines.items[id].sum;
        if (__builtin_add_overflow(*sum, value, sum))
            *sum = INT64_MAX;
        f->text.n = line.first;
        return 0;
    }
    if (table_reserve(&f->index) < 0 || vec_reserve(&f->lines, 1) < 0)
        return -ENOMEM;
    table_insert(&f->index, hash, (uint32_t)f->lines.n);
    vec_push(&f->lines, line);
    return 0;
}

static int folded_print(const struct folded *f, uint8_t **ret_data, size_t *ret_len)
{
    size_t len = 0, room = f->text.n + f->lines.n * FOLDED_NUMBER_BYTES + 1;
    char *body = malloc(room);
    if (!body)
        return -ENOMEM;
    for (size_t i = 0; i < f->lines.n; i++) {
        const struct folded_line *line = &f->lines.items[i];
        memcpy(body + len, f->text.items + line->first, line->len);
        len += line->len;
        len += (size_t)snprintf(body + len, room - len, " %" PRId64 "\n", line->sum);
    }
    *ret_len = len;
    *ret_data = (uint8_t *)body;
    return 0;
}

int profile_encode_folded(const struct profile *p, uint8_t **ret_data, size_t *ret_len)
{
    CLEANUP(folded_deinit) struct folded f = {.profile = p};
    if (p->error < 0)
        return p->error;
    for (size_t i = 0; i < p->samples.n; i++) {
        int64_t value = p->values.items[i * p->sample_types.n + p->default_type];
        if (value > 0 && folded_add(&f, &p->samples.items[i], value) < 0)
            return -ENOMEM;
    }
    return folded_print(&f, ret_data, ret_len);
}
