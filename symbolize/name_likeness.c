/* Likeness of names: first what is the same but for case, underscores and what surrounds the name, then by how many letters differ, then what
 * has the wanted one in it. Owns nothing. */
#include "symbolize/name_likeness.h"

#include <ctype.h>
#include <string.h>

/* As many letters may differ, of names that are three times as long. */
#define NAME_MAX_EDITS 3
#define NAME_EDITS_PER 3
/* A shorter name is in too many others. */
#define NAME_MIN_PART 4

enum likeness { LIKE_WHOLE, LIKE_TAIL, LIKE_BASE, LIKE_EDITS, LIKE_PART = LIKE_EDITS + NAME_MAX_EDITS + 1 };

/* Bytes of a bracketed part, its brackets included; 0: none begins here. */
static size_t bracketed(const char *text)
{
    size_t depth = 0;

    if (*text != '<' && *text != '(')
        return 0;
    for (size_t i = 0; text[i]; i++) {
        depth += text[i] == '<' || text[i] == '(';
        depth -= text[i] == '>' || text[i] == ')';
        if (depth == 0)
            return i + 1;
    }
    return 0; /* as of operator< */
}

void name_form_make(const char *name, struct name_form *ret)
{
    size_t n = 0, base = 0;

    for (const char *p = name; *p && *p != '@' && n + 1 < sizeof(ret->whole);) {
        size_t skipped = bracketed(p);
        if (skipped > 0) {
            p += skipped;
            continue;
        }
        if (*p != '_' && *p != ' ')
            ret->whole[n++] = (char)tolower((unsigned char)*p);
        if (n >= 2 && ret->whole[n - 1] == ':' && ret->whole[n - 2] == ':')
            base = n;
        p++;
    }
    ret->whole[n] = '\0';
    ret->base = ret->whole + base;
}

static unsigned min3(unsigned a, unsigned b, unsigned c)
{
    unsigned least = a < b ? a : b;
    return least < c ? least : c;
}

/* How many letters have to be put in, taken out, or changed for others; most + 1: more than most. */
static unsigned count_edits(const char *a, const char *b, unsigned most)
{
    unsigned row[NAME_FORM_BYTES];
    size_t len_a = strlen(a), len_b = strlen(b);

    if (len_a > len_b + most || len_b > len_a + most)
        return most + 1;
    for (size_t i = 0; i <= len_b; i++)
        row[i] = (unsigned)i;
    for (size_t i = 0; i < len_a; i++) {
        unsigned diagonal = row[0], least = row[0] = (unsigned)i + 1;
        for (size_t k = 0; k < len_b; k++) {
            unsigned above = row[k + 1];
            row[k + 1] = min3(above + 1, row[k] + 1, diagonal + (a[i] != b[k]));
            diagonal = above;
            least = row[k + 1] < least ? row[k + 1] : least;
        }
        if (least > most)
            return most + 1;
    }
    return row[len_b] > most ? most + 1 : row[len_b];
}

static bool ends_with(const char *text, const char *end)
{
    size_t len = strlen(text), end_len = strlen(end);
    return len >= end_len && strcmp(text + len - end_len, end) == 0;
}

unsigned name_likeness(const struct name_form *wanted, const struct name_form *other)
{
    bool qualified = wanted->base != wanted->whole;
    const char *mine = qualified ? wanted->whole : wanted->base, *its = qualified ? other->whole : other->base;
    size_t len = strlen(mine);
    unsigned most = (unsigned)(len / NAME_EDITS_PER < NAME_MAX_EDITS ? len / NAME_EDITS_PER : NAME_MAX_EDITS);

    if (!*wanted->base || !*other->base)
        return NAME_UNLIKE;
    if (strcmp(wanted->whole, other->whole) == 0)
        return LIKE_WHOLE;
    if (qualified && ends_with(other->whole, wanted->whole))
        return LIKE_TAIL;
    if (strcmp(wanted->base, other->base) == 0)
        return LIKE_BASE;
    unsigned edits = count_edits(mine, its, most);
    if (edits <= most)
        return LIKE_EDITS + edits;
    return strlen(wanted->base) >= NAME_MIN_PART && strstr(other->base, wanted->base) ? LIKE_PART : NAME_UNLIKE;
}
