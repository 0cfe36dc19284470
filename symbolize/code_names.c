/* Owns the addresses, what is known of each, and the text of the names. next[i] leads to the first address from i on that has no name
 * (itself where it has none): paths are halved as they are followed, so that naming is nearly linear in addresses and code, whatever
 * covers whatever. */
#include "symbolize/code_names.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "symbolize/arena.h"

struct code_names {
    uint64_t *addresses;
    struct code_name *items;
    uint32_t *next; /* n + 1 */
    size_t n, left;
    const char *filename; /* the last one: code comes file by file */
    struct arena text;
};

struct code_names *code_names_new(const uint64_t *addresses, size_t n)
{
    struct code_names *names = n < UINT32_MAX ? calloc(1, sizeof(*names)) : NULL;

    if (!names)
        return NULL;
    names->addresses = calloc(n + 1, sizeof(*names->addresses));
    names->items = calloc(n + 1, sizeof(*names->items));
    names->next = calloc(n + 1, sizeof(*names->next));
    if (!names->addresses || !names->items || !names->next) {
        code_names_free(names);
        return NULL;
    }
    names->n = names->left = n;
    for (size_t i = 0; i <= n; i++) {
        names->addresses[i] = i < n ? addresses[i] : 0;
        names->next[i] = (uint32_t)i;
    }
    return names;
}

void code_names_free(struct code_names *names)
{
    if (!names)
        return;
    arena_deinit(&names->text);
    free(names->addresses);
    free(names->items);
    free(names->next);
    free(names);
}

size_t code_names_left(const struct code_names *names)
{
    return names->left;
}

size_t code_names_count(const struct code_names *names)
{
    return names->n;
}

const uint64_t *code_names_addresses(const struct code_names *names)
{
    return names->addresses;
}

/* The first address from start on. */
static size_t names_from(const struct code_names *names, uint64_t start)
{
    size_t low = 0, high = names->n;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (names->addresses[middle] < start)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

const struct code_name *code_names_find(const struct code_names *names, uint64_t address)
{
    size_t i = names_from(names, address);

    return i < names->n && names->addresses[i] == address && names->items[i].name ? &names->items[i] : NULL;
}

static size_t names_next(struct code_names *names, size_t i)
{
    while (names->next[i] != i) {
        names->next[i] = names->next[names->next[i]];
        i = names->next[i];
    }
    return i;
}

static bool names_covers(const struct code_names *names, size_t i, uint64_t start, uint64_t size)
{
    return i < names->n && names->addresses[i] - start < size;
}

size_t code_names_unnamed(struct code_names *names, uint64_t start, uint64_t size)
{
    size_t i = names_next(names, names_from(names, start));
    return names_covers(names, i, start, size) ? i : names->n;
}

static int names_text(struct code_names *names, const char *text, size_t len, const char **ret)
{
    if (names->text.bytes + len >= CODE_NAMES_MAX_BYTES)
        return -ENOSPC;
    char *copy = arena_alloc(&names->text, len + 1);
    if (!copy)
        return -ENOMEM;
    memcpy(copy, text, len);
    *ret = copy;
    return 0;
}

int code_names_claim(struct code_names *names, uint64_t start, uint64_t size, const char *name, size_t len)
{
    size_t i = code_names_unnamed(names, start, size);
    const char *copy = NULL;

    if (i == names->n)
        return 0;
    int r = name && len <= CODE_NAME_MAX_BYTES ? names_text(names, name, len, &copy) : 0;
    if (r < 0)
        return r;
    for (; names_covers(names, i, start, size); i = names_next(names, i + 1)) {
        names->items[i].name = copy;
        names->next[i] = (uint32_t)i + 1;
        names->left--;
    }
    return 0;
}

int code_names_set_line(struct code_names *names, size_t i, const char *filename, int64_t line)
{
    if (!names->filename || strcmp(names->filename, filename) != 0) {
        int r = names_text(names, filename, strlen(filename), &names->filename);
        if (r < 0)
            return r;
    }
    names->items[i].filename = names->filename;
    names->items[i].line = line;
    return 0;
}
