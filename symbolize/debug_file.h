/* Where a module's DWARF is: in its own file, or in one that was split from it and is named by build id or
 * debuglink; and the file that dwz put what several have in common. */
#pragma once

#include <elfutils/libdw.h>

#include "symbolize/debug_image.h"
#include "symbolize/elf_file.h"
#include "symbolize/symbolizer.h"

struct debug_files {
    struct elf_file separate; /* elf NULL: none */
    struct elf_file common;
    struct debug_dwarf dwarf; /* of one of them; dwarf NULL: there is none */
    struct debug_dwarf common_dwarf;
    struct debug_dwarf frames; /* what an image of names has not; opened when asked for */
    bool frames_tried;
    bool incomplete;          /* a file could not be had this time, but may be had the next */
    int error;                /* why DWARF that is there is not used: as module_debug_error has it; 0: it is */
};

/* True for what is no answer about a file: asked again, it may be another. */
bool debug_file_is_passing(int error);

/* Finds and checks what there is, which may be nothing. main outlives *ret. */
void debug_files_open(const struct elf_file *main, const struct symbolizer_ops *ops, void *userdata,
                      struct debug_files *ret);
void debug_files_close(struct debug_files *files);
/* Unwind information in DWARF, of the debug file or main's own; NULL: there is none. */
Dwarf_CFI *debug_files_cfi(struct debug_files *files, const struct elf_file *main);
void debug_files_drop_pages(const struct debug_files *files);
/* Address space of the mapped files; memory for all else, above all for what was compressed in them. */
size_t debug_files_mapped_bytes(const struct debug_files *files);
size_t debug_files_bytes(const struct debug_files *files);
