/* One file as the cache keeps it. The public face is symbolizer.h; its functions are in module.c (addresses, by the sources that
 * symbol_sources.h ranks), module_find.c (functions by name), module_probe.c (and where they are probed) and usdt.c (probe sites). */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "symbolize/arena.h"
#include "symbolize/code_starts.h"
#include "symbolize/debug_file.h"
#include "symbolize/dwarf_index.h"
#include "symbolize/elf_file.h"
#include "symbolize/elf_segments.h"
#include "symbolize/elf_symbols.h"
#include "symbolize/frame_cache.h"
#include "symbolize/go_symbols.h"
#include "symbolize/mini_debug.h"
#include "symbolize/split_dwarf.h"
#include "symbolize/symbol_names.h"
#include "symbolize/symbolizer.h"

struct module {
    const struct symbolizer_ops *ops;
    void *userdata; /* of the newest lookup */
    struct elf_file file;
    struct elf_segments segments;
    char build_id[BUILD_ID_HEX_ROOM];
    size_t read_bytes;           /* of its files, about, since their pages were given back */
    int debug_error;             /* what module_debug_error says; it stays when debug information is shed */
    bool debug_tried;            /* debug, debug_symbols and index are made when first needed */
    uint64_t key;                /* on whose behalf alone it may be used; 0: all */
    bool incomplete;             /* see module_is_incomplete */
    struct debug_files debug;
    struct elf_symbols symbols;  /* of the file */
    struct elf_symbols debug_symbols; /* of its separate debug file */
    struct go_symbols go;
    bool mini_tried;
    struct mini_debug mini;      /* once it was needed */
    bool starts_tried;
    struct code_starts starts;   /* once they were needed */
    struct dwarf_index *index;   /* NULL: no DWARF */
    struct split_dwarf *split;   /* what its units have in other files; NULL: no DWARF */
    size_t missing_dwos;         /* when debug information was last shed */
    const char *first_missing_dwo;
    struct arena arena;          /* all strings that were handed out */
    struct symbol_names names;
    struct frame_cache frames;   /* of full lookups */
    uint64_t entry, entry_end;   /* of the code at the entry point */
    Dwarf_CFI *cfi;              /* of .eh_frame; NULL: none, or not looked for yet */
    bool cfi_tried;
    size_t cfi_lookups;
};

/* fd stays the caller's. 0 or -errno. */
int module_new(const struct symbolizer_ops *ops, int fd, struct module **ret);
void module_free(struct module *m);
/* Opens separate debug files and reads the index of their DWARF, once. 0 or -ENOMEM. */
int module_need_debug(struct module *m);
/* Frees all that module_need_debug made. What was found by it stays known. */
void module_shed_debug(struct module *m);
/* Gives back pages of its files. They are read again when they are needed. */
void module_drop_pages(struct module *m);
/* Reads .gnu_debugdata, once; empty where there is none. */
const struct mini_debug *module_need_mini(struct module *m);
/* Unwind information of the file's .eh_frame; of a .debug_frame, its own or its debug file's. NULL where there is none. Each
 * call is counted as a lookup, since libdw keeps what it looked up. */
Dwarf_CFI *module_cfi(struct module *m);
Dwarf_CFI *module_debug_cfi(struct module *m);
/* Where functions begin by unwind information, read once. */
const struct code_starts *module_need_starts(struct module *m);
/* A name as a symbol table has it, or as it reads: then up to its parameters, too. */
struct symbol_wanted {
    const char *name;
    size_t len;
    bool demangled;
};
/* raw: elf_symbol_raw_name. */
bool symbol_is_wanted(const struct symbol_wanted *wanted, const char *raw);
/* The one function of a name, as module_find_function finds it: addresses. 0, or its errors. */
int module_search_function(struct module *m, const char *name, struct probe_range *ret);
/* True where what it knows should not be kept for the next job. */
bool module_is_incomplete(const struct module *m);
/* Memory that the module holds, pages of its files aside. */
size_t module_bytes(const struct module *m);
/* Address space of its files. */
size_t module_mapped_bytes(const struct module *m);
