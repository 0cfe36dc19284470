/* The debug sections that symbolizing reads, without those it doesn't: an ELF file in memory with the
 * uncompressed bytes of a compressed file. libdw, given the file itself, would decompress all of it. */
#pragma once

#include <elfutils/libdw.h>
#include <libelf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "symbolize/elf_file.h"

struct debug_image {
    Elf *elf;
    uint8_t *map;
    size_t map_bytes;
};

/* What an image is for. */
enum debug_image_kind {
    DEBUG_IMAGE_NAMES,  /* functions, files and lines; also those of a split (.dwo) file */
    DEBUG_IMAGE_FRAMES, /* unwind information (.debug_frame) */
};

/* True where the file has compressed sections of debug information, and so should be read by an image. */
bool debug_image_is_wanted(const struct elf_file *file);

/* Sections that can't be read are left out. 0; -ENOENT: none is left; -EFBIG: they are too large, or too
 * many; -ENOTSUP: another byte order, or 32 bits; -ENOMEM. The file isn't needed afterwards. */
int debug_image_new(const struct elf_file *file, enum debug_image_kind kind, struct debug_image *ret);
void debug_image_free(struct debug_image *image);

/* A file's DWARF: by an image where that is wanted, else by the file itself, which must outlive it. */
struct debug_dwarf {
    Dwarf *dwarf;
    struct debug_image image; /* elf NULL: none was needed */
};

/* 0, -ENOEXEC where there is none, or what debug_image_new says. */
int debug_dwarf_open(const struct elf_file *file, enum debug_image_kind kind, struct debug_dwarf *ret);
void debug_dwarf_close(struct debug_dwarf *dwarf);
