/* One record's entries, sorted by address. Owns the array, not the text.
 *
 * V8 writes names of some scripts as bytes of its own heap, NULs among them, so that a reader loses its place: such a record ends too
 * early or too late, or leads outside of the code, and counts for nothing. */
#include "symbolize/jitdump_lines.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "symbolize/jitdump_format.h"

#define SAME_NAME "\377"
/* Records are padded to a multiple of this. */
#define JITDUMP_PADDING 8

void jitdump_lines_deinit(struct jitdump_lines *lines)
{
    free(lines->items);
    *lines = (struct jitdump_lines){0};
}

static bool lines_is_text(const char *name, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)name[i] < ' ' || name[i] == '\x7f')
            return false;
    return len > 0;
}

static int lines_compare(const void *va, const void *vb)
{
    const struct jitdump_line *a = va, *b = vb;
    int r = (a->address > b->address) - (a->address < b->address);
    return r ? r : (a->order > b->order) - (a->order < b->order);
}

/* One entry; returns what follows it, or NULL where it makes no sense. before: the name of the entry before. */
static const char *lines_entry(const char *p, const char *end, const char *before, struct jitdump_line *ret)
{
    struct jitdump_debug_entry entry;

    if ((size_t)(end - p) <= sizeof(entry))
        return NULL;
    memcpy(&entry, p, sizeof(entry));
    p += sizeof(entry);
    size_t len = strnlen(p, (size_t)(end - p));
    if (len == (size_t)(end - p) || entry.line > INT32_MAX)
        return NULL;
    bool same = strcmp(p, SAME_NAME) == 0;
    if (same ? !before : !lines_is_text(p, len))
        return NULL;
    *ret = (struct jitdump_line){.address = entry.address, .line = entry.line, .filename = same ? before : p};
    return p + len + 1;
}

int jitdump_lines_parse(const char *data, size_t len, uint64_t n_entries, uint64_t code_addr, uint64_t code_size, uint64_t bias,
                        struct jitdump_lines *ret)
{
    const char *p = data, *end = data + len, *name = NULL;

    if (n_entries == 0 || n_entries > len / (sizeof(struct jitdump_debug_entry) + 1))
        return -EBADMSG;
    struct jitdump_lines lines = {.items = calloc(n_entries, sizeof(*lines.items))};
    if (!lines.items)
        return -ENOMEM;
    for (; lines.n < n_entries && p; lines.n++) {
        struct jitdump_line *line = &lines.items[lines.n];
        p = lines_entry(p, end, name, line);
        name = line->filename;
        line->address -= bias;
        line->order = (uint32_t)lines.n;
        if (p && line->address - code_addr > code_size) /* an end of sequence is just behind */
            p = NULL;
    }
    if (!p || (size_t)(end - p) >= JITDUMP_PADDING) {
        jitdump_lines_deinit(&lines);
        return -EBADMSG;
    }
    qsort(lines.items, lines.n, sizeof(*lines.items), lines_compare);
    *ret = lines;
    return 0;
}

const struct jitdump_line *jitdump_lines_find(const struct jitdump_lines *lines, uint64_t address)
{
    size_t low = 0, high = lines->n;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (lines->items[middle].address <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low > 0 ? &lines->items[low - 1] : NULL;
}
