/* A unit of split DWARF as libdw can read it: its sections, which are in two files, as those of one. */
#pragma once

#include <elfutils/libdw.h>
#include <libelf.h>
#include <stddef.h>
#include <stdint.h>

/* What a unit is read from. The first ones are in a .dwo file, the last ones in the program's. */
enum split_section {
    SPLIT_INFO,
    SPLIT_ABBREV,
    SPLIT_STR,
    SPLIT_STR_OFFSETS,
    SPLIT_RNGLISTS,
    SPLIT_ADDR,
    SPLIT_RANGES,
    SPLIT_SECTIONS
};

struct split_bytes {
    const uint8_t *data;
    size_t size; /* 0: there is none */
};

struct split_image {
    Elf *elf;
    Dwarf *dwarf;
    void *headers;
};

/* The bytes outlive the image, and are not copied. like: a file of the same machine. 0; -ENOTSUP: 32 bits;
 * -ENOEXEC: no DWARF; -ENOMEM. */
int split_image_new(Elf *like, const struct split_bytes sections[static SPLIT_SECTIONS], struct split_image *ret);
void split_image_free(struct split_image *image);
