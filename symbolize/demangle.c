/* libiberty prints a name piece by piece into a callback, which is where output and time are bounded: a
 * short hostile name can ask for gigabytes by substitutions that double (S_S_S_...), or for more lifetimes
 * than there are atoms (Rust's binders: G and a number). Its printers are left from within the callback: the
 * C++ one holds no memory then, the Rust one at most the letters of one identifier in punycode, which a
 * name that was made for it may lose. */
#include "symbolize/demangle.h"

#include <libiberty/demangle.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "util/cleanup.h"

/* libiberty's own limit on recursion refuses all names above 1,024 bytes, which templates exceed: so it's
 * off, and the length bounds the stack instead (about 1 KiB for each byte of the worst name). */
#define DEMANGLE_MAX_INPUT 4096u
#define DEMANGLE_MAX_OUTPUT (256u * 1024u)
#define DEMANGLE_MAX_PIECES (1u << 20)
#define DEMANGLE_MAX_LIFETIMES 1000000ul

struct demangle_output {
    jmp_buf too_much;
    bool cut;
    char *text;
    size_t len, room, pieces;
};

static bool demangle_grow(struct demangle_output *out, size_t wanted)
{
    if (wanted <= out->room)
        return true;
    size_t room = 2 * wanted;
    char *text = realloc(out->text, room);
    if (!text)
        return false;
    out->text = text;
    out->room = room;
    return true;
}

static void demangle_piece(const char *piece, size_t len, void *opaque)
{
    struct demangle_output *out = opaque;
    if (++out->pieces > DEMANGLE_MAX_PIECES || len > DEMANGLE_MAX_OUTPUT - out->len
        || !demangle_grow(out, out->len + len + 1)) {
        out->cut = true;
        longjmp(out->too_much, 1);
    }
    if (len > 0) /* an empty piece may have no address */
        memcpy(out->text + out->len, piece, len);
    out->len += len;
}

/* Return types are left out: a name that begins with "void " sorts and shortens badly. */
static bool demangle_cxx(const char *mangled, struct demangle_output *out)
{
    if (setjmp(out->too_much))
        return false;
    return cplus_demangle_v3_callback(
        mangled, DMGL_PARAMS | DMGL_ANSI | DMGL_RET_DROP | DMGL_NO_RECURSE_LIMIT, demangle_piece, out);
}

static bool starts_with(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

static bool base62_digit(char c, unsigned *ret)
{
    if (c >= '0' && c <= '9')
        *ret = (unsigned)(c - '0');
    else if (c >= 'a' && c <= 'z')
        *ret = (unsigned)(c - 'a') + 10;
    else if (c >= 'A' && c <= 'Z')
        *ret = (unsigned)(c - 'A') + 36;
    else
        return false;
    return true;
}

/* How many lifetimes a binder has: a G behind F (a function) or D (a trait object), a number, and "_". 0: it is none. */
static unsigned long binder_lifetimes(const char *name, const char *g)
{
    unsigned long n = 0;
    unsigned digit;

    if (g == name || (g[-1] != 'F' && g[-1] != 'D'))
        return 0;
    for (g++; base62_digit(*g, &digit); g++)
        n = n > DEMANGLE_MAX_LIFETIMES ? n : 62 * n + digit;
    return *g == '_' ? n + 2 : 0;
}

/* They are counted one by one also where nothing is printed, where no piece bounds it. Letters of an identifier may look like a binder: such
 * a name, if there is one, stays as it is. */
static bool has_too_many_lifetimes(const char *name)
{
    unsigned long n = 0;

    for (const char *g = strchr(name, 'G'); g && n <= DEMANGLE_MAX_LIFETIMES; g = strchr(g + 1, 'G'))
        n += binder_lifetimes(name, g);
    return n > DEMANGLE_MAX_LIFETIMES;
}

static bool demangle_rust(const char *mangled, struct demangle_output *out)
{
    if ((starts_with(mangled, "_R") && has_too_many_lifetimes(mangled)) || setjmp(out->too_much))
        return false;
    return rust_demangle_callback(mangled, DMGL_RUST, demangle_piece, out);
}

char *demangle(const char *mangled)
{
    struct demangle_output out = {0};
    bool done = false;
    if (mangled[0] != '_' || strnlen(mangled, DEMANGLE_MAX_INPUT) == DEMANGLE_MAX_INPUT)
        return NULL;
    if (starts_with(mangled, "_R") || starts_with(mangled, "_ZN"))
        done = demangle_rust(mangled, &out);
    if (!done && starts_with(mangled, "_Z")) {
        free(out.text);
        out = (struct demangle_output){0};
        done = demangle_cxx(mangled, &out);
    }
    if (starts_with(mangled, "_D") && mangled[2] >= '0' && mangled[2] <= '9')
        return dlang_demangle(mangled, DMGL_DLANG);
    if (!done || out.cut || out.len == 0) {
        free(out.text);
        return NULL;
    }
    out.text[out.len] = '\0';
    return out.text;
}
