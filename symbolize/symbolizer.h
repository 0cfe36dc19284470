/* From a file and an offset in it to functions, files and lines, by libdw and libelf.
 *
 * A symbolizer is the cache of one worker: modules by the identity of their file, bounded in bytes, least
 * recently used out first. It reads bytes that somebody else wrote, so it runs in a sandboxed process that
 * may crash; it opens nothing itself: files come as descriptors, and further ones (separate debug files) by
 * the callback. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "symbolize/probe_place.h"

struct symbolizer;
struct module;

/* Who a file is, from fstat by a trusted process. Never from the file's own contents: a build id can be
 * forged, and the cache serves other askers. */
struct file_identity {
    uint64_t dev, ino, size;
    uint64_t mtime_ns, ctime_ns;
};

/* A further file that a module needs. */
enum debug_file_kind {
    DEBUG_FILE_BUILD_ID, /* name: build id in hex: .build-id/xx/yyyy.debug under the debug directories */
    DEBUG_FILE_DEBUGLINK, /* name: .gnu_debuglink's: beside the binary, in its .debug/, in debug directories */
    DEBUG_FILE_ALTLINK, /* name: from .gnu_debugaltlink (dwz); build_id says which is wanted */
    DEBUG_FILE_SERVER,  /* name: build id in hex, of a debuginfod server; asked last. -EAGAIN: it is on its way; -EHOSTUNREACH, -EBADMSG:
                           no server answered, or one with nonsense: all of them pass */
    DEBUG_FILE_DWO,     /* name: the path of a .dwo file, as its compiler wrote it: split DWARF of one unit */
    DEBUG_FILE_DWP,     /* name: "". BINARY.dwp beside the binary: split DWARF of all units */
};

struct debug_file_request {
    enum debug_file_kind kind;
    const char *name;     /* hostile: whoever opens must confine it */
    const char *build_id; /* hex, or NULL */
};

struct symbolizer_ops {
    /* Opens a further file for the module whose userdata this is. 0 with an fd that becomes the
     * symbolizer's, or -errno (-ENOENT: there is none). The symbolizer checks that build id, CRC or unit ids agree. */
    int (*open_debug_file)(void *userdata, const struct debug_file_request *request, int *ret_fd);
};

struct symbolizer *symbolizer_new(const struct symbolizer_ops *ops, size_t cache_bytes);
void symbolizer_free(struct symbolizer *s);
size_t symbolizer_cache_bytes(const struct symbolizer *s);

/* True where the module of that file is in the cache, and no fd need be passed. */
bool symbolizer_has(const struct symbolizer *s, const struct file_identity *id);

/* The module of a file. fd becomes the symbolizer's in every case (-1: it must be cached). userdata goes
 * to open_debug_file for calls made on behalf of this lookup. The module stays valid until the next
 * symbolizer_trim. 0, or -errno: -ENOEXEC for what is no ELF program or malformed (such a file is
 * remembered too), -EBADF for an fd of -1 where nothing is cached. */
int symbolizer_module(struct symbolizer *s, const struct file_identity *id, int fd, void *userdata,
                      struct module **ret_module);

/* What comes is on behalf of key: modules that another key's alone were leave the cache. */
void symbolizer_begin(struct symbolizer *s, uint64_t key);
/* The module's debug file is none that others should see: it stays for lookups on behalf of that key; 0: it goes with the next trim. */
void module_keep_for(struct module *m, uint64_t key);

/* Drops what the cache's bound has no room for, least recently used modules first: of each its DWARF, and
 * all of it where that isn't enough; and modules whose debug
 * file could not be had for a passing reason (-ETIMEDOUT, -EAGAIN, -ENOMEM, ...); called between jobs. */
void symbolizer_trim(struct symbolizer *s);

/* Units of split DWARF that were asked for, and whose file (.dwo, or .dwp) could not be had or is another
 * build's: how many, and the first one's .dwo. Their functions have symbol tables' names. 0: none. */
size_t module_missing_dwos(const struct module *m, const char **ret_first);

/* Lower-case hex; NULL where the file has none. */
const char *module_build_id(const struct module *m);

struct symbol_frame {
    const char *name;        /* demangled; never NULL */
    const char *system_name; /* mangled */
    const char *filename;    /* absolute where DWARF tells the directory; NULL: unknown */
    int64_t start_line;      /* 0: unknown */
    int64_t line;            /* 0: unknown */
    bool wrapper;            /* Go's compiler made it, and Go's own stacks leave it out */
};

#define SYMBOL_MAX_INLINED 64

enum symbolize_mode { SYMBOLIZE_FULL, SYMBOLIZE_FAST /* symbol tables alone */ };

/* The functions at a file offset, innermost inlined one first: out[0..n). Frame lines of callers are their
 * call sites. Returns n; 0: nothing is known of that offset (the caller then names it
 * "libfoo.so+0x1234" with module_code_start). An ELF entry point without a symbol is "_start".
 * Pass the address itself for a leaf, the return address minus one for a caller.
 * The strings live as long as the module. */
size_t module_resolve(struct module *m, uint64_t file_offset, enum symbolize_mode mode,
                      struct symbol_frame out[SYMBOL_MAX_INLINED]);

/* What module_resolve found at the offset in an earlier full lookup, with nothing read: n frames as there, or -1: it was not
 * asked. */
int module_recall(const struct module *m, uint64_t file_offset, struct symbol_frame out[SYMBOL_MAX_INLINED]);

/* Why debug information that was looked for, and is there, was not read, or not all of it: 0: it was, so far; -EFBIG: it is too large;
 * -E2BIG: it takes too much work; -ENOMEM; -ENOTSUP: its compression, byte order or class is not known; -ENOLINK: the file that it has in
 * common with others could not be had; others: malformed. */
int module_debug_error(const struct module *m);

/* The link-time address of a file offset (by PT_LOAD); the offset itself outside of all. */
uint64_t module_vaddr(const struct module *m, uint64_t file_offset);

/* The link-time address where the function at a file offset begins, by unwind information: code without a name goes by it, so that all
 * of a function is shown as one. The offset's own address where nothing tells. */
uint64_t module_code_start(struct module *m, uint64_t file_offset);

/* Where a uprobe on a function goes: the file offset of its entry, plus offset. name as in the symbol
 * table (mangled), or demangled where exactly one matches; with "@0xADDRESS" behind it that one of several which begins
 * there. Functions only: an IFUNC's symbol is its chooser, a PLT stub somebody else's. 0; -ENOENT: no such symbol; -ENOTUNIQ: several;
 * -ERANGE: offset outside of it. */
int module_find_function(struct module *m, const char *name, uint64_t offset, uint64_t *ret_file_offset);

/* For one whose name module_find_function did not find: why it may be missing, and others that are like it, the likest first; or where there
 * are several of that name (-ENOTUNIQ), names that are those of one alone. They are printable ASCII, and module_find_function knows them.
 * module_usdt_names: PROVIDER:NAME of probes like it; where there are none like it, any. Each is for a bounded time, and gives their number. */
#define SUGGESTIONS_MAX 5
#define SUGGESTION_BYTES 160
struct symbol_suggestion {
    char name[SUGGESTION_BYTES];
};
enum symbol_absence {
    SYMBOL_ABSENT,
    SYMBOL_CHOSEN_AT_RUN_TIME, /* an IFUNC: the code is that of other functions */
    SYMBOL_OF_ANOTHER_FILE,    /* which this one calls */
    SYMBOL_TABLES_ABSENT,      /* nothing has a name */
};
enum symbol_absence module_absence(struct module *m, const char *name);
size_t module_similar(struct module *m, const char *name, struct symbol_suggestion ret[SUGGESTIONS_MAX]);
size_t module_namesakes(struct module *m, const char *name, struct symbol_suggestion ret[SUGGESTIONS_MAX]);
size_t module_usdt_names(struct module *m, const char *name, struct symbol_suggestion ret[SUGGESTIONS_MAX]);

/* The same, as places that are cheap (symbolize/probe_place.h): for the whole function, or the one instruction `offset` bytes into it, which
 * must be one. args: argument registers that must be as they were at the entry. *ret is the caller's to deinit. 0; module_find_function's
 * errors; probe_place_find's; -EILSEQ: no instruction begins at that offset; -ENODATA: it is no ret. */
int module_find_probe(struct module *m, const char *name, uint64_t offset, enum probe_want want, uint32_t args, struct probe_points *ret);
/* What is known of the instruction at a file offset; of none: stepped, without a name. */
void module_probe_point(const struct module *m, uint64_t file_offset, struct probe_point *ret);
/* True for a Go program: its stacks move, and no return probe survives that. */
bool module_is_go(const struct module *m);

/* A USDT probe site (.note.stapsdt). */
struct usdt_site {
    uint64_t file_offset;
    uint64_t semaphore_file_offset; /* 0: none */
};
/* All sites of PROVIDER:NAME; *ret_sites is the caller's to free. 0, or -ENOENT. */
int module_find_usdt(struct module *m, const char *provider, const char *name,
                     struct usdt_site **ret_sites, size_t *ret_n);
