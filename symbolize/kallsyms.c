/* The text is parsed once into one sorted array; names stay where they were read. Only text symbols count:
 * what can be on a stack is code. */
#include "symbolize/kallsyms.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "util/cleanup.h"

/* 200,000 lines are 10 MB; hosts with many modules and BPF programs have a few times that. */
#define KALLSYMS_MAX_BYTES (256u << 20)

struct kallsyms {
    char *text;
    size_t text_len;
    struct kernel_symbol *symbols; /* by address */
    size_t n;
    uint64_t start, end;
};

static int text_read(int fd, char **ret, size_t *ret_len)
{
    AUTO_FREE char *text = NULL;
    size_t len = 0, room = 0;
    for (;;) {
        if (room - len < 2) {
            room = room ? 2 * room : 4u << 20;
            char *grown = room <= KALLSYMS_MAX_BYTES ? realloc(text, room) : NULL;
            if (!grown)
                return -ENOMEM;
            text = grown;
        }
        ssize_t got = read(fd, text + len, room - len - 1);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -errno;
        if (got == 0)
            break;
        len += (size_t)got;
    }
    text[len] = '\0';
    *ret = TAKE_PTR(text);
    *ret_len = len;
    return 0;
}

static const char *hex_parse(const char *p, uint64_t *ret)
{
    uint64_t value = 0;
    for (;; p++) {
        unsigned c = (unsigned char)*p;
        if (c - '0' < 10)
            value = value << 4 | (c - '0');
        else if ((c | 32) - 'a' < 6)
            value = value << 4 | ((c | 32) - 'a' + 10);
        else
            break;
    }
    *ret = value;
    return p;
}

/* One line, "ADDRESS TYPE NAME[\t[MODULE]]", NUL-terminated in place. False: not a text symbol. */
static bool line_parse(char *line, char *end, struct kernel_symbol *ret)
{
    const char *p = hex_parse(line, &ret->address);
    if (p == line || end - p < 4 || p[0] != ' ' || p[2] != ' ' || !strchr("tTwW", p[1]))
        return false;
    ret->name = p + 3;
    ret->module = NULL;
    char *tab = memchr(p + 3, '\t', (size_t)(end - p - 3));
    *end = '\0';
    if (!tab)
        return true;
    *tab = '\0';
    if (tab[1] == '[' && end[-1] == ']') {
        end[-1] = '\0';
        ret->module = tab + 2;
    }
    return true;
}

static int symbols_parse(struct kallsyms *k, size_t len)
{
    size_t lines = 0;
    bool any = false;
    char *end = k->text + len;
    for (char *p = k->text; (p = memchr(p, '\n', (size_t)(end - p))); p++)
        lines++;
    k->symbols = calloc(lines + 1, sizeof(*k->symbols));
    if (!k->symbols)
        return -ENOMEM;
    for (char *p = k->text; p < end;) {
        char *newline = memchr(p, '\n', (size_t)(end - p));
        char *line_end = newline ? newline : end;
        if (line_parse(p, line_end, &k->symbols[k->n])) {
            any = true;
            k->n += k->symbols[k->n].address != 0;
        }
        p = line_end + 1;
    }
    return k->n > 0 ? 0 : any ? -EPERM : -ENODATA;
}

/* By address; names of one address stay in the file's order, whose first is the one that stack traces
 * show. */
static int symbol_compare(const void *a, const void *b)
{
    const struct kernel_symbol *x = a, *y = b;
    if (x->address != y->address)
        return x->address < y->address ? -1 : 1;
    return x->name < y->name ? -1 : x->name > y->name;
}

/* The bounds of the kernel proper. Names that begin with _ are marks at those addresses, so they are
 * looked up, not shown. */
static void text_bounds(struct kallsyms *k)
{
    for (size_t i = 0; i < k->n; i++) {
        const struct kernel_symbol *symbol = &k->symbols[i];
        if (symbol->module)
            continue;
        if (strcmp(symbol->name, "_stext") == 0)
            k->start = symbol->address;
        else if (strcmp(symbol->name, "_etext") == 0)
            k->end = symbol->address;
    }
}

int kallsyms_new(int fd, struct kallsyms **ret)
{
    struct kallsyms *k = calloc(1, sizeof(*k));
    int r = k ? text_read(fd, &k->text, &k->text_len) : -ENOMEM;
    if (r == 0)
        r = symbols_parse(k, k->text_len);
    if (r < 0) {
        kallsyms_free(k);
        return r;
    }
    qsort(k->symbols, k->n, sizeof(*k->symbols), symbol_compare);
    text_bounds(k);
    *ret = k;
    return 0;
}

void kallsyms_free(struct kallsyms *k)
{
    if (!k)
        return;
    free(k->symbols);
    free(k->text);
    free(k);
}

size_t kallsyms_bytes(const struct kallsyms *k)
{
    return sizeof(*k) + k->text_len + k->n * sizeof(*k->symbols);
}

const struct kernel_symbol *kallsyms_find(const struct kallsyms *k, uint64_t address)
{
    size_t low = 0, high = k->n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (k->symbols[middle].address <= address)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0)
        return NULL;
    const struct kernel_symbol *found = &k->symbols[low - 1];
    /* Beyond the kernel's text there are modules, and code of boot time that was given back. */
    if (!found->module && k->end && (address < k->start || address >= k->end))
        return NULL;
    while (found > k->symbols && found[-1].address == found->address)
        found--;
    return found;
}

void kallsyms_text(const struct kallsyms *k, uint64_t *ret_start, uint64_t *ret_end)
{
    *ret_start = k->start;
    *ret_end = k->end;
}
